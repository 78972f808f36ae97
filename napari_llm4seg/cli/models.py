"""``llm4seg models``: what is there, what it was trained on, how to get more."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_llm4seg.cli import language_models
from napari_llm4seg.cli.console import Json, WrongUse, guarded, line, print_json, table
from napari_llm4seg.errors import CheckpointError, one_line

if TYPE_CHECKING:
    from napari_llm4seg.checkpoint import Checkpoint

app = typer.Typer(help="List, describe, fetch and import models.", no_args_is_help=True)

# In a fetched checkpoint's folder: the repository it came from.
SOURCE = "source.txt"
IOU_KEYS = ("iou_lesion", "iou", "val_iou")


@app.command("list")
@guarded
def list_models(as_json: Json = False) -> int:
    """List the models at hand, shipped or fetched before, then language models and their layers at hand."""
    from napari_llm4seg.checkpoint import starters

    entries = starters()
    if as_json:
        rows = [
            {
                "name": entry.name,
                "modality": entry.card.modality,
                "licence": entry.card.licence,
                "iou": measured_iou(entry.card.scores),
                "path": str(entry.path),
            }
            for entry in entries
        ]
        print_json(
            {
                "models": rows,
                "language_models": language_models.registry_rows(),
                "layers": language_models.layer_rows(),
            }
        )
        return 0
    if not entries:
        line("No models are at hand; fetch one: llm4seg models fetch hf:ORG/REPO")
    shown = [["name", "modality", "licence", "measured IoU"]]
    for entry in entries:
        iou = measured_iou(entry.card.scores)
        card = entry.card
        shown.append([entry.name, card.modality, card.licence or "not stated", "-" if iou is None else f"{iou:.3f}"])
    print("\n".join([*table(shown), *language_models.lists_in_words()]))
    return 0


def measured_iou(scores: dict[str, Any]) -> float | None:
    """Return the IoU a card reports, the one on held-back test images first."""
    for key in IOU_KEYS:
        if isinstance(scores.get(key), (int, float)):
            return float(scores[key])
    return None


@app.command("info")
@guarded
def info(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH|hf:ORG/REPO", help="The model.")], as_json: Json = False
) -> int:
    """Show a model's card, classes, frozen layer, digest and sizes; or what a language model is."""
    from napari_llm4seg.checkpoint import Checkpoint, render_card, resolve

    source = language_models.language_model(name)
    if source is not None:
        return language_models.describe(source, as_json)
    with language_models.naming_them():
        path = resolve(name)
    checkpoint = Checkpoint.load(path)
    trained, total, problem = count_weights(checkpoint)
    config = checkpoint.config
    block = config.model.block
    if as_json:
        print_json(
            {
                "name": checkpoint.name,
                "path": str(path),
                "digest": checkpoint.digest,
                "card": config.card.model_dump(),
                "classes": [spec.model_dump() for spec in config.model.classes],
                "frozen_layers": [ref.model_dump() for ref in block.layers] if block else [],
                "weights": {"trained": trained, "total": total},
                "model": config.model.model_dump(mode="json"),
                "preprocess": config.preprocess.model_dump(mode="json"),
                "predict": config.predict.model_dump(mode="json"),
                "problem": problem or None,
            }
        )
        return 0
    print(render_card(config).rstrip())
    size = " x ".join(map(str, config.preprocess.size))
    print("\n## Files and sizes\n")
    print(f"- Path: {path}")
    print(f"- Digest: sha256 {checkpoint.digest}")
    print(f"- Input: {size} pixels, {config.preprocess.channels}")
    for ref in block.layers if block else ():
        print(f"- Frozen layer: {ref.index} of {ref.repository}, revision {ref.revision}, sha256 {ref.sha256}")
    print(f"- Trained weights: {trained:,}")
    print(f"- All weights: {total:,}" if total is not None else "- All weights: unknown, the frozen layer is missing")
    if problem:
        line(f"llm4seg: {problem}")
    return 0


def count_weights(checkpoint: Checkpoint) -> tuple[int, int | None, str]:
    """Return numbers of trained and of all weights, and why the network cannot be built where it cannot.

    Running statistics of batch normalisation are no weights.
    """
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    trained = sum(t.numel() for name, t in checkpoint.tensors.items() if not name.endswith(statistics))
    try:
        return trained, sum(p.numel() for p in checkpoint.build().parameters()), ""
    except CheckpointError as error:
        return trained, None, one_line(error)


@app.command("fetch")
@guarded
def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME|PATH|hf:ORG/REPO", help="A model, or a language model to take layers of.")
    ],
    layers: Annotated[
        str | None,
        typer.Option("--layer", metavar="N,..", help="0-based layers of a language model: 14, 12,13 or 12-14."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="R", help="Branch, tag or commit on the Hub.")
    ] = None,
    llm: Annotated[
        str | None, typer.Option("--llm", metavar="NAME", help="Which language model of the list PATH holds.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="Refuse a layer whose file has another digest.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Fetch a model, or layers of a language model, into the user's cache, to work without a network.

    Of a language model only the file's header and the layers' own bytes are fetched; a broken download goes on where
    it stopped.
    """
    if language_models.language_model(name, revision) is not None:
        return language_models.fetch_layers(name, layers, revision, llm, sha256, as_json)
    if any(option is not None for option in (layers, llm, sha256)):
        raise WrongUse(f"--layer, --llm and --sha256 are for language models; '{name[:120]}' is none.")
    from napari_llm4seg.checkpoint import Checkpoint, resolve

    with language_models.naming_them():
        path = resolve(with_revision(name, revision))
    checkpoint = Checkpoint.load(path)
    known = name
    if name.startswith("hf:"):
        path = keep(path, name[3:].partition("@")[0])
        known = path.name
    if as_json:
        print_json({"name": known, "path": str(path), "digest": checkpoint.digest})
    else:
        print(f"{known}: {path}")
    _, _, problem = count_weights(checkpoint)
    if problem:
        line(f"llm4seg: {problem}")
    return 0


def with_revision(name: str, revision: str | None) -> str:
    """Return ``name`` with the revision that was asked for."""
    if revision is None:
        return name
    if not name.startswith("hf:") or "@" in name:
        raise WrongUse(f"--revision is for hf:ORG/REPO without a revision; got '{name[:120]}'.")
    return f"{name}@{revision}"


def keep(folder: Path, repository: str) -> Path:
    """Copy a fetched checkpoint folder into the user's cache under the repository's name, and return its place.

    A name that another model already has gets the organisation in front.
    """
    from napari_llm4seg.checkpoint import starters
    from napari_llm4seg.files import cache_folder, replacing_folder

    root = cache_folder() / "checkpoints"
    place = root / repository.split("/")[-1]
    if (place.exists() and not _came_from(place, repository)) or any(
        entry.name == place.name and entry.path != place for entry in starters()
    ):
        place = root / repository.replace("/", "--")
    with replacing_folder(place) as temporary:
        # the Hub's cache is made of links into its store; a copy survives its cleaning
        shutil.copytree(folder, temporary, dirs_exist_ok=True, symlinks=False)
        (temporary / SOURCE).write_text(repository + "\n", encoding="utf-8")
    return place


def _came_from(place: Path, repository: str) -> bool:
    try:
        return (place / SOURCE).read_text(encoding="utf-8").strip() == repository
    except (OSError, UnicodeDecodeError):
        return False


@app.command("import")
@guarded
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="State dict of the published LLM4Seg code (.pth).")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The checkpoint folder to write.")],
    llm: Annotated[
        str | None,
        typer.Option(
            "--llm", metavar="NAME|config.json", help="Its language model; LLaMA and DeepSeek are told by size."
        ),
    ] = None,
    layer: Annotated[
        int | None, typer.Option("--layer", metavar="N", min=0, help="0-based index of its layer, for the record.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Turn a state dict of the published code into a checkpoint that computes the same."""
    from napari_llm4seg.checkpoint import import_state_dict
    from napari_llm4seg.models.paper import LAYER_INDEX

    index = LAYER_INDEX if layer is None else layer
    checkpoint = import_state_dict(file, out, llm=language_models.config_named(llm), index=index)
    trained, total, problem = count_weights(checkpoint)
    if as_json:
        print_json({"path": str(out), "digest": checkpoint.digest, "weights": {"trained": trained, "total": total}})
    else:
        print(f"{out}: {trained:,} trained weights, sha256 {checkpoint.digest}")
    if problem:
        line(f"llm4seg: {problem}")
    return 0
