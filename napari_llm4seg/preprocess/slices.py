"""From a slice of a scan to the network's input, and from its probabilities back to the scan's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from napari_llm4seg.config import PreprocessConfig
from napari_llm4seg.errors import InputError
from napari_llm4seg.preprocess.scale import Float, Scale, Tally, limits_of, made_finite, stretched
from napari_llm4seg.volume import Volume

# Rec. 601 luma, what pillow and OpenCV use for colour to grey.
_LUMA = np.asarray([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Trace:
    """What ``apply`` did, so that ``invert`` can undo it.

    Attributes
    ----------
    source : (Y, X) of the slice in pixels.
    size : (H, W) of the network's input in pixels.
    box : (top, left, height, width) of the slice's content inside the network's input.
    """

    source: tuple[int, int]
    size: tuple[int, int]
    box: tuple[int, int, int, int]


class Preprocessor:
    """Converts slices by a ``PreprocessConfig``; holds no state of any scan.

    Parameters
    ----------
    config : PreprocessConfig
    """

    def __init__(self, config: PreprocessConfig) -> None:
        self.config = config

    def check(self, volume: Volume) -> None:
        """Raise InputError where ``volume`` cannot be segmented at all; costs no pixel access."""
        if volume.kind != "intensity":
            raise InputError(
                f"'{volume.name}' is a label map; segmenting needs a scan. Choose the image it belongs to."
            )
        kind = np.dtype(volume.data.dtype).kind
        if kind not in "buif":
            raise InputError(
                f"'{volume.name}' holds {volume.data.dtype} values; segmenting needs real numbers. "
                "Convert it first, e.g. to its magnitude."
            )
        if volume.channels not in (1, 2, 3, 4):
            raise InputError(
                f"'{volume.name}' has {volume.channels} channels; this checkpoint needs grey (1) or colour (3). "
                "Split the channels and segment one of them."
            )

        if volume.channels > 1 and "nifti" in volume.metadata and np.dtype(volume.data.dtype) != np.uint8:
            # pictures saved as NIfTI are 8-bit; wider values on a fourth axis are sequences, echoes or time points
            raise InputError(
                f"'{volume.name}' holds {volume.channels} volumes of {volume.data.dtype} values on a fourth axis, "
                "which are no colours. Save the one to segment as its own file."
            )

    def notes(self, volume: Volume) -> list[str]:
        """Return sentences about what will be converted, for the person to read."""
        wants_grey, channels = self.config.channels == "grey", volume.channels
        notes = []
        if channels in (2, 4):
            notes.append("The scan has an alpha channel; it was dropped.")
        if wants_grey and channels >= 3:
            notes.append("This checkpoint expects grey images; the scan is in colour. It was run on its brightness.")
        if not wants_grey and channels <= 2:
            notes.append(
                "This checkpoint expects colour images; the scan is grey. It was run on the grey values three times."
            )
        dtype = np.dtype(volume.data.dtype)
        if self.config.intensity == "uint8" and dtype not in (np.uint8, np.bool_):
            notes.append(
                f"This checkpoint was made for 8-bit images; {dtype} values beyond 0 to 255 are stretched to that "
                "range slice by slice. If the scan is of another kind than its training images, do not trust the mask."
            )
        return notes

    def prepare(self, volume: Volume, z: int) -> Float:
        """Return slice ``z`` normalised at the source's own resolution.

        Parameters
        ----------
        volume : Volume of kind "intensity", any real dtype; NaN and infinities become the slice's finite extremes.
        z : int
            Slice index.

        Returns
        -------
        array (C, Y, X), float32, with the checkpoint's number of channels

        Raises
        ------
        InputError
            If the values are not real numbers or the channels cannot be converted.
        """
        self.check(volume)
        return self.normalise(volume.slice_at(z))

    def normalise(self, raw: npt.NDArray[np.generic]) -> Float:
        """Return values (C, *grid) of a slice, or of a whole volume, as the network takes them; NaN as in ``prepare``.

        Raises
        ------
        InputError
            As ``check``, which must have passed.
        """
        return self._shifted(self._mapped(raw))

    def tally(self, tally: Tally, raw: npt.NDArray[np.generic]) -> None:
        """Add a slice (C, Y, X) to what the scale of its whole volume is gathered from."""
        tally.add(raw, self._channels(raw.astype(np.float64)))

    def normalise_part(self, raw: npt.NDArray[np.generic], scale: Scale) -> Float:
        """Return values (C, *grid) of a part of a volume, mapped as the whole volume: ``normalise`` of all, cut."""
        values = np.nan_to_num(self._channels(made_finite(raw, scale.finite)), copy=False)
        if scale.limits is not None:
            return self._shifted(stretched(values, *scale.limits))
        for channel, mean, sd in zip(values, scale.centre, scale.spread, strict=True):
            channel /= sd  # before the mean goes: the difference of large values would overflow
            channel -= mean / sd
        return self._shifted(values.astype(np.float32))

    def _shifted(self, values: Float) -> Float:
        for index, (mean, sd) in enumerate(zip(self.config.mean, self.config.sd, strict=True)):
            values[index] -= np.float32(mean)
            values[index] /= np.float32(sd)
        values /= np.float32(self.config.divide)
        return values

    def _mapped(self, raw: npt.NDArray[np.generic]) -> Float:
        """Return values with the checkpoint's channels by the intensity rule: in [0, 1], but for "zscore"."""
        values = np.nan_to_num(self._channels(made_finite(raw)), copy=False)
        if self.config.intensity == "zscore":
            return _standardised(values)
        if self.config.intensity == "window" or (self.config.intensity == "uint8" and raw.dtype == np.uint8):
            lowest, highest = 0.0, 0.0  # which the rule does not ask for
        else:
            lowest, highest = float(values.min()), float(values.max())
        return stretched(values, *limits_of(self.config, raw.dtype, lowest, highest, values))

    def _channels(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Drop alpha and convert between grey and colour; (C, *grid) in and out."""
        if values.shape[0] in (2, 4):
            values = values[:-1]
        if self.config.channels == "grey":
            return values if values.shape[0] == 1 else np.tensordot(_LUMA.astype(np.float64), values, axes=1)[None]
        if values.shape[0] == 1:
            values = np.repeat(values, 3, axis=0)
        return values[::-1].copy() if self.config.channels == "bgr" else values

    def apply(self, volume: Volume, slices: Sequence[int]) -> tuple[torch.Tensor, Trace]:
        """Return slices ``slices`` of ``volume`` as one batch for the network.

        Returns
        -------
        tensor (B, C, H, W), float32
        Trace
            One for the batch: all slices of a volume share their shape.
        """
        source = (volume.grid[1], volume.grid[2])
        trace = self.trace(source)
        batch = torch.from_numpy(np.stack([self.prepare(volume, z) for z in slices]))
        return self._to_box(batch, trace, antialias=self.config.antialias), trace

    def trace(self, source: tuple[int, int]) -> Trace:
        """Return how a slice of ``source`` (Y, X) pixels lies in the network's input."""
        height, width = self.config.size
        if self.config.resize == "stretch":
            return Trace(source, self.config.size, (0, 0, height, width))
        scale = min(height / source[0], width / source[1])
        inner = max(1, round(source[0] * scale)), max(1, round(source[1] * scale))
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        return Trace(source, self.config.size, (top, left, *inner))

    def _to_box(self, batch: torch.Tensor, trace: Trace, antialias: bool) -> torch.Tensor:
        top, left, height, width = trace.box
        if tuple(batch.shape[-2:]) != (height, width):
            batch = F.interpolate(batch, (height, width), mode="bilinear", antialias=antialias)
        right, bottom = trace.size[1] - left - width, trace.size[0] - top - height
        if any((top, left, right, bottom)):
            # edge values rather than black: a black frame is a strong, wrong cue in ultrasound
            batch = F.pad(batch, (left, right, top, bottom), mode="replicate")
        return batch

    def labels_to_grid(self, labels: npt.NDArray[np.integer], trace: Trace, fill: int = 0) -> torch.Tensor:
        """Return labels (B, Y, X) on the network's grid (B, H, W) as int64, by nearest neighbour; ``fill`` outside."""
        top, left, height, width = trace.box
        whole = torch.full((labels.shape[0], *trace.size), fill, dtype=torch.int64)
        values = torch.from_numpy(labels.astype(np.float32))[:, None]
        inner = F.interpolate(values, (height, width), mode="nearest-exact")[:, 0]
        whole[:, top : top + height, left : left + width] = inner.round().to(torch.int64)
        return whole

    def invert(self, probabilities: torch.Tensor, trace: Trace) -> Float:
        """Return probabilities on the source's grid.

        Parameters
        ----------
        probabilities : tensor (B, K, H, W) in [0, 1]
        trace : Trace
            From ``apply``.

        Returns
        -------
        array (B, K, Y, X), float32 in [0, 1]
        """
        top, left, height, width = trace.box
        inner = probabilities.float()[:, :, top : top + height, left : left + width]
        if (height, width) != trace.source:
            shrinks = trace.source[0] < height and trace.source[1] < width
            inner = F.interpolate(inner, trace.source, mode="bilinear", antialias=shrinks)
        result: Float = inner.clamp(0, 1).cpu().numpy()
        return result


def _standardised(values: npt.NDArray[np.float64]) -> Float:
    """Return each channel (C, *grid) less its mean, over its standard deviation; 0 where it is constant."""
    for channel in values:
        scale = float(np.abs(channel).max())
        channel /= scale or 1.0  # squares of large float64 values would overflow
        channel -= channel.mean()
        channel /= float(channel.std()) or 1.0
    return values.astype(np.float32)
