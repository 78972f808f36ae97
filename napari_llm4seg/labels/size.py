"""How large voxels and what is made of them are, in mm where the grid knows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_llm4seg.volume import Unit


@dataclass(frozen=True)
class Scale:
    """The steps of a grid of two or three axes.

    Parameters
    ----------
    spacing : tuple of float
        Distance between neighbours along each axis, in ``unit``; where that is "pixel", how the steps compare.
    voxel : float
        Volume of a voxel in mm³, or area of a pixel in mm²; 1 where there are no mm. Of a sheared grid it is less than
        the product of the spacing.
    unit : {"mm", "pixel"}
    """

    spacing: tuple[float, ...]
    voxel: float
    unit: Unit

    @classmethod
    def of(cls, affine: npt.NDArray[np.float64], unit: Unit, axes: tuple[int, ...] = (0, 1, 2)) -> Scale:
        """Return the scale along ``axes`` (of z, y, x), one to three of them, of a grid with a (4, 4) ``affine``."""
        steps = np.asarray(affine, dtype=np.float64)[:3, list(axes)]
        # the root of the Gram determinant: length of one vector, area of two, volume of three
        content = float(np.sqrt(max(np.linalg.det(steps.T @ steps), 0.0)))
        spacing = tuple(float(step) for step in np.linalg.norm(steps, axis=0))
        return cls(spacing, content if unit == "mm" else 1.0, unit)

    @classmethod
    def pixels(cls, ndim: int) -> Scale:
        """Return the scale of a grid that knows no mm."""
        return cls((1.0,) * ndim, 1.0, "pixel")

    @property
    def ndim(self) -> int:
        return len(self.spacing)

    @property
    def unit_word(self) -> str:
        """What sizes are given in: "mm³", "mm²", "voxels" or "pixels"."""
        if self.unit == "mm":
            return "mm³" if self.ndim == 3 else "mm²"
        return "voxels" if self.ndim == 3 else "pixels"

    def words(self, voxels: int) -> str:
        """Return the size of so many voxels as a person reads it: "0.42 mL", "3.1 mm²", "12 pixels"."""
        if self.unit == "pixel":
            return f"{voxels} {self.unit_word if voxels != 1 else self.unit_word[:-1]}"
        size = voxels * self.voxel
        return volume_words(size) if self.ndim == 3 else f"{size:.1f} mm²"


def volume_words(cubic_mm: float) -> str:
    """Return a volume as a person reads it, in mL, or in mm³ where that would be below 0.1 mL; four digits at most."""
    return f"{cubic_mm:.3g} mm³" if cubic_mm < 100 else f"{number_words(cubic_mm / 1000)} mL"


def number_words(number: float) -> str:
    """Return a size of 0 or more with as many decimals as it has a meaning to: "1043", "255.2", "3.14", "0.007"."""
    if number < 0.1:
        return f"{number:.1g}"
    return f"{number:.{0 if number >= 1000 else 1 if number >= 100 else 2}f}"


def affine_scale(affine: npt.NDArray[np.float64], unit: Unit, n_slices: int) -> Scale:
    """Return the scale that sizes are given in: of the plane for one slice, of space for a stack."""
    return Scale.of(affine, unit, (1, 2) if n_slices == 1 else (0, 1, 2))
