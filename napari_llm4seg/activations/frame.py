"""What of a scan the network saw at once: a whole slice, one tile of it, or one patch of a volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_llm4seg.activations.place import Matrix, moved, slice_to_scan, volume_to_scan
from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.planes import at as at_slice
from napari_llm4seg.planes import said_of_plane, turned
from napari_llm4seg.predict import Predictor
from napari_llm4seg.predict.forward import Cancel
from napari_llm4seg.predict.postprocess import drop_islands, labels_from_probabilities
from napari_llm4seg.predict.slabs import SliceSource
from napari_llm4seg.preprocess import Preprocessor, VolumePreprocessor, VolumeStream
from napari_llm4seg.tiling import Tiling
from napari_llm4seg.volume import Volume

Float = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Frame:
    """One input of the network and its place in the scan.

    Attributes
    ----------
    image : tensor (1, C, *grid), as the network takes it
    scan : Volume
        The scan with its slices along the first axis (a view, where they were cut along another).
    axis : int
        The scan's own axis that is first in ``scan``.
    z : int
        Slice of ``scan``.
    kind : {"slice", "tile", "patch"}
    to_scan : (4, 4), pixels of ``image`` onto voxels of ``scan``
    affine : (4, 4), pixels of the masks onto the world: of the slice itself, else of the tile's or patch's own grid
    finish : callable
        Probabilities (M, K, *grid) of the network -> those on the masks' grid, as an array.
    to_grid : callable
        Labels on the masks' grid -> those on the network's, (*grid), as an array.
    messages : tuple of str
        What was converted or left out, in words.
    """

    image: Tensor
    scan: Volume
    axis: int
    z: int
    kind: Literal["slice", "tile", "patch"]
    to_scan: Matrix
    affine: Matrix
    finish: Callable[[Tensor], Float]
    to_grid: Callable[[Labels], Labels]
    messages: tuple[str, ...]

    def labels(self, predictor: Predictor, probabilities: Float) -> npt.NDArray[np.unsignedinteger]:
        """Return the labels of probabilities (K, *mask grid), as the prediction makes them of a slice."""
        model, config = predictor.checkpoint.config.model, predictor.config
        found = labels_from_probabilities(probabilities, model.classes, model.head, config.threshold)
        # islands are told by the size of the whole slice or volume, which a tile or patch does not know
        return drop_islands(found, config.min_area) if self.kind == "slice" else found

    def on_slice(self, values: npt.NDArray[Any], fill: Any = 0) -> npt.NDArray[Any]:
        """Return values on the masks' grid as the pixels (Y, X) of slice ``z``; ``fill`` where there is none."""
        if self.kind == "slice":
            return values
        rows, columns = np.mgrid[: self.scan.grid[1], : self.scan.grid[2]].astype(np.float64)
        places = np.stack([np.full_like(rows, self.z), rows, columns, np.ones_like(rows)]).reshape(4, -1)
        index = np.rint(np.linalg.inv(self.to_scan) @ places)[3 - values.ndim : 3].astype(np.intp)
        inside = ((index >= 0) & (index < np.asarray(values.shape)[:, None])).all(axis=0)
        found = np.full(rows.size, fill, dtype=values.dtype)
        found[inside] = values[tuple(index[:, inside])]
        return found.reshape(rows.shape)

    def volume(self, values: npt.NDArray[np.generic], name: str, kind: Literal["intensity", "label"]) -> Volume:
        """Return values on the masks' grid ([Z,] Y, X) as a volume that lies on the scan in the world."""
        array = values[None] if values.ndim == 2 else values
        return Volume(array[None], self.affine, kind=kind, unit=self.scan.unit, name=name)


def frame_of(
    predictor: Predictor,
    volume: Volume,
    z: int | None = None,
    at: Sequence[float] | None = None,
    cancel: Cancel | None = None,
) -> Frame:
    """Return what the predictor's network sees of a place of the scan.

    Parameters
    ----------
    predictor : Predictor
    volume : Volume of kind "intensity"
    z : int, optional
        Slice along the predictor's axis; the middle one by default.
    at : (y, x), optional
        Place in that slice, which picks the tile or patch; the slice's middle by default.
    cancel : callable -> bool, optional
        Asked between the slices of a volume that are read.

    Raises
    ------
    InputError
        If the scan cannot be segmented, or the slice does not exist.
    """
    prepare = predictor.preprocessor
    prepare.check(volume)
    axis = predictor.slice_axis(volume)
    scan = turned(volume, axis)
    z = scan.n_slices // 2 if z is None else z
    if not 0 <= z < scan.n_slices:
        raise InputError(f"'{volume.name}' has no slice {z}; it has slices 0 to {scan.n_slices - 1}.")
    place = (z, *((side - 1) / 2 for side in scan.grid[1:])) if at is None else (z, *at)
    if len(place) != 3 or any(not -0.5 <= value <= side - 0.5 for value, side in zip(place, scan.grid, strict=True)):
        raise InputError(f"The place {tuple(at or ())} is not in a slice of {scan.grid[1]} x {scan.grid[2]} pixels.")
    if isinstance(prepare, VolumePreprocessor):
        return _patch(predictor, prepare, scan, z, place, cancel)
    values = np.asarray(volume.data[(slice(None), *at_slice(axis, z))])
    part = scan.with_data(values[:, None])
    said = (*said_of_plane(volume, predictor.config.axis), *prepare.notes(volume))
    if predictor.config.mode == "tiles":
        return _tile(predictor, prepare, scan, part, axis, place, said)
    image, trace = prepare.apply(part, [0])
    to_scan = slice_to_scan(trace, z)

    def finish(probabilities: Tensor) -> Float:
        return prepare.invert(probabilities, trace)

    def to_grid(labels: Labels) -> Labels:
        return np.asarray(prepare.labels_to_grid(labels[None], trace)[0].numpy())

    return Frame(image, scan, axis, z, "slice", to_scan, moved(scan.affine, (z, 0, 0)), finish, to_grid, said)


def _tile(
    predictor: Predictor,
    prepare: Preprocessor,
    scan: Volume,
    part: Volume,
    axis: int,
    place: Sequence[float],
    said: tuple[str, ...],
) -> Frame:
    tiling = Tiling(scan.grid[1:], prepare.config.size, predictor.config.overlap)
    number = nearest_tile(tiling, place[1:])
    image = torch.from_numpy(tiling.tiles(tiling.pad(prepare.prepare(part, 0)), [number]))
    corner = _corner(tiling, number)
    z = int(place[0])
    to_scan = moved(np.eye(4), (z, *corner))
    words = (
        f"The slice runs in {len(tiling)} tiles; maps and masks here are those of the one around the place asked for."
    )
    said = (*said, words) if len(tiling) > 1 else said
    return Frame(image, scan, axis, z, "tile", to_scan, scan.affine @ to_scan, _as_they_are, np.asarray, said)


def _patch(
    predictor: Predictor,
    prepare: VolumePreprocessor,
    scan: Volume,
    z: int,
    place: Sequence[float],
    cancel: Cancel | None,
) -> Frame:
    trace = prepare.trace(scan)
    tiling = Tiling(trace.size, prepare.patch, predictor.config.overlap)
    whole = volume_to_scan(trace)
    inside = np.linalg.inv(whole) @ np.asarray([*place, 1.0])
    number = nearest_tile(tiling, inside[:3])
    image = _read_patch(prepare, scan, tiling, number, cancel)
    to_scan = moved(whole, _corner(tiling, number))
    said = tuple(prepare.notes(scan))
    if len(tiling) > 1:
        words = "maps and masks here are those of the one around the place asked for"
        said = (*said, f"The volume runs in {len(tiling)} patches; {words}.")
    return Frame(image, scan, 0, z, "patch", to_scan, scan.affine @ to_scan, _as_they_are, np.asarray, said)


def _read_patch(
    prepare: VolumePreprocessor, scan: Volume, tiling: Tiling, number: int, cancel: Cancel | None
) -> Tensor:
    """Return one patch (1, C, *patch) as the prediction runs it; the scan is never whole in memory."""
    source = SliceSource(scan.data, 1)

    def read(z: int) -> npt.NDArray[Any]:
        if cancel is not None and cancel():
            raise Cancelled("Stopped.")
        return source.read(z)

    stream = VolumeStream(prepare, scan, prepare.scale(scan, read), read)
    corner, axis = _corner(tiling, number), stream.axis
    start, stop = max(0, corner[axis]), min(tiling.shape[axis], corner[axis] + tiling.patch[axis])
    padded = np.pad(stream.layer(start, stop), ((0, 0), *tiling.padding), mode="reflect")
    window = list(tiling.window(number))
    window[1 + axis] = slice(0, tiling.patch[axis])  # these planes alone were read, or padded to
    return torch.from_numpy(np.ascontiguousarray(padded[tuple(window)])[None])


def nearest_tile(tiling: Tiling, place: Sequence[float]) -> int:
    """Return the number of the tile whose middle is nearest to a place, relative to its sides."""

    def distance(number: int) -> float:
        corner = _corner(tiling, number)
        sides = zip(place, corner, tiling.patch, strict=True)
        return max(abs(value - start - (side - 1) / 2) / side for value, start, side in sides)

    return min(range(len(tiling)), key=distance)


def _corner(tiling: Tiling, number: int) -> tuple[int, ...]:
    """Return the tile's first pixel on the unpadded grid; negative where padding lies before it."""
    return tuple(at - before for at, (before, _) in zip(tiling.corners[number], tiling.padding, strict=True))


def _as_they_are(probabilities: Tensor) -> Float:
    values: Float = probabilities.float().cpu().numpy()
    return values
