"""What a scan looks like, and what the scans that a model was trained on looked like. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_llm4seg.config import CheckpointConfig

# How many times a patch's side a scan of its kind may measure.
_FAR = 3


@dataclass(frozen=True)
class Look:
    """The few facts by which an ultrasound image, a photograph and a volume can be told apart without a header.

    Parameters
    ----------
    stack : bool
        Several slices, or a network that takes volumes.
    colour : bool
        Channels that differ.
    signed : bool
        Values below 0, as CT has.
    mean : (red, green, blue) or None
        Mean of each channel in [0, 1]; of grey images three times the same. None where it says nothing.
    grid : (z, y, x) or None
        Voxels of the scan; of a model of volumes those of its patch.
    """

    stack: bool
    colour: bool
    signed: bool
    mean: tuple[float, float, float] | None = None
    grid: tuple[int, int, int] | None = None


def look_of_model(config: CheckpointConfig) -> Look:
    """Return the look of a checkpoint's training images, as far as its preprocessing tells."""
    preprocess = config.preprocess
    stack = config.model.backbone.spatial_dims == 3
    window = preprocess.window
    mean = preprocess.mean * 3 if preprocess.channels == "grey" else preprocess.mean
    red, green, blue = mean[::-1] if preprocess.channels == "bgr" else mean
    return Look(
        stack=stack,
        colour=preprocess.channels != "grey",
        signed=window is not None and window[0] < 0,
        # the channel means of whole volumes are normalised away
        mean=None if stack or preprocess.divide != 1 else (red, green, blue),
        grid=preprocess.patch,
    )


def _far_larger(scan: tuple[int, int, int] | None, patch: tuple[int, int, int] | None) -> bool:
    if scan is None or patch is None:
        return False
    return any(side > _FAR * covered for side, covered in zip(sorted(scan), sorted(patch), strict=True))


def unlike(scan: Look, model: Look) -> tuple[int, float]:
    """Return how unlike a scan and a model's training images are: kinds that differ, then distance of mean colours.

    A stack of slices is no obstacle for a two-dimensional model, which runs on each; one image is for a volume's, and
    so is a stack far larger than its patch, which it has rather been cropped for.
    """
    kinds = 2 * (scan.colour != model.colour) + 2 * (scan.signed != model.signed) + 2 * (model.stack and not scan.stack)
    kinds += scan.stack and not model.stack
    kinds += 2 * (model.stack and scan.stack and _far_larger(scan.grid, model.grid))
    if scan.mean is None or model.mean is None:
        return kinds, 0.0
    return kinds, math.dist(scan.mean, model.mean)
