"""The manifest and the lists of requirements say what the code and the environment can keep."""

from __future__ import annotations

import importlib
import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from npe2 import PluginManifest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = PluginManifest.from_file(ROOT / "napari.yaml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMMANDS = {command.id: command.python_name for command in MANIFEST.contributions.commands or ()}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_code(command: str) -> None:
    module, _, name = str(COMMANDS[command]).partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_every_contribution_has_its_command() -> None:
    contributions = MANIFEST.contributions
    used = [widget.command for widget in contributions.widgets or ()]
    used += [reader.command for reader in contributions.readers or ()]
    used += [writer.command for writer in contributions.writers or ()]
    used += [sample.command for sample in contributions.sample_data or () if hasattr(sample, "command")]
    used += [item.command for items in contributions.menus.values() for item in items if hasattr(item, "command")]
    assert set(used) == set(COMMANDS)


def requirements() -> list[Requirement]:
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    found = [Requirement(line) for line in [*PROJECT["dependencies"], *extras, "hatchling"]]
    return [requirement for requirement in found if requirement.name != PROJECT["name"]]


def test_every_requirement_is_pinned_inside_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {}
    for pin in (Requirement(line) for line in lines if line and not line.startswith("#")):
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert "+" not in exact.version, f"{pin}: a local build would be found on one machine only"
        pins[canonicalize_name(pin.name)] = exact.version
    for requirement in requirements():
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), str(requirement)


def test_ranges_are_open_upwards() -> None:
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert {clause.operator for clause in requirement.specifier} == {">="}, str(requirement)


@pytest.fixture
def build_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def project(folder: Path) -> Path:
    (folder / "napari_llm4seg").mkdir()
    (folder / "resources" / "icons").mkdir(parents=True)
    (folder / "resources" / "icons" / "one.svg").write_text("<svg/>")
    (folder / "napari.yaml").write_text("first")
    return folder


@pytest.mark.parametrize("links", [True, False])
def test_an_editable_install_renews_what_it_laid(
    links: bool, build_hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("a required privilege is not held by the client")

    if not links:
        monkeypatch.setattr(Path, "symlink_to", refuse)
    for text in ("first", "second"):
        (root / "napari.yaml").write_text(text)
        for name in build_hook.SHIPPED:
            build_hook.link(root, name)
        assert (root / "napari_llm4seg" / "napari.yaml").read_text() == text
        assert (root / "napari_llm4seg" / "resources" / "icons" / "one.svg").read_text() == "<svg/>"
    assert (root / "napari_llm4seg" / "resources").is_symlink() == links


def test_a_link_to_elsewhere_is_put_right(build_hook: ModuleType, tmp_path: Path) -> None:
    root = project(tmp_path)
    (root / "napari_llm4seg" / "napari.yaml").symlink_to("/nowhere/napari.yaml")
    build_hook.link(root, "napari.yaml")
    assert (root / "napari_llm4seg" / "napari.yaml").read_text() == "first"
