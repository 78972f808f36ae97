"""Classes of a label map as ``(value, name, "#RRGGBB")``: named, coloured, added."""

from __future__ import annotations

import re
from collections.abc import Iterable

from napari_llm4seg.config import CLASS_COLOURS
from napari_llm4seg.errors import InputError
from napari_llm4seg.io._classes import as_metadata, named_classes

Class = tuple[int, str, str]
Classes = tuple[Class, ...]

_LARGEST = 65535
_LONGEST = 80


def complete(classes: Iterable[Class], values: Iterable[int]) -> Classes:
    """Return ``classes`` and one more, "label 7", for each of ``values`` that is none of them; in order of value."""
    return as_metadata(named_classes(classes, values))


def renamed(classes: Classes, value: int, name: str) -> Classes:
    """Return ``classes`` with another name for ``value``.

    Raises
    ------
    InputError
        Where the name is empty, too long or another class's: exports and tables tell classes apart by name.
    """
    name = " ".join(name.split())
    if not name:
        raise InputError("A class needs a name; type one.")
    if len(name) > _LONGEST:
        raise InputError(f"The name has {len(name)} characters; at most {_LONGEST} are kept in files.")
    if any(name.casefold() == other.casefold() and at != value for at, other, _ in classes):
        raise InputError(f"There is a class '{name}' already; choose another name.")
    return tuple((at, name if at == value else old, colour) for at, old, colour in classes)


def recoloured(classes: Classes, value: int, colour: str) -> Classes:
    """Return ``classes`` with another colour, "#RRGGBB", for ``value``.

    Raises
    ------
    InputError
        Where ``colour`` is none.
    """
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", colour):
        raise InputError(f"'{colour}' is no colour; it must look like #E69F00.")
    return tuple((at, name, colour.upper() if at == value else old) for at, name, old in classes)


def added(classes: Classes, largest: int = _LARGEST) -> tuple[Classes, int]:
    """Return ``classes`` with a new one, and its value: the lowest that is free.

    Parameters
    ----------
    classes : Classes
    largest : int
        The highest value that the label map's dtype can hold.

    Raises
    ------
    InputError
        Where every value is taken.
    """
    taken = {value for value, _, _ in classes}
    value = next((number for number in range(1, min(largest, _LARGEST) + 1) if number not in taken), None)
    if value is None:
        raise InputError(f"All {len(taken)} label values of this mask are taken; remove a class first.")
    names = {name.casefold() for _, name, _ in classes}
    name, number = f"class {value}", 2
    while name.casefold() in names:
        name, number = f"class {value} ({number})", number + 1
    used = {colour.upper() for _, _, colour in classes}
    free = [colour for colour in CLASS_COLOURS if colour.upper() not in used]
    colour = free[0] if free else CLASS_COLOURS[(value - 1) % len(CLASS_COLOURS)]
    return tuple(sorted((*classes, (value, name, colour)))), value
