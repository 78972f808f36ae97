"""Sample scans: two made by code, three real ones that pydicom's wheel carries."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import CLASS_COLOURS
from napari_llm4seg.errors import InputError
from napari_llm4seg.io._ct_phantom import ct_phantom
from napari_llm4seg.volume import Volume, affine_from_spacing

__all__ = ["REAL_SAMPLES", "ct_phantom", "real_sample", "ultrasound_phantom"]

Field = npt.NDArray[np.float32]

REAL_SAMPLES: dict[str, tuple[str, str]] = {
    "ct": ("CT_small.dcm", "CT slice"),
    "mr": ("MR_small.dcm", "MR slice"),
    "ultrasound": ("examples_rgb_color.dcm", "ultrasound, lymph node"),
}

# Breast ultrasound: depth of the image in mm, and the range of echo levels shown, in dB below the brightest.
_DEPTH_MM = 42.0
_RANGE_DB = 62.0


def real_sample(name: Literal["ct", "mr", "ultrasound"]) -> Volume:
    """Return a real image out of pydicom's own test files; nothing is downloaded.

    Raises
    ------
    InputError
        If there is no such sample, or this installation of pydicom came without its files.
    """
    from napari_llm4seg.io import dicom

    if name not in REAL_SAMPLES:
        raise InputError(f"There is no sample '{name}'; there are {', '.join(REAL_SAMPLES)}.")
    from pydicom.data import get_testdata_file

    file, title = REAL_SAMPLES[name]
    path: Any = get_testdata_file(file, download=False)
    if path is None:
        raise InputError(f"This installation of pydicom lacks its file '{file}'. Install pydicom from its wheel.")
    volume = dicom.read(path)
    return volume.with_data(volume.data, name=title)


def ultrasound_phantom(seed: int = 0, shape: tuple[int, int] = (470, 560)) -> tuple[Volume, Volume]:
    """Make a breast ultrasound image (B-mode) with one lesion.

    Skin, fat with septa, glandular tissue, pectoral fascia and muscle are echo levels in dB over depth. An irregular
    hypoechoic ellipse lies in the gland, with refraction shadows at its edges and, below it, shadowing (even
    ``seed``) or enhancement (odd). Fully developed speckle (complex Gaussian scatterers seen through a point spread
    function that widens with depth, two looks averaged) is multiplied in before log compression.

    Parameters
    ----------
    seed : int
        Equal seeds give equal images.
    shape : (rows, columns)
        At least 64 each; the image is 42 mm deep whatever its size.

    Returns
    -------
    image : Volume (1, 1, Y, X), uint8, in mm
    mask : Volume (1, 1, Y, X), uint8 labels, 1 = lesion
    """
    if min(shape) < 64:
        raise InputError(f"A phantom of {shape[0]} x {shape[1]} pixels is too small; give at least 64 x 64.")
    rng = np.random.default_rng(seed)
    rows, columns = shape
    # All sizes below are in pixels of an image of 470 rows.
    unit = rows / 470.0
    depth = np.broadcast_to(np.linspace(0, _DEPTH_MM, rows, dtype=np.float32)[:, None], shape)
    level, gland_top, gland_bottom = _tissue(rng, depth, unit)
    mask, radius = _lesion(rng, shape, unit, gland_top, gland_bottom)
    level = _add_lesion(rng, level, mask, radius, unit, enhanced=seed % 2 == 1)
    level -= 0.45 * np.maximum(depth - 22.0, 0)
    level += 2.0 * (depth / _DEPTH_MM) * _smooth(rng, (1, columns), (1, 14 * unit))
    decibel = level + 10 * np.log10(_speckle(rng, shape, unit))
    grey = np.clip(255 * (1 + decibel / _RANGE_DB), 0, 255).astype(np.uint8)
    size = _DEPTH_MM / rows
    affine = affine_from_spacing((1.0, size, size))
    classes = ((1, "lesion", CLASS_COLOURS[0]),)
    made: dict[str, Any] = {"provenance": {"made_by": "ultrasound_phantom", "seed": seed}}
    return (
        Volume(grey[None, None], affine, unit="mm", name="breast ultrasound phantom", metadata=made),
        Volume(
            mask.astype(np.uint8)[None, None],
            affine,
            kind="label",
            unit="mm",
            name="breast ultrasound phantom, lesion",
            metadata={**made, "classes": classes},
        ),
    )


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], sigma: tuple[float, ...]) -> Field:
    """Return Gaussian noise smoothed by ``sigma`` pixels per axis, with mean 0 and standard deviation 1.

    Made on a grid as coarse as ``sigma`` allows and interpolated, which is ten times faster and looks the same.
    """
    from scipy.ndimage import gaussian_filter, zoom

    steps = [max(1, int(width / 3)) for width in sigma]
    coarse = [max(2, -(-length // step) + 1) for length, step in zip(shape, steps, strict=True)]
    noise = rng.standard_normal(coarse, dtype=np.float32)
    sigmas = [width / step for width, step in zip(sigma, steps, strict=True)]
    field = gaussian_filter(noise, sigmas, mode="reflect", truncate=3.0)
    factors = [length / count for length, count in zip(shape, coarse, strict=True)]
    field = np.asarray(zoom(field, factors, order=2, mode="nearest", grid_mode=True), dtype=np.float32)
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), dtype=np.float32)


def _strands(rng: np.random.Generator, shape: tuple[int, ...], sigma: tuple[float, float], width: float) -> Field:
    """Return bright strands in [0, 1] that come and go: the zero crossings of a smooth field, seen in patches."""
    lines = np.exp(-((_smooth(rng, shape, sigma) / width) ** 2))
    patches = np.clip(0.45 + 0.6 * _smooth(rng, shape, (sigma[0] * 2.5, sigma[1] * 0.6)), 0, 1)
    return np.asarray(lines * patches, dtype=np.float32)


def _boundary(rng: np.random.Generator, columns: int, at_mm: float, wave_mm: float, unit: float) -> Field:
    return np.asarray(at_mm + wave_mm * _smooth(rng, (columns,), (55 * unit,)), dtype=np.float32)


def _blend(depth: Field, boundary: Field | np.float32, soft_mm: float) -> Field:
    """Return 0 above ``boundary`` and 1 below it."""
    return np.asarray(1 / (1 + np.exp(np.clip((boundary - depth) / soft_mm, -30, 30))))


def _tissue(rng: np.random.Generator, depth: Field, unit: float) -> tuple[Field, Field, Field]:
    """Return echo levels in dB, and the depth in mm of the gland's upper and lower border per column."""
    shape, columns = depth.shape, depth.shape[1]
    skin = _boundary(rng, columns, 1.7, 0.08, unit)
    gland_top = _boundary(rng, columns, 8.5, 1.1, unit)
    gland_bottom = _boundary(rng, columns, 25.0, 1.0, unit)
    muscle_bottom = _boundary(rng, columns, 33.0, 1.0, unit)

    lobules = _smooth(rng, shape, (16 * unit, 34 * unit))
    fat = -37 + 2.0 * lobules + 16 * _strands(rng, shape, (11 * unit, 48 * unit), 0.10)
    clumps = _smooth(rng, shape, (15 * unit, 32 * unit))
    fine = _smooth(rng, shape, (2.6 * unit, 14 * unit))
    gland = -31 + 4.5 * clumps + 3.2 * fine + 10 * _strands(rng, shape, (5 * unit, 32 * unit), 0.30)
    fibres = _strands(rng, shape, (3.5 * unit, 70 * unit), 0.28)
    muscle = -39 + 2.5 * _smooth(rng, shape, (8 * unit, 50 * unit)) + 2.5 * fine + 12 * fibres
    deep = -49 + 3.5 * _smooth(rng, shape, (20 * unit, 50 * unit)) + 1.5 * fine

    level = np.where(depth < skin, np.float32(-20), fat)
    for border, soft, tissue in ((gland_top, 0.5, gland), (gland_bottom, 0.3, muscle), (muscle_bottom, 0.8, deep)):
        share = _blend(depth, border, soft)
        level = level * (1 - share) + tissue * share
    # Specular reflectors: both faces of the skin and the pectoral fascia.
    for border, gain, thickness in ((skin, 12, 0.22), (gland_bottom, 15, 0.32), (muscle_bottom, 14, 0.45)):
        patchy = np.clip(0.6 + 0.45 * _smooth(rng, (columns,), (30 * unit,)), 0, 1.3)
        level = level + gain * patchy * np.exp(-(((depth - border) / thickness) ** 2))
    return np.asarray(level, dtype=np.float32), gland_top, gland_bottom


def _lesion(
    rng: np.random.Generator, shape: tuple[int, int], unit: float, top: Field, bottom: Field
) -> tuple[npt.NDArray[np.bool_], Field]:
    """Return the lesion's mask and each pixel's distance from its centre, 1 on the outline."""
    rows, columns = shape
    middle = int(columns * rng.uniform(0.38, 0.62))
    centre = (0.56 * top[middle] + 0.44 * bottom[middle]) / _DEPTH_MM * rows
    half_width, half_height = rng.uniform(72, 92) * unit, rng.uniform(50, 62) * unit
    tilt = rng.uniform(-0.25, 0.25)
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    along = ((x - middle) * np.cos(tilt) + (y - centre) * np.sin(tilt)) / half_width
    across = (-(x - middle) * np.sin(tilt) + (y - centre) * np.cos(tilt)) / half_height
    angle = np.arctan2(across, along)
    outline = np.ones(shape, dtype=np.float32)
    for waves in range(2, 9):
        outline += 0.16 / waves * rng.standard_normal() * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    radius = np.hypot(along, across) / np.maximum(outline, 0.4)
    return radius < 1, np.asarray(radius, dtype=np.float32)


def _add_lesion(
    rng: np.random.Generator,
    level: Field,
    mask: npt.NDArray[np.bool_],
    radius: Field,
    unit: float,
    *,
    enhanced: bool,
) -> Field:
    """Lower the echoes inside, brighten the rim, and change what lies in the lesion's sound path."""
    from scipy.ndimage import gaussian_filter, gaussian_filter1d

    inside = 1 / (1 + np.exp(np.clip((radius - 1) / 0.025, -30, 30)))
    content = -52 + 2.5 * _smooth(rng, mask.shape, (7 * unit, 12 * unit))
    level = level * (1 - inside) + content * inside
    level = level + 4 * np.exp(-(((radius - 1.1) / 0.07) ** 2))

    # Sound passing through a column is changed in proportion to its path inside the lesion so far.
    path = np.cumsum(mask, axis=0, dtype=np.float32) / max(float(mask.sum(axis=0).max()), 1.0)
    below = gaussian_filter(path * ~mask, (4 * unit, 5 * unit))
    reach = np.linspace(0, 1, mask.shape[0], dtype=np.float32)[:, None]
    level = level + below * (9 - 5 * reach if enhanced else -7 - 5 * reach)

    covered = np.flatnonzero(mask.any(axis=0))
    edges = np.zeros(mask.shape[1], dtype=np.float32)
    edges[[covered[0], covered[-1]]] = 1
    edges = gaussian_filter1d(edges, 7 * unit)
    edges /= edges.max()
    lowest = float(np.argmax(mask.any(axis=1)) + 0.5 * mask.any(axis=1).sum())
    started = _blend(np.arange(mask.shape[0], dtype=np.float32)[:, None], np.float32(lowest), 8 * unit)
    return np.asarray(level - 5 * edges * started, dtype=np.float32)


def _speckle(rng: np.random.Generator, shape: tuple[int, int], unit: float) -> Field:
    """Return speckle intensity with mean 1: two looks, resolution worse laterally and with depth."""
    from scipy.ndimage import gaussian_filter

    near, far = (0.85 * unit, 1.5 * unit), (1.05 * unit, 3.6 * unit)
    share = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    total = np.zeros(shape, dtype=np.float32)
    for _ in range(2):
        for _ in range(2):
            noise = rng.standard_normal(shape, dtype=np.float32)
            fields = [gaussian_filter(noise, sigma, truncate=3.0) for sigma in (near, far)]
            blended = sum(
                weight * field / field.std() for weight, field in zip((1 - share, share), fields, strict=True)
            )
            total += np.asarray(blended) ** 2
    return np.asarray(total / total.mean(axis=1, keepdims=True) + 1e-4, dtype=np.float32)
