"""A checkpoint's config as text: read, checked, and shown as a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from napari_llm4seg.config import CheckpointConfig, explain
from napari_llm4seg.errors import CheckpointError, LLM4SegError, one_line
from napari_llm4seg.files import read_json

CONFIG = "config.json"
FORMAT = "napari-llm4seg/1"


def read_config(folder: Path) -> CheckpointConfig:
    """Return the config of a checkpoint folder.

    Raises
    ------
    CheckpointError
        One line where it is missing, damaged, of another program or of another version.
    """
    try:
        value = read_json(folder / CONFIG, "checkpoint config")
    except LLM4SegError as error:
        raise CheckpointError(f"'{folder}' is no checkpoint of this program: {error}") from error
    return parse_config(value, folder)


def parse_config(value: Mapping[str, Any], path: Path) -> CheckpointConfig:
    """Return the config that ``value`` holds; ``path`` is named in errors.

    Raises
    ------
    CheckpointError
        Naming the first field that is wrong.
    """
    form = value.get("format")
    if form is None:
        raise CheckpointError(
            f"'{path}' is no checkpoint of this program: its config says no format. Choose a folder or file that "
            "llm4seg wrote."
        )
    if form != FORMAT:
        raise CheckpointError(
            f"Checkpoint '{path}' says format {str(form)[:40]!r}; this version reads '{FORMAT}'. "
            "Update the program, or choose another checkpoint."
        )
    try:
        config = CheckpointConfig.model_validate(value)
        config.model_dump_json()  # what cannot be written again, such as a bottomless card, is refused here
    except ValidationError as error:
        raise CheckpointError(f"Checkpoint '{path}': {explain(error, 'its config')}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"Checkpoint '{path}' has an unusable config: {one_line(error, 120)}") from error
    return config


def render_card(config: CheckpointConfig) -> str:
    """Return the card as Markdown, for people who meet the folder outside the program."""
    card = config.card
    lines = [f"# {card.name}", "", "Not a medical device: for research, not for diagnosis or treatment.", ""]
    block = config.model.block
    layers = ", ".join(f"layer {ref.index} of {ref.repository}" for ref in block.layers) if block else ""
    rows = {
        "Task": card.task,
        "Modality": card.modality,
        "Classes": ", ".join(f"{spec.value} {spec.name}" for spec in config.model.classes),
        "Backbone": f"{config.model.backbone.kind} {config.model.backbone.widths}",
        "Frozen language-model layer": layers or "none",
        "Training data": card.training_data,
        "Licence": card.licence,
        "Restrictions": card.restrictions,
        "Cite": card.cite,
    }
    lines += [f"- {key}: {text}" for key, text in rows.items() if text]
    for title, values in (("Measured", card.scores), ("Training", card.training)):
        if values:
            lines += ["", f"## {title}", "", *(f"- {key}: {value}" for key, value in values.items())]
    return "\n".join(lines) + "\n"
