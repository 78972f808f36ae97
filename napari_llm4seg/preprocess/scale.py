"""What maps a scan's values onto the network's: taken from one slice, or gathered slice by slice over a volume."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import PreprocessConfig
from napari_llm4seg.windows import PERCENTILES

Values = npt.NDArray[np.float64]
Float = npt.NDArray[np.float32]

# Percentiles of a volume come of at most about this many of its voxels, spread evenly: their rank is then off by less
# than 0.02 %, and memory does not grow with the volume.
_SAMPLE = 4 << 20


@dataclass(frozen=True)
class Scale:
    """How the values of one scan are mapped, the same for all its slices.

    Attributes
    ----------
    finite : (low, high), the finite extremes that stand for NaN and infinities.
    limits : (low, high) that become 0 and 1, or None for "zscore".
    centre, spread : of each channel, for "zscore".
    """

    finite: tuple[float, float] = (0.0, 0.0)
    limits: tuple[float, float] | None = None
    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()


def needs_values(config: PreprocessConfig, dtype: np.dtype[np.generic]) -> bool:
    """Return whether a volume must be read once before its first slice can be mapped."""
    if dtype.kind == "f":  # whose NaN need the volume's finite extremes
        return True
    if config.intensity == "window" or (dtype.kind == "b" and config.intensity in ("minmax", "uint8")):
        return False
    return not (config.intensity == "uint8" and dtype == np.uint8)


def limits_of(
    config: PreprocessConfig, dtype: np.dtype[np.generic], lowest: float, highest: float, sample: Values
) -> tuple[float, float]:
    """Return which values become 0 and 1, by every rule but "zscore".

    Parameters
    ----------
    config : PreprocessConfig
    dtype : dtype of the scan
    lowest, highest : float
        Of the values with the network's channels.
    sample : array
        Values that percentiles are taken of.
    """
    rule = config.intensity
    if rule == "window":
        assert config.window is not None  # the config's own check
        return config.window
    if rule == "percentile":
        low, high = (float(v) for v in np.percentile(sample, PERCENTILES))
        return low, high
    if rule == "uint8" and dtype == np.uint8:
        return 0.0, 255.0
    if dtype.kind == "b" or (rule == "uint8" and lowest >= 0 and highest <= 1):
        return 0.0, 1.0
    if rule == "uint8" and lowest >= 0 and highest <= 255:
        return 0.0, 255.0
    return lowest, highest


def stretched(values: Values, low: float, high: float) -> Float:
    """Return ``values`` with ``low`` to ``high`` on [0, 1], clipped, in their place; 0.5 where that is no range."""
    if not high > low:  # constant: mid-grey, so that the network sees an ordinary input
        return np.full(values.shape, 0.5, dtype=np.float32)
    # in float64, because 64-bit integers exceed float32's precision; halved, because high - low may overflow
    # and in place: a whole-slide image takes gigabytes
    values *= 0.5
    values -= low * 0.5
    values /= high * 0.5 - low * 0.5
    return np.clip(values, 0.0, 1.0, out=values).astype(np.float32)


def finite_extremes(raw: npt.NDArray[np.generic]) -> tuple[float, float] | None:
    """Return the smallest and largest finite value, or None where there is none."""
    values = raw[np.isfinite(raw)] if raw.dtype.kind == "f" else raw
    return (float(values.min()), float(values.max())) if values.size else None


def made_finite(raw: npt.NDArray[np.generic], extremes: tuple[float, float] | None = None) -> Values:
    """Return float64 values; NaN becomes the smallest finite value (or extreme given), infinities the extremes."""
    values = raw.astype(np.float64)
    if raw.dtype.kind != "f" or np.isfinite(values).all():
        return values
    low, high = extremes or finite_extremes(values) or (0.0, 0.0)
    return np.nan_to_num(values, nan=low, posinf=high, neginf=low)


class Moments:
    """Mean and standard deviation of values that come in parts (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self._unit = 0.0  # the largest of the first values: squares of large ones would overflow
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: Values) -> None:
        """Take finite ``values``."""
        if not values.size:
            return
        self._unit = self._unit or float(np.abs(values).max())
        values = values / (self._unit or 1.0)
        mean = float(values.mean())
        self._join(values.size, mean, float(((values - mean) ** 2).sum()))

    def add_equal(self, count: int, value: float) -> None:
        """Take ``value`` as often as ``count`` says."""
        self._unit = self._unit or abs(value)
        self._join(count, value / (self._unit or 1.0), 0.0)

    def _join(self, count: int, mean: float, squares: float) -> None:
        both = self._count + count
        if not both:
            return
        apart = mean - self._mean
        self._squares += squares + apart**2 * (self._count * count / both)
        self._mean += apart * (count / both)
        self._count = both

    def result(self) -> tuple[float, float]:
        """Return mean and standard deviation; 0 and 1 where nothing came, and deviation 1 of equal values."""
        unit = self._unit or 1.0
        return self._mean * unit, float(np.sqrt(self._squares / max(1, self._count))) * unit or 1.0


class Tally:
    """Gathers what a volume's ``Scale`` needs, from one slice after another.

    Parameters
    ----------
    config : PreprocessConfig
    dtype : dtype of the scan
    voxels : int
        Voxels that will come.
    """

    def __init__(self, config: PreprocessConfig, dtype: np.dtype[np.generic], voxels: int) -> None:
        self._config, self._dtype, self._step = config, dtype, max(1, voxels // _SAMPLE)
        self._finite: tuple[float, float] | None = None
        self._range: tuple[float, float] | None = None
        self._sample: list[Values] = []
        self._moments = [Moments() for _ in range(config.n_channels)]
        self._odd = np.zeros((config.n_channels, 2), dtype=int)

    def add(self, raw: npt.NDArray[np.generic], values: Values) -> None:
        """Take a slice: ``raw`` (C, Y, X) as read, and ``values`` of the network's channels, NaN where they were."""
        self._finite = _wider(self._finite, finite_extremes(raw))
        self._range = _wider(self._range, finite_extremes(values))
        if self._config.intensity == "percentile":
            while math.gcd(self._step, values.shape[-1]) > 1:  # not the same columns of every row
                self._step += 1
            self._sample.append(values.ravel()[:: self._step].copy())
        if self._config.intensity == "zscore":
            for channel, (moments, part) in enumerate(zip(self._moments, values, strict=True)):
                moments.add(part[np.isfinite(part)])
                high = int(np.count_nonzero(np.isposinf(part)))
                self._odd[channel] += int(np.count_nonzero(~np.isfinite(part))) - high, high

    def scale(self) -> Scale:
        """Return the scale of what was added."""
        finite = self._finite or (0.0, 0.0)
        if self._config.intensity == "zscore":
            for moments, counts in zip(self._moments, self._odd, strict=True):
                for count, value in zip(counts, finite, strict=True):
                    moments.add_equal(int(count), value)
            centre, spread = zip(*(moments.result() for moments in self._moments), strict=True)
            return Scale(finite, None, centre, spread)
        sample = np.concatenate(self._sample) if self._sample else np.zeros(1)
        sample = np.nan_to_num(sample, copy=False, nan=finite[0], posinf=finite[1], neginf=finite[0])
        return Scale(finite, limits_of(self._config, self._dtype, *(self._range or (0.0, 0.0)), sample))


def _wider(known: tuple[float, float] | None, found: tuple[float, float] | None) -> tuple[float, float] | None:
    if known is None or found is None:
        return known or found
    return min(known[0], found[0]), max(known[1], found[1])
