"""Parts that every dock's state is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Choice:
    """One entry of a list: ``key`` is what the controller gets back, ``label`` what a person reads."""

    key: str
    label: str
    tooltip: str = ""


@dataclass(frozen=True)
class ButtonState:
    """``tooltip`` says what the button does or, when it cannot be pressed, why."""

    enabled: bool = False
    tooltip: str = ""
    text: str = ""
    visible: bool = True


@dataclass(frozen=True)
class Message:
    """One sentence under the buttons; ``details`` hide behind "more"."""

    kind: Literal["info", "warning", "error"]
    text: str
    details: str = ""


@dataclass(frozen=True)
class ProgressState:
    """``total`` 0 means that the amount is not known."""

    done: int
    total: int
    text: str
