from __future__ import annotations

import json

import pytest

from napari_llm4seg.gui.state.settings import Settings, settings_path


def test_settings_survive_the_round_trip(tmp_path):
    path = tmp_path / "deep" / "settings.json"
    settings = Settings("m", "cpu", True, {"threshold": 0.3}, ["/a", "/b"])
    assert settings.save(path)
    assert Settings.load(path) == settings
    assert [item.name for item in path.parent.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\x00", '{"device": 3, "models": "x"}'])
def test_damage_gives_the_defaults(tmp_path, text):
    path = tmp_path / "settings.json"
    path.write_text(text)
    assert Settings.load(path) == Settings()


def test_one_bad_field_leaves_the_others(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"device": "cpu", "options": [], "models": ["/a", 3], "future": 1}))
    assert Settings.load(path) == Settings(device="cpu", models=["/a"])


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert not Settings().save(tmp_path / "file" / "settings.json")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "settings.json"
    Settings(model="old").save(path)
    assert not Settings(options={"x": object()}).save(path)
    assert Settings.load(path).model == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_place_is_the_person_s_own(monkeypatch):
    monkeypatch.delenv("LLM4SEG_SETTINGS")
    assert settings_path().parent.name == "napari-llm4seg"
