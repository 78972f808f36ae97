"""Choices kept from one start of napari to the next, in a small JSON file of the person's own."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


def settings_path() -> Path:
    """Return where the settings lie; ``LLM4SEG_SETTINGS`` overrides the person's configuration folder."""
    given = os.environ.get("LLM4SEG_SETTINGS")
    if given:
        return Path(given)
    from platformdirs import user_config_path

    return user_config_path("napari-llm4seg", appauthor=False) / "settings.json"


@dataclass
class Settings:
    """What the Segment dock remembers.

    Parameters
    ----------
    model : str
        Key of the last model: starter name or path.
    device : str
        Last chosen device.
    probability : bool
        Whether the probabilities are shown as layers of their own.
    options : dict
        ``PredictConfig`` fields in which the person differs from the model's own configuration.
    models : list of str
        Paths of checkpoints added by hand, newest first.
    windows : list of [centre, width]
        A person's own windows, newest first.
    project : str
        Folder of the project that corrections of all scans go to; empty where none was chosen.
    apart : bool
        Whether, where none was chosen, single images of one folder do not share a project either.
    new_model : dict
        What new models are made of: their "preset", "backbone" and "layer", where the person chose.
    """

    model: str = ""
    device: str = "auto"
    probability: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    windows: list[list[float]] = field(default_factory=list)
    project: str = ""
    apart: bool = False
    new_model: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None = None) -> Settings:
        """Read the settings; a missing, damaged or foreign file gives the defaults, field by field."""
        path = path or settings_path()
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls()
        if not isinstance(raw, dict):
            return cls()
        settings = cls()
        for name, default in asdict(settings).items():
            value = raw.get(name, default)
            if type(value) is type(default):
                setattr(settings, name, value)
        settings.models = [item for item in settings.models if isinstance(item, str)]
        settings.windows = [pair for pair in settings.windows if _is_window(pair)]
        return settings

    def save(self, path: Path | None = None) -> bool:
        """Write the file whole; return False where the folder cannot be written (settings are only a comfort)."""
        path = path or settings_path()
        temporary = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".settings-", suffix=".json")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(self), file, indent=1)
            os.replace(temporary, path)
        except (OSError, TypeError, ValueError):
            with suppress(OSError):
                os.unlink(temporary)
            return False
        return True


def _is_window(pair: Any) -> bool:
    """Return whether ``pair`` is a centre and a width as numbers."""
    numbers = isinstance(pair, list) and len(pair) == 2 and all(type(value) in (int, float) for value in pair)
    return numbers and all(abs(value) < 1e30 for value in pair) and pair[1] > 0
