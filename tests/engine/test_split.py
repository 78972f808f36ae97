"""Splits keep near-duplicates together, or are made as the published ones."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_llm4seg.engine.data import Case
from napari_llm4seg.engine.recipe import SplitConfig
from napari_llm4seg.engine.split import split_cases
from napari_llm4seg.errors import InputError
from napari_llm4seg.io.pairs import Pair


def case(name: str, group: str = "", stratum: str = "") -> Case:
    return Case(Pair(name, Path(f"{name}.png"), Path(f"{name}.png")), group or name, stratum)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=25, max_size=60),
    seed=st.integers(0, 5),
    strata=st.integers(1, 3),
)
def test_a_group_never_straddles_parts_and_every_case_is_in_one(sizes: list[int], seed: int, strata: int) -> None:
    cases = [case(f"{g}-{i}", f"group {g}", str(g % strata)) for g, size in enumerate(sizes) for i in range(size)]
    config = SplitConfig(seed=seed, val=0.15, test=0.25)
    split = split_cases(cases, config)
    assert split == split_cases(cases, config)
    parts = defaultdict(set)
    for part in ("train", "val", "test"):
        for name in getattr(split, part):
            parts[name.split("-")[0]].add(part)
    assert all(len(found) == 1 for found in parts.values())
    assert sorted(split.train + split.val + split.test) == sorted(c.name for c in cases)
    for stratum in map(str, range(strata)):
        names = {c.name for c in cases if c.stratum == stratum}
        # whole groups may leave a part short, never overfull: what is asked for as training is there
        assert len(names & set(split.test)) <= round(0.25 * len(names))
        assert len(names & set(split.val)) <= round(0.15 * len(names))


def test_each_stratum_is_split_in_the_asked_for_fractions() -> None:
    cases = [case(f"{s}{i}", stratum=s) for s, n in (("benign", 200), ("normal", 60)) for i in range(n)]
    split = split_cases(cases, SplitConfig(val=0.1, test=0.2))
    for stratum, n in (("benign", 200), ("normal", 60)):
        assert sum(name.startswith(stratum) for name in split.test) == n * 0.2
        assert sum(name.startswith(stratum) for name in split.val) == n * 0.1


def test_another_seed_gives_another_split() -> None:
    cases = [case(str(i)) for i in range(100)]
    assert split_cases(cases, SplitConfig(seed=0)).test != split_cases(cases, SplitConfig(seed=1)).test


def test_too_few_cases_are_refused_in_words() -> None:
    with pytest.raises(InputError, match="part empty"):
        split_cases([case("only")], SplitConfig())


@pytest.mark.parametrize("test", [0.2, 0.3])
def test_the_papers_protocol_reports_what_it_chooses_on_and_ignores_groups_and_strata(test: float) -> None:
    cases = [case(f"{g}-{i}", f"group {g}", str(g % 2)) for g in range(50) for i in range(2)]
    config = SplitConfig.model_validate({"protocol": "paper", "test": test})
    split = split_cases(cases, config)
    assert split.val == split.test
    assert len(split.test) == round(100 * test)
    assert sorted(split.train + split.test) == sorted(c.name for c in cases)
    straddling = {name.split("-")[0] for name in split.train} & {name.split("-")[0] for name in split.test}
    assert straddling
    assert split == split_cases(cases[::-1], config)
    alone = [case(c.name) for c in cases]
    assert split == split_cases(alone, config)
    assert split.test != split_cases(cases, config.model_copy(update={"seed": 1})).test


def test_the_papers_protocol_is_70_to_30_and_takes_no_validation_part_of_its_own() -> None:
    config = SplitConfig.model_validate({"protocol": "paper", "seed": 3})
    assert (config.val, config.test) == (0.3, 0.3)
    assert SplitConfig.model_validate(config.model_dump()) == config
    with pytest.raises(ValidationError, match="chooses on the test part itself"):
        SplitConfig.model_validate({"protocol": "paper", "val": 0.1})


def test_a_locked_split_is_written_as_before_there_were_protocols() -> None:
    assert SplitConfig().model_dump(mode="json") == {"seed": 0, "val": 0.1, "test": 0.2}
    assert SplitConfig.model_validate({"protocol": "paper"}).model_dump()["protocol"] == "paper"
