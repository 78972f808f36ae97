"""What the differences between arms say, by rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.study.logged import Study
from training.study.stats import Comparison, compare, holm

Verdict = Literal["helps", "hurts", "no measurable difference", "one seed only"]
ALPHA = 0.05

RULE = """\
An arm *helps* (*hurts*) where Holm's p over images is below 0.05 and the interval over seeds and images lies wholly
above (below) 0. Otherwise there is *no measurable difference*, which is not a proof that there is none. With one seed
there is no verdict: the interval speaks of that pair of trained networks alone."""


@dataclass(frozen=True)
class Result:
    """One arm against a reference on one data set, in IoU."""

    dataset: str
    arm: str
    reference: str
    comparison: Comparison
    p_holm: float

    @property
    def verdict(self) -> Verdict:
        return judge(self.comparison, self.p_holm)


def judge(comparison: Comparison, p_holm: float) -> Verdict:
    """Return the verdict by ``RULE``."""
    if comparison.n_seeds < 2:
        return "one seed only"
    if p_holm < ALPHA and comparison.both.low > 0:
        return "helps"
    if p_holm < ALPHA and comparison.both.high < 0:
        return "hurts"
    return "no measurable difference"


def main_pairs(study: Study, dataset: str) -> list[tuple[str, str]]:
    """Return (arm, reference): all arms with the reference, then with the control, then language with random layers."""
    plan = study.plan
    there = study.logged(dataset, plan.arms)
    pairs = [(arm, plan.reference) for arm in there if arm != plan.reference]
    pairs += [(arm, plan.control) for arm in there if arm not in (plan.reference, plan.control)]
    pairs += [(arm, other) for other in plan.with_role("random") for arm in there if arm in plan.with_role("llm")]
    return [pair for pair in pairs if _comparable(study, dataset, *pair)]


def variant_pairs(study: Study, dataset: str) -> list[tuple[str, str]]:
    """Return (variant, reference): all variants with the arm they change, then with the study's reference."""
    there = study.logged(dataset, study.plan.variants)
    pairs = [(name, base) for name in there if (base := study.base(name)) is not None]
    pairs += [(name, study.plan.reference) for name in there]
    return [pair for pair in pairs if _comparable(study, dataset, *pair)]


def _comparable(study: Study, dataset: str, arm: str, reference: str) -> bool:
    return arm != reference and bool(study.differences(dataset, arm, reference, "iou")[0].size)


def results(study: Study, dataset: str, pairs: list[tuple[str, str]], resamples: int) -> list[Result]:
    """Compare each pair in IoU; Holm's correction is over all of ``pairs``."""
    groups = study.groups(dataset)
    compared = []
    for arm, reference in pairs:
        table, cases = study.differences(dataset, arm, reference, "iou")
        compared.append(compare(table, [groups.get(case, case) for case in cases], resamples))
    adjusted = holm([comparison.p_images for comparison in compared])
    return [
        Result(dataset, arm, reference, comparison, p)
        for (arm, reference), comparison, p in zip(pairs, compared, adjusted, strict=True)
    ]


def in_words(study: Study, result: Result) -> str:
    """Return one sentence about a result, everything in it computed."""
    c, arm, reference = result.comparison, study.arm(result.arm).label, study.arm(result.reference).label
    seeds = f"{c.n_seeds} seed{'s' if c.n_seeds > 1 else ''}"
    numbers = f"{c.images.mean:+.3f} IoU, 95 % {c.both.low:+.3f} to {c.both.high:+.3f}, {seeds}, {c.n_images} images"
    if result.verdict == "helps":
        return f"**{arm}** helps against {reference} ({numbers})."
    if result.verdict == "hurts":
        return f"**{arm}** hurts against {reference} ({numbers})."
    if result.verdict == "one seed only":
        return f"**{arm}** against {reference}: no verdict from one seed ({numbers})."
    return (
        f"**{arm}** against {reference}: no measurable difference ({numbers}). Only true differences of "
        f"about {c.detectable:.2f} IoU and more could be expected to show."
    )
