"""A copy of what is packaged, and throw-away environments to install it into. Nothing here uses the network."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINKED = {"napari.yaml", "resources"}
PACKAGED = (
    "napari_llm4seg", "resources", "napari.yaml", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "NOTICE",
    ".gitignore", "tests/conftest.py",
)  # fmt: skip


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command and return its standard output; a failure shows everything it said."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _not_packaged(folder: str, names: list[str]) -> set[str]:
    # The links (or copies) of an editable install must be laid anew, as from a fresh clone.
    laid = LINKED if Path(folder) == ROOT / "napari_llm4seg" else set()
    return {name for name in names if name == "__pycache__" or name in laid}


def copy_tree(target: Path) -> Path:
    """Copy the project as a fresh clone would have it."""
    for name in PACKAGED:
        source = ROOT / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=_not_packaged)
        else:
            shutil.copy2(source, target / name)
    return target


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project without what a build or an editable install leaves behind."""
    return copy_tree(tmp_path_factory.mktemp("source"))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A project of one's own to install from and to change."""
    return copy_tree(tmp_path / "clone")


@pytest.fixture(scope="session")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from that sdist, as an index serves them."""
    out = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=out)
    return out


class Environment:
    """A virtual environment that sees the installed requirements but not this project's own installation."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=sys.platform != "win32")
        scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
        self.folder = folder
        self.python = scripts / "python"
        self.script = scripts / "llm4seg"
        site = Path(
            call(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
        )
        # A folder named in a .pth file joins the path, but the .pth files inside it (ours among them) do nothing.
        (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")

    def install(self, *what: str | Path) -> None:
        """Install without requirements, without the network and with the build tools that are there."""
        options = ("--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed", "--quiet")
        call(sys.executable, "-m", "pip", "--python", self.python, "install", *options, *what, cwd=self.folder)

    def script_output(self, *arguments: str) -> str:
        """Run the installed command away from the checkout and return what it printed."""
        return call(self.script, *arguments, cwd=self.folder)

    def run(self, code: str) -> str:
        """Run code away from the checkout and return what it printed."""
        return call(self.python, "-I", "-c", code, cwd=self.folder)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment without the project."""
    folder = tmp_path / "environment"
    folder.mkdir()
    return Environment(folder)
