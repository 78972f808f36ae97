"""What validation says about the language model and the default block, by rule."""

from __future__ import annotations

import statistics

from training.study import tables
from training.study.logged import LoggedRun, Study
from training.study.plan import best_llm
from training.study.stats import spread

CLEAR = """\
A variant is *clearly ahead* where its validation IoU is above its base's in every seed that both have, in two at least,
and the mean lead exceeds the larger of the two standard deviations over seeds. Otherwise the base is kept. The test
part has no say. It is a rule for a default, not a test: few seeds meet it by chance at times."""

_SETTINGS = ("positions", "mask", "gate", "norm")

Scores = dict[tuple[str, int], float]


def clearly_ahead(variant: Scores, base: Scores) -> bool:
    """Return whether a variant beats its base by ``CLEAR``; scores by (data set, seed)."""
    shared = sorted(set(variant) & set(base))
    if len(shared) < 2:
        return False
    leads = [variant[key] - base[key] for key in shared]
    scatter = max(spread([scores[key] for key in shared])[1] for scores in (variant, base))
    return min(leads) > 0 and statistics.fmean(leads) > scatter


def validation(study: Study, arm: str) -> Scores:
    """Return an arm's validation IoU by (data set, seed)."""
    return {(dataset, seed): run.val_iou for (dataset, name, seed), run in study.runs.items() if name == arm}


def choice(study: Study) -> list[str]:
    """Return the section on how the best language model and the default block follow from validation."""
    plan = study.plan
    lines = ["## What validation chose", ""]
    models = [name for name in plan.with_role("llm") if validation(study, name)]
    means = _means(study, models)
    if study.best is None or not means:
        return [*lines, "Nothing yet: the language models share no finished run.", ""]
    told = ", ".join(f"{study.arm(name).label} {score:.3f}" for name, score in means.items())
    lines += [
        f"Best language model: **{study.arm(study.best).label}**, by mean validation IoU over the seeds that all of "
        f"them have ({told}). The test part had no say."
        + ("" if best_llm(plan, study.folder) else " Provisional: not all of their runs are there."),
        "",
    ]
    for name, arm in plan.variants.items():
        if arm.of not in ("best", study.best) and validation(study, name):
            lines += [f"The variants were made of `{arm.of}`, which is not what validation chooses now.", ""]
            break
    return [*lines, *_ranking(study), *_default(study)]


def _means(study: Study, names: list[str]) -> dict[str, float]:
    """Return mean validation IoU over the runs that all of ``names`` have, {} without any."""
    found = {name: validation(study, name) for name in names}
    shared = set.intersection(*(set(scores) for scores in found.values())) if found else set()
    return {name: statistics.fmean(scores[key] for key in shared) for name, scores in found.items()} if shared else {}


def _ranking(study: Study) -> list[str]:
    """Return the table of all blocks by validation, each seed told."""
    plan = study.plan
    names = [name for name in (*plan.arms, *plan.variants) if validation(study, name)]
    means = _means(study, names)
    if len(means) < 2:
        return []
    rows = []
    for name in sorted(means, key=lambda name: -means[name]):
        scores = validation(study, name)
        each = ", ".join(f"{scores[key]:.3f}" for key in sorted(scores))
        rows.append([study.arm(name).label, f"{means[name]:.3f}", each])
    head = "Mean validation IoU over the seeds that all of these have; the order alone is no finding:"
    return [head, "", *tables.table(["block", "IoU", "each seed"], rows)]


def _default(study: Study) -> list[str]:
    """Return the sentences on the ``default`` preset."""
    pairs = [(n, base) for n in study.plan.variants if validation(study, n) and (base := study.base(n)) is not None]
    pairs = [(name, base) for name, base in pairs if set(validation(study, name)) & set(validation(study, base))]
    if not pairs:
        return []
    ahead = [name for name, base in pairs if clearly_ahead(validation(study, name), validation(study, base))]
    bases = list(dict.fromkeys(base for _, base in pairs))
    kept = "; ".join(f"{study.arm(base).label} ({_settings(study, base)})" for base in bases)
    if ahead:
        told = ", ".join(f"**{study.arm(name).label}** (`{name}`)" for name in ahead)
        said = f"Default block by validation: clearly ahead of {kept}: {told}. The `default` preset should follow."
    else:
        said = (
            f"Default block by validation: **kept**, {kept}. None of the {len(pairs)} variants is clearly ahead of it."
        )
    lines = [said, "", CLEAR, ""]
    for base in bases:
        without = [name for name in (study.plan.reference, study.plan.control) if validation(study, name)]
        means = _means(study, [base, *without])
        better = [f"{study.arm(n).label} {means[n]:.3f}" for n in without if means and means[n] > means[base]]
        if better:
            told = f"{study.arm(base).label} {means[base]:.3f}"
            lines += [f"Above it on validation without any language-model layer: {', '.join(better)} ({told}).", ""]
    return lines


def _settings(study: Study, arm: str) -> str:
    """Return the block's settings as the arm's first run logged them."""
    runs: list[LoggedRun] = [run for (_, name, _), run in sorted(study.runs.items()) if name == arm]
    block = runs[0].report["recipe"]["model"]["block"] or {}
    return ", ".join(f"{key} {block[key]}" for key in _SETTINGS if key in block)
