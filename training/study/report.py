"""Makes the report: every number in it is computed from the logged runs, only the explanations are written."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path

from napari_llm4seg.files import write_text
from training.study import figures, tables
from training.study.choice import choice
from training.study.logged import LoggedRun, Study
from training.study.plan import REPORT
from training.study.stats import least_p
from training.study.verdict import RULE, Result, in_words, main_pairs, results, variant_pairs

STATISTICS = """\
± is the standard deviation over seeds. Comparisons are paired: the same test images and seeds. IoU, Dice and HD95 are
means per image over the test images that hold a structure; where only one of prediction and mask is empty, the image's
diagonal stands for HD95. A difference is the mean over images of the mean over seeds.

- *95 % over images*: percentile bootstrap ({resamples:,} resamples) over groups of near-duplicate images (over images
  where the groups are not known), the trained networks held fixed.
- *95 % over seeds and images*: the seeds are resampled as well. With two or three seeds it is rough, and rather too
  narrow than too wide. The table of Dice and HD95 gives this one; it is not corrected for their number.
- *p over images*: two-sided sign-flip permutation test of the images' differences, near-duplicates flipped together.
  *Holm's p* corrects it for all comparisons of its table.
- *p over seeds*: the same test of the seeds' means, exact.
  {power}
- *detectable*: about the smallest true difference in IoU that four of five such studies would find, were this the only
  comparison: 2.8 standard errors over seeds and images. Rather too small: few seeds tell their scatter poorly, and
  Holm's correction asks for more.

{rule}
"""

INSIDE = """\
Measured on the test images at the network's input size, with the network run as it was trained. *Before* is the
bottleneck that enters the block, *after* what the decoder takes in its place. A network without a block has one value.
What the layer itself adds to a change is seen against the row of adapters
without a layer: adapters alone change these measures too.

- Activation map: mean over channels of the absolute features, grown bilinearly to the image. *Activation IoU*: IoU with
  the mask of where the map is at least halfway between its smallest and largest value. *Matched IoU*: the map cut so
  that it covers as many pixels as the mask. *Activation AUC*: probability that a pixel of the structure has the larger
  value than one outside; below 0.5 the structure is weak in the map rather than strong.
- With an image's features as a matrix (tokens x channels) of singular values s and shares p = s / sum s: entropy
  H = -sum p ln p, effective rank exp(H), and -ln(s1 / sum s). *Centred*: each channel's mean over the tokens taken off.

The paper (arXiv 2506.18034) gives an activation IoU of 26.4 before and 45.2 after on BUSI without saying how the map
is made or cut, an effective rank of 5.51 for the CNN and 7.46 with a frozen LLaMA layer, and 0.74 and 0.98 for the
last; its networks, data split and input differ, so only directions can be held against it. Before the block features
have passed a ReLU and are never negative, after it they are signed: part of any difference is that alone.
"""


REPRODUCE = [
    "## Reproduce",
    "",
    "With the data below the folder that `LLM4SEG_DATA` names and the frozen layers below `LLM4SEG_CACHE`:",
    "",
    "```",
    "pip install -e '.[study]'",
    "export OMP_NUM_THREADS=1",
    "python -m training.study run training/study/plan.yaml -o RUNS --device cpu",
    "python -m training.study analyse RUNS",
    "python -m training.study report RUNS -o training/reports/llm_layer.md",
    "```",
    "",
]


def make_report(study: Study, path: Path, resamples: int = 10_000) -> list[str]:
    """Write the report and its figures (into a folder of its name) and return the verdicts, one sentence each."""
    folder = path.with_suffix("")
    answers: list[str] = []
    body: list[str] = []
    for dataset in study.plan.recipes:
        if study.logged(dataset, study.plan.arms):
            said, lines = _dataset(study, dataset, folder, resamples)
            answers += said
            body += lines
    lines = [f"# {study.plan.title}", "", *_preface(study), "## Answer", ""]
    lines += [f"- {answer}" for answer in answers] or ["Nothing can be compared yet."]
    lines += ["", *_limits(study), *choice(study), *body, "## Statistics", ""]
    power = _power(study)
    lines += [STATISTICS.format(power=power, rule=RULE, resamples=resamples)]
    if any(run.analysis for run in study.runs.values()):
        lines += ["## Formulas of the analysis", "", INSIDE]
    lines += ["## Runs", "", *_runs(study), *REPRODUCE]
    write_text(path, "\n".join(lines).rstrip() + "\n")
    return answers


def _preface(study: Study) -> list[str]:
    done, missing = len(study.runs), len(study.missing) + len(study.foreign)
    lines = [
        "Made by `python -m training.study report`; every number is computed from the logged runs. Not edited by hand.",
        "",
        f"{done} of {done + missing} planned runs are logged."
        + (f" Missing: {_missing(study)}." if study.missing else ""),
        "",
    ]
    if study.foreign:
        told = ", ".join(f"`{run.path}`" for run in study.foreign)
        lines += [f"Left out, for they were trained by another recipe than the plan's: {told}.", ""]
    if study.unplanned:
        told = ", ".join(f"`{path}`" for path in study.unplanned)
        lines += [f"Finished but not counted, for the plan does not name them: {told}.", ""]
    if study.plan.note:
        lines += [study.plan.note, ""]
    return lines


def _limits(study: Study) -> list[str]:
    """Say how far the answer reaches, counted from the runs."""
    plan = study.plan
    counts = sorted({len(study.of(d, arm)) for d in plan.recipes for arm in study.logged(d, plan.arms)})
    splits = {repr(sorted(run.split.items())) for run in study.runs.values()}
    seeds = " or ".join(map(str, counts))
    lines = [
        "## How far it reaches",
        "",
        f"- {len(plan.recipes)} data set(s), {len(splits)} split(s) of it, {seeds} seed(s) of each arm. A seed changes "
        "initial weights, the order of the images and the random layer, not the split: no interval here speaks of "
        "other splits or other data.",
        "- No measurable difference means that this study is too small to see one, not that there is none; nor does "
        "the order of the arms in any table mean that one is better.",
    ]
    if len(counts) > 1:
        lines.append("- Arms have different numbers of seeds, so compare their differences (paired), not their means.")
    return [*lines, ""]


def _missing(study: Study) -> str:
    """Return the runs that are not there, arm by arm."""
    seeds: dict[str, list[str]] = {}
    for run in study.missing:
        seeds.setdefault(f"`{run.dataset}/{run.arm}`", []).append(str(run.seed))
    return "; ".join(f"{arm} seed {', '.join(numbers)}" for arm, numbers in seeds.items())


def _dataset(study: Study, dataset: str, folder: Path, resamples: int) -> tuple[list[str], list[str]]:
    """Return the verdicts and the section of one data set."""
    plan = study.plan
    arms = study.logged(dataset, plan.arms)
    lines = [f"## {dataset}: protocol", "", *_reduced(study, dataset), *tables.protocol(study, dataset)]
    lines += [f"## {dataset}: arms", "", *tables.scores(study, dataset, arms)]
    lines += [
        _picture(figures.seeds(study, dataset, arms, folder / f"{dataset}-seeds.svg"), "Test IoU of each run"),
        "",
    ]
    pairs = main_pairs(study, dataset)
    found = results(study, dataset, pairs, resamples)
    if found:
        drawn = figures.forest(study, found, folder / f"{dataset}-differences.svg")
        lines += [f"### {dataset}: differences in IoU", "", *tables.differences(study, found)]
        lines += [_picture(drawn, "Differences in IoU"), "", *tables.other_scores(study, dataset, pairs, resamples)]
    variants = study.logged(dataset, plan.variants)
    if variants:
        lines += _variants(study, dataset, variants, folder, resamples)
    drawn = figures.curves(study, dataset, arms, folder / f"{dataset}-validation.svg")
    lines += [f"### {dataset}: validation", "", _picture(drawn, "Validation IoU by epoch"), ""]
    analysis = tables.inside(study, dataset, [*arms, *variants])
    if analysis:
        lines += [f"### {dataset}: inside the network", "", "Before → after the block.", "", *analysis]
    return [f"{dataset}: {in_words(study, result)}" for result in _headline(study, found)], lines


def _headline(study: Study, found: Sequence[Result]) -> list[Result]:
    """Return the chosen language model's comparisons first, then the other arms' with the reference."""
    chosen = [result for result in found if result.arm == study.best]
    return chosen + [r for r in found if r.arm != study.best and r.reference == study.plan.reference]


def _variants(study: Study, dataset: str, names: list[str], folder: Path, resamples: int) -> list[str]:
    lines = [f"## {dataset}: variants of the block", "", *tables.scores(study, dataset, names)]
    found = results(study, dataset, variant_pairs(study, dataset), resamples)
    if found:
        drawn = figures.forest(study, found, folder / f"{dataset}-variants.svg")
        lines += [*tables.differences(study, found), _picture(drawn, "Variants: differences in IoU"), ""]
    return lines


def _picture(path: Path, what: str) -> str:
    return f"![{what}]({path.parent.name}/{path.name})"


def _reduced(study: Study, dataset: str) -> list[str]:
    """Say by how much the protocol falls short of the published one."""
    run = next(run for (name, _, _), run in sorted(study.runs.items()) if name == dataset)
    stages = run.report["training"]["stages"]
    size, epochs = stages[-1]["size"], sum(stage["fit"]["epochs"] for stage in stages)
    if min(size) >= 256 and epochs >= 300:
        return []
    return [
        f"A reduced protocol: {' x '.join(map(str, size))} pixels and {epochs} epochs, where the published one has "
        "256 x 256 and 300. What it finds holds at this scale.",
        "",
    ]


def _power(study: Study) -> str:
    """Return what the test over seeds can show with as many seeds as there are."""
    most = max(
        (len(study.of(dataset, arm)) for dataset in study.plan.recipes for arm in study.plan.arms),
        default=1,
    )
    least = least_p(most)
    seeds = f"{most} seed{'s' if most > 1 else ''}"
    if least > 0.05:
        return f"With {seeds} it cannot fall below {least:.3g}: nothing can be significant at 0.05, however large."
    return f"With {seeds} it cannot fall below {least:.3g}; comparisons of fewer seeds less far."


def finished(run: LoggedRun) -> str:
    """Return when a run ended: as logged, else by its report's time stamp."""
    if run.note.get("finished"):
        return str(run.note["finished"])
    stamp = os.stat(run.folder / REPORT).st_mtime
    return datetime.datetime.fromtimestamp(stamp, datetime.UTC).isoformat(timespec="minutes") + " (file)"


def _runs(study: Study) -> list[str]:
    versions = {tuple(sorted(run.report["training"]["versions"].items())) for run in study.runs.values()}
    machines = {run.note["machine"]["processor"] for run in study.runs.values() if run.note.get("machine")}
    told = "; ".join(", ".join(f"{name} {value}" for name, value in version) for version in sorted(versions))
    lines = [f"Versions: {told}." + (f" Processors: {', '.join(sorted(machines))}." if machines else ""), ""]
    lines += [
        "Seconds per epoch are medians, validation included; upper bounds wherever the machine was shared.",
        "",
    ]
    return lines + tables.run_list(study, finished)
