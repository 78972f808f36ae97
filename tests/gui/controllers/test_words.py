from __future__ import annotations

from pathlib import Path

import pytest

from napari_llm4seg.config import Card
from napari_llm4seg.errors import InputError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.state.session import ModelEntry


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.62, "0.6 s"), (9.97, "10 s"), (61, "1 min 1 s"), (3600, "60 min 0 s")]
)
def test_duration(seconds, text):
    assert words.duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0.4, ""), (3.2, " · 3 s left"), (75, " · 1 min 15 s left")])
def test_time_left(seconds, text):
    assert words.left(seconds) == text


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        ({"iou": 0.712}, "IoU 0.71"),
        ({"test": {"n": 103, "dice": 0.8}}, "Dice 0.80"),
        ({"test_iou": 0.7, "dice": 0.8}, "IoU 0.70"),
        ({"n": 3, "dice_before": 0.7, "dice_after": 0.8}, "Dice 0.80"),
        ({"held_back_dice_before": 0.7, "held_back_dice_after": 0.8}, "Dice 0.80"),
        ({"note": "none", "n": 3, "ok": True}, ""),
        ({}, ""),
    ],
)
def test_score(scores, text):
    assert words.score(Card(name="m", scores=scores)) == text


def test_a_card_in_two_lines_and_whole():
    card = Card(
        name="m", modality="CT", training_data="D", licence="CC0", restrictions="research only", scores={"iou": 0.5}
    )
    entry = ModelEntry("m", "m", Path("/m"), card, True)
    assert words.model_lines(entry) == ("CT · D", "CC0 · IoU 0.50")
    whole = words.card_text(entry)
    assert "Restrictions: research only" in whole
    assert "iou 0.5" in whole
    assert words.model_lines(ModelEntry("p", "p", Path("/p")))[0] == str(Path("/p"))


def test_failures_are_sentences():
    ours = words.failure(InputError("The scan is empty."), "Segmenting")
    assert (ours.kind, ours.text, ours.details) == ("error", "The scan is empty.", "")
    foreign = words.failure(KeyError("x"), "Segmenting")
    assert foreign.text.startswith("Segmenting failed")
    assert "KeyError" in foreign.details
    assert "memory" in words.failure(MemoryError(), "Segmenting").text
