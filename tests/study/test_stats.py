"""The study's statistics on cases with known answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from training.study.stats import bootstrap, compare, holm, least_p, sign_flip, spread

RNG = np.random.default_rng


def test_sign_flip_by_enumeration() -> None:
    values = [3.0, 1.0, -0.5, 2.0]
    flips = list(itertools.product((1, -1), repeat=4))
    as_large = [abs(sum(s * v for s, v in zip(flip, values, strict=True))) >= 5.5 for flip in flips]
    assert sign_flip(values, 10, RNG(0)) == np.mean(as_large) == 4 / 16


def test_two_seeds_can_never_be_significant() -> None:
    assert sign_flip([5.0, 6.0], 10, RNG(0)) == least_p(2) == 0.5
    assert sign_flip([1.0, 2.0, 3.0, 4.0, 5.0], 10, RNG(0)) == least_p(5) == 2 / 32
    assert least_p(1) == 1


def test_sign_flip_of_many_agrees_with_the_normal_limit() -> None:
    values = RNG(1).normal(0.3, 1, 100)
    from math import erfc, sqrt

    z = values.sum() / np.sqrt((values**2).sum())
    assert sign_flip(values, 20_000, RNG(2)) == pytest.approx(erfc(z / sqrt(2)), abs=0.003)
    assert sign_flip(np.full(40, 0.1), 999, RNG(0)) == 1 / 1000
    assert sign_flip(np.zeros(40), 999, RNG(0)) == 1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7]) == [0.7]
    assert holm([]) == []


def test_bootstrap_is_that_of_a_mean() -> None:
    values = RNG(3).normal(0.02, 0.1, 200)
    found = bootstrap(values[None], np.arange(200), 20_000, RNG(4))
    error = values.std() / np.sqrt(200)
    assert found.mean == pytest.approx(values.mean())
    assert found.error == pytest.approx(error, rel=0.03)
    assert (found.low, found.high) == pytest.approx((found.mean - 1.96 * error, found.mean + 1.96 * error), abs=5e-4)


def test_intervals_cover_as_often_as_they_say() -> None:
    rng, hits = RNG(5), 0
    for _ in range(300):
        sample = rng.normal(0.01, 0.05, 60)
        found = bootstrap(sample[None], np.arange(60), 500, rng)
        hits += found.low <= 0.01 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_duplicates_in_one_group_carry_no_news() -> None:
    values = RNG(6).normal(0, 1, 50)
    once = bootstrap(values[None], np.arange(50), 8000, RNG(7))
    thrice = bootstrap(np.repeat(values, 3)[None], np.repeat(np.arange(50), 3), 8000, RNG(7))
    believed = bootstrap(np.repeat(values, 3)[None], np.arange(150), 8000, RNG(7))
    assert thrice.error == pytest.approx(once.error, rel=1e-9)
    assert believed.error == pytest.approx(once.error / np.sqrt(3), rel=0.05)


def test_an_effect_of_the_seed_widens_the_interval_over_both_alone() -> None:
    noise = RNG(8).normal(0, 0.01, (4, 100))
    table = noise + np.asarray([[-0.1], [0.1], [-0.1], [0.1]])
    found = compare(table)
    assert found.images.error < 0.002
    assert found.both.error == pytest.approx(0.1 / 2, rel=0.05)  # sd of four seeds' mean
    assert found.detectable == pytest.approx(2.8016 * found.both.error, rel=1e-4)


def test_a_comparison_by_hand() -> None:
    table = np.asarray([[0.2, 0.0, 0.1, np.nan], [0.4, 0.2, np.nan, np.nan]])
    found = compare(table, groups=["a", "a", "b", "c"])
    assert found.images.mean == pytest.approx((0.3 + 0.1 + 0.1) / 3)
    assert found.seed_means == pytest.approx((0.1, 0.3))
    assert (found.n_images, found.n_groups, found.n_seeds) == (3, 2, 2)
    assert found.p_images == 0.5  # two groups of one sign
    assert found.p_seeds == 0.5


def test_equal_arms_differ_by_nothing() -> None:
    found = compare(np.zeros((2, 30)))
    assert (found.images.low, found.images.high, found.p_images, found.p_seeds) == (0, 0, 1, 1)


def test_resampling_repeats() -> None:
    table = RNG(9).normal(0, 1, (2, 40))
    assert compare(table) == compare(table)


def test_nothing_in_common() -> None:
    with pytest.raises(ValueError, match="share no scored image"):
        compare(np.full((2, 3), np.nan))


def test_one_seed_has_no_interval_over_seeds() -> None:
    found = compare(RNG(10).normal(0, 1, (1, 30)))
    assert found.both == found.images
    assert found.p_seeds == 1


def test_spread() -> None:
    assert spread([1.0, 3.0]) == pytest.approx((2, np.sqrt(2)))
    assert spread([4.0]) == (4, 0)
