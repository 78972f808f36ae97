from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.labels import cleanup
from napari_llm4seg.labels.size import Scale
from napari_llm4seg.predict.postprocess import (
    drop_islands,
    keep_largest,
    label_dtype,
    labels_from_probabilities,
    without_islands,
)

LIVER, TUMOUR = ClassSpec(value=5, name="liver"), ClassSpec(value=2, name="tumour")


def test_one_sigmoid_class_is_there_from_the_threshold_on() -> None:
    found = labels_from_probabilities(np.array([[[0.2, 0.5, 0.51, 0.49]]]), (LIVER,), "sigmoid", 0.5)
    np.testing.assert_array_equal(found, [[0, 5, 5, 0]])
    assert found.dtype == np.uint8


def test_where_classes_overlap_the_most_probable_wins() -> None:
    probabilities = np.array([[[0.9, 0.6, 0.3, 0.4]], [[0.8, 0.7, 0.35, 0.1]]])
    np.testing.assert_array_equal(
        labels_from_probabilities(probabilities, (LIVER, TUMOUR), "sigmoid", 0.4), [[5, 2, 0, 5]]
    )


def test_softmax_takes_the_most_probable_whatever_its_size() -> None:
    probabilities = np.array([[[0.5, 0.3, 0.3]], [[0.3, 0.4, 0.3]], [[0.2, 0.3, 0.4]]])
    np.testing.assert_array_equal(labels_from_probabilities(probabilities, (LIVER, TUMOUR), "softmax"), [[0, 5, 2]])


def test_large_label_values_widen_the_dtype() -> None:
    assert label_dtype((LIVER,)) is np.uint8
    assert label_dtype((LIVER, ClassSpec(value=256, name="vessel"))) is np.uint16
    big = ClassSpec(value=65535, name="vessel")
    assert labels_from_probabilities(np.ones((1, 1, 1)), (big,), "sigmoid").tolist() == [[65535]]


def test_islands_below_the_area_go_each_class_for_itself() -> None:
    labels = np.zeros((10, 10), dtype=np.uint8)
    labels[:3, :3] = 1  # 9 pixels
    labels[5, 5] = labels[6, 6] = 1  # 2 pixels, touching at a corner
    labels[9, 9] = 1
    labels[0, 3:5] = 2  # touches the first class, yet is an island of its own
    kept = drop_islands(labels, 0.02)
    expected = labels.copy()
    expected[9, 9] = 0
    np.testing.assert_array_equal(kept, expected)
    kept = drop_islands(labels, 0.03)
    assert np.count_nonzero(kept == 1) == 9
    assert np.count_nonzero(kept == 2) == 0


@pytest.mark.parametrize("labels", [np.zeros((4, 4), np.uint8), np.full((4, 4), 3, np.uint8)])
def test_nothing_small_nothing_dropped(labels: np.ndarray) -> None:
    np.testing.assert_array_equal(drop_islands(labels, 0.5), labels)


def test_the_source_is_left_alone() -> None:
    labels = np.zeros((10, 10), dtype=np.uint16)
    labels[0, 0] = 300
    assert not drop_islands(labels, 0.5).any()
    assert labels[0, 0] == 300


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    density=st.sampled_from([0.1, 0.3, 0.6]),
    least=st.integers(2, 12),
    seed=st.integers(0, 99),
)
def test_islands_of_a_stack_are_told_slice_by_slice(shape: Any, density: float, least: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([1, 7], shape).astype(np.uint8) * (rng.random(shape) < density)
    kept = labels.copy()
    for z, cleaned in without_islands(lambda z: labels[z], range(shape[0]), least):
        assert cleaned.dtype == labels.dtype
        kept[z] = cleaned
    np.testing.assert_array_equal(kept, drop_islands(labels, (least - 1e-6) / labels.size))


@settings(deadline=None, max_examples=60)
@given(shape=st.tuples(*[st.integers(1, 7)] * 3), density=st.sampled_from([0.1, 0.3, 0.6]), seed=st.integers(0, 99))
def test_the_largest_piece_of_a_class_is_that_which_cleaning_up_keeps(shape: Any, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([1, 7], shape).astype(np.uint8) * (rng.random(shape) < density)
    kept, wanted, rows = labels.copy(), labels, []
    said = keep_largest(kept)
    for value in np.unique(labels[labels > 0]):
        cleaned = cleanup.keep_largest(wanted, int(value), Scale.pixels(3))
        wanted = cleaned.labels
        if cleaned.changed:
            pieces = int(ndimage.label(labels == value, structure=np.ones((3, 3, 3)))[1])
            rows.append((int(value), pieces, cleaned.changed))
    np.testing.assert_array_equal(kept, wanted)
    assert said == rows
    assert keep_largest(kept) == []


def test_slices_that_are_left_out_part_what_they_lie_between() -> None:
    labels = np.ones((5, 1, 1), np.uint8)
    cleaned = dict(without_islands(lambda z: labels[z], [4, 0, 1, 3], 2.5))
    assert sorted(cleaned) == [0, 1, 3, 4]
    assert not any(part.any() for part in cleaned.values())
    assert dict(without_islands(lambda z: labels[z], [0, 1], 2)) == {}
