"""What is built and what is installed: napari finds the plugin, and the shipped files are there."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Environment

pytestmark = pytest.mark.slow

# Prints where the package, the manifest's plugin version and one shipped file come from, one per line.
LOOK = """
import napari_llm4seg
from napari_llm4seg.assets import asset
from npe2 import PluginManager
manager = PluginManager()
manager.discover()
manifest = manager.get_manifest("napari-llm4seg")
print(napari_llm4seg.__file__)
print(manifest.package_version, napari_llm4seg.__version__)
print(asset())
print(*sorted(widget.display_name for widget in manifest.contributions.widgets))
print(*sorted(path.relative_to(asset()).as_posix() for path in asset().rglob("*") if path.is_file()), sep="|")
"""


def relative_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def check(environment: Environment, source: Path, home: Path) -> None:
    package, versions, _, widgets, shipped = environment.run(LOOK).splitlines()
    assert Path(package).is_relative_to(home), "another installation was looked at"
    assert len(set(versions.split())) == 1
    assert "Segment" in widgets
    assert set(shipped.split("|")) == relative_files(source / "resources")
    from_script = environment.script_output("--help")
    assert "segment" in from_script
    assert "evaluate" in from_script


def test_the_wheel_has_the_manifest_and_the_resources(built: Path, source: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names)), "a file is in the wheel twice"
    assert "napari_llm4seg/napari.yaml" in names
    shipped = {f"napari_llm4seg/resources/{name}" for name in relative_files(source / "resources")}
    assert shipped
    assert shipped <= set(names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"napari_llm4seg"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)


def test_the_sdist_holds_each_file_once(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"napari.yaml", "hatch_build.py", "pyproject.toml", "LICENSE", "NOTICE", "tests/conftest.py"} <= names
    assert any(name.startswith("resources/") for name in names)
    assert not any(name.startswith(("napari_llm4seg/resources", "napari_llm4seg/napari.yaml")) for name in names)


def test_base_requirements_name_no_qt_binding(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(metadata).decode().splitlines()
    base = [line.lower() for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert any("torch" in line for line in base)
    assert not any(re.search(r"\b(pyqt\d|pyside\d)", line) for line in base)


def test_an_installed_wheel_works(environment: Environment, built: Path, source: Path) -> None:
    environment.install(*built.glob("*.whl"))
    check(environment, source, environment.folder)


def test_an_editable_install_works(environment: Environment, clone: Path, source: Path) -> None:
    environment.install("--editable", clone)
    check(environment, source, clone)
    # Installing again, over the links, is what `make` does when pyproject.toml has changed.
    environment.install("--editable", clone)
    manifest = clone / "napari.yaml"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("LLM4Seg", "LLM4Seg edited"), encoding="utf-8")
    assert environment.run(f"{LOOK}\nprint(manifest.display_name)").splitlines()[-1] == "LLM4Seg edited"
