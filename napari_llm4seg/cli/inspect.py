"""``llm4seg inspect``: what the frozen layer does with one slice, as maps, numbers and pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_llm4seg.cli.console import FAILED, Device, Json, ProgressLine, WrongUse, guarded, line, print_json
from napari_llm4seg.cli.predictor import Model, along, open_model

if TYPE_CHECKING:
    from napari_llm4seg.activations.export import Export
    from napari_llm4seg.activations.inspection import Inspection
    from napari_llm4seg.activations.interventions import Effect
    from napari_llm4seg.predict import Predictor
    from napari_llm4seg.volume import Volume

Change = Annotated[
    list[str] | None,
    typer.Option(
        "--what-if",
        metavar="CHANGE",
        help="Also segment with the layer changed: off, random[:SEED], head:K, layer:NAME[:INDEX], or a box of pixels "
        "nobody may look at, block:Y,X,Y,X; repeatable.",
    ),
]


@guarded
def inspect(
    scan: Annotated[Path, typer.Argument(metavar="INPUT", help="The scan; a folder is one DICOM series.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder for maps, tables and figures.")],
    model: Model = None,
    z: Annotated[
        int | None, typer.Option("--slice", metavar="Z", help="Slice, from 0; by default the middle one.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", metavar="Y,X", help="Pixel whose token is asked; by default the middle of the mask."),
    ] = None,
    device: Device = "auto",
    axis: Annotated[
        str | None, typer.Option("--axis", metavar="PLANE", help="stored, axial, coronal or sagittal slices.")
    ] = None,
    head: Annotated[str, typer.Option("--head", metavar="K", help="A head, from 0, or mean or max over all.")] = "mean",
    layer: Annotated[int, typer.Option("--layer", help="Which of the model's layers, from 1.")] = 1,
    figures: Annotated[str, typer.Option("--figures", help="png, svg, both or none.")] = "png",
    what_if: Change = None,
    heads: Annotated[bool, typer.Option("--heads", help="Also knock out every head in turn: which matter here.")] = (
        False
    ),
    faithfulness: Annotated[
        int | None,
        typer.Option("--faithfulness", metavar="N", help="Also hold the maps to N random ones; 20 say enough."),
    ] = None,
    stack: Annotated[bool, typer.Option("--stack", help="Also the spectrum of every slice.")] = False,
    versions: Annotated[
        list[str] | None,
        typer.Option("--version-of", metavar="MODEL", help="Also the spectrum under another version; repeatable."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Record one slice's forward and write what its frozen layer looks at, proven to be the mask's own forward."""
    place = _place(token)
    kinds = {"png": ("png",), "svg": ("svg",), "both": ("png", "svg"), "none": ()}.get(figures)
    if kinds is None:
        raise WrongUse(f"--figures {figures}: choose png, svg, both or none.")
    changes = [parse_change(text) for text in what_if or ()]
    which = _head(head)
    if faithfulness is not None and faithfulness < 1:
        raise WrongUse(f"--faithfulness {faithfulness}: at least 1 random map is needed.")
    if out.is_file():
        raise WrongUse(f"'{out}' is a file; the results need a folder.")
    started = time.monotonic()
    from napari_llm4seg.activations.export import Export
    from napari_llm4seg.activations.inspection import inspect_slice
    from napari_llm4seg.io import read

    predictor = along(open_model(model, device), axis)
    volume = read(scan)
    seen = inspect_slice(predictor, volume, z, at=place)
    export = Export(seen, out, kinds)
    number = seen.token_at(*place) if place is not None else middle_token(seen)
    if seen.layers:
        export.attention(number, which, layer)
    else:
        line("llm4seg: This model has no language-model layer: there is no attention to show, only features.")
    export.features(number)
    export.spectrum()
    _further(export, seen, changes, layer, heads, faithfulness)
    _spectra(export, predictor, volume, seen, stack, versions or [], device)
    report = export.finish()
    for words in seen.messages:
        line(f"{scan.name}: {words}")
    if as_json:
        print_json(export.report | {"input": str(scan), "seconds": round(time.monotonic() - started, 3)})
    else:
        print("\n".join(in_words(export.report)))
        print(f"{report}: {len(export.files)} files")
    return 0 if seen.proof.ok else FAILED


def _place(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise WrongUse(f"--token {text}: give a pixel as Y,X, for instance 120,88.") from None
    return y, x


def _head(text: str) -> int | Literal["mean", "max"]:
    if text == "mean" or text == "max":
        return "mean" if text == "mean" else "max"
    if text.isdigit():
        return int(text)
    raise WrongUse(f"--head {text}: give mean, max, or a head from 0.")


@dataclass(frozen=True)
class Asked:
    """A change that ``--what-if`` names."""

    kind: Literal["off", "random", "head", "layer", "block"]
    number: int | None = None
    source: str = ""
    box: tuple[int, ...] = ()

    def run(self, inspection: Inspection, layer: int) -> Effect:
        """Return its effect."""
        from napari_llm4seg.activations import interventions as change

        if self.kind == "off":
            return change.switch_off(inspection)
        if self.kind == "random":
            return change.randomise(inspection, self.number or 0)
        if self.kind == "head":
            return change.knock_out(inspection, self.number or 0, layer)
        if self.kind == "block":
            return change.block_tokens(inspection, self._boxed(inspection))
        return change.swap(inspection, self.source, self.number)

    def _boxed(self, inspection: Inspection) -> tuple[int, ...]:
        """Return the tokens of the box of pixels."""
        import numpy as np

        drawn = np.zeros(inspection.frame.scan.grid[1:], dtype=bool)
        top, left, bottom, right = self.box
        drawn[top : bottom + 1, left : right + 1] = True
        return inspection.tokens.tokens_in(drawn)


def parse_change(text: str) -> Asked:
    """Return what ``text`` names: off, random[:SEED], head:K, layer:NAME[:INDEX] or block:Y,X,Y,X.

    Raises
    ------
    typer.BadParameter
        If it names nothing of the kind.
    """
    kind, _, rest = text.partition(":")
    if kind == "off" and not rest:
        return Asked("off")
    if kind == "random" and (not rest or rest.isdigit()):
        return Asked("random", int(rest or 0))
    if kind == "head" and rest.isdigit():
        return Asked("head", int(rest))
    if kind == "layer" and rest:
        source, _, index = rest.rpartition(":")
        return Asked("layer", int(index), source) if source and index.isdigit() else Asked("layer", None, rest)
    corners = rest.split(",")
    if kind == "block" and len(corners) == 4 and all(part.isdigit() for part in corners):
        return Asked("block", box=tuple(map(int, corners)))
    raise WrongUse(f"--what-if {text}: give off, random[:SEED], head:K, layer:NAME[:INDEX] or block:Y,X,Y,X.")


def middle_token(inspection: Inspection) -> int:
    """Return the token in the middle of the mask's slice, of the frame where the mask is empty there."""
    import numpy as np

    from napari_llm4seg.errors import InputError

    found = np.argwhere(inspection.frame.on_slice(inspection.normal.labels) > 0)
    if len(found):
        # a mask's pixel nearest to its centre of mass, which itself may lie in a hole
        centre = found[((found - found.mean(axis=0)) ** 2).sum(axis=1).argmin()]
        try:
            return inspection.token_at(float(centre[0]), float(centre[1]))
        except InputError:
            pass
    middle = [side // 2 for side in inspection.tokens.grid]
    return int(np.ravel_multi_index(tuple(middle), inspection.tokens.grid))


def _further(
    export: Export, seen: Inspection, changes: list[Asked], layer: int, heads: bool, random_maps: int | None
) -> None:
    if changes:
        export.effects([asked.run(seen, layer) for asked in changes])
    if heads:
        from napari_llm4seg.activations.interventions import heads_table

        with ProgressLine("heads") as progress:
            export.heads_table(heads_table(seen, layer, progress=progress))
    if random_maps is not None:
        from napari_llm4seg.activations.faithfulness import faithfulness
        from napari_llm4seg.activations.features import strength
        from napari_llm4seg.activations.gradcam import grad_cam

        taken = seen.weights()[layer - 1].float().mean(0).mean(0).cpu().numpy()  # what each token gives on average
        for name, values in (
            ("attention", taken),
            ("activation", strength(seen.features("bottleneck"))),
            ("grad_cam", grad_cam(seen)),
        ):
            with ProgressLine(f"faithfulness of {name}") as progress:
                export.faithfulness(name, faithfulness(seen, values, n_random=random_maps, progress=progress))


def _spectra(
    export: Export,
    predictor: Predictor,
    volume: Volume,
    seen: Inspection,
    stack: bool,
    versions: list[str],
    device: str,
) -> None:
    from napari_llm4seg.activations.spectra import across_versions, along_stack

    if stack:
        with ProgressLine("spectrum") as progress:
            export.spectrum(along_stack(predictor, volume, progress=progress), "spectrum_stack")
    if versions:
        models = {predictor.checkpoint.config.card.name: predictor}
        for name in versions:
            models[name] = open_model(name, device)
        export.spectrum(across_versions(models, volume, seen.frame.z), "spectrum_versions")


def in_words(report: dict[str, Any]) -> list[str]:
    """Return a report as lines for a person."""
    lines = [f"{report['scan']}, slice {report['slice']}, {report['model']}: {report['proof']['words']}"]
    for shown in report.get("attention", {}).values():
        axes = "zyx"[3 - len(report["tokens"]) :]
        found = []
        for each in shown["strongest"][:3]:
            place = ", ".join(f"{each[axis]:.0f}" for axis in axes)
            found.append(f"({place}) {each['value']:.3f}")
        lines.append(f"{shown['title']}. Strongest at ({', '.join(axes)}): {', '.join(found)}")
    for row in report["spectrum"]["rows"]:
        lines.append(f"effective rank, {row['point']}: {row['effective_rank']:.2f}")
    for row in report.get("what_if", ()):
        lines.append(f"{row['change']}: Dice {row['dice']:.3f} with the mask")
    if report.get("heads"):
        first = min(report["heads"], key=lambda row: row["dice"])
        lines.append(f"Most missed head: {first['head']}, Dice {first['dice']:.3f} without it")
    lines += [f"{name}: {found['words']}" for name, found in report.get("faithfulness", {}).items()]
    return lines
