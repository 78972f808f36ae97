"""Volume and Prediction: arrays that know where they lie in the world. Numpy and dask only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError

Kind = Literal["intensity", "label"]
Unit = Literal["mm", "pixel"]
Array = npt.NDArray[Any]


def affine_from_spacing(spacing: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Return the (4, 4) affine of an axis-aligned grid with ``spacing`` (z, y, x), origin 0."""
    return np.diag([*map(float, spacing), 1.0])


def _invertible(matrix: npt.NDArray[np.float64]) -> bool:
    """Return whether three directions span space, however small their steps: a microscope's are below 1e-4 mm."""
    steps = np.linalg.norm(matrix, axis=0)
    return bool(steps.min() > 0) and abs(float(np.linalg.det(matrix / steps))) > 1e-9


@dataclass(frozen=True, eq=False)
class Volume:
    """One scan or one label map on its grid.

    Parameters
    ----------
    data : array (C, Z, Y, X), numpy or dask
        A 2-D image has Z = 1; RGB has C = 3. Labels have C = 1 and an integer dtype.
    affine : array (4, 4), float64
        Voxel index ``(z, y, x, 1)`` to world ``(z, y, x, 1)`` in ``unit``. The world's axes point to superior,
        posterior and left: the DICOM/ITK patient system in napari's axis order, so axial slices show as a
        radiologist expects them.
    kind : {"intensity", "label"}
    unit : {"mm", "pixel"}
        "pixel" where the file gives no physical size; then areas and volumes are not in mm.
    name : str
        What a person calls it: the file's stem or the layer's name.
    metadata : mapping
        What a writer needs to give the same grid back (source path, header codes) and the provenance of results.

    Raises
    ------
    InputError
        If ``data`` is not four-dimensional, has an empty axis or the affine cannot be inverted.
    """

    data: Any
    affine: npt.NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    kind: Kind = "intensity"
    unit: Unit = "pixel"
    name: str = "scan"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data.ndim != 4:
            raise InputError(
                f"'{self.name}' has {self.data.ndim} axes {tuple(self.data.shape)}; "
                "a volume needs four (channel, z, y, x). Read it with l4s.read, or add the missing axes."
            )
        if 0 in self.data.shape:
            raise InputError(f"'{self.name}' is empty: shape {tuple(self.data.shape)}. Open a scan with pixels in it.")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not _invertible(affine[:3, :3]):
            raise InputError(
                f"'{self.name}' has no usable affine (shape {affine.shape}); a finite, invertible 4 x 4 one is needed."
            )
        object.__setattr__(self, "affine", affine)

    def __repr__(self) -> str:
        shape = " x ".join(str(n) for n in self.data.shape)
        steps = " x ".join(f"{step:.3g}" for step in self.spacing)
        return f"<Volume '{self.name}': {self.kind}, {shape} {self.data.dtype}, {steps} {self.unit}>"

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (z, y, x), in ``unit``."""
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Number of voxels along (z, y, x)."""
        _, z, y, x = self.data.shape
        return int(z), int(y), int(x)

    @property
    def channels(self) -> int:
        return int(self.data.shape[0])

    @property
    def n_slices(self) -> int:
        return self.grid[0]

    def slice_at(self, z: int) -> Array:
        """Return slice ``z`` as a numpy array (C, Y, X); dask slices are computed here."""
        return np.asarray(self.data[:, z])

    def with_data(self, data: Any, **changes: Any) -> Volume:
        """Return a volume on the same grid with other values."""
        return replace(self, data=data, **changes)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about a scan, on the scan's own grid.

    Parameters
    ----------
    labels : array (Z, Y, X), uint8 or uint16
        Label values of the checkpoint's classes, 0 = background.
    probabilities : array (K, Z, Y, X), float16 or float32 in [0, 1], or None
        One channel per output of the head, in its order (background first where the head has one).
    affine, unit, name
        As in the source ``Volume``.
    classes : tuple of (value, name, colour)
        Label value, class name and "#RRGGBB".
    provenance : mapping
        What made it: checkpoint, frozen layer digests, configs, versions, device, seconds.
    """

    labels: Array
    probabilities: Array | None
    affine: npt.NDArray[np.float64]
    unit: Unit
    name: str
    classes: tuple[tuple[int, str, str], ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def as_volume(self) -> Volume:
        """Return the labels as a ``Volume`` of kind "label"."""
        return Volume(
            data=self.labels[None],
            affine=self.affine,
            kind="label",
            unit=self.unit,
            name=self.name,
            metadata={"provenance": dict(self.provenance), "classes": self.classes},
        )
