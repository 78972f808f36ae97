"""Facts in a person's words: models, modalities, times and failures. Pure functions."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from napari_llm4seg.config import Card
from napari_llm4seg.errors import LLM4SegError, one_line
from napari_llm4seg.gui.state.session import ModelEntry
from napari_llm4seg.gui.views.abstract.common import Message

_SCORES = {"iou": "IoU", "dice": "Dice", "f1": "F1"}


def duration(seconds: float) -> str:
    """Return ``seconds`` as "0.6 s", "12 s" or "2 min 5 s"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def about(seconds: float) -> str:
    """Return an estimate as "about 45 s" or "about 3 min"."""
    if seconds < 57.5:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    return f"about {max(1, round(seconds / 60))} min"


def left(seconds: float | None) -> str:
    """Return the remaining time as " · 12 s left", or nothing while it is not known or below a second."""
    return "" if seconds is None or seconds < 1 else f" · {duration(round(seconds))} left".replace(".0 s", " s")


def _numbers(scores: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Walk nested score tables, outermost first."""
    for key, value in scores.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield key, float(value)
    for value in scores.values():
        if isinstance(value, Mapping):
            yield from _numbers(value)


def score(card: Card) -> str:
    """Return the card's first measured overlap score as "IoU 0.71", or an empty string."""
    for key, value in _numbers(card.scores):
        if key.endswith("_before"):  # what the model it was trained from had
            continue
        for mark, name in _SCORES.items():
            if key.lower() == mark or key.lower().startswith((f"{mark}_", f"test_{mark}", f"held_back_{mark}_")):
                return f"{name} {value:.2f}"
    return ""


def model_lines(entry: ModelEntry | None) -> tuple[str, ...]:
    """Return one or two short lines on a model: modality and data, licence and score."""
    if entry is None:
        return ()
    card = entry.card
    if card is None:
        return (str(entry.path), "No card yet: the checkpoint has not been read.")
    # The tooltip has the whole card; here stands what comes before the explanations.
    first = [card.modality if card.modality != "unknown" else "", card.training_data.split(",")[0]]
    second = [card.licence.split(" (")[0] or "licence not stated", score(card) or "no measured score"]
    lines = (" · ".join(part for part in first if part), " · ".join(second))
    return tuple(line for line in lines if line)


def card_text(entry: ModelEntry | None) -> str:
    """Return the whole card as lines of "Field: value"."""
    if entry is None or entry.card is None:
        return ""
    lines = [entry.card.name]
    for name, value in entry.card.model_dump(exclude={"name", "scores", "training"}).items():
        if value:
            lines.append(f"{name.replace('_', ' ').capitalize()}: {value}")
    numbers = [f"{key.replace('_', ' ')} {value:g}" for key, value in _numbers(entry.card.scores)]
    if numbers:
        lines.append("Measured: " + ", ".join(numbers[:12]))
    lines.append(f"File: {entry.path}")
    return "\n".join(lines)


def failure(error: BaseException, doing: str) -> Message:
    """Return a message for ``error``; ours are sentences already, others get one and keep their traceback."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, LLM4SegError):
        return Message("error", one_line(error), trace if error.__cause__ is not None else "")
    if isinstance(error, MemoryError):
        return Message("error", f"{doing} needs more memory than is free. Close other programs or scans.", trace)
    return Message("error", f"{doing} failed: {one_line(error)}", trace)
