"""Which model the command line runs, and along which plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from napari_llm4seg.cli.console import WrongUse, line
from napari_llm4seg.errors import CheckpointError

if TYPE_CHECKING:
    from napari_llm4seg.predict import Predictor

DEFAULT_MODEL = "breast-ultrasound"

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="NAME|PATH|hf:ORG/REPO", help="The model; see 'llm4seg models list'."),
]


def open_model(name: str | None, device: str) -> Predictor:
    """Load the named model, or the one starter that is the default, which is said.

    Raises
    ------
    CheckpointError
        Where there is no such model, or several and none is the default.
    """
    from napari_llm4seg.predict import load_model

    if name is None:
        name = default_model()
        line(f"No --model was given: '{name}' is taken. 'llm4seg models list' shows what each is for.")
    return load_model(name, device)


def along(predictor: Predictor, axis: str | None) -> Predictor:
    """Return ``predictor`` for slices of the plane ``axis``; as the model says where none is given.

    Raises
    ------
    typer.BadParameter
        If there is no such plane, or the model sees no slices.
    """
    if axis is None:
        return predictor
    from napari_llm4seg.config import PredictConfig
    from napari_llm4seg.planes import PLANES

    if axis not in PLANES:
        raise WrongUse(f"--axis '{axis}': there are {', '.join(PLANES)}.")
    if predictor.volumetric:
        raise WrongUse(f"--axis is for 2-D models; '{predictor.checkpoint.name}' sees volumes, whatever their slices.")
    return predictor.with_config(PredictConfig(**predictor.config.model_dump() | {"axis": axis}))


def largest_alone(predictor: Predictor, wanted: bool) -> Predictor:
    """Return ``predictor`` so that it keeps only each class's largest piece, if ``wanted``; else as it is."""
    return predictor.with_config(predictor.config.model_copy(update={"largest": True})) if wanted else predictor


def default_model() -> str:
    """Return the name of the model that is used where none is given."""
    from napari_llm4seg.checkpoint import starters

    names = [entry.name for entry in starters()]
    if DEFAULT_MODEL in names:
        return DEFAULT_MODEL
    if len(names) == 1:
        return names[0]
    listed = f"choose one of {', '.join(names)}" if names else "none is installed; give a checkpoint's path"
    raise CheckpointError(f"--model is needed: {listed}.")
