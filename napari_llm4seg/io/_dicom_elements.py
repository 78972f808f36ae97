"""Single elements of a DICOM header, taken from their bytes.

pydicom turns elements into its own types when they are asked for, which for the dozen that a series of a thousand files
needs takes longer than reading the files; what it has turned already, and sequences, are taken from it.
"""

from __future__ import annotations

from typing import Any


def text(header: Any, keyword: str) -> str:
    """Return an element of plain letters and digits (UI, CS, IS, DS), "" where it is missing or empty."""
    item = header.get_item(keyword)
    value = None if item is None else item.value
    if isinstance(value, bytes):
        return value.decode("latin-1").strip(" \0\t\r\n")
    if value is None or isinstance(value, str):
        return value or ""
    several: Any = value  # pydicom's MultiValue is no list
    return "\\".join(map(str, several)) if hasattr(several, "__iter__") else str(several)


def numbers(header: Any, keyword: str) -> list[float]:
    """Return the values of a DS or IS element."""
    return [float(part) for part in text(header, keyword).split("\\") if part.strip()]


def number(header: Any, keyword: str, default: float = 0.0) -> float:
    """Return the first value of a DS or IS element."""
    found = numbers(header, keyword)
    return found[0] if found else default


def short(header: Any, keyword: str, default: int = 0) -> int:
    """Return a US element."""
    item = header.get_item(keyword)
    value = None if item is None else item.value
    if isinstance(value, bytes) and len(value) == 2:
        return int.from_bytes(value, "little" if item.is_little_endian else "big")
    value = header.get(keyword)
    return default if value in (None, "") else int(value)
