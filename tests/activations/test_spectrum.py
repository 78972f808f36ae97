"""Spectra of matrices whose singular values are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_llm4seg.activations import Spectrum, spectrum_of
from napari_llm4seg.errors import InputError


def rotated(values: list[float], rows: int = 9, columns: int = 7) -> torch.Tensor:
    """Return a matrix with these singular values and no other structure."""
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(rows, len(values))))[0]
    right = np.linalg.qr(rng.normal(size=(columns, len(values))))[0]
    return torch.from_numpy(left @ np.diag(values) @ right.T)


def test_equal_directions_count_as_many() -> None:
    found = spectrum_of(rotated([2.0] * 5))
    assert found.values.shape == (1, 7)
    assert found.effective_rank == pytest.approx(5)
    assert found.entropy == pytest.approx(math.log(5))
    assert found.log_inverse_top_share == pytest.approx(math.log(5))


def test_one_direction_is_one() -> None:
    found = spectrum_of(rotated([3.0]))
    assert found.effective_rank == pytest.approx(1)
    assert found.entropy == pytest.approx(0)
    assert found.log_inverse_top_share == pytest.approx(0)


def test_by_hand() -> None:
    found = Spectrum(np.asarray([[2.0, 1.0, 1.0, 0.0]]))
    assert found.shares.tolist() == [[0.5, 0.25, 0.25, 0]]
    assert found.entropy == pytest.approx(1.5 * math.log(2))
    assert found.effective_rank == pytest.approx(2**1.5)
    assert found.log_inverse_top_share == pytest.approx(math.log(2))


def test_scale_and_rotation_do_not_enter_and_images_stay_apart() -> None:
    one, other = rotated([4.0, 2.0, 1.0]), rotated([1.0, 1.0, 1.0])
    both = spectrum_of(torch.stack((1e-4 * one, 1e4 * other)).float())
    assert both.effective_rank == pytest.approx([spectrum_of(one).effective_rank[0], 3], rel=1e-5)


def test_centring_takes_the_mean_direction_off() -> None:
    tokens = torch.zeros(6, 4, dtype=torch.float64)
    tokens[:, 0] = 100.0  # the same everywhere
    tokens[:3, 1], tokens[3:, 1] = 1.0, -1.0
    assert spectrum_of(tokens).effective_rank == pytest.approx(1, abs=0.1)
    assert spectrum_of(tokens, centred=True).values[0] == pytest.approx([math.sqrt(6), 0, 0, 0])


def test_the_printed_definition_cannot_be_what_the_paper_plots() -> None:
    """The largest entropy that a share of exp(-0.74) leaves among 256 singular values is below 5.51."""
    share = math.exp(-0.74)
    flat = Spectrum(np.asarray([[share, *[(1 - share) / 255] * 255]]))
    assert flat.log_inverse_top_share == pytest.approx(0.74)
    assert flat.entropy[0] == pytest.approx(3.59, abs=0.005)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (torch.zeros(4, 3), "no spectrum"),
        (torch.full((4, 3), float("nan")), "NaN"),
        (torch.zeros(4), r"\(4,\)"),
        (torch.zeros(0, 3), r"\(0, 3\)"),
    ],
)
def test_what_has_no_spectrum(tokens: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        spectrum_of(tokens)
