"""How many directions features use: their singular values, condensed to a few numbers.

For one image's features as a matrix X (N tokens x C channels), not centred unless said so, with singular values
s_1 >= s_2 >= ... and p_i = s_i / sum_j s_j:

- spectral entropy       H = - sum_i p_i ln p_i                       (nats, 0 to ln min(N, C))
- effective rank         exp(H)                                       (1 to min(N, C); Roy and Vetterli 2007)
- log inverse top share  - ln(s_1 / sum_j s_j) = - ln p_1             (0 to ln min(N, C); larger = flatter spectrum)

arXiv 2506.18034 prints the entropy as the definition of its effective rank, but plots 5.51 for the CNN beside a log
inverse top share of 0.74. With natural logarithms that share leaves at most H = 3.59 for the 256 singular values there
are (p_1 = 0.48, the rest equal), so 5.51 can only be the exponential. Both are given here under their own names.

Features behind a ReLU are never negative, so their first direction is mostly their mean. Centred (each channel's mean
over the tokens taken off first), the numbers speak of what differs between places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_llm4seg.errors import InputError

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a batch of feature matrices.

    Attributes
    ----------
    values : array (B, min(N, C)), float64, falling along the last axis
    """

    values: Float

    @property
    def shares(self) -> Float:
        """Singular values over their sum, (B, min(N, C)), rows sum to 1."""
        shares: Float = self.values / self.values.sum(axis=-1, keepdims=True)
        return shares

    @property
    def entropy(self) -> Float:
        """Spectral entropy in nats, (B,)."""
        shares = self.shares
        logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))  # p ln p goes to 0 with p
        # rounding may leave a hair below 0 where one direction is all there is
        entropy: Float = np.maximum(-(shares * logs).sum(axis=-1), 0.0)
        return entropy

    @property
    def effective_rank(self) -> Float:
        """exp(entropy), (B,): the number of equally strong directions with that entropy."""
        rank: Float = np.exp(self.entropy)
        return rank

    @property
    def log_inverse_top_share(self) -> Float:
        """-ln(s_1 / sum s), (B,), in nats."""
        share: Float = -np.log(self.shares[:, 0])
        return share + 0.0  # no -0.0


def spectrum_of(tokens: Tensor, centred: bool = False) -> Spectrum:
    """Return the singular values of each image's features, computed in float64.

    Parameters
    ----------
    tokens : tensor (B, N, C) or (N, C)
        As ``Activations.tokens`` gives them.
    centred : bool
        Whether each channel's mean over the N tokens is taken off first.

    Raises
    ------
    InputError
        If values are not finite, or a matrix is zero throughout and so has no spectrum.
    """
    if tokens.ndim not in (2, 3) or 0 in tokens.shape:
        raise InputError(f"Features of shape {tuple(tokens.shape)} came; a spectrum needs (tokens, channels).")
    matrices = tokens.detach().to("cpu", torch.float64).reshape(-1, *tokens.shape[-2:])
    if not torch.isfinite(matrices).all():
        raise InputError("The features hold NaN or infinity and have no spectrum; check the checkpoint and the scan.")
    if centred:
        matrices = matrices - matrices.mean(dim=1, keepdim=True)
    values = torch.linalg.svdvals(matrices).numpy()
    if not (values[:, 0] > 0).all():
        raise InputError("The features are the same everywhere (all zero, or constant and centred): no spectrum.")
    return Spectrum(values)
