"""TIFF through tifffile: single images, stacks, ImageJ and OME files with their axes and spacing."""

from __future__ import annotations

import contextlib
import logging
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
from napari_llm4seg.volume import Unit, Volume, affine_from_spacing

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

Array = npt.NDArray[Any]

_MM = {
    "mm": 1.0,
    "millimeter": 1.0,
    "millimetre": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "inch": 25.4,
    "in": 25.4,
    "µm": 1e-3,
    "μm": 1e-3,
    "um": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "\\u00b5m": 1e-3,
    "nm": 1e-6,
}
# What the ImageJ flavour of TIFF can hold; everything else goes into the OME flavour.
_IMAGEJ_DTYPES = (np.uint8, np.uint16, np.float32)


def read(path: PathLike) -> Volume:
    """Read a TIFF file.

    Colour samples and the axis C become channels; the one other axis longer than 1 (z, time or pages) becomes the
    stack. ImageJ and OME files give their spacing in mm; the resolution of other TIFF files is meant for printers
    and is not used, the unit is then "pixel". Palette images become RGB, white-is-zero images are inverted.
    Of several images in one file the first is read, and ``metadata["messages"]`` says so.

    Raises
    ------
    InputError
        If the file is missing, damaged or cut off, holds complex values, or has time points of stacks.
    """
    path = existing(path)
    import tifffile

    with reading(path, "a TIFF image"), _quiet(), tifffile.TiffFile(path) as tiff:
        if not tiff.series:
            raise InputError(f"'{path.name}' holds no image. Export it again.")
        series = tiff.series[0]
        _check_complete(tiff, series, path)
        data = _four_axes(*_values(series, path.name), path.name)
        spacing, unit = _spacing(tiff)
        own = _own_metadata(tiff)
        messages = []
        pages = len(series.pages) if series.kind == "generic" else len(tiff.pages)
        if len(tiff.series) > 1 or len(tiff.pages) > pages:
            messages.append("The file holds several images of different size or kind; the first was read.")
    metadata = {"source_path": str(path), "messages": messages}
    return own.onto(Volume(data, affine_from_spacing(spacing), unit=unit, name=stem_of(path), metadata=metadata))


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


def _four_axes(array: Array, axes: str, name: str) -> Array:
    """Return (C, Z, Y, X) from named axes: S and C are channels, one other axis may be the stack."""
    long = [axis for axis, length in zip(axes, array.shape, strict=True) if length > 1 and axis not in "YX"]
    channel = [axis for axis in long if axis in "SC"]
    stack = [axis for axis in long if axis not in "SC"]
    if "Y" not in axes or "X" not in axes or len(channel) > 1 or len(stack) > 1:
        named = ", ".join(f"{axis} {length}" for axis, length in zip(axes, array.shape, strict=True))
        raise InputError(
            f"'{name}' has the axes {named}; a scan has y, x, one stack axis and one channel axis. "
            "Save one time point or channel of it."
        )
    kept = [*channel, *stack, "Y", "X"]
    squeezed = array[tuple(slice(None) if axis in kept else 0 for axis in axes)]
    order = [axis for axis in axes if axis in kept]
    ordered = np.transpose(squeezed, [order.index(axis) for axis in kept])
    height, width = ordered.shape[-2:]
    return np.ascontiguousarray(
        ordered.reshape(
            array.shape[axes.index(channel[0])] if channel else 1,
            array.shape[axes.index(stack[0])] if stack else 1,
            height,
            width,
        )
    )


def _spacing(tiff: TiffFile) -> tuple[tuple[float, float, float], Unit]:
    """Return the (z, y, x) spacing of ImageJ and OME files in mm; (1, 1, 1) in pixels for others."""
    sizes: tuple[float, float, float] | None = None
    if tiff.is_ome and tiff.ome_metadata:
        sizes = _ome_spacing(tiff.ome_metadata)
    elif tiff.is_imagej and tiff.imagej_metadata:
        sizes = _imagej_spacing(tiff)
    if sizes is None or not all(np.isfinite(size) and size > 0 for size in sizes):
        return (1.0, 1.0, 1.0), "pixel"
    return sizes, "mm"


def _imagej_spacing(tiff: TiffFile) -> tuple[float, float, float] | None:
    header: dict[str, Any] = dict(tiff.imagej_metadata or {})
    factor = _MM.get(str(header.get("unit", "")).strip().lower())
    tags = tiff.pages.first.tags
    if factor is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    (across, by_x), (down, by_y) = tags["XResolution"].value, tags["YResolution"].value
    if not (across and by_x and down and by_y):
        return None
    return abs(float(header.get("spacing", 1.0 / factor))) * factor, by_y / down * factor, by_x / across * factor


def _ome_spacing(xml: str) -> tuple[float, float, float] | None:
    from xml.etree import ElementTree

    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    if pixels is None or "PhysicalSizeX" not in pixels.attrib or "PhysicalSizeY" not in pixels.attrib:
        return None
    sizes = []
    for axis in "ZYX":
        factor = _MM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
        if factor is None:
            return None
        sizes.append(float(pixels.get(f"PhysicalSize{axis}", 1.0 / factor)) * factor)
    return sizes[0], sizes[1], sizes[2]


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
