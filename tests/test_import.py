"""Importing the package, or asking the command line for help, must not cost what torch or Qt cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "torch", "transformers", "monai", "lightning_fabric", "napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "scipy",
    "skimage", "superqt", "magicgui", "vispy",
}  # fmt: skip


def modules_after(code: str) -> set[str]:
    """Top-level names of the modules that a fresh process has loaded after running ``code``."""
    script = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_the_package_alone_is_light() -> None:
    loaded = modules_after("import napari_llm4seg; dir(napari_llm4seg); napari_llm4seg.__version__")
    assert "napari_llm4seg" in loaded
    assert not loaded & (HEAVY | {"numpy", "pydantic", "typer"})


@pytest.mark.parametrize("module", ["volume", "config", "errors", "assets", "cli"])
def test_the_light_modules_stay_light(module: str) -> None:
    assert not modules_after(f"import napari_llm4seg.{module}") & HEAVY


def test_unknown_names_are_refused() -> None:
    import napari_llm4seg

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = napari_llm4seg.no_such_name


def test_every_public_name_has_a_home() -> None:
    import napari_llm4seg

    for name in napari_llm4seg.__all__:
        assert getattr(napari_llm4seg, name) is not None
