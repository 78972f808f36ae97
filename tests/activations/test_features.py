"""Numbers and colours of tokens that are known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_llm4seg.activations.features import (
    POINTS,
    change,
    channel,
    clusters,
    colours,
    cosine,
    norms,
    overlap,
    strength,
    table,
)
from napari_llm4seg.activations.spectra import FORMULAS, across_versions, along_stack, of_slice, rows_of
from napari_llm4seg.activations.spectrum import spectrum_of
from napari_llm4seg.errors import Cancelled, ConfigError, InputError
from napari_llm4seg.volume import Volume
from tests.activations.test_interventions import inspected, predictor_of
from tests.activations.test_recorder import network

TOKENS = np.asarray([[3, 4], [0, 2], [-3, -4], [0, 0]], dtype=np.float32)


def test_by_hand() -> None:
    assert norms(TOKENS).tolist() == [5, 2, 5, 0]
    assert strength(TOKENS).tolist() == [3.5, 1, 3.5, 0]
    assert channel(TOKENS, 1).tolist() == [4, 2, -4, 0]
    assert cosine(TOKENS, 0) == pytest.approx([1, 0.8, -1, 0])
    relative, turned = change(TOKENS, TOKENS * [[2], [1], [-1], [1]])
    assert relative == pytest.approx([1, 0, 2, 0])
    assert turned == pytest.approx([0, 0, 2, 1])
    with pytest.raises(InputError, match="no channel 2"):
        channel(TOKENS, 2)
    with pytest.raises(InputError, match="tokens 0 to 3"):
        cosine(TOKENS, 4)


def test_equal_features_have_equal_colours_across_the_pair() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=(40, 6)).astype(np.float32)
    after = before[::-1].copy()
    (one, other), shares = colours((before, after))
    np.testing.assert_allclose(one, other[::-1], atol=1e-6)
    assert one.min() >= 0
    assert one.max() <= 1
    assert 0 < shares.sum() < 1
    assert (np.diff(shares) <= 0).all()
    again, _ = colours((before.copy(), after))
    np.testing.assert_allclose(again[0], one)
    narrow, few = colours((TOKENS, TOKENS))
    assert narrow[0].shape == (4, 3)
    assert few[2] == 0
    (small, large), _ = colours((before, 1000 * before))
    np.testing.assert_allclose(small, large, atol=1e-5)
    (small, large), _ = colours((before, 1000 * before), balanced=False)
    assert np.ptp(small, axis=0).max() < 0.1 < np.ptp(large, axis=0).min()
    with pytest.raises(InputError, match="one"):
        colours((before, before[:, :3]))


def test_clusters_are_the_groups_and_the_same_at_both_points() -> None:
    rng = np.random.default_rng(0)
    group = rng.permutation([0] * 20 + [1] * 10 + [2] * 5)
    before = (np.asarray([[0, 0], [50, 0], [0, 50]])[group] + rng.normal(size=(35, 2))).astype(np.float32)
    first, second = clusters((before, before[::-1].copy()), 3)
    assert np.array_equal(first, group + 1)
    assert np.array_equal(second, first[::-1])
    assert np.array_equal(clusters((before,), 3)[0], first)
    with pytest.raises(ConfigError, match="1 clusters"):
        clusters((before,), 1)


def test_the_table_and_the_overlap_of_a_slice() -> None:
    seen = inspected(network())
    rows = table(seen)
    assert len(rows) == len(seen.tokens)
    assert rows[3]["norm bottleneck"] == pytest.approx(float(norms(seen.features("bottleneck"))[3]))
    assert (rows[0]["y"], rows[0]["x"]) == seen.tokens.centre(0)[1:]
    labels = np.zeros((40, 30), dtype=np.uint8)
    labels[:20] = 1
    found = overlap(seen, labels)
    assert set(found) == {"before", "after"}
    assert 0 <= found["before"]["activation_iou"] <= 1
    assert found["before"] != found["after"]
    assert overlap(seen, 0 * labels) == {"before": {}, "after": {}}


def test_spectra_of_a_slice_of_a_stack_and_of_versions() -> None:
    net = network()
    seen = inspected(net)
    rows = of_slice(seen)
    assert len(rows) == len(POINTS)
    wanted = spectrum_of(seen.activations.tokens("bottleneck"))
    assert rows[0]["effective_rank"] == pytest.approx(float(wanted.effective_rank[0]))
    assert set(FORMULAS) >= {"effective_rank", "log_inverse_top_share"}
    predictor = predictor_of(net)
    stack = Volume(np.random.default_rng(0).uniform(size=(1, 3, 40, 30)).astype(np.float32))
    told: list[int] = []
    many = along_stack(predictor, stack, [2, 0], progress=lambda done, total, message: told.append(done))
    assert [row["slice"] for row in many] == [2] * 4 + [0] * 4
    assert told == [0, 1, 2]
    net.set_block("off")
    off = predictor_of(net)
    versions = across_versions({"v1": off, "v2": off}, stack, 1)
    assert [row["version"] for row in versions] == ["v1"] * 4 + ["v2"] * 4
    assert len(rows_of(seen.activations, name="x")) == 4
    with pytest.raises(Cancelled):
        along_stack(predictor, stack, cancel=lambda: True)
    with pytest.raises(ConfigError, match="No version"):
        across_versions({}, stack)
