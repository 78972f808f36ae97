"""PNG, JPEG and BMP through pillow, and the overlay picture of a result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.files import replacing
from napari_llm4seg.io._classes import classes_of, named_classes
from napari_llm4seg.io._files import PathLike, existing, plain, reading, stem_of, suffix_of
from napari_llm4seg.io._own import KEY, Own, from_text, to_text
from napari_llm4seg.volume import Prediction, Volume

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[Any]

# Only these decoders: pillow would otherwise try any of its forty formats on a file, ghostscript's included.
_DECODERS = ("PNG", "JPEG", "BMP", "DIB")
_FILL = 0.25
# Signed whole numbers that reach down to air are Hounsfield units.
_AIR_HU = -900
_SOFT_TISSUE_HU = (-160.0, 240.0)


def read(path: PathLike, *, palette: bool = True) -> Volume:
    """Read a PNG, JPEG or BMP image as a volume of one slice.

    Grey images give one channel, colour images three, images with transparency four (the alpha channel last;
    grey with alpha becomes RGBA). 1-bit images become uint8 0/255, 16-bit values are kept, the EXIF orientation is
    applied. The unit is "pixel": the resolution in such files is meant for printers.

    Parameters
    ----------
    path : str or path
    palette : bool
        True expands a palette image to RGB; False gives its indices, as label masks store their values. Of a mask that
        this package wrote the indices are its labels either way.

    Raises
    ------
    InputError
        If the file is missing, damaged or no such image.
    """
    path = existing(path)
    with reading(path, "a PNG, JPEG or BMP image"):
        array, own = _decode(path, palette)
    channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    volume = Volume(np.ascontiguousarray(channels)[:, None], name=stem_of(path), metadata={"source_path": str(path)})
    return own.onto(volume)


def _decode(path: Path, palette: bool) -> tuple[Array, Own]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=_DECODERS) as image:
            if image.format == "PNG" and image.mode in ("RGB", "RGBA") and _png_depth(path) == 16:
                return _decode_deep_png(path), Own()
            image.load()
            own = from_text(image.info.get(KEY))
            # A palette image whose index order matters must not pass through a conversion.
            turned = ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise InputError(
            f"'{path.name}' is not a PNG, JPEG or BMP image, whatever its name says. Export it again."
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(f"'{path.name}' has too many pixels for one image. Crop it or make it smaller.") from error
    return _as_array(turned, palette and own.kind != "label"), own


def _as_array(image: Image, palette: bool) -> Array:
    mode = image.mode
    if mode == "1":
        return np.asarray(image, dtype=np.uint8) * np.uint8(255)
    if mode == "P" and not palette:
        return np.asarray(image)
    if mode in ("L", "F", "RGB", "RGBA"):
        return np.asarray(image)
    if mode.startswith("I"):
        return plain(np.asarray(image), "image")
    transparent = mode in ("LA", "La", "PA", "RGBa") or (mode == "P" and "transparency" in image.info)
    return np.asarray(image.convert("RGBA" if transparent else "RGB"))


def _png_depth(path: Path) -> int:
    """Return the bits per sample in a PNG's header (byte 24 of the file)."""
    with path.open("rb") as file:
        return file.read(25)[24]


def _decode_deep_png(path: Path) -> Array:
    """Decode a 16-bit colour PNG, which pillow would cut down to 8 bit."""
    try:
        import imagecodecs
    except ImportError as error:
        raise InputError(
            f"'{path.name}' has 16 bits per colour, which needs the package imagecodecs. Install it, or save as TIFF."
        ) from error
    return plain(np.asarray(imagecodecs.png_decode(path.read_bytes())), path.name)


def write(path: PathLike, volume: Volume) -> Path:
    """Write one slice as PNG.

    Labels become an 8-bit image with a palette: its pixel values are the label values, and viewers show the classes in
    their colours. Where a value exceeds 255 it is a 16-bit grey image instead. Names, affine and unit are in a comment.
    An intensity image is written as it is if it is 8-bit with one, three or four channels, or 16-bit unsigned with one.

    Parameters
    ----------
    path : str or path
        Ends in ``.png``.
    volume : Volume
        One slice.

    Raises
    ------
    InputError
        For a stack, another suffix, or values that PNG cannot hold.
    """
    path = Path(path)
    if suffix_of(path) != ".png":
        raise InputError(
            f"'{path.name}': masks are not written as {suffix_of(path)[1:].upper()}, which may change their values. "
            "Use .png, .tif or .nii.gz."
        )
    if volume.n_slices > 1:
        raise InputError(
            f"'{path.name}': '{volume.name}' has {volume.n_slices} slices and a PNG holds one. Use .tif or .nii.gz."
        )
    pixels = np.moveaxis(_fits_png(volume, path.name), 0, -1)
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    if volume.kind == "label":
        _save(path, pixels, _palette(volume), to_text(volume))
    else:
        _save(path, pixels)
    return path


def _palette(volume: Volume) -> list[int]:
    """Return 256 colours in a row, (red, green, blue) each: background black."""
    colours = [0] * (3 * 256)
    for each in classes_of(volume):
        if each.value < 256:
            colours[3 * each.value : 3 * each.value + 3] = each.rgb
    return colours


def _fits_png(volume: Volume, name: str) -> Array:
    data = volume.slice_at(0)
    if data.dtype == np.bool_:
        return data.astype(np.uint8)
    if volume.kind == "label":
        low, high = int(data.min()), int(data.max())
        if data.dtype.kind not in "ui" or low < 0 or high > 65535:
            raise InputError(f"'{name}': label values {low} to {high} do not fit a PNG (0 to 65535). Use .nii.gz.")
        return data.astype(np.uint8 if high <= 255 else np.uint16)
    if data.dtype == np.uint8 and data.shape[0] in (1, 3, 4):
        return data
    if data.dtype == np.uint16 and data.shape[0] == 1:
        return data
    raise InputError(
        f"'{name}': a PNG cannot hold {data.shape[0]} channel(s) of {data.dtype} values. Use .tif or .nii.gz."
    )


def _save(path: Path, pixels: Array, palette: list[int] | None = None, comment: str = "") -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    image = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None and image.mode == "L":
        image.putpalette(palette)
    info = PngInfo()
    if comment:
        info.add_itxt(KEY, comment)
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=info)


def write_overlay(path: PathLike, volume: Volume, prediction: Prediction | Volume, z: int | None = None) -> Path:
    """Write a picture of one slice with the classes drawn on it: an RGB PNG of the slice's own size.

    The scan is stretched between its 0.5 and 99.5 percentile, CT shown in the soft-tissue window (-160 to 240 HU);
    every class is filled lightly and outlined in its colour.

    Parameters
    ----------
    path : str or path
        Ends in ``.png``.
    volume : Volume
        The scan.
    prediction : Prediction or Volume of labels
        On the scan's grid.
    z : int, optional
        The slice; without it the one with the most labelled pixels, or the middle one where nothing is labelled.

    Raises
    ------
    InputError
        If the grids differ, ``z`` lies outside, or the place cannot be written to.
    """
    path = Path(path)
    if suffix_of(path) != ".png":
        raise InputError(f"'{path.name}': the overlay is a PNG picture; give a name that ends in .png.")
    labels = prediction.labels if isinstance(prediction, Prediction) else np.asarray(prediction.data[0])
    if labels.shape != volume.grid:
        raise InputError(
            f"The labels have shape {tuple(labels.shape)} but the scan '{volume.name}' has {volume.grid} (z, y, x). "
            "Draw them on the scan they were made from."
        )
    if z is None:
        counts = np.count_nonzero(labels, axis=(1, 2))
        z = int(np.argmax(counts)) if counts.any() else volume.n_slices // 2
    if not 0 <= z < volume.n_slices:
        raise InputError(f"Slice {z} is not in '{volume.name}'; it has slices 0 to {volume.n_slices - 1}.")
    picture = stretched(volume.slice_at(z))
    for value, colour in _colours(prediction, labels[z]):
        _draw(picture, labels[z] == value, colour)
    _save(path, np.round(picture).astype(np.uint8))
    return path


def stretched(pixels: Array) -> npt.NDArray[np.float32]:
    """Return a slice (C, Y, X) as RGB (Y, X, 3) in 0 to 255; channels share one stretch so that hues stay."""
    colour = pixels[:3] if pixels.shape[0] >= 3 else pixels[:1]
    values = np.nan_to_num(colour.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, (0.5, 99.5))
    if pixels.dtype.kind == "i" and values.min() <= _AIR_HU:
        low, high = _SOFT_TISSUE_HU
    if high <= low:
        low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-6) * 255.0
    rgb = np.broadcast_to(np.clip(scaled, 0, 255), (3, *scaled.shape[1:]))
    return np.moveaxis(rgb, 0, -1).astype(np.float32)


def _colours(prediction: Prediction | Volume, labels: Array) -> list[tuple[int, tuple[int, int, int]]]:
    classes = prediction.classes if isinstance(prediction, Prediction) else prediction.metadata.get("classes", ())
    present = {int(value) for value in np.unique(labels)}
    return [(each.value, each.rgb) for each in named_classes(classes, present) if each.value in present]


def _draw(picture: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    tint = np.asarray(colour, dtype=np.float32)
    picture[mask] = (1 - _FILL) * picture[mask] + _FILL * tint
    inner = mask
    for _ in range(1 if max(mask.shape) < 300 else 2 + max(mask.shape) // 1500):
        inner = _eroded(inner)
    picture[mask & ~inner] = tint


def _eroded(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return ``mask`` without the pixels that touch its outside by an edge; the image border counts as inside."""
    padded = np.pad(mask, 1, mode="edge")
    around = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & around)
