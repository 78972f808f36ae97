"""Every view has its section, and every section is of a view."""

from __future__ import annotations

import re

import pytest

from napari_llm4seg.activations.reading import VIEWS, page, section_of


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_has_a_section(view: str) -> None:
    section = section_of(view)
    assert section.startswith(f"## {VIEWS[view].section}\n")
    assert section.count("\n## ") == 0
    assert len(section) > 200
    assert VIEWS[view].line.endswith(".")


def test_every_section_is_of_a_view() -> None:
    headings = re.findall(r"^## (.+)$", page().read_text(encoding="utf-8"), re.MULTILINE)
    assert set(headings) == {view.section for view in VIEWS.values()} | {"What a token is"}
    assert VIEWS["what if"].anchor == "what-if"
    assert VIEWS["parts"].anchor == "tiles-volumes-mirror-images"
