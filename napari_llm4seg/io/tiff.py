"""TIFF through tifffile: single images, stacks, ImageJ and OME files with their axes and spacing."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.files import replacing
from napari_llm4seg.io._classes import classes_of
from napari_llm4seg.io._files import PathLike, existing, plain, reading, stem_of
from napari_llm4seg.io._own import KEY, Own, from_text, to_text
from napari_llm4seg.io._tiff_grid import seconds_of, spacing_of
from napari_llm4seg.io._time import TimeStack
from napari_llm4seg.volume import Volume, affine_from_spacing

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

Array = npt.NDArray[Any]

# What the ImageJ flavour of TIFF can hold; everything else goes into the OME flavour.
_IMAGEJ_DTYPES = (np.uint8, np.uint16, np.float32)


def read(path: PathLike) -> Volume | TimeStack:
    """Read a TIFF file.

    Colour samples and the axis C become channels; one other axis longer than 1 (z or pages) becomes the stack, and T
    is time. Where there is no stack, the time points take its place and ``metadata["stack_axis"]`` is "t". ImageJ and
    OME files give their spacing in mm; the resolution of other TIFF files is meant for printers and is not used, the
    unit is then "pixel". Palette images become RGB, white-is-zero images are inverted. Of several images in one file
    the first is read, and ``metadata["messages"]`` says so.

    Raises
    ------
    InputError
        If the file is missing, damaged or cut off, holds complex values, or has more axes than these.
    """
    path = existing(path)
    import tifffile

    with reading(path, "a TIFF image"), _quiet(), tifffile.TiffFile(path) as tiff:
        if not tiff.series:
            raise InputError(f"'{path.name}' holds no image. Export it again.")
        series = tiff.series[0]
        _check_complete(tiff, series, path)
        data, stack = _five_axes(*_values(series, path.name), path.name)
        spacing, unit = spacing_of(tiff)
        seconds = seconds_of(tiff)
        own = _own_metadata(tiff)
        messages = []
        pages = len(series.pages) if series.kind == "generic" else len(tiff.pages)
        if len(tiff.series) > 1 or len(tiff.pages) > pages:
            messages.append("The file holds several images of different size or kind; the first was read.")
    metadata: dict[str, Any] = {"source_path": str(path), "messages": messages}
    if data.shape[1] > 1 and stack != "T":
        return TimeStack(data, affine_from_spacing(spacing), unit, stem_of(path), "intensity", seconds, metadata)
    if stack == "T":
        data = np.swapaxes(data, 1, 2)  # a film: its frames take the place of the slices
        metadata["stack_axis"], spacing = "t", (1.0, *spacing[1:])
    volume = Volume(data[:, 0], affine_from_spacing(spacing), unit=unit, name=stem_of(path), metadata=metadata)
    return own.onto(volume)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile from logging every oddity on standard error; what matters is raised here."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _check_complete(tiff: TiffFile, series: TiffPageSeries, path: Path) -> None:
    """Refuse a cut-off file, whose missing parts tifffile would fill with zeros."""
    size = path.stat().st_size
    _check_chain(tiff, path, size)
    if series.dataoffset is not None:
        ends = [series.dataoffset + series.nbytes]
    else:
        pages = list(series.pages)
        if any(page is None for page in pages):
            raise InputError(f"'{path.name}' is one part of an image in several files, and others are missing.")
        short = next((page for page in pages if math.prod(page.chunked) > len(page.dataoffsets)), None)  # type: ignore[union-attr]
        if short is not None:
            raise InputError(f"'{path.name}' is damaged: its size needs more parts than it has. Export it again.")
        ends = [
            offset + count
            for page in pages
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)  # type: ignore[union-attr]
            if count
        ]
    if not ends or max(ends) > size:
        raise InputError(
            f"'{path.name}' is cut off: {max(ends, default=0)} bytes are needed, {size} are there. Copy it again."
        )


def _check_chain(tiff: TiffFile, path: Path, size: int) -> None:
    """Follow the page directories to the last one: tifffile drops those that lie beyond the end of the file."""
    file, form = tiff.filehandle, tiff.tiff
    width, seen = form.offsetsize, set[int]()
    order: Literal["little", "big"] = "little" if form.byteorder == "<" else "big"
    file.seek(8 if width == 8 else 4)
    while offset := int.from_bytes(file.read(width), order):
        file.seek(min(offset, size))
        tags = int.from_bytes(file.read(form.tagnosize), order)
        end = offset + form.tagnosize + tags * form.tagsize
        if offset in seen or end + width > size:
            raise InputError(f"'{path.name}' is cut off: it ends at {size} bytes, before its last page. Copy it again.")
        seen.add(offset)
        file.seek(end)


def _values(series: TiffPageSeries, name: str) -> tuple[Array, str]:
    import tifffile

    array = plain(np.asarray(series.asarray()), name)
    page = series.keyframe
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None and array.dtype.kind == "u":
        colours = np.asarray(page.colormap) >> 8
        return np.moveaxis(colours.astype(np.uint8)[:, array], 0, -1), series.axes + "S"
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and array.dtype.kind in "ub":
        array = ~array
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    return array, series.axes


def _five_axes(array: Array, axes: str, name: str) -> tuple[Array, str]:
    """Return (C, T, Z, Y, X) from named axes, and the name of the axis that is the stack, if there is one.

    S and C are channels, T is time, and one other axis is the stack.
    """
    long = [axis for axis, length in zip(axes, array.shape, strict=True) if length > 1 and axis not in "YX"]
    channel = [axis for axis in long if axis in "SC"]
    stack = [axis for axis in long if axis not in "SCT"]
    if "Y" not in axes or "X" not in axes or len(channel) > 1 or len(stack) > 1:
        named = ", ".join(f"{axis} {length}" for axis, length in zip(axes, array.shape, strict=True))
        raise InputError(
            f"'{name}' has the axes {named}; a scan has y, x, and at most one axis each for channels, time and the "
            "stack. Save one part of it."
        )
    time = [axis for axis in long if axis == "T"]
    kept = [*channel, *time, *stack, "Y", "X"]
    squeezed = array[tuple(slice(None) if axis in kept else 0 for axis in axes)]
    order = [axis for axis in axes if axis in kept]
    ordered = np.transpose(squeezed, [order.index(axis) for axis in kept])
    lengths = [array.shape[axes.index(part[0])] if part else 1 for part in (channel, time, stack)]
    return np.ascontiguousarray(ordered.reshape(*lengths, *ordered.shape[-2:])), (stack or time or [""])[0]


def _own_metadata(tiff: TiffFile) -> Own:
    """Return what ``write`` left in the file, which TIFF has no field for."""
    text: Any = None
    if tiff.is_ome and tiff.ome_metadata:
        from xml.etree import ElementTree

        for entry in ElementTree.fromstring(tiff.ome_metadata).iterfind(".//{*}MapAnnotation/{*}Value/{*}M"):
            text = entry.text if entry.get("K") == KEY else text
    elif tiff.is_imagej and tiff.imagej_metadata:
        text = tiff.imagej_metadata.get(KEY)
    return from_text(text)


def write(path: PathLike, volume: Volume) -> Path:
    """Write a volume or labels, lossless, with spacing; other programs see a stack of slices.

    8-bit and 16-bit unsigned and 32-bit float values go into ImageJ's flavour, others into OME's. The whole affine
    and the names and colours of labels are kept in a field of our own, so that reading the file back gives the same.
    ImageJ shows 8-bit labels in their colours; the values are the label values.

    Raises
    ------
    InputError
        If the values are of a type that neither flavour holds, or the place cannot be written to.
    """
    import tifffile

    path = Path(path)
    data = _storable(np.asarray(volume.data), path.name)
    own = to_text(volume)
    depth, height, width = volume.spacing
    unit = "mm" if volume.unit == "mm" else "pixel"
    options: dict[str, Any] = {"compression": "zlib", "photometric": "minisblack"}
    # ImageJ's flavour ends at 4 GB, and in it tifffile takes an axis of one pixel for something else.
    if data.dtype in _IMAGEJ_DTYPES and min(data.shape[2:]) > 1 and data.nbytes < 2**31:
        options |= {"imagej": True, "resolution": (1 / width, 1 / height)}
        options["metadata"] = {"axes": "ZCYX", "spacing": depth, "unit": unit, KEY: own}
        data = np.moveaxis(data, 0, 1)
        if volume.kind == "label" and data.dtype == np.uint8:
            options["metadata"]["LUTs"] = [_lookup_table(volume)]
        if volume.channels == 3 and data.dtype == np.uint8:
            data = np.moveaxis(data, 1, -1)
            options["metadata"]["axes"] = "ZYXS"
            options["photometric"] = "rgb"
    else:
        sizes = dict(zip("ZYX", volume.spacing, strict=True)) if volume.unit == "mm" else {}
        options |= {"ome": True, "metadata": {"axes": "CZYX", "MapAnnotation": {KEY: own}}}
        for axis, size in sizes.items():
            options["metadata"] |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "mm"}
    with replacing(path) as temporary:
        tifffile.imwrite(temporary, np.ascontiguousarray(data), **options)
    return path


def _lookup_table(volume: Volume) -> Array:
    """Return ImageJ's lookup table (3, 256) for labels: black for background, their colours for the classes."""
    table = np.zeros((3, 256), np.uint8)
    for each in classes_of(volume):
        if each.value < 256:
            table[:, each.value] = each.rgb
    return table


def _storable(data: Array, name: str) -> Array:
    if data.dtype == np.bool_:
        return data.astype(np.uint8)
    if data.dtype == np.float16:
        return data.astype(np.float32)
    if data.dtype.kind in "ui" and data.dtype.itemsize == 8:
        for narrow in (np.int32, np.uint32):
            limits = np.iinfo(narrow)
            if int(data.min()) >= limits.min and int(data.max()) <= limits.max:
                return data.astype(narrow)
        raise InputError(f"'{name}': values up to {int(data.max())} do not fit a TIFF (32 bit). Use .nii.gz.")
    return plain(data, name)
