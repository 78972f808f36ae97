"""An inspection as files: maps with their place in the world, numbers as CSV, figures, and one JSON that sums up."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_llm4seg.activations import charts
from napari_llm4seg.activations import features as fe
from napari_llm4seg.activations import figures as fig
from napari_llm4seg.activations.attention import ENTROPY, Head, TokenMap
from napari_llm4seg.activations.faithfulness import Faithfulness
from napari_llm4seg.activations.inspection import Inspection
from napari_llm4seg.activations.interventions import DIFFERENCE, Effect, HeadRow, difference_volume
from napari_llm4seg.activations.measure import AFTER, BEFORE
from napari_llm4seg.activations.spectra import FORMULAS, of_slice, spectra
from napari_llm4seg.files import replacing, write_text
from napari_llm4seg.io import write
from napari_llm4seg.volume import Volume

Row = Mapping[str, Any]


class Export:
    """Writes one inspection into a folder.

    Parameters
    ----------
    inspection : Inspection
    folder : Path
        Made where it is missing; files of the same names are replaced.
    kinds : sequence of {"png", "svg"}
        Of figures.

    Attributes
    ----------
    files : dict of str to str
        What was written: what it is -> its path.
    report : dict
        The figures, as the JSON has them.
    """

    def __init__(self, inspection: Inspection, folder: Path, kinds: Sequence[str] = ("png",)) -> None:
        self.inspection, self.folder, self.kinds = inspection, folder, tuple(kinds)
        self.files: dict[str, str] = {}
        frame, scan = inspection.frame, inspection.frame.scan
        # a picture without a size in the world is opened as a picture
        self._suffix = ".tif" if scan.unit == "pixel" and scan.n_slices == 1 else ".nii.gz"
        self.report: dict[str, Any] = {
            "scan": scan.name,
            "model": inspection.predictor.checkpoint.config.card.name,
            "slice": frame.z,
            "axis": frame.axis,
            "recorded": frame.kind,
            "tokens": list(inspection.tokens.grid),
            "affine": inspection.tokens.cells_to_world.tolist(),
            "layers": len(inspection.layers),
            "proof": inspection.proof.as_dict(),
            "messages": list(inspection.messages),
        }

    def attention(self, token: int, head: Head = "mean", layer: int = 1) -> None:
        """Write what a token looks at and what looks at it: joined, and every head.

        Raises
        ------
        ProofError
            Before anything is written, where the attention could not be shown to be the forward's.
        """
        seen = self.inspection
        weights = seen.weights()
        maps = {way: seen.attention(token, way, head, layer) for way in ("from", "to")}
        z, y, x = seen.tokens.centre(token)
        nats, share = seen.entropy(layer)
        self.report["token"] = {"number": token, "z": z, "y": y, "x": x}
        self.report["attention"] = {
            way: self._about(shown) | {"head": head, "layer": layer} for way, shown in maps.items()
        }
        self.report["entropy"] = {
            "formula": ENTROPY,
            "of_token_nats": nats[:, token].tolist(),
            "of_token_share": share[:, token].tolist(),
            "mean_share_by_head": share.mean(axis=1).tolist(),
        }
        for way, shown in maps.items():
            self._map(f"attention_{way}", seen.volume(shown))
            heads = seen.heads(token, "from" if way == "from" else "to", layer)
            self._map(f"attention_{way}_by_head", seen.volume(heads, f"attention {way} token {token}, by head"))
        panels = [fig.map_panel(seen, shown) for shown in maps.values()]
        if len(weights) > 1:
            rolled = seen.attention(token, layer="rollout")
            self._map("rollout", seen.volume(rolled))
            panels.append(fig.map_panel(seen, rolled))
        self._figure("attention", f"Attention of token {token} in {seen.frame.scan.name}", panels)
        heads = seen.heads(token, "from", layer)
        shown_by_head = [
            TokenMap(row, maps["from"].visible, f"head {k}, entropy {share[k, token]:.2f} of its largest", about={})
            for k, row in enumerate(heads)
        ]
        high = float(heads.max())
        panels = [fig.map_panel(seen, each, high) for each in shown_by_head]
        self._figure("heads", f"What token {token} looks at, head by head (one scale)", panels, columns=5)

    def _about(self, shown: TokenMap) -> dict[str, Any]:
        strongest = [int(k) for k in np.argsort(-shown.values, kind="stable")[:5] if shown.values[k] > 0]
        return {
            "title": shown.title,
            "unit": shown.unit,
            "visible_tokens": int(shown.visible.sum()),
            "strongest": [
                {
                    "token": k,
                    "value": float(shown.values[k]),
                    **dict(zip("zyx", self.inspection.tokens.centre(k), strict=True)),
                }
                for k in strongest
            ],
        }

    def features(self, token: int, k: int = 5) -> None:
        """Write the tokens' features before and after the layer: numbers, maps and pictures."""
        seen = self.inspection
        self.csv("tokens", fe.table(seen))
        there = [point for point in fe.POINTS if point in seen.activations.tensors]
        values = {point: seen.features(point) for point in there}
        self._map("norms", seen.volume(np.stack([fe.norms(values[p]) for p in there]), "norms, " + ", ".join(there)))
        panels = [fig.value_panel(seen, f"norm, {fe.WORDS[p]}", fe.norms(values[p]), "norm") for p in there]
        panels += [
            fig.value_panel(seen, f"activation map, {said} the block", fe.strength(seen.features(point)), "mean |x|")
            for said, point in (("before", BEFORE), ("behind", AFTER))
        ]
        panels += [
            fig.value_panel(seen, f"cosine to the token, {fe.WORDS[p]}", fe.cosine(values[p], token), "cosine", (-1, 1))
            for p in there
        ]
        for pair in (fe.LAYER, fe.BOTTLENECK):
            if set(pair) <= set(there):
                panels += self._pair(pair, [values[point] for point in pair], k)
        self._figure("features", "Features before and after the language-model layer", panels)
        strengths = [fe.strength(seen.features(point)) for point in (BEFORE, AFTER)]
        self._map("activation", seen.volume(np.stack(strengths), "activation map, before and after the block"))
        self.report["activation"] = fe.overlap(seen)

    def _pair(self, pair: tuple[str, str], values: list[fe.Float], k: int) -> list[fig.Panel]:
        seen = self.inspection
        found, shares = fe.colours(values)
        said = " + ".join(f"{100 * share:.0f}" for share in shares)
        groups = fe.clusters(values, min(k, len(values[0])))
        swatches = tuple((f"cluster {i + 1}", fig.SWATCHES[i % len(fig.SWATCHES)]) for i in range(k))
        table = np.asarray([colour for _, colour in swatches], dtype=np.uint8)
        aspect = fig.aspect_of(seen)
        panels = []
        for point, colour in zip(pair, found, strict=True):
            picture = fig.laid_over(seen, np.round(255 * colour).astype(np.uint8))
            title = f"three components as colours, {fe.WORDS[point]} (one basis, {said} % of the variance)"
            panels.append(fig.Panel(title, picture, aspect=aspect))
        for point, group in zip(pair, groups, strict=True):
            picture = fig.laid_over(seen, table[group - 1])
            panels.append(fig.Panel(f"clusters, {fe.WORDS[point]}", picture, swatches=swatches, aspect=aspect))
        relative, turned = fe.change(*values)
        name = "LLM layer" if pair == fe.LAYER else "block"
        self.report.setdefault("change", {})[name] = {
            "relative_mean": float(relative.mean(dtype=np.float64)),
            "one_minus_cosine_mean": float(turned.mean()),
        }
        panels.append(fig.value_panel(seen, f"relative change through the {name}", relative, "|y - x| / |x|"))
        panels.append(fig.value_panel(seen, f"turn through the {name}", turned, "1 - cosine"))
        return panels

    def spectrum(self, rows: Sequence[Row] | None = None, name: str = "spectrum") -> None:
        """Write spectra, of the slice by default."""
        found = of_slice(self.inspection) if rows is None else rows
        self.csv(name, found)
        if rows is None:
            activations = self.inspection.activations
            panels = [
                charts.spectrum_chart(spectra(activations, centred), fe.WORDS, title)
                for title, centred in (
                    ("singular values of the tokens", False),
                    ("the same, mean token taken off", True),
                )
            ]
            self._figure(name, "Spectrum before and after the language-model layer", panels)
        elif found and "slice" in found[0]:
            panels = [
                charts.rows_chart(found, "slice", column, column.replace("_", " "))
                for column in ("effective_rank", "log_inverse_top_share")
            ]
            self._figure(name, "Spectrum along the stack", panels)
        self.report[name] = {"formulas": FORMULAS, "rows": [dict(row) for row in found]}

    def effects(self, effects: Sequence[Effect]) -> None:
        """Write what interventions do to the mask."""
        seen = self.inspection
        self.csv("what_if", [effect.row() for effect in effects])
        self.report["what_if"] = [effect.row() for effect in effects]
        normal = fig.enlarged(seen, seen.frame.on_slice(seen.normal.labels) > 0)
        picture, aspect = fig.outlined(fig.background(seen), normal, (255, 255, 255)), fig.aspect_of(seen)
        panels = [fig.Panel("the mask", picture, aspect=aspect)]
        for effect in effects:
            name = "difference_" + "".join(c if c.isalnum() else "_" for c in effect.name)
            self._map(name, difference_volume(seen, effect))
            picture = fig.outlined(fig.background(seen), normal, (255, 255, 255))
            difference = fig.enlarged(seen, seen.frame.on_slice(effect.difference))
            swatches = []
            for value, words, colour in DIFFERENCE:
                rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
                picture[difference == value] = rgb
                swatches.append((words, (rgb[0], rgb[1], rgb[2])))
            title = f"{effect.name}: Dice {effect.dice:.3f} with the mask"
            panels.append(fig.Panel(title, picture, swatches=tuple(swatches), aspect=aspect))
        self._figure("what_if", "What if: the mask with the layer changed", panels)

    def heads_table(self, table: Sequence[HeadRow]) -> None:
        """Write the table of all heads."""
        rows = [row.row() for row in table]
        self.csv("heads", rows)
        self.report["heads"] = rows

    def faithfulness(self, name: str, found: Faithfulness) -> None:
        """Write a map's curves."""
        rows = []
        for i, fraction in enumerate(found.fractions):
            rows.append(
                {
                    "fraction": float(fraction),
                    "deletion": float(found.deletion[i]),
                    "insertion": float(found.insertion[i]),
                    "random_deletion_mean": float(found.random_deletion[:, i].mean()),
                    "random_insertion_mean": float(found.random_insertion[:, i].mean()),
                }
            )
        self.csv(f"faithfulness_{name}", rows)
        panels = charts.faithfulness_chart(name.replace("_", " "), found)
        self._figure(f"faithfulness_{name}", found.words, panels)
        self.report.setdefault("faithfulness", {})[name] = found.as_dict()

    def finish(self) -> Path:
        """Write the JSON; returns its path."""
        path = self.folder / "inspection.json"
        self.files["report"] = str(path)
        self.report["files"] = self.files
        write_text(path, json.dumps(self.report, indent=2, ensure_ascii=False) + "\n")
        return path

    def csv(self, name: str, rows: Sequence[Row]) -> None:
        """Write rows as ``<name>.csv``."""
        path = self.folder / f"{name}.csv"
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
        self.files[f"{name} table"] = str(path)

    def _map(self, name: str, volume: Volume) -> None:
        data = volume.data if volume.kind == "label" else np.asarray(volume.data, dtype=np.float32)
        self.files[name] = str(write(self.folder / f"{name}{self._suffix}", volume.with_data(data)))

    def _figure(self, name: str, title: str, panels: Sequence[fig.Panel], columns: int = 4) -> None:
        foot = [self.inspection.proof.words, *self.inspection.messages]
        for kind, save in (("png", fig.save_png), ("svg", fig.save_svg)):
            if kind in self.kinds:
                path = save(self.folder / f"{name}.{kind}", title, panels, foot, columns)
                self.files[f"{name} figure ({kind})"] = str(path)
