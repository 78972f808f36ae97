"""The report's tables, as lines of Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from training.study.logged import LoggedRun, Study
from training.study.stats import Interval, compare, spread
from training.study.verdict import Result


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table with an empty line behind it."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def over_seeds(values: Sequence[float], digits: int) -> str:
    """Return "mean ± standard deviation" of one value for each seed."""
    mean, deviation = spread(values)
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if len(values) > 1 else "")


def interval(found: Interval, digits: int = 3) -> str:
    """Return an interval's ends with their signs."""
    return f"{found.low:+.{digits}f} to {found.high:+.{digits}f}"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def weights(runs: Sequence[LoggedRun], which: str) -> str:
    """Return the number of weights, "-" before an analysis counted them."""
    counts = [run.analysis["weights"][which] for run in runs if run.analysis]
    return f"{counts[0]:,}" if counts else "-"


def scores(study: Study, dataset: str, names: Sequence[str]) -> list[str]:
    """Return the table of arms: scores, weights and time."""
    unit = _unit_short(study, dataset)
    heads = ["arm", "seeds", "IoU", "Dice", f"HD95 ({unit})", "validation IoU", "trained weights", "all weights"]
    any_empty = any(run.empties for name in names for run in study.of(dataset, name))
    heads += ["s per epoch", *(["empty masks found empty"] if any_empty else [])]
    rows = []
    for name in names:
        runs = study.of(dataset, name)
        paces = [pace for run in runs if (pace := run.seconds_per_epoch) is not None]
        row = [study.arm(name).label, str(len(runs))]
        row += [over_seeds([run.mean(score) for run in runs], d) for score, d in (("iou", 3), ("dice", 3), ("hd95", 0))]
        row += [over_seeds([run.val_iou for run in runs], 3), weights(runs, "trainable"), weights(runs, "total")]
        row.append(f"{statistics.median(paces):.1f}" if paces else "-")
        if any_empty:
            row.append(over_seeds([statistics.fmean(e["predicted_empty"] for e in run.empties) for run in runs], 3))
        rows.append(row)
    return table(heads, rows)


def _unit_short(study: Study, dataset: str) -> str:
    unit = _unit(study, dataset)
    return {"pixel": "px"}.get(unit, unit)


def _unit(study: Study, dataset: str) -> str:
    units = {str(run.report["test"].get("hd95_unit")) for (d, _, _), run in study.runs.items() if d == dataset}
    return min(units) if len(units) == 1 else "mixed"


def differences(study: Study, found: Sequence[Result]) -> list[str]:
    """Return the table of comparisons in IoU."""
    heads = ["arm", "against", "difference", "95 % over images", "95 % over seeds and images", "each seed"]
    heads += ["p over images", "Holm's p", "p over seeds", "detectable", "verdict"]
    rows = []
    for result in found:
        c = result.comparison
        rows.append(
            [
                study.arm(result.arm).label,
                study.arm(result.reference).label,
                f"{c.images.mean:+.3f}",
                interval(c.images),
                interval(c.both) if c.n_seeds > 1 else "one seed",
                ", ".join(f"{mean:+.3f}" for mean in c.seed_means),
                p_value(c.p_images),
                p_value(result.p_holm),
                p_value(c.p_seeds),
                f"{c.detectable:.3f}",
                result.verdict,
            ]
        )
    return table(heads, rows)


def other_scores(study: Study, dataset: str, pairs: Sequence[tuple[str, str]], resamples: int) -> list[str]:
    """Return the differences in Dice and HD95 with their intervals over seeds and images."""
    groups = study.groups(dataset)
    rows = []
    for arm, reference in pairs:
        row = [study.arm(arm).label, study.arm(reference).label]
        for score, digits in (("dice", 3), ("hd95", 0)):
            values, cases = study.differences(dataset, arm, reference, score)
            c = compare(values, [groups.get(case, case) for case in cases], resamples)
            row += [f"{c.images.mean:+.{digits}f}", interval(c.both, digits)]
        rows.append(row)
    both, unit = "95 % over seeds and images", _unit_short(study, dataset)
    return table(["arm", "against", "Dice", both, f"HD95 ({unit}, less is better)", both], rows)


def inside(study: Study, dataset: str, names: Sequence[str]) -> list[str]:
    """Return the published analysis: before -> after the block, means over the test images, ± over seeds."""
    columns: list[tuple[str, str, int, float]] = [
        ("activation IoU (%)", "activation_iou", 1, 100),
        ("matched IoU (%)", "matched_iou", 1, 100),
        ("activation AUC", "activation_auc", 3, 1),
        ("effective rank exp(H)", "effective_rank", 2, 1),
        ("entropy H (nats)", "entropy", 2, 1),
        ("-ln(s1 / sum s)", "log_inverse_top_share", 2, 1),
        ("effective rank, centred", "effective_rank_centred", 2, 1),
    ]
    rows = []
    for name in names:
        runs = [run for run in study.of(dataset, name) if run.analysis]
        if runs:
            row = [study.arm(name).label, str(len(runs))]
            for _, measure, digits, scale in columns:
                sides = [_inside(runs, side, measure, scale) for side in ("before", "after")]
                row.append(" → ".join(over_seeds(side, digits) for side in sides if side))
            rows.append(row)
    return table(["arm", "seeds", *(column[0] for column in columns)], rows) if rows else []


def _inside(runs: Sequence[LoggedRun], side: str, measure: str, scale: float) -> list[float]:
    """Return each seed's mean of a measure; images without a structure have no overlap and stay out of it."""
    means = []
    for run in runs:
        found = [row[side][measure] for row in run.analysis["cases"] if measure in row.get(side, {})]
        if found:
            means.append(scale * statistics.fmean(found))
    return means


def protocol(study: Study, dataset: str) -> list[str]:
    """Return what was held equal over all arms, read out of the logged recipes."""
    runs = [run for (name, _, _), run in sorted(study.runs.items()) if name == dataset]
    recipe = runs[0].report["recipe"]
    backbone, stages = recipe["model"]["backbone"], runs[0].report["training"]["stages"]
    cases = runs[0].report["training"]["cases"]
    groups = study.groups(dataset)
    near = f", in {len(set(groups.values()))} groups of near-duplicates" if groups else ""
    rows = [
        ["network", f"{backbone['kind']}, widths {', '.join(map(str, backbone['widths']))}"],
        ["images", f"{cases['train']} train, {cases['val']} validation, {cases['test']} test{near}"],
        ["split", _fields(recipe["split"])],
    ]
    for i, stage in enumerate(stages, start=1):
        name = f"stage {i}" if len(stages) > 1 else "training"
        size = " x ".join(map(str, stage["size"]))
        rows.append([name, f"{size} pixels; {_fields(stage['fit'], drop=('seed',))}"])
    rows.append(["prediction", _fields(recipe["predict"])])
    rows.append(["chosen on validation", "the epoch, by mean per-image IoU on the network's grid"])
    rows.append(["test", "once per run, at the images' own resolution"])
    return table(["", ""], rows)


def _fields(values: dict[str, Any], drop: Sequence[str] = ()) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if key not in drop and value is not None)


def run_list(study: Study, finished: Callable[[LoggedRun], str]) -> list[str]:
    """Return one row for each finished run: how it scored and under what it was made."""
    rows = []
    for (dataset, arm, seed), run in sorted(study.runs.items()):
        commit = str(run.note.get("commit") or "not logged")[:12] + (" (changed)" if run.note.get("changed") else "")
        row = [dataset, arm, str(seed), f"{run.val_iou:.3f}", f"{run.mean('iou'):.3f}"]
        row += [str(run.report["training"]["stages"][-1]["best_epoch"]), str(len(run.failures))]
        row += [str(run.report["training"].get("threads", "-")), finished(run), commit]
        rows.append(row)
    heads = ["data", "arm", "seed", "validation IoU", "test IoU", "best epoch", "not scored", "threads", "finished"]
    return table([*heads, "commit"], rows)
