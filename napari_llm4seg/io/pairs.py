"""Folders of scans and their masks: which belongs to which, and what a mask file's values mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.errors import InputError
from napari_llm4seg.io import FORMATS, read
from napari_llm4seg.io._files import PathLike, existing, sniff, stem_of, suffix_of
from napari_llm4seg.volume import Volume

Array = npt.NDArray[Any]
Grid = tuple[int, int, int]

_JPEG = (".jpg", ".jpeg")
# How far a mask's voxels may lie from the scan's, in voxels, and still count as the same grid.
_TOLERANCE = 0.1


# For ``find_pairs``: the file's whole stem.
ANY_NAME = "{}"


@dataclass(frozen=True)
class Pair:
    """A scan and its mask; ``stem`` is the scan's file name without its suffix."""

    stem: str
    image: Path
    mask: Path


def find_pairs(
    images_dir: PathLike, masks_dir: PathLike, image_name: str = ANY_NAME, mask_name: str = ANY_NAME
) -> list[Pair]:
    """Match the scans of one folder with the masks of another by file stem, whatever their suffixes.

    Files of other kinds, those whose names do not fit the pattern, and masks without a scan are passed over.

    Parameters
    ----------
    images_dir, masks_dir : path
    image_name, mask_name : str
        Where stems differ: patterns of them with one ``{}`` in the place of what scan and mask share, such as "img{}"
        and "label{}", or "{}" and "{}_segmentation". A pattern with a suffix ("{}.jpg") takes files of that kind alone.

    Returns
    -------
    list of Pair
        Sorted by stem.

    Raises
    ------
    InputError
        If a folder is missing or empty, no name fits, a scan has no mask, or two files of one folder are of one name.
    """
    images, masks = _scans(images_dir, "images", image_name), _scans(masks_dir, "masks", mask_name)
    missing = sorted(set(images) - set(masks))
    if missing:
        named = ", ".join(images[key].name for key in missing[:3]) + (" ..." if len(missing) > 3 else "")
        example = sorted(path.name for path in masks.values())[0]
        wanted = "of the same name" if image_name == mask_name else f"called {mask_name.replace('{}', missing[0])}"
        raise InputError(
            f"{len(missing)} of {len(images)} images have no mask {wanted} in '{masks_dir}': {named} "
            f"(a mask there is called {example}). Rename or remove them."
        )
    pairs = [Pair(stem_of(images[key]), images[key], masks[key]) for key in images]
    return sorted(pairs, key=lambda pair: pair.stem)


def shared_name(path: Path, pattern: str) -> str | None:
    """Return what stands in a file name for the pattern's ``{}``, None where the name does not fit.

    The suffix counts where the pattern has one of its own, in capitals or not.
    """
    suffix = suffix_of(pattern)
    if suffix in FORMATS:
        if suffix_of(path) != suffix:
            return None
        pattern = stem_of(pattern)
    before, _, after = pattern.partition(ANY_NAME)
    stem = stem_of(path)
    fits = stem.startswith(before) and stem.endswith(after) and len(stem) > len(before) + len(after)
    return stem[len(before) : len(stem) - len(after)] if fits else None


def _scans(folder: PathLike, what: str, pattern: str) -> dict[str, Path]:
    folder = existing(folder)
    if not folder.is_dir():
        raise InputError(f"'{folder.name}' is a file; the folder with the {what} is needed.")
    found: dict[str, Path] = {}
    strange: Path | None = None
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file() or suffix_of(path) not in FORMATS:
            continue
        key = shared_name(path, pattern)
        if key is None:
            strange = strange or path
            continue
        other = found.setdefault(key, path)
        if other != path:
            raise InputError(f"'{folder.name}' has {other.name} and {path.name}; keep one file of each name.")
    if not found and strange is not None:
        raise InputError(f"None of the {what} in '{folder}' is called '{pattern}'; one is called {strange.name}.")
    if not found:
        raise InputError(f"The folder '{folder}' holds no {what} (NIfTI, DICOM, TIFF, PNG, JPEG, BMP or .npy).")
    return found


def read_mask(path: PathLike, like_grid: Grid | Volume) -> Array:
    """Read a mask as label values on a scan's grid.

    - 0/255 (any case where 255 is the only value beside 0) becomes 0/1, and so does 0/65535 of a 16-bit file; 0/1 and
      label values stay as they are.
    - A JPEG mask, or one that once was a JPEG (greys near 0 and near 255 only), is cut at 127 into 0/1.
    - Palette images give their indices; colour images count if their channels are equal; alpha is dropped.
    - Where ``like_grid`` is a ``Volume`` and both have a position in mm, a mask whose axes run the other way or in
      another order is turned onto the scan.

    Parameters
    ----------
    path : str or path
    like_grid : (Z, Y, X) or Volume
        The scan's size, or the scan itself.

    Returns
    -------
    array (Z, Y, X) of uint8, or uint16 where a value exceeds 255

    Raises
    ------
    InputError
        If the mask cannot be read, holds no label values, or has another size or place than its scan.
    """
    path = existing(path)
    volume = read_labels(path)
    labels = np.asarray(volume.data[0])
    if isinstance(like_grid, Volume):
        labels = _turned(labels, volume, like_grid, path.name)
    wanted = like_grid.grid if isinstance(like_grid, Volume) else like_grid
    if labels.shape != tuple(wanted):
        raise InputError(
            f"The mask '{path.name}' has {_size(labels.shape)} but its image has {_size(tuple(wanted))}. "
            "Use the mask made for this image."
        )
    return np.ascontiguousarray(labels)


def read_labels(path: PathLike) -> Volume:
    """Read a mask on its own grid, its values as ``read_mask`` understands them.

    Returns
    -------
    Volume of kind "label", uint8 or uint16

    Raises
    ------
    InputError
        If the mask cannot be read or holds no label values.
    """
    path = existing(path)
    volume = _open(path)
    return volume.with_data(_labels(_one_channel(volume, path.name), path)[None], kind="label")


def as_classes(
    labels: Array, classes: Sequence[ClassSpec], name: str, unannotated: int | None = None
) -> npt.NDArray[np.integer[Any]]:
    """Return a mask's label values as those of a model's classes: what it is trained on is what it is judged by.

    Parameters
    ----------
    labels : array of any shape
    classes : sequence of ClassSpec
        Of a single class everything above 0 is that class; of several each keeps its value.
    name : str
        Of the case, for the message.
    unannotated : int, optional
        A value that is kept as it is.

    Returns
    -------
    array of the same shape, 0 = background

    Raises
    ------
    InputError
        If several classes are known and the mask holds another label value.
    """
    void = np.zeros(labels.shape, dtype=np.bool_) if unannotated is None else labels == unannotated
    if len(classes) == 1:
        return np.where(void, labels, np.where(labels > 0, classes[0].value, 0))
    strange = sorted({int(value) for value in np.unique(labels[~void])} - {0, *(spec.value for spec in classes)})
    if strange:
        raise InputError(
            f"The mask of '{name}' holds label {strange[0]}, which is none of the model's classes "
            f"({', '.join(f'{spec.value} {spec.name}' for spec in classes)})."
        )
    return labels


def _open(path: Path) -> Volume:
    name = FORMATS.get(suffix_of(path)) or (sniff(path) if path.is_file() else None)
    if name != "raster":
        return read(path)
    volume: Volume = import_module("napari_llm4seg.io.raster").read(path, palette=False)
    return volume


def _one_channel(volume: Volume, name: str) -> Array:
    data = np.asarray(volume.data)
    if data.shape[0] >= 3 and any(not np.array_equal(data[0], channel) for channel in data[1:3]):
        raise InputError(f"The mask '{name}' is a colour image; one label value per pixel is needed. Save it as grey.")
    if data.shape[0] == 2:
        raise InputError(f"The mask '{name}' has 2 channels; one with label values is needed. Save that one.")
    return np.asarray(data[0])


def _labels(values: Array, path: Path) -> Array:
    name = path.name
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and np.array_equal(values, np.round(values))):
        raise InputError(f"The mask '{name}' holds fractions or NaN; whole label values are needed. Threshold it.")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise InputError(f"The mask '{name}' holds values {low} to {high}; label values are 0 to 65535.")
    if suffix_of(path) in _JPEG:
        if 0 < high <= 127:
            raise InputError(
                f"The JPEG mask '{name}' is nowhere brighter than {high} of 255: JPEG blurs label values. "
                "Save it as PNG, or as 0 and 255."
            )
        return (values > 127).astype(np.uint8)
    if high == 65535 and np.isin(values, (0, 65535)).all():
        return np.asarray(values == 65535, dtype=np.uint8)
    if high == 255:
        present = np.unique(values).astype(int).tolist()
        if present in ([0, 255], [255]):
            return np.asarray(values == 255, dtype=np.uint8)
        # Compression leaves greys beside both ends; label maps have none just below 255.
        if any(223 < value < 255 for value in present) and not any(31 < value <= 223 for value in present):
            return (values > 127).astype(np.uint8)
        if len(present) > 64:
            raise InputError(
                f"The mask '{name}' holds {len(present)} grey values up to 255 and looks like a picture or a blurred "
                "mask. Save it as 0 and 255, or as label values."
            )
    return np.asarray(values, dtype=np.uint8 if high <= 255 else np.uint16)


def _turned(labels: Array, mask: Volume, scan: Volume, name: str) -> Array:
    """Bring a mask with a place of its own onto the scan's axes by flips and a change of their order alone."""
    if mask.unit != "mm" or scan.unit != "mm" or np.array_equal(mask.affine, scan.affine):
        return labels
    relative = np.linalg.inv(scan.affine) @ mask.affine
    source = [int(np.argmax(np.abs(row))) for row in relative[:3, :3]]
    signs = np.sign(relative[[0, 1, 2], source])
    if sorted(source) != [0, 1, 2]:
        raise _elsewhere(name)
    turned = labels.transpose(source)
    turned = turned[tuple(slice(None, None, -1 if sign < 0 else 1) for sign in signs)]
    # Two opposite corners of the mask must fall on the scan's; then so does everything between.
    size = np.array(labels.shape)
    corners = np.stack([np.append(np.zeros(3), 1), np.append(size - 1, 1)], axis=1)
    found = (relative @ corners)[:3]
    expected = np.where(signs < 0, np.array(turned.shape) - 1, 0)
    opposite = np.where(signs < 0, 0, np.array(turned.shape) - 1)
    off = max(float(np.abs(found[:, 0] - expected).max()), float(np.abs(found[:, 1] - opposite).max()))
    if turned.shape == scan.grid and off > max(_TOLERANCE, 1e-3 * float(size.max())):
        raise _elsewhere(name)
    return np.asarray(turned)


def _elsewhere(name: str) -> InputError:
    return InputError(
        f"The mask '{name}' lies elsewhere in space than its image, or at another angle. "
        "Resample it onto the image first."
    )


def _size(grid: tuple[int, ...]) -> str:
    depth, height, width = grid
    return f"{depth} slice(s) of {height} x {width} (rows x columns)"
