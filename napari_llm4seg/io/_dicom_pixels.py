"""Values out of DICOM: decoding, display inversion and the modality transform."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.io._dicom_elements import number, short, text
from napari_llm4seg.io._files import plain

Array = npt.NDArray[Any]
Pair = tuple[float, float]

# Their values are physical quantities; an inverted display must not turn them round.
_QUANTITATIVE = ("CT", "PT", "NM")
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
_DECODERS = ("pylibjpeg", "pyjpegls", "pydicom", "pillow")
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")  # implicit and explicit little endian


@dataclass(frozen=True)
class Stored:
    """Where the values of an uncompressed grey frame lie in its file, and what turns them into the scan's.

    Attributes
    ----------
    offset : int
        First byte.
    dtype : str
        numpy's name of the stored type.
    unused : int
        Bits at the top of each value that mean nothing.
    invert : bool
        MONOCHROME1: shown with black as the highest value.
    rescale : (slope, intercept)
    """

    offset: int
    dtype: str
    unused: int
    invert: bool
    rescale: Pair


def stored_in(file: BinaryIO, header: Any) -> list[Stored] | None:
    """Return where the frames' values lie, ``file`` standing where parsing stopped before the pixels.

    None for everything that needs a decoder: compressed, colour, big endian, lookup tables, bits across bytes.
    """
    bits, used = short(header, "BitsAllocated"), short(header, "BitsStored")
    photometric = text(header, "PhotometricInterpretation") or "MONOCHROME2"
    if (
        str(header.file_meta.TransferSyntaxUID) not in _NATIVE
        or short(header, "SamplesPerPixel", 1) != 1
        or photometric not in ("MONOCHROME1", "MONOCHROME2")
        or bits not in (8, 16, 32)
        or not 0 < used <= bits
        or header.get("ModalityLUTSequence")
    ):
        return None
    start, head = file.tell(), file.read(12)
    if len(head) < 12 or head[:4] != _PIXEL_DATA:
        return None
    explicit = head[4:6] in (b"OW", b"OB")
    (length,) = struct.unpack("<I", head[8:12] if explicit else head[4:8])
    start += 12 if explicit else 8
    count = max(1, int(number(header, "NumberOfFrames", 1)))
    each = short(header, "Rows") * short(header, "Columns") * bits // 8
    if length == 0xFFFFFFFF or length < each * count or each == 0:
        return None
    dtype = f"<{'i' if short(header, 'PixelRepresentation') else 'u'}{bits // 8}"
    inverted = _is_inverted(header, photometric)
    return [
        Stored(start + each * frame, dtype, bits - used, inverted, _rescale(header, frame)) for frame in range(count)
    ]


def read_stored(path: Path, stored: Stored, out: Array) -> tuple[int, int]:
    """Fill ``out`` (Y, X), contiguous and of the stored type, and return its least and greatest value.

    Raises
    ------
    InputError
        If the file ends before the values do.
    """
    with path.open("rb", buffering=0) as file:
        file.seek(stored.offset)
        there = 0
        view = memoryview(cast(Any, out)).cast("B")
        while there < out.nbytes and (more := file.readinto(view[there:])):
            there += more
    if there < out.nbytes:
        raise InputError(
            f"'{path.name}' is cut off: {out.nbytes - there} bytes of its pixels are missing. Copy it again."
        )
    if stored.unused:
        np.left_shift(out, stored.unused, out=out)
        np.right_shift(out, stored.unused, out=out)
    if stored.invert:
        out[...] = _inverted(out, out.itemsize * 8 - stored.unused)
    return int(out.min()), int(out.max())


def pixels_of(dataset: Any, name: str) -> Array:
    """Return (C, Z, Y, X) in the file's own frame order."""
    from pydicom.pixels.processing import apply_color_lut

    array = _decoded(dataset, name)
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        array = apply_color_lut(array, dataset)
        if array.dtype == np.uint16:
            array = (array >> 8).astype(np.uint8)
    colour = int(dataset.get("SamplesPerPixel", 1)) > 1 or photometric == "PALETTE COLOR"
    frames = int(dataset.get("NumberOfFrames") or 1)
    array = array.reshape(frames, int(dataset.Rows), int(dataset.Columns), -1 if colour else 1)
    if not colour:
        if _is_inverted(dataset, photometric):
            array = _inverted(array, int(dataset.BitsStored))
        array = _transformed(array, dataset)
    return np.ascontiguousarray(np.moveaxis(plain(array, name), -1, 0))


def _decoded(dataset: Any, name: str) -> Array:
    """Return the stored values, by a decoder that does not end the whole process on damaged files, as GDCM does."""
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return np.asarray(pixel_array(dataset))
    failed: Exception | None = None
    for decoder in _decoders(syntax):
        try:
            if decoder == "imagecodecs":
                return _jpeg(dataset)
            return np.asarray(pixel_array(dataset, decoding_plugin=decoder))
        except (RuntimeError, NotImplementedError, ValueError) as error:
            failed = error
    raise InputError(
        f"'{name}' is compressed as {syntax.name}, which cannot be decoded here, or it is damaged. "
        "Export it uncompressed or as JPEG 2000."
    ) from failed


def _decoders(syntax: Any) -> list[str]:
    from pydicom.pixels import get_decoder

    try:
        able = get_decoder(syntax).available_plugins
    except NotImplementedError:
        able = ()
    found = [name for name in _DECODERS if name in able]
    return [*found, "imagecodecs"] if syntax in _JPEG else found


def _jpeg(dataset: Any) -> Array:
    """Decode lossless JPEG, and lossy JPEG of 12 bits, which pydicom leaves to GDCM."""
    from imagecodecs import jpeg8_decode
    from pydicom.encaps import generate_frames
    from pydicom.pixels.processing import convert_color_space

    count = int(number(dataset, "NumberOfFrames", 1))
    colour = short(dataset, "SamplesPerPixel", 1) == 3
    as_stored: dict[str, Any] = {"colorspace": "RGB", "outcolorspace": "RGB"} if colour else {}
    coded = generate_frames(dataset.PixelData, number_of_frames=count)
    array = np.stack([jpeg8_decode(frame, **as_stored) for _, frame in zip(range(count), coded, strict=False)])
    photometric = text(dataset, "PhotometricInterpretation")
    if colour and photometric.startswith("YBR"):
        return np.asarray(convert_color_space(array, "YBR_FULL", "RGB", per_frame=True))
    if short(dataset, "PixelRepresentation"):
        array = array.view(f"i{array.itemsize}")
        unused = array.itemsize * 8 - short(dataset, "BitsStored", 16)
        array = (array << unused) >> unused
    return array


def _is_inverted(dataset: Any, photometric: str) -> bool:
    return photometric == "MONOCHROME1" and text(dataset, "Modality") not in _QUANTITATIVE


def _inverted(array: Array, bits: int) -> Array:
    if array.dtype.kind == "i":
        return ~array
    return np.asarray((1 << bits) - 1 - array.astype(np.int64)).astype(array.dtype)


def _transformed(array: Array, dataset: Any) -> Array:
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        return np.asarray(apply_modality_lut(array, dataset))
    pairs = [_rescale(dataset, frame) for frame in range(len(array))]
    if array.dtype.kind not in "ui":
        return rescaled(array, pairs, (0, 0))
    return rescaled(np.array(array), pairs, (int(array.min()), int(array.max())))


def rescaled(array: Array, pairs: Sequence[Pair], span: tuple[int, int]) -> Array:
    """Apply slope and intercept frame by frame; whole numbers stay integers where all frames have the same.

    Parameters
    ----------
    array : array (Z, ...)
        May be overwritten.
    pairs : sequence of (slope, intercept), one for each frame
    span : (least, greatest)
        Of the stored values, if these are integers.
    """
    if all(pair == (1.0, 0.0) for pair in pairs):
        return array
    if array.dtype.kind in "ui" and len(set(pairs)) == 1 and all(number.is_integer() for number in pairs[0]):
        slope, intercept = (int(number) for number in pairs[0])
        ends = [value * slope + intercept for value in span]
        for kind in (np.dtype(np.int16), np.dtype(np.int32)):
            if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
                # Sums and products wrap round, so that what fits in the end is right whatever lies between.
                values: Any = array.view(kind) if array.dtype.itemsize == kind.itemsize else array.astype(kind)
                if slope != 1:
                    values *= np.array(slope).astype(kind)
                values += np.array(intercept).astype(kind)
                return np.asarray(values)
    slopes, intercepts = np.array(pairs, dtype=np.float32).T.reshape(2, -1, *[1] * (array.ndim - 1))
    return np.asarray(array.astype(np.float32) * slopes + intercepts)


def _rescale(dataset: Any, frame: int) -> Pair:
    """Return a frame's slope and intercept, in enhanced files from the functional groups."""
    if "RescaleSlope" in dataset:
        return number(dataset, "RescaleSlope", 1.0), number(dataset, "RescaleIntercept")
    for source in functional_groups(dataset, frame, "PixelValueTransformationSequence"):
        if "RescaleSlope" in source:
            return number(source, "RescaleSlope", 1.0), number(source, "RescaleIntercept")
    return 1.0, 0.0


def functional_groups(dataset: Any, frame: int, name: str) -> Iterator[Any]:
    """Yield the items ``name`` of a frame's functional groups, its own before the shared ones."""
    for holder in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        items = dataset.get(holder) or []
        index = frame if holder.startswith("Per") else 0
        if index < len(items):
            yield from items[index].get(name) or []
