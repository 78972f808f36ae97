"""By what a stopped run is known again, and its state on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_llm4seg.config import FitConfig
from napari_llm4seg.engine.source import TrainingSource, ValidationSource
from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.files import replacing
from napari_llm4seg.models.llm4seg import LLM4SegNet

Data = tuple[TrainingSource, ValidationSource]
STATE = "state.pt"


def identity(net: LLM4SegNet, config: FitConfig, data: Data) -> str:
    """Return a digest of what must not change between a run and its resume."""
    train, val = data
    layouts = f"{train.layout} {val.layout}"
    text = "|".join([net.config.model_dump_json(), config.model_dump_json(), layouts, *train.names, "//", *val.names])
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(data: Data) -> Tensor:
    """Return what tells other data under the same names from these, (N, 3) float32."""
    return torch.cat([part.fingerprint() for part in data])


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a run's state: tensors, numbers and text alone, so that reading it executes nothing."""
    with replacing(folder / STATE) as temporary:
        torch.save(state, temporary)


def read_state(folder: Path, identity: str, fingerprint: Tensor) -> dict[str, Any] | None:
    """Return the run's state in ``folder``, None where none was begun.

    Raises
    ------
    CheckpointError
        If it is damaged, or of other data, model or settings.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        same = state["identity"] == identity and _alike(state.get("fingerprint"), fingerprint)
    except Exception as error:  # a damaged pickle raises almost anything
        raise CheckpointError(f"The run's state '{path}' is damaged; delete it to start again.") from error
    if not same:
        raise CheckpointError(
            f"'{folder}' holds a run with other data, model or settings; choose another output folder."
        )
    return state


def _alike(before: Tensor | None, now: Tensor) -> bool:
    """Say whether two fingerprints are of the same data; other machines round otherwise, older runs have none."""
    return before is None or (before.shape == now.shape and torch.allclose(before, now, rtol=1e-3, atol=1e-3))
