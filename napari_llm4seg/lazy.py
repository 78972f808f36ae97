"""Public names that are imported when they are first asked for, so that importing a package costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any


def ahead(module: str) -> None:
    """Begin to import ``module`` in a thread of its own, for whoever needs it when what goes on now is done.

    Worth it before a long computation that leaves Python to others; an import that meets it waits for it.
    """
    if module not in sys.modules:
        import threading
        from importlib import import_module

        threading.Thread(target=import_module, args=(module,), name=f"import {module}", daemon=True).start()


def from_home(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    home : mapping of str to str
        For every public name the module of the package that has it.
    """

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{package}.{home[name]}"), name)

    return find
