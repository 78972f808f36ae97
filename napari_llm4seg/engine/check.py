"""Everything that is wrong with a recipe and its data, found before any training and said at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from napari_llm4seg.config import ClassSpec, ModelConfig, explain_all
from napari_llm4seg.engine.data import Case, load_cases, read_case
from napari_llm4seg.engine.recipe import DataConfig, Recipe, SplitConfig, find_layers, read_raw
from napari_llm4seg.engine.split import split_cases
from napari_llm4seg.errors import Cancelled, LLM4SegError, Objections, one_line
from napari_llm4seg.io import read
from napari_llm4seg.io.pairs import read_mask
from napari_llm4seg.models.packs import find_pack

Progress = Callable[[int, int, str], None]
M = TypeVar("M", bound=BaseModel)

# Decoding releases the interpreter lock, so a few threads keep the cores busy.
_THREADS = 4


def checked_recipe(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> tuple[Recipe, list[Case]]:
    """Read a recipe and everything that it will train on.

    Parameters
    ----------
    path, overrides
        As for ``load_recipe``.
    progress : callable(done, total, message), optional
    cancel : callable returning bool, optional

    Returns
    -------
    Recipe, and its cases as ``load_cases`` gives them

    Raises
    ------
    Objections
        With a line for every wrong key or value, missing folder, file or frozen layer, image without a mask, mask
        that does not fit its image or classes, and empty part of the split.
    ConfigError
        If the file is no recipe at all.
    Cancelled
    """
    raw = read_raw(path, overrides)
    lines: list[str] = []
    cases: list[Case] = []
    try:
        find_layers(raw, f"recipe '{path.name}'")
    except LLM4SegError as error:
        lines.append(one_line(error, 600))
        raw["model"]["block"]["layers"] = []  # said; the rest is looked into without them
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(raw)
        recipe.checkpoint_config(), recipe.runs()
    except ValidationError as error:
        lines += [f"recipe '{path.name}': {line}." for line in explain_all(error, Recipe)]
    except LLM4SegError as error:
        lines.append(one_line(error, 600))
    # what is right by itself is looked into, whatever is wrong beside it
    model, data = _part(ModelConfig, raw.get("model")), _part(DataConfig, raw.get("data"))
    if model is not None:
        lines += layer_objections(model)
    if data is not None:
        split = _part(SplitConfig, raw.get("split", {}))
        cases, found = look_into(data, split, model.classes if model else None, progress, cancel)
        lines += found
    if lines or recipe is None:
        raise Objections(lines)
    return recipe, cases


def _part(kind: type[M], raw: Any) -> M | None:
    try:
        return kind.model_validate(raw)
    except ValidationError:
        return None


def layer_objections(model: ModelConfig) -> list[str]:
    """Return a line for every frozen layer that is not at hand."""
    lines = []
    for ref in model.block.layers if model.block else ():
        try:
            find_pack(ref)
        except LLM4SegError as error:
            lines.append(one_line(error, 600))
    return lines


def look_into(
    data: DataConfig,
    split: SplitConfig | None,
    classes: Sequence[ClassSpec] | None,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> tuple[list[Case], list[str]]:
    """Return the cases, and a line for everything wrong with folders, index, split, images and masks.

    Parameters
    ----------
    data : DataConfig
    split : SplitConfig or None
        None leaves the split out.
    classes : sequence of ClassSpec or None
        None leaves the masks' label values out.
    progress, cancel
        As in ``checked_recipe``.
    """
    try:
        cases = load_cases(data, progress)
    except LLM4SegError as error:
        return [], [one_line(error, 600)]
    lines = []
    if split is not None:
        try:
            split_cases(cases, split)
        except LLM4SegError as error:
            lines.append(one_line(error, 600))
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda case: "" if cancel and cancel() else case_objection(case, classes), cases)
        for done, line in enumerate(found, start=1):
            if cancel and cancel():
                raise Cancelled("Stopped.")
            lines += [line] if line else []
            if progress:
                progress(done, len(cases), "checking images and masks")
    return cases, lines


def case_objection(case: Case, classes: Sequence[ClassSpec] | None) -> str:
    """Return what is wrong with one image and its mask, or an empty string."""
    try:
        if classes is None:  # what the values mean is not known
            read_mask(case.pair.mask, read(case.pair.image))
        else:
            read_case(case, classes)
    except LLM4SegError as error:
        return one_line(error, 600)
    except Exception as error:  # a damaged file fails in whatever way its library does
        return f"'{case.pair.image.name}' and its mask cannot be read: {one_line(error, 160)}."
    return ""
