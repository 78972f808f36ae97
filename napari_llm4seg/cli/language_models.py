"""``llm4seg models`` for language models: fetch layers, list and describe them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_llm4seg.cli.console import ProgressLine, line, print_json, table
from napari_llm4seg.errors import Cancelled, CheckpointError, ConfigError, LLM4SegError

if TYPE_CHECKING:
    from napari_llm4seg.models.registry import Source

OURS = "format"  # the key by which a checkpoint of ours is told from a language model


def language_model(name: str, revision: str | None = None) -> Source | None:
    """Return where the layers of ``name`` come from, None where it is no language model.

    It is one if it is a name of the registry, a GGUF file, or a folder or repository whose config.json is a language
    model's. A repository is asked for its config.json, unless layers of it are at hand.
    """
    from napari_llm4seg.checkpoint import starters
    from napari_llm4seg.models.inventory import layers_at_hand
    from napari_llm4seg.models.registry import HUB, LANGUAGE_MODELS, RANDOM, parse_source

    if name in LANGUAGE_MODELS or name.startswith(RANDOM):
        return parse_source(name)
    if name.startswith(HUB):
        try:
            source = parse_source(name)
        except LLM4SegError:
            return None  # what names no repository gets the checkpoints' message
        at_hand = source.file or any(layer.ref.repository == source.repository for layer in layers_at_hand())
        return source if at_hand or _hub_holds_language_model(source, revision) else None
    if any(entry.name == name for entry in starters()):
        return None
    return parse_source(name) if _path_holds_language_model(name) else None


def _path_holds_language_model(name: str) -> bool:
    from napari_llm4seg.files import read_json

    path = Path(name)
    try:
        if path.suffix == ".gguf":
            return True
        if not path.is_dir():
            return False
        if (path / "config.json").is_file():
            return "model_type" in read_json(path / "config.json", "config")
        return any(path.glob("*.gguf"))
    except (LLM4SegError, OSError, ValueError):
        return False


def _hub_holds_language_model(source: Source, revision: str | None) -> bool:
    """Ask the Hub, or its cache where the Hub is out of reach, what the repository holds."""
    from napari_llm4seg.files import read_json
    from napari_llm4seg.models.hub import OutOfReach, open_repository
    from napari_llm4seg.models.local import hub_snapshot
    from napari_llm4seg.models.remote import small_json

    try:
        repository = open_repository(source.repository, revision or source.revision)
    except OutOfReach:
        folder = hub_snapshot(source.repository, revision or source.revision)
        if folder is None:
            raise
        return OURS not in read_json(folder / "config.json", "config")
    if "config.json" in repository.files:
        return OURS not in small_json(repository, "config.json")
    return any(file.endswith(".gguf") for file in repository.files)


@contextmanager
def naming_them() -> Iterator[None]:
    """Let the message that there is no such model name the language models too."""
    from napari_llm4seg.models.registry import LANGUAGE_MODELS

    try:
        yield
    except CheckpointError as error:
        if not str(error).startswith("There is no model"):
            raise
        raise CheckpointError(f"{error} Language models: {', '.join(LANGUAGE_MODELS)}.") from error


def fetch_layers(
    name: str, layers: str | None, revision: str | None, llm: str | None, sha256: str | None, as_json: bool
) -> int:
    """Fetch layers into the user's cache and say where they are."""
    from napari_llm4seg.models.registry import parse_layers
    from napari_llm4seg.models.sources import fetch

    indices = None if layers is None else parse_layers(layers)
    try:
        with ExitStack() as stack:
            # its clock starts with the first bytes, not with asking the Hub
            bar = functools.cache(lambda: stack.enter_context(ProgressLine(name)))

            def progress(done: int, total: int, message: str) -> None:
                bar()(done, total, message)

            fetched = fetch(name, indices, revision=revision, llm=llm, sha256=sha256, progress=progress)
    except (KeyboardInterrupt, Cancelled):
        line("What was fetched is kept; the same command goes on from there.")
        raise
    if as_json:
        rows = [{**item.ref.model_dump(), "path": str(item.folder), "new": item.new} for item in fetched]
        print_json({"name": name, "layers": rows})
        return 0
    for item in fetched:
        print(f"layer {item.ref.index} of {item.ref.repository}, revision {item.ref.revision}: {item.folder}")
        print(f"  sha256 {item.ref.sha256}" + ("" if item.new else ", was at hand"))
    return 0


def layer_rows() -> list[dict[str, Any]]:
    """Return what there is to say of every layer at hand."""
    from napari_llm4seg.models.inventory import layers_at_hand, name_of

    return [
        {
            **layer.ref.model_dump(),
            "name": name_of(layer.ref),
            "licence": layer.licence,
            "note": layer.note,
            "path": str(layer.folder),
        }
        for layer in layers_at_hand()
    ]


def registry_rows() -> list[dict[str, Any]]:
    """Return what there is to say of every language model of the registry."""
    from napari_llm4seg.models.inventory import layers_at_hand
    from napari_llm4seg.models.registry import LANGUAGE_MODELS

    there = [layer.ref for layer in layers_at_hand()]
    return [
        {
            "name": model.name,
            "repository": model.repository,
            "layers": model.layers,
            "default_layer": model.default_layer,
            "hidden": model.hidden,
            "licence": model.licence,
            "gated": model.gated,
            "at_hand": sorted({ref.index for ref in there if ref.repository == model.repository}),
        }
        for model in LANGUAGE_MODELS.values()
    ]


def lists_in_words() -> list[str]:
    """Return the tables of language models and of layers at hand."""
    models = [["language model", "layers", "default", "width", "licence", "at hand"]]
    for row in registry_rows():
        licence = row["licence"] + (", gated" if row["gated"] else "")
        at_hand = ", ".join(map(str, row["at_hand"])) or "-"
        models.append(
            [row["name"], str(row["layers"]), str(row["default_layer"]), str(row["hidden"]), licence, at_hand]
        )
    layers = [["layer at hand", "index", "revision", "sha256"]]
    layers += [[row["name"], str(row["index"]), row["revision"][:24], row["sha256"][:12]] for row in layer_rows()]
    return ["", *table(models), "", *table(layers)]


def describe(source: Source, as_json: bool) -> int:
    """Say what a language model is and which of its layers are at hand."""
    from napari_llm4seg.models.inventory import fetch_command
    from napari_llm4seg.models.registry import LANGUAGE_MODELS
    from napari_llm4seg.models.sources import config_of
    from napari_llm4seg.models.spec import LayerSpec

    config = dict(source.model.config) if source.model else config_of(source)
    spec = LayerSpec.from_config(config)
    weights = spec.n_weights()
    rows = [row for row in layer_rows() if row["repository"] == source.repository]
    count, default = config.get("num_hidden_layers"), source.default_layer
    about: dict[str, Any] = {
        "name": source.text,
        "kind": "language model",
        "repository": source.repository,
        "layers": count,
        "default_layer": default,
        "layer_weights": weights,
        "licence": source.model.licence if source.model else None,
        "gated": source.model.gated if source.model else None,
        "config": config,
        "at_hand": rows,
    }
    if as_json:
        print_json(about)
        return 0
    print(f"# {source.text}\n\nA language model; one of its decoder layers can run at a network's bottleneck.\n")
    print(f"- Repository: {source.repository}")
    print(f"- Layers: {count}" + (f", by default layer {default} (0-based)" if default is not None else ""))
    print(
        f"- One layer: {weights:,} weights; {spec.family}, width {spec.hidden}, {spec.heads} heads, "
        f"{spec.kv_heads} of keys and values"
    )
    if source.model:
        gated = f", gated: accept it at https://huggingface.co/{source.repository}" if source.model.gated else ""
        print(f"- Licence: {source.model.licence}{gated}")
    for row in rows:
        print(f"- At hand: layer {row['index']}, revision {row['revision']}, sha256 {row['sha256']}, {row['path']}")
    if not rows and source.text in LANGUAGE_MODELS and default is not None:
        print(f"- Not at hand; fetch it: {fetch_command(source.text, default)}")
    return 0


def config_named(llm: str | None) -> str | dict[str, Any]:
    """Return the config that ``--llm`` names: a model of the registry or a config.json; "auto" where it is not given.

    Raises
    ------
    ConfigError
        Where it is neither.
    """
    from napari_llm4seg.files import read_json
    from napari_llm4seg.models.registry import LANGUAGE_MODELS

    if llm is None or llm in ("auto", "llama", "deepseek"):
        return llm or "auto"
    if llm in LANGUAGE_MODELS:
        return dict(LANGUAGE_MODELS[llm].config)
    path = Path(llm)
    if not path.suffix == ".json" and not path.is_dir():
        raise ConfigError(f"--llm {llm[:80]!r} is no config.json and none of: {', '.join(LANGUAGE_MODELS)}.")
    return read_json(path / "config.json" if path.is_dir() else path, "language model config")
