"""What training needs from outside: a process that trains, what was corrected, where versions are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from napari_llm4seg.corrections import Version
from napari_llm4seg.gui.controllers.projects import Project
from napari_llm4seg.gui.controllers.review_ports import Stack
from napari_llm4seg.gui.state.session import ModelEntry

Array = npt.NDArray[Any]
Message = dict[str, Any]
# what is trained further and its loaded model; nothing where one begins anew
Parent = tuple[ModelEntry | None, Any]


class Trainer(Protocol):
    """``napari_llm4seg.jobs.child.TrainingChild``; its events arrive in the window's thread."""

    @property
    def busy(self) -> str:
        """What is under way: "load", "warm", "train", "new", "cross_check" or ""."""

    def start(self) -> None: ...

    def load(self, model: str | Path, config: Message | None = None, device: str = "auto") -> None: ...

    def warm(self, project: Path, scans: list[str] | None = None) -> None: ...

    def train(
        self,
        project: Path,
        out: Path,
        scans: list[str] | None = None,
        *,
        config: Message | None = None,
        name: str = "",
    ) -> None: ...

    def train_new(
        self,
        project: Path,
        out: Path,
        classes: list[Message],
        scans: list[str] | None = None,
        *,
        config: Message | None = None,
        name: str = "",
        **made: Any,
    ) -> None: ...

    def cross_check(
        self,
        project: Path,
        only: list[list[Any]],
        scans: list[str] | None = None,
        *,
        config: Message | None = None,
        new: Message | None = None,
    ) -> None: ...

    def stop(self) -> None: ...

    def cancel(self) -> None: ...

    def close(self, timeout: float = 2.0) -> None: ...


MakeTrainer = Callable[[Callable[[Message], None]], Trainer]


class Corrected(Protocol):
    """What has been corrected, as the review knows it; ``changed`` is emitted whenever any of it may be another."""

    changed: Any

    @property
    def project(self) -> Project | None:
        """The open project that has it."""

    @property
    def stack(self) -> Stack | None: ...

    @property
    def trouble(self) -> str:
        """Why corrections do not reach the disk, or nothing."""

    def here(self) -> int | None:
        """Return the slice on the screen."""

    def count(self) -> int:
        """Return how many corrected slices would train or judge."""

    def writes(self) -> int:
        """Return how many corrections have reached the disk so far."""

    def settled(self) -> bool:
        """Return whether every correction is on the disk."""

    def scans(self) -> list[str] | None:
        """Return the scans whose corrections train; None for all of the project."""

    def untouched(self) -> Sequence[int]:
        """Return the slices that nobody edited or confirmed."""

    def model_wrote(self) -> None:
        """Take note that a model has written into the mask."""


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes
    ----------
    out : Path
        Folder of the new checkpoint.
    parent : ModelEntry or None
        What it was trained from; None where from scratch.
    predictor, parent_predictor : the loaded models
    facts : dict
        The child's "finished" event.
    project : Project
    cross : dict
        What a cross-check said: ``jobs.exchange.judged``; empty where there was none.
    """

    out: Path
    parent: ModelEntry | None
    parent_predictor: Any
    predictor: Any
    facts: Mapping[str, Any] = field(repr=False)
    project: Project = field(repr=False)
    cross: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Keeper(Protocol):
    """Versions of a project's checkpoint. Every method reads or writes files: call it in a job."""

    def versions(self, project: Project) -> tuple[tuple[Version, ...], int]:
        """Return them, oldest first, and the number of the one in use, 0 for the starting checkpoint."""

    def keep(self, trained: Trained) -> tuple[ModelEntry, int]:
        """Keep it as a new version; return the entry for the list of models and the version's number."""

    def entry(self, project: Project, number: int) -> ModelEntry: ...

    def use(self, project: Project, number: int) -> None:
        """Note which version is in use, 0 for the starting checkpoint."""

    def rename(self, project: Project, number: int, name: str) -> ModelEntry: ...

    def compare(self, project: Project, a: int, b: int) -> str: ...

    def ready(self, project: Project, stack: Stack, volumetric: bool) -> None:
        """See to it that everything corrected is on the disk, and the whole scan for a network of volumes.

        Raises ``InputError`` where it is not.
        """
