"""``llm4seg train``: a recipe in, a checkpoint with its measured scores out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_llm4seg.cli.console import (
    STOPPED,
    WRONG_USE,
    Device,
    Json,
    ProgressLine,
    WrongUse,
    duration,
    guarded,
    line,
    print_json,
)
from napari_llm4seg.cli.launch import RANK, World, follow_parent, leave, run_processes, world
from napari_llm4seg.errors import Cancelled, ConfigError, Objections

if TYPE_CHECKING:
    from napari_llm4seg.checkpoint import Checkpoint
    from napari_llm4seg.engine.data import Case
    from napari_llm4seg.engine.fit import Event
    from napari_llm4seg.engine.recipe import Recipe
    from napari_llm4seg.predict.evaluate import Evaluation

REPORT = "report.json"
# Objections printed; --json has all.
SHOWN = 20
CHECKPOINT = "checkpoint"
# How a figure came about under each protocol: a reader of the card must not take one for the other.
HOW = {
    "locked": "on a test part used for nothing else, once",
    "paper": "of the best epoch chosen on the reported images themselves, so better than on new ones",
}


@guarded
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="The run as data: see training/recipes.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Gets the checkpoint, report and state.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field, e.g. fit.epochs=2.")
    ] = None,
    device: Device = "auto",
    devices: Annotated[
        int | None,
        typer.Option("--devices", min=1, metavar="N", help="Processes on this machine, each with its own device."),
    ] = None,
    num_nodes: Annotated[
        int | None, typer.Option("--num-nodes", min=1, metavar="M", help="Machines that train together.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Train by a recipe and report on its test part once; called again it goes on where it was stopped.

    With --devices, or under torchrun or srun, several processes share each batch; the result is that of one.
    """
    together = world(devices, num_nodes)
    if together.devices > 1 and ":" in device:
        raise WrongUse(f"--device {device} names one device; --devices {together.devices} needs cpu, cuda or auto.")
    try:
        plan, cases, report = planned(recipe, overrides or (), out, checked=RANK in os.environ)
    except ConfigError as error:
        return refuse(error, as_json) if together.rank == 0 else WRONG_USE
    processes = together.devices * together.num_nodes
    smallest = min(config.batch for _, config in plan.runs())
    if smallest < processes:
        raise WrongUse(f"{processes} processes cannot share a batch of {smallest}; take fewer, or raise fit.batch.")
    if report is None and not together.launched:
        again = [f"--set={text}" for text in overrides or ()] + (["--json"] if as_json else [])
        shape = ["--devices", str(together.devices), "--num-nodes", str(together.num_nodes)]
        return run_processes(["train", str(recipe), "-o", str(out), "--device", device, *shape, *again], together)
    if report is None:
        try:
            report = train_and_test(plan, out, device, together, cases)
        except (KeyboardInterrupt, Cancelled):
            if together.rank == 0:
                line(f"Stopped. The same command goes on from the last finished epoch ('{out}').")
            return STOPPED
    elif together.rank == 0:
        line(f"'{out}' holds the finished run; the images it reports are not looked at again.")
    if report is not None and together.rank == 0:  # the first process reports
        if as_json:
            print_json(report)
        else:
            print("\n".join(in_words(report)))
    leave()
    return 0


def planned(
    path: Path, overrides: Sequence[str], out: Path, checked: bool = False
) -> tuple[Recipe, list[Case] | None, dict[str, Any] | None]:
    """Return the recipe, and the report of its run where ``out`` holds it finished; else everything was checked.

    The cases are what the check found, None where there was none.

    Parameters
    ----------
    path, overrides, out
        As on the command line.
    checked : bool
        Whether the process that started this one has checked everything.

    Raises
    ------
    ConfigError
        With everything that is wrong, where something is.
    """
    from napari_llm4seg.engine.check import checked_recipe
    from napari_llm4seg.engine.recipe import load_recipe

    if (out / REPORT).exists():
        plan = load_recipe(path, overrides)
        return plan, None, stored_report(out, plan)
    if checked:
        return load_recipe(path, overrides), None, None
    with ProgressLine("checking") as progress:
        return *checked_recipe(path, overrides, progress=progress), None


def refuse(error: ConfigError, as_json: bool) -> int:
    """Say every objection on a line of its own, nothing having been begun; returns the exit status."""
    lines = error.lines if isinstance(error, Objections) else (str(error),)
    for text in lines[:SHOWN]:
        line(f"llm4seg: {text}")
    if len(lines) > 1:
        more = f", {len(lines) - SHOWN} of them not shown" if len(lines) > SHOWN else ""
        line(f"llm4seg: {len(lines)} objections{more}; nothing was begun.")
    if as_json:
        print_json({"error": str(error), "objections": list(lines)})
    return WRONG_USE


def identity(recipe: Recipe) -> dict[str, Any]:
    """Return what makes two runs the same one: everything but where the data lie on this machine."""
    return recipe.model_dump(mode="json", exclude={"data": {"root"}})


def stored_report(out: Path, recipe: Recipe) -> dict[str, Any] | None:
    """Return the report of a finished run in ``out``, None where there is none.

    Raises
    ------
    ConfigError
        If the folder holds a finished run of another recipe.
    InputError
        If the report is damaged.
    """
    from napari_llm4seg.files import read_json

    path = out / REPORT
    if not path.exists():
        return None
    report = read_json(path, "training report", limit=1 << 24)
    if not _of(recipe, report.get("recipe")):
        raise ConfigError(f"'{out}' holds a finished run of another recipe; choose another output folder.")
    return report


def _of(recipe: Recipe, stored: Any) -> bool:
    """Say whether ``stored`` is ``recipe``; fields that came later have their defaults in an older one."""
    from pydantic import ValidationError

    from napari_llm4seg.engine.recipe import Recipe as Model

    try:
        return identity(Model.model_validate(stored)) == identity(recipe)
    except ValidationError:
        return False


def train_and_test(
    recipe: Recipe, out: Path, device: str, together: World, cases: list[Case] | None
) -> dict[str, Any] | None:
    """Train, score the test part once, and write its scores into the checkpoint's card and ``report.json``.

    Returns the report, in the first process alone.
    """
    from napari_llm4seg.engine.lock import only_run

    follow_parent()
    if together.rank > 0:
        from napari_llm4seg.engine.run import train_recipe

        train_recipe(recipe, out, device=device, devices=together.devices, num_nodes=together.num_nodes, cases=cases)
        return None
    with only_run(out):
        return _train_and_test(recipe, out, device, together, cases)


def _train_and_test(
    recipe: Recipe, out: Path, device: str, together: World, cases: list[Case] | None
) -> dict[str, Any]:
    from napari_llm4seg.engine.log import has_tensorboard
    from napari_llm4seg.engine.run import train_recipe
    from napari_llm4seg.files import write_text
    from napari_llm4seg.predict import Predictor
    from napari_llm4seg.predict.evaluate import evaluate_pairs

    if not has_tensorboard():
        line("TensorBoard is not installed (pip install 'napari-llm4seg[train]'), so log.csv is the only log.")
    reading = ProgressLine("reading")
    bar = ProgressLine("training", on_pipe=False)
    with reading, bar:
        checkpoint, split, cases = train_recipe(
            recipe,
            out,
            device=device,
            devices=together.devices,
            num_nodes=together.num_nodes,
            cases=cases,
            on_event=teller(bar),
            progress=reading,
        )
    started = time.monotonic()
    locked = recipe.split.protocol == "locked"
    said = "testing once on" if locked else "scoring the best epoch on the images it was chosen on:"
    line(f"{said} {len(split.test)} images at their own resolution")
    held_back = [case for case in cases if case.name in set(split.test)]
    with ProgressLine("testing") as testing:
        evaluation = evaluate_pairs(Predictor(checkpoint, device), [case.pair for case in held_back], testing)
    scores = card_scores(evaluation, checkpoint, recipe.split.protocol)
    tested = with_scores(checkpoint, scores)
    tested.save(out / CHECKPOINT)
    report = {
        "name": checkpoint.name,
        "protocol": recipe.split.protocol,
        "checkpoint": CHECKPOINT,
        "digest": tested.digest,
        "scores": scores,
        "test": {key: value for key, value in evaluation.as_dict().items() if key != "config"},
        "test_cases": evaluation.rows(),
        "test_seconds": round(time.monotonic() - started, 1),
        "training": tested.config.card.training,
        "recipe": identity(recipe),
    }
    # as JSON reads it back, so that a finished run gives the same answer as the run itself
    text = json.dumps(report, indent=1)
    write_text(out / REPORT, text + "\n")
    answer: dict[str, Any] = json.loads(text)
    return answer


def teller(bar: ProgressLine) -> Callable[[int, int, Event], None]:
    """Return what says a line per validated epoch, and moves ``bar`` on in between."""

    def tell(stage: int, stages: int, event: Event) -> None:
        bar(round(1000 * event.fraction), 1000, f"epoch {event.epoch + (event.kind == 'step')}/{event.epochs}")
        if event.kind != "validated" or event.score is None or event.best is None:
            return
        of_stage = f"stage {stage + 1}/{stages}, " if stages > 1 else ""
        left = f", {duration(event.seconds_left)} left" if event.seconds_left else ""
        there = " in this stage" if left and stages > 1 else ""
        line(
            f"{of_stage}epoch {event.epoch}/{event.epochs}: loss {event.loss:.4f}, val IoU {event.score:.4f}, "
            f"best {event.best:.4f}{left}{there}"
        )
        if event.stopped_early:
            line(f"{of_stage}stopped early: validation has found nothing better for as long as fit.patience says")

    return tell


def card_scores(evaluation: Evaluation, checkpoint: Checkpoint, protocol: str) -> dict[str, Any]:
    """Return what the card says about the test: rounded, with the numbers of images and how it came about."""
    found = evaluation.as_dict()

    def rounded(key: str, digits: int = 4) -> float | None:
        return None if found[key] is None else round(found[key], digits)

    stages = checkpoint.config.card.training.get("stages") or [{}]
    return {
        "test_n": found["n"],
        "n_lesion": found["n_lesion"],
        "iou_lesion": rounded("iou_lesion"),
        "dice_lesion": rounded("dice_lesion"),
        **{f"dice_{name.replace(' ', '_')}": round(value, 4) for name, value in found["dice_by_class"].items()},
        "hd95": rounded("hd95_lesion", 2),
        "hd95_unit": found["hd95_unit"],
        "n_normals": found["n_empty"],
        "normals_empty_fraction": rounded("empty_correct"),
        "n_failed": found["n_failed"],
        "val_iou": stages[-1].get("val_iou"),
        "how": f"means per image at the images' own resolution, {HOW[protocol]}",
    }


def with_scores(checkpoint: Checkpoint, scores: dict[str, Any]) -> Checkpoint:
    """Return the checkpoint with ``scores`` in its card."""
    from dataclasses import replace

    config = checkpoint.config
    card = config.card.model_copy(update={"scores": scores})
    return replace(checkpoint, config=config.model_copy(update={"card": card}))


def in_words(report: dict[str, Any]) -> list[str]:
    """Return a training report as lines for a person."""
    scores = report["scores"]

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    unit = {"mm": "mm", "pixel": "pixels"}.get(scores["hd95_unit"], scores["hd95_unit"])
    hd95 = "-" if scores["hd95"] is None else f"{scores['hd95']:.2f} {unit}"
    # reports made before there were protocols are locked ones
    chosen_on_them = report.get("protocol", "locked") == "paper"
    tested = "the best epoch, chosen on the reported images, on these" if chosen_on_them else "tested once on"
    lines = [
        f"{report['name']}: {tested} {scores['test_n']} images",
        f"  {scores['n_lesion']} with a structure: IoU {number(scores['iou_lesion'])}, "
        f"Dice {number(scores['dice_lesion'])}, HD95 {hd95}",
    ]
    if scores["n_normals"]:
        lines.append(f"  {scores['n_normals']} without: {100 * scores['normals_empty_fraction']:.1f} % predicted empty")
    if chosen_on_them:
        lines.append("  this is no test: expect less on new images; --set split.protocol=locked measures that")
    if scores["n_failed"]:
        lines.append(f"  {scores['n_failed']} could not be scored; see {REPORT}")
    return lines
