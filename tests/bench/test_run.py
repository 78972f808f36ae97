"""One report from all parts, whatever becomes of each."""

from __future__ import annotations

import json

import pytest

from napari_llm4seg.bench import run as bench
from napari_llm4seg.bench import window
from napari_llm4seg.bench.figures import Figure, Measurement, Skipped
from napari_llm4seg.cli.app import run


def test_parts_stand_alone(monkeypatch) -> None:
    def skips(say):
        raise Skipped("no screen")

    def fails(say):
        raise ZeroDivisionError("odd")

    def works(say):
        return Measurement({"speed": Figure(2.0, "times", 1.0, "at least")}, {"runs": [1, 2]})

    monkeypatch.setattr(bench, "parts", lambda model: {"gui": skips, "layer": fails, "folded": works})
    said: list[str] = []
    report = bench.run(said.append)
    assert report["figures"] == {
        "speed": {"value": 2.0, "unit": "times", "target": 1.0, "bound": "at least", "met": True}
    }
    assert report["details"] == {"runs": [1, 2]}
    assert report["skipped"] == {"gui": "no screen"}
    assert report["failed"] == {"layer": "odd"}
    assert len(said) == 2
    assert bench.run(said.append, ["folded"])["skipped"] == {}


def test_every_part_has_a_name() -> None:
    assert tuple(bench.parts(None)) == bench.PARTS


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_line_prints_the_report(capsys, as_json) -> None:
    assert run(["bench", "--only", "import", *(["--json"] if as_json else [])]) == 0
    out = capsys.readouterr().out
    if as_json:
        report = json.loads(out)
        assert report["figures"]["import_heavy_modules"]["met"] is True
        assert report["machine"]["cores"] >= 1
    else:
        assert "import_seconds" in out
        assert "at most 0.15 s" in out


def test_no_screen_is_said(monkeypatch) -> None:
    monkeypatch.setattr(window.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(window.shutil, "which", lambda name: None)
    with pytest.raises(Skipped, match="no screen"):
        window.measure_window(lambda _: None)
    monkeypatch.setattr(window.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert window.screen_prefix()[0] == "xvfb-run"
    monkeypatch.setenv("DISPLAY", ":0")
    assert window.screen_prefix() == ()
