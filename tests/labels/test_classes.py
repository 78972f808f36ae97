from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.config import CLASS_COLOURS
from napari_llm4seg.errors import InputError
from napari_llm4seg.labels.classes import added, complete, recoloured, renamed

CLASSES = ((1, "liver", "#E69F00"), (3, "spleen", "#56B4E9"))


def test_labels_that_nobody_named_get_a_name_and_a_colour() -> None:
    assert complete(CLASSES, [3, 2, 9]) == (
        CLASSES[0],
        (2, "label 2", CLASS_COLOURS[1]),
        CLASSES[1],
        (9, "label 9", CLASS_COLOURS[1]),
    )
    assert complete((), [0]) == ()


def test_renaming_keeps_names_apart() -> None:
    assert renamed(CLASSES, 3, "  left  kidney ")[1] == (3, "left kidney", "#56B4E9")
    assert renamed(CLASSES, 1, "Liver")[0][1] == "Liver"
    for wrong in ("", "  ", "LIVER", "x" * 81):
        with pytest.raises(InputError):
            renamed(CLASSES, 3, wrong)


def test_colours_are_checked() -> None:
    assert recoloured(CLASSES, 1, "#abcdef")[0] == (1, "liver", "#ABCDEF")
    for wrong in ("red", "#12345", "#12345G", "#1234567"):
        with pytest.raises(InputError, match="no colour"):
            recoloured(CLASSES, 1, wrong)


def test_a_new_class_takes_the_lowest_value_and_a_colour_of_its_own() -> None:
    classes, value = added(CLASSES)
    assert (value, classes[1]) == (2, (2, "class 2", CLASS_COLOURS[2]))


def test_a_full_mask_says_so() -> None:
    full = tuple((value, f"c{value}", "#000000") for value in range(1, 256))
    with pytest.raises(InputError, match="taken"):
        added(full, 255)
    assert added(full)[1] == 256


@given(st.sets(st.integers(1, 300), max_size=30), st.integers(1, 12))
def test_added_classes_have_values_and_names_of_their_own(values, more) -> None:
    classes = complete((), values)
    for _ in range(more):
        classes, value = added(classes)
        assert value in {item[0] for item in classes}
    assert len({value for value, _, _ in classes}) == len({name for _, name, _ in classes}) == len(values) + more
    assert list(classes) == sorted(classes)
