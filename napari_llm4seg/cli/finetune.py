"""``llm4seg finetune``: corrected slices in, a checkpoint that learnt from them out, judged by those held back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_llm4seg.cli.console import Device, Json, ProgressLine, WrongUse, duration, guarded, line, print_json
from napari_llm4seg.cli.predictor import Model, default_model
from napari_llm4seg.errors import InputError
from napari_llm4seg.files import check_place

if TYPE_CHECKING:
    from napari_llm4seg.checkpoint import Checkpoint
    from napari_llm4seg.config import ClassSpec, FinetuneConfig
    from napari_llm4seg.corrections import SampleStore
    from napari_llm4seg.engine.corrections import Corrections
    from napari_llm4seg.engine.finetune import Finetuned, Finetuner
    from napari_llm4seg.engine.fit import Event
    from napari_llm4seg.engine.gate import Gate

PARTS = ("adapters", "adapters+decoder", "all")
SIZES, BACKBONES = ("tiny", "small", "base"), ("cmunext", "unet")


@guarded
def finetune(
    samples: Annotated[
        Path,
        typer.Option("--samples", metavar="DIR", help="A project of corrections, or a folder with images/ and masks/."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Gets the new checkpoint; a new folder.")],
    model: Model = None,
    parts: Annotated[
        str | None,
        typer.Option("--parts", metavar="|".join(PARTS), help="What is trained; adapters+decoder by default."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the slices, at most.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", min=0.1, help="Time to train, at most; 15 by default, 105 for a new model (base 300)."
        ),
    ] = None,
    hold_back: Annotated[
        float | None,
        typer.Option(
            "--hold-back",
            min=0,
            max=0.9,
            help="Fraction of slices that judge and never train; 0.2 by default, 0 of a new model.",
        ),
    ] = None,
    scratch: Annotated[bool, typer.Option("--from-scratch", help="Train a new model instead of --model.")] = False,
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="NAME,NAME", help="What 1, 2... mean; with --from-scratch.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="|".join(SIZES), help="Of a new model; small by default.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="|".join(BACKBONES), help="Of a new model; cmunext by default.")
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            metavar="NAME[:INDEX]|random|none",
            help="A new model's frozen layer: one that 'llm4seg models list' shows, random weights as a control, or "
            "none; the shipped one by default.",
        ),
    ] = None,
    cross: Annotated[
        bool,
        typer.Option("--cross-check", help="Judge on all slices too, each by a training without it; takes 3 more."),
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> int:
    """Train a model further on corrected slices, or a new one from them.

    A result that is worse on the slices held back is written too, with a warning and "worse": true in --json.
    """
    made = {"preset": size, "backbone": backbone, "layer": layer}
    check_use(model, parts, scratch, classes, out)
    check_new(scratch, made)
    from napari_llm4seg.engine.corrections import from_folders, from_store
    from napari_llm4seg.engine.crosscheck import new_to

    store = open_project(samples)
    try:
        with ProgressLine("reading") as reading:
            found = from_store(store) if store else from_folders(samples / "images", samples / "masks", reading)
        for message in found.messages:
            line(f"llm4seg: {message}")
        settings: dict[str, Any] = {"parts": parts, "seconds": seconds, "hold_back": hold_back, "epochs": epochs}
        with ProgressLine("training", on_pipe=False) as bar:
            name, locked, tell = out.absolute().name, store.held_back if store else (), teller(bar)
            if scratch:
                chosen = {key: made[key] for key in made if made[key]}
                tuner = new_one(classes, store, found, settings, chosen | {"device": device, "name": name})
            else:
                tuner = known_one(model, settings, device)
                for doubt in class_doubts(tuner.checkpoint.config.model.classes, store.classes if store else (), found):
                    line(f"Warning: {doubt}")
            if cross:
                new_to(tuner.checkpoint, found)  # says now what would be said after the training
            done = tuner.train(found, locked=locked, name=name, on_split=locking(store), on_event=tell)
            checked = cross_checked(tuner, found, tell) if cross else None
    finally:
        if store:
            store.close()
    done.checkpoint.save(out)
    report = as_report(done, out) | ({"cross_check": checked.as_dict()} if checked else {})
    if done.gate.worse:
        line(f"Warning: {done.gate.words()} Keep the old one, or correct more slices.")
    if as_json:
        print_json(report)
    else:
        print("\n".join(in_words(report)))
    return 0


def check_use(model: str | None, parts: str | None, scratch: bool, classes: str | None, out: Path) -> None:
    """Raise WrongUse or InputError at what cannot work, before anything is loaded."""
    if parts is not None and parts not in PARTS:
        raise WrongUse(f"--parts {parts}: choose from {', '.join(PARTS)}.")
    if scratch and model is not None:
        raise WrongUse("--from-scratch makes a new model; leave --model out.")
    if scratch and parts not in (None, "all"):
        raise WrongUse("--from-scratch trains everything; leave --parts out.")
    if classes is not None and not scratch:
        raise WrongUse("--classes names those of a new model; give --from-scratch too.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"'{out}' already holds something; choose a new folder, so that nothing is lost.")
    check_place(out)


def check_new(scratch: bool, made: dict[str, str | None]) -> None:
    """Raise WrongUse where the options of a new model, as ``from_scratch`` names them, cannot be meant."""
    for (name, given), known in zip(made.items(), (SIZES, BACKBONES, ()), strict=True):
        option = "--size" if name == "preset" else f"--{name}"
        if given is not None and not scratch:
            raise WrongUse(f"{option} is for a new model; give --from-scratch too.")
        if given is not None and known and given not in known:
            raise WrongUse(f"{option} {given}: choose from {', '.join(known)}.")


def open_project(folder: Path) -> SampleStore | None:
    """Return the project of corrections in ``folder``, None where it has images/ and masks/ instead.

    A project that a viewer is writing into is opened for reading alone.
    """
    from napari_llm4seg.corrections import SampleStore
    from napari_llm4seg.corrections.manifest import PROJECT

    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        return None
    if not (folder / PROJECT).is_file():
        raise InputError(
            f"'{folder}' is no project of corrections and has no images/ and masks/ either. The tooltip of Project in "
            "Correct & Retrain says where a scan's own project lies."
        )
    try:
        return SampleStore.open(folder)
    except InputError:
        return SampleStore.open(folder, read_only=True)


def locking(store: SampleStore | None) -> Callable[[Corrections, Corrections], None]:
    """Return what locks the slices held back, in a project that can be written."""

    def lock(train: Corrections, held: Corrections) -> None:
        none = "none is held back to judge by; --hold-back 0.2 keeps a fifth"
        line(f"{len(train)} slices train, " + (f"{len(held)} held back to judge by" if len(held) else none))
        if store is None or not len(held):
            return
        if store.read_only:
            line("The project is open elsewhere, so that it cannot note which slices are held back.")
        else:
            store.hold_back([each.digest for each in held.slices])

    return lock


def configured(base: FinetuneConfig, settings: dict[str, Any]) -> FinetuneConfig:
    """Return ``base`` with what the command line says; a number of epochs alone lifts the time limit."""
    given = {key: value for key, value in settings.items() if value is not None}
    epochs = given.pop("epochs", None)
    if epochs is not None:
        given["fit"] = base.fit.model_copy(update={"epochs": epochs})
        given.setdefault("seconds", None)
    return base.model_copy(update=given)


def known_one(model: str | None, settings: dict[str, Any], device: str) -> Finetuner:
    """Return what trains a checkpoint further."""
    from napari_llm4seg.checkpoint import Checkpoint, resolve
    from napari_llm4seg.config import FinetuneConfig
    from napari_llm4seg.engine.finetune import Finetuner

    checkpoint: Checkpoint = Checkpoint.load(resolve(model or default_model()))
    return Finetuner(checkpoint, configured(FinetuneConfig(), settings), device)


def new_one(
    classes: str | None, store: SampleStore | None, slices: Corrections, settings: dict[str, Any], made: dict[str, Any]
) -> Finetuner:
    """Return what trains a new model; ``made`` as for ``engine.scratch.untrained``."""
    from napari_llm4seg.engine.scratch import classes_of, settings_for, untrained

    named = classes_of(classes.split(",")) if classes is not None else store.classes if store else ()
    if not named:
        raise WrongUse("--from-scratch needs --classes, such as --classes liver,spleen.")
    for doubt in class_doubts(named, store.classes if store else (), slices):
        line(f"Warning: {doubt}")
    config = configured(settings_for(slices, made.get("preset", "small")), settings)
    return untrained(named, slices, config, **made)


def class_doubts(named: Sequence[ClassSpec], known: Sequence[ClassSpec], slices: Corrections) -> list[str]:
    """Return what about a model's classes may not be meant, as the project and its slices have others."""
    names = {spec.value: spec.name for spec in known}
    found = [
        f"the project calls label {spec.value} {names[spec.value]}, the model {spec.name}."
        for spec in named
        if names.get(spec.value, spec.name) != spec.name
    ]
    values = sorted(frozenset().union(*(each.values for each in slices.slices)))
    if len(named) == 1 and len(values) > 1:
        labels = f"{', '.join(map(str, values[:-1]))} and {values[-1]}"
        found.append(f"labels {labels} all count as {named[0].name}, the only class.")
    absent = [spec.name for spec in named if not (values if len(named) == 1 else spec.value in values)]
    if absent:
        found.append(f"no corrected slice holds {' or '.join(absent)}, which cannot be learnt from them.")
    return found


def cross_checked(tuner: Finetuner, slices: Corrections, tell: Callable[[Event], None]) -> Gate:
    """Return before and after of all slices, saying which training is on."""
    from napari_llm4seg.engine.crosscheck import cross_check

    return cross_check(
        tuner, slices, on_fold=lambda number, folds: line(f"cross-check {number} of {folds}"), on_event=tell
    )


def teller(bar: ProgressLine) -> Callable[[Event], None]:
    """Return what says a line per validation, and moves ``bar`` on in between."""

    def tell(event: Event) -> None:
        bar(round(1000 * event.fraction), 1000, f"epoch {event.epoch + (event.kind == 'step')}/{event.epochs}")
        if event.kind == "validated" and event.score is not None:
            left = f", {duration(event.seconds_left)} left" if event.seconds_left else ""
            line(
                f"epoch {event.epoch}/{event.epochs}: loss {event.loss:.4f}, IoU when training {event.score:.4f}{left}"
            )

    return tell


def as_report(done: Finetuned, out: Path) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    training = done.checkpoint.config.card.training
    return {
        "checkpoint": str(out),
        "name": done.checkpoint.name,
        "digest": done.checkpoint.digest,
        "parent": training["parent"],
        "new": training.get("new"),
        "parts": training["parts"],
        "worse": done.gate.worse,
        "n_train": len(done.split.train),
        "n_held_back": len(done.split.held_back),
        "n_left_out": len(done.split.left_out),
        "gate": done.gate.as_dict(),
        "epochs": training["epochs"],
        "best_epoch": training["best_epoch"],
        "seconds": round(done.seconds, 2),
    }


def in_words(report: dict[str, Any]) -> list[str]:
    """Return a report as lines for a person."""
    gate = report["gate"]
    parent = f" from {report['parent']['name']}" if report["parent"] else ""
    if report["new"]:
        parent = f", a new {report['new']['words']}"
    lines = [
        f"{report['name']}{parent}: {report['parts']}, {report['n_train']} slices, {duration(report['seconds'])}",
        f"  {gate['words']}",
    ]
    if gate["hd95_before"] is not None:
        unit = {"pixel": "pixels"}.get(gate["hd95_unit"], gate["hd95_unit"])
        figures = f"  held-back HD95 {gate['hd95_before']:.2f} -> {gate['hd95_after']:.2f} {unit}"
        bounds = gate["hd95_interval"]
        lines.append(figures + (f", difference from {bounds[0]:+.2f} to {bounds[1]:+.2f}" if bounds else ""))
    lines += [f"  {remark}" for remark in gate["remarks"]]
    if "cross_check" in report:
        check = report["cross_check"]
        lines.append(f"  cross-check, {check['n']} slices, each by a training without it: {check['words']}")
    if report["n_left_out"]:
        lines.append(f"  {report['n_left_out']} slices beside a held-back one were left out")
    if report["new"]:
        lines.append(
            "  far from what was annotated a new model marks at random: annotate a slice without the thing, too, or "
            "segment with --keep-largest"
        )
    return [*lines, f"  written to {report['checkpoint']}"]
