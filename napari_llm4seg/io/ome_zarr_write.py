"""OME-Zarr (NGFF 0.5, zarr 3): label images with names and colours, and images; also piece by piece.

Source: OME-Zarr specification, https://ngff.openmicroscopy.org/0.5, "multiscales" and "image-label".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_llm4seg.files import replacing_folder
from napari_llm4seg.io._classes import Named, classes_of
from napari_llm4seg.io._files import PathLike, plain, stem_of
from napari_llm4seg.io._own import KEY
from napari_llm4seg.volume import Volume

_MARKER = "zarr.json"
# Of a chunk along z, y and x: 4 MiB of labels.
_CHUNK = (16, 512, 512)
# A plane larger than this gets coarser levels, for viewers.
_LARGE = 1024


def write(path: PathLike, volume: Volume) -> Path:
    """Write a volume or labels, slab by slab: lazy data are never whole in memory.

    Scale and translation are those of the grid, in mm; NGFF 0.5 has no field for a turned or sheared grid, so the whole
    affine is kept in a field of our own, and other programs show such a volume upright. Planes of more than 1024 pixels
    get coarser levels by taking every second pixel.

    Raises
    ------
    InputError
        If the values are complex, something else lies at ``path``, or the disk refuses.
    """
    path = Path(path)
    dtype = _dtype(np.dtype(volume.data.dtype), path.name)
    with replacing_folder(path, _MARKER) as folder:
        array = _array(folder, volume, dtype)
        thick = array.chunks[-3]
        for z in range(0, volume.n_slices, thick):
            slab = np.asarray(volume.data[:, z : z + thick])
            array[..., z : z + thick, :, :] = slab if volume.channels > 1 else slab[0]
        _finish(folder, volume, stem_of(path))
    return path


@contextmanager
def creating(path: PathLike, scan: Volume, classes: tuple[tuple[int, str, str], ...], dtype: Any) -> Iterator[Any]:
    """Yield a zarr array (Z, Y, X) for the labels of ``scan``; the file appears when the block ends without an error.

    The array must not be used after the block, when it has moved; ``read`` opens what was written.

    Parameters
    ----------
    path : str or path
    scan : Volume
        Gives grid, affine and unit.
    classes : tuple of (value, name, "#RRGGBB")
    dtype : integer dtype

    Raises
    ------
    InputError
        If something else lies at ``path``, or the disk refuses.
    """
    path = Path(path)
    hollow = scan.with_data(_Hollow((1, *scan.grid), np.dtype(dtype)), kind="label", metadata={"classes": classes})
    with replacing_folder(path, _MARKER) as folder:
        array = _array(folder, hollow, np.dtype(dtype))
        yield array
        _finish(folder, replace(hollow, data=_Hollow((1, *scan.grid), np.dtype(dtype), array)), stem_of(path))


class _Hollow:
    """The shape and dtype of a volume (1, Z, Y, X) whose values, if any, lie in a zarr array (Z, Y, X)."""

    ndim = 4

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], array: Any = None) -> None:
        self.shape, self.dtype, self._array = shape, dtype, array

    def __getitem__(self, key: tuple[Any, ...]) -> Any:
        return np.asarray(self._array[key[1:]])[None]


def _dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    plain(np.zeros(1, dtype), name)  # refuses complex numbers and the like
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype.newbyteorder("=")


def _array(folder: Path, volume: Volume, dtype: np.dtype[Any]) -> Any:
    import zarr

    group = zarr.open_group(str(folder), mode="w", zarr_format=3)
    return _level(group, 0, _shape(volume, 1), dtype)


def _shape(volume: Volume, step: int) -> tuple[int, ...]:
    z, y, x = volume.grid
    plane = (z, -(-y // step), -(-x // step))
    return (volume.channels, *plane) if volume.channels > 1 else plane


def _level(group: Any, number: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    chunks = tuple(min(size, most) for size, most in zip(shape[-3:], _CHUNK, strict=True))
    return group.create_array(
        str(number),
        shape=shape,
        chunks=(1,) * (len(shape) - 3) + chunks,
        dtype=dtype,
        dimension_names=list("czyx"[-len(shape) :]),
    )


def _finish(folder: Path, volume: Volume, name: str) -> None:
    """Add coarser levels and the metadata."""
    import zarr

    group = zarr.open_group(str(folder), mode="r+")
    steps = [1]
    level: Any = group["0"]
    while max(level.shape[-2:]) > _LARGE:
        steps.append(steps[-1] * 2)
        coarser = _level(group, len(steps) - 1, _shape(volume, steps[-1]), level.dtype)
        for z in range(0, volume.n_slices, level.chunks[-3]):
            part = slice(z, z + level.chunks[-3])
            coarser[..., part, :, :] = np.asarray(level[..., part, :, :])[..., ::2, ::2]
        level = coarser
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [_multiscales(volume, steps, name)]}
    if volume.kind == "label":
        ome["image-label"] = _image_label(classes_of(volume))
    group.attrs["ome"] = ome
    group.attrs[KEY] = {"affine": volume.affine.tolist(), "unit": volume.unit, "kind": volume.kind}


def _multiscales(volume: Volume, steps: list[int], name: str) -> dict[str, Any]:
    several = volume.channels > 1
    unit = {"unit": "millimeter"} if volume.unit == "mm" else {}
    axes = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    depth, height, width = volume.spacing
    origin = [float(part) for part in volume.affine[:3, 3]]
    datasets = []
    for number, step in enumerate(steps):
        # every second pixel, from the first on: the coarser grid begins where the finer one does
        scale, shift = [depth, height * step, width * step], origin
        if several:
            scale, shift = [1.0, *scale], [0.0, *shift]
        transformations = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": str(number), "coordinateTransformations": transformations})
    first = [{"name": "c", "type": "channel"}] if several else []
    return {"name": name, "axes": [*first, *axes], "datasets": datasets, "type": "nearest"}


def _image_label(classes: list[Named]) -> dict[str, Any]:
    about: dict[str, Any] = {}
    if classes:  # the specification wants no empty lists
        about["colors"] = [{"label-value": each.value, "rgba": [*each.rgb, 255]} for each in classes]
        about["properties"] = [{"label-value": each.value, "name": each.name} for each in classes]
    return about
