"""A made abdominal CT: soft ellipsoids with the densities of organs, and their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import CLASS_COLOURS
from napari_llm4seg.errors import InputError
from napari_llm4seg.volume import Volume, affine_from_spacing

Field = npt.NDArray[np.float32]

SPACING = (5.0, 1.5, 1.5)
_NAMES = ("liver", "spleen", "right kidney", "left kidney", "aorta", "vertebrae")
# Hounsfield units in the portal venous phase.
_HU = {"liver": 105, "spleen": 118, "right kidney": 165, "left kidney": 165, "aorta": 150, "vertebrae": 230}
_NOISE_HU = 14.0

# Centre (z, y, x) and half axes as shares of the volume's half extent: z to superior, y to posterior, x to left.
_ELLIPSOIDS: dict[str, tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...]] = {
    "liver": (((0.30, -0.08, -0.36), (0.46, 0.42, 0.33)), ((0.38, -0.26, -0.05), (0.26, 0.22, 0.30))),
    "spleen": (((0.36, 0.22, 0.56), (0.27, 0.24, 0.13)),),
    "right kidney": (((-0.22, 0.27, -0.37), (0.27, 0.14, 0.12)),),
    "left kidney": (((-0.14, 0.27, 0.37), (0.27, 0.14, 0.12)),),
}


def ct_phantom(seed: int = 0, shape: tuple[int, int, int] = (40, 128, 128)) -> tuple[Volume, Volume]:
    """Make a CT-like abdomen with labels.

    A body of muscle under subcutaneous fat, lung bases on top, liver, spleen, kidneys with a darker pelvis, aorta,
    a spine of vertebrae and discs, and bowel with gas that has no label. Densities are in Hounsfield units with
    partial volume at the borders and slightly correlated noise.

    Parameters
    ----------
    seed : int
        Equal seeds give equal volumes; it moves the organs a little and makes the noise.
    shape : (Z, Y, X)
        At least (4, 32, 32); the voxels are 5 x 1.5 x 1.5 mm whatever their number.

    Returns
    -------
    image : Volume (1, Z, Y, X), int16 in Hounsfield units
    labels : Volume (1, Z, Y, X), uint8, named in ``metadata["classes"]``
    """
    from scipy.ndimage import gaussian_filter

    if shape[0] < 4 or min(shape[1:]) < 32:
        raise InputError(f"A phantom of {shape} voxels is too small; give at least 4 x 32 x 32.")
    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, length, dtype=np.float32) for length in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    body = (x / 0.92) ** 2 + (y / 0.68) ** 2
    hounsfield = np.broadcast_to(np.select([body < 0.70, body < 0.78, body < 1], [-95, 55, -105], -1000), shape)
    hounsfield = hounsfield.astype(np.float32)
    _put_bowel(hounsfield, rng, z, y, x)
    labels = np.zeros(shape, dtype=np.uint8)
    for value, name in enumerate(_NAMES, start=1):
        region = (_organ(name, rng, z, y, x) if name in _ELLIPSOIDS else _midline(name, z, y, x)) & (body < 0.76)
        region = region & (labels == 0)
        labels[region] = value
        hounsfield[region] = _HU[name]
    _put_inside(hounsfield, labels, z, y, x)
    lungs = (((np.abs(x) - 0.42) / 0.36) ** 2 + ((y - 0.02) / 0.50) ** 2 + ((z - 1.25) / 0.55) ** 2 < 1) & (labels == 0)
    hounsfield[lungs] = -840
    hounsfield = gaussian_filter(hounsfield, (0.25, 0.6, 0.6))
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0, 0.6, 0.6))
    hounsfield += noise * (_NOISE_HU / float(noise.std()))
    return _volumes(np.clip(np.round(hounsfield), -1024, 3071).astype(np.int16), labels, seed)


def _organ(name: str, rng: np.random.Generator, z: Field, y: Field, x: Field) -> npt.NDArray[np.bool_]:
    region = np.zeros(np.broadcast_shapes(z.shape, y.shape, x.shape), dtype=np.bool_)
    move = rng.uniform(-0.025, 0.025, 3)
    waves = rng.uniform(0, 2 * np.pi, 3)
    # Gentle waves keep the outlines from being perfect ellipses.
    bumps = 1 + 0.10 * (np.sin(7 * x + waves[0]) * np.sin(6 * y + waves[1]) + 0.5 * np.sin(8 * z + waves[2]))
    for centre, half in _ELLIPSOIDS[name]:
        distance = sum(
            ((axis - at - shift) / width) ** 2
            for axis, at, shift, width in zip((z, y, x), centre, move, half, strict=True)
        )
        region |= np.asarray(distance < bumps)
    return region


def _midline(name: str, z: Field, y: Field, x: Field) -> npt.NDArray[np.bool_]:
    if name == "aorta":
        tube = ((x - 0.06 - 0.02 * np.sin(2 * z)) / 0.075) ** 2 + ((y - 0.16) / 0.075) ** 2 < 1
        return np.broadcast_to(tube, np.broadcast_shapes(z.shape, y.shape, x.shape))
    vertebra = (x / 0.17) ** 2 + ((y - 0.36) / 0.13) ** 2 < 1
    arch = (np.abs(x) < 0.045) & (y > 0.47) & (y < 0.60)
    between_discs = np.mod(z * 3.2 + 0.1, 1.0) > 0.14
    return np.asarray((vertebra | arch) & between_discs)


def _put_bowel(hounsfield: Field, rng: np.random.Generator, z: Field, y: Field, x: Field) -> None:
    """Draw loops of bowel, some with gas that rises to the front, where no labelled organ will cover them."""
    for _ in range(16):
        at = rng.uniform((-0.95, -0.40, -0.5), (0.1, 0.05, 0.5))
        size = rng.uniform(0.07, 0.13)
        distance = ((z - at[0]) / (1.6 * size)) ** 2 + ((y - at[1]) / size) ** 2 + ((x - at[2]) / (1.5 * size)) ** 2
        hounsfield[distance < 1] = 35
        if rng.random() < 0.4:
            hounsfield[(distance < 0.6) & (y < at[1] - 0.1 * size)] = -700


def _put_inside(hounsfield: Field, labels: npt.NDArray[np.uint8], z: Field, y: Field, x: Field) -> None:
    """Draw what lies inside organs: renal pelvis, liver vessels, marrow, discs and the spinal canal."""
    for name, side in (("right kidney", -0.34), ("left kidney", 0.34)):
        pelvis = ((x - side) / 0.05) ** 2 + ((y - 0.25) / 0.06) ** 2 < 1
        hounsfield[pelvis & (labels == _NAMES.index(name) + 1)] = 20
    vessels = np.sin(9 * x + 5 * y) * np.sin(8 * y - 6 * z + 1) * np.sin(7 * z + 5 * x) > 0.86
    hounsfield[vessels & (labels == 1)] = 150
    marrow = (x / 0.14) ** 2 + ((y - 0.36) / 0.10) ** 2 < 1
    hounsfield[marrow & (labels == 6)] = 160
    disc = ((x / 0.17) ** 2 + ((y - 0.36) / 0.13) ** 2 < 1) & (labels == 0)
    hounsfield[disc] = 80
    canal = (x / 0.06) ** 2 + ((y - 0.52) / 0.05) ** 2 < 1
    hounsfield[np.broadcast_to(canal, labels.shape) & (labels != 6)] = 30


def _volumes(hounsfield: npt.NDArray[np.int16], labels: npt.NDArray[np.uint8], seed: int) -> tuple[Volume, Volume]:
    affine = affine_from_spacing(SPACING)
    affine[:3, 3] = [-(length - 1) / 2 * step for length, step in zip(labels.shape, SPACING, strict=True)]
    classes = tuple((value, name, CLASS_COLOURS[value - 1]) for value, name in enumerate(_NAMES, start=1))
    made: dict[str, Any] = {"provenance": {"made_by": "ct_phantom", "seed": seed}}
    return (
        Volume(hounsfield[None], affine, unit="mm", name="CT phantom", metadata=made),
        Volume(
            labels[None],
            affine,
            kind="label",
            unit="mm",
            name="CT phantom, organs",
            metadata={**made, "classes": classes},
        ),
    )
