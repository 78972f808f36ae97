"""Where the shipped files lie: in the package (wheel, editable install) or at the checkout's top level."""

from __future__ import annotations

from pathlib import Path


def asset(*parts: str) -> Path:
    """Return the path of a shipped file or folder below ``resources``; it need not exist.

    Parameters
    ----------
    *parts : str
        Path below ``resources``, e.g. ``"layers", "smollm2-135m-instruct-14"``.
    """
    package = Path(__file__).resolve().parent
    inside = package / "resources"
    root = inside if inside.is_dir() else package.parent / "resources"
    return root.joinpath(*parts)
