"""The checkpoints that were trained in a project, one after the other; nothing is overwritten, nothing is deleted.

``versions/v1``, ``v2`` ... are checkpoint folders that any command takes, each with a ``version.json`` that says what
it came from. ``versions/current.json`` points at the one in use; without it that is the starting checkpoint.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from napari_llm4seg.corrections.manifest import Manifest, read_manifest, write_manifest
from napari_llm4seg.corrections.records import Record, State, now
from napari_llm4seg.corrections.store import SampleStore
from napari_llm4seg.errors import CheckpointError, InputError
from napari_llm4seg.files import replacing_folder, sync_folder, sync_tree
from napari_llm4seg.metrics import dice_of_counts

if TYPE_CHECKING:
    from napari_llm4seg.checkpoint import Checkpoint

VERSIONS, VERSION, CURRENT = "versions", "version.json", "current.json"
_FOLDER = re.compile(r"^v([1-9]\d{0,5})$")

_LEFT_OVER = re.compile(r"^\.+v\d+-[0-9a-f]{8}")


class Sample(Manifest):
    """A correction that was used: its slice, and the digests of what was seen (``Record``)."""

    scan: str
    axis: int
    index: int
    state: State
    digest: str
    image_digest: str

    @classmethod
    def of(cls, record: Record) -> Sample:
        return cls.model_validate(record.model_dump(include=set(cls.model_fields)))


class Version(Manifest):
    """``version.json``.

    Attributes
    ----------
    number : int
        From 1, never used twice.
    name : str
        What a person calls it.
    digest : str
        Of the checkpoint.
    parent, parent_name : str
        Digest and name of the checkpoint it was trained from; empty where it was trained from scratch.
    samples, held_back : tuple of Sample
        Corrections that trained it, and those that judged it.
    parts : str
        What was trained: "adapters", "adapters+decoder" or "all".
    gate : dict
        Scores on what was held back, before and after: ``napari_llm4seg.engine.gate.Gate.as_dict()``; empty where
        nothing was.
    training : dict
        Settings, seconds and whatever else is worth knowing.
    cross_check : dict
        ``Gate.as_dict()`` of all corrections, each judged by a training without it, and "new" where there was nothing
        before; empty where that was not asked for.
    """

    format: Literal["napari-llm4seg-version/1"] = "napari-llm4seg-version/1"
    number: int = Field(ge=1)
    name: str = Field(min_length=1, max_length=200)
    created: str = Field(default_factory=now, max_length=40)
    digest: str
    parent: str = ""
    parent_name: str = ""
    samples: tuple[Sample, ...] = ()
    held_back: tuple[Sample, ...] = ()
    parts: str = ""
    gate: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    cross_check: dict[str, Any] = Field(default_factory=dict)

    def slices(self) -> dict[str, dict[str, Any]]:
        """Return what was measured on every held-back slice, by its name: ``engine.scores.as_rows``.

        Versions that were kept before pixels were counted have "dice" and "hd95" alone.
        """
        return {each["name"]: each for each in self.gate.get("slices", ())}


@dataclass(frozen=True)
class Comparison:
    """Two versions' scores on the slices that both were judged by.

    Attributes
    ----------
    n : int
        How many slices those are.
    rows : tuple of (what, a, b, b less a)
        "Dice" of them together, as the gate computes it, and mean "HD95 (mm)" over those where both have a distance;
        what no slice has is left out.
    words : str
        What keeps the figures from being comparable; empty where nothing does.
    """

    n: int
    rows: tuple[tuple[str, float, float, float], ...]
    words: str = ""


class Versions:
    """Versions of a project's checkpoint.

    Parameters
    ----------
    store : SampleStore
        Open for writing where anything is to be added or changed.

    Attributes
    ----------
    messages : list of str
        What was found damaged, one sentence each.
    """

    def __init__(self, store: SampleStore) -> None:
        self._store = store
        self.folder = store.folder / VERSIONS
        self.messages: list[str] = []

    def path(self, version: Version | int) -> Path:
        """Return a version's checkpoint folder."""
        return self.folder / f"v{version if isinstance(version, int) else version.number}"

    def _numbers(self) -> list[int]:
        entries = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(int(found[1]) for entry in entries if (found := _FOLDER.match(entry.name)))

    def list(self) -> tuple[Version, ...]:
        """Return the versions, oldest first; damaged ones are told in ``messages``."""
        versions = []
        for number in self._numbers():
            try:
                version = read_manifest(self.path(number) / VERSION, Version, "version")
                if version.number != number:
                    raise InputError(f"'{self.path(number)}' says it is version {version.number}; it was moved.")
                versions.append(version)
            except InputError as error:
                if str(error) not in self.messages:
                    self.messages.append(str(error))
        return tuple(versions)

    def add(
        self,
        checkpoint: Checkpoint,
        *,
        parent: Checkpoint | None,
        samples: Sequence[Record],
        held_back: Sequence[Record] = (),
        parts: str = "",
        gate: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        cross_check: Mapping[str, Any] | None = None,
        name: str = "",
    ) -> Version:
        """Keep a trained checkpoint as a new version, which becomes the current one.

        Parameters
        ----------
        checkpoint : Checkpoint
        parent : Checkpoint or None
            What it was trained from; None where it was trained from scratch.
        samples, held_back, parts, gate, training, cross_check
            As in ``Version``.
        name : str
            By default the parent's first name and the number: "breast-ultrasound v3".

        Raises
        ------
        InputError
            Where the project is open for reading only, or the disk refuses; then nothing has changed.
        """
        self._store.needs_writing()
        number = max(self._numbers(), default=0) + 1
        base = re.sub(r" v\d+$", "", parent.name if parent else checkpoint.name) or "model"
        version = Version(
            number=number,
            name=name or f"{base} v{number}",
            digest=checkpoint.digest,
            parent=parent.digest if parent else "",
            parent_name=parent.name if parent else "",
            samples=tuple(Sample.of(record) for record in samples),
            held_back=tuple(Sample.of(record) for record in held_back),
            parts=parts,
            gate=dict(gate or {}),
            training=dict(training or {}),
            cross_check=dict(cross_check or {}),
        )
        self._clear_left_over()
        with replacing_folder(self.path(number)) as folder:
            _with_card(checkpoint, version).save(folder)
            write_manifest(folder / VERSION, version)
            sync_tree(folder)
        sync_folder(self.folder)
        self.use(version)
        return version

    def _clear_left_over(self) -> None:
        """Remove what a process that was killed while it saved a version has left."""
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            if _LEFT_OVER.match(entry.name):
                shutil.rmtree(entry, ignore_errors=True)

    def load(self, version: Version) -> Checkpoint:
        """Read a version's checkpoint, under the name the version has now.

        Raises
        ------
        CheckpointError
            If it is damaged or not the one that was kept.
        """
        from napari_llm4seg.checkpoint import Checkpoint

        checkpoint = Checkpoint.load(self.path(version))
        if checkpoint.digest != version.digest:
            raise CheckpointError(f"'{self.path(version)}' is not the checkpoint that was kept there; choose another.")
        card = checkpoint.config.card.model_copy(update={"name": version.name})
        return replace(checkpoint, config=checkpoint.config.model_copy(update={"card": card}))

    def rename(self, version: Version, name: str) -> Version:
        """Call a version something else.

        Raises
        ------
        InputError
            If the name is empty or longer than 200 characters.
        """
        self._store.needs_writing()
        if not 1 <= len(name.strip()) <= 200:
            raise InputError(f"A version's name has 1 to 200 characters, not {len(name.strip())}.")
        renamed = version.model_copy(update={"name": name.strip()})
        write_manifest(self.path(version) / VERSION, renamed)
        return renamed

    @property
    def current(self) -> Version | None:
        """The version in use; None is the starting checkpoint."""
        if not (self.folder / CURRENT).exists():
            return None
        try:
            number = read_manifest(self.folder / CURRENT, _Pointer, "choice of version").number
        except InputError as error:
            self.messages.append(f"{error} The starting checkpoint is in use.")
            return None
        return next((version for version in self.list() if version.number == number), None)

    def use(self, version: Version | None) -> None:
        """Make ``version``, or the starting checkpoint, the current one."""
        self._store.needs_writing()
        write_manifest(self.folder / CURRENT, _Pointer(number=version.number if version else None))

    def roll_back(self) -> Version | None:
        """Go back to what the current version was trained from, and return it; None is the starting checkpoint.

        Nothing is deleted: ``use`` leads forward again.

        Raises
        ------
        InputError
            If the starting checkpoint is in use already.
        """
        now_used = self.current
        if now_used is None:
            raise InputError("The starting checkpoint is in use; there is nothing before it to go back to.")
        before = [each for each in self.list() if each.number < now_used.number and each.digest == now_used.parent]
        target = before[-1] if before else None
        self.use(target)
        return target

    def compare(self, a: Version, b: Version) -> Comparison:
        """Compare two versions by the scores that were measured when each was kept."""
        ours, theirs = a.slices(), b.slices()
        common = sorted(set(ours) & set(theirs))
        if not common:
            return Comparison(0, (), f"'{a.name}' and '{b.name}' were not judged by the same slices.")
        pairs = [(ours[name], theirs[name]) for name in common]
        units = {version.gate.get("hd95_unit") for version in (a, b)}
        rows = []
        for what, found in (
            ("Dice", _dices(pairs)),
            (f"HD95 ({'/'.join(sorted(map(str, units)))})", _means(pairs, "hd95")),
        ):
            if found is not None:
                rows.append((what, found[0], found[1], found[1] - found[0]))
        others = len(set(ours) ^ set(theirs))
        words = f"{others} held-back slice(s) judged one of them only and do not count here." if others else ""
        return Comparison(len(common), tuple(rows), words)


def _dices(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> tuple[float, float] | None:
    """Return two versions' Dice on the same slices; means of the slices' own where one has no counts of pixels."""
    if not all("hits" in each for pair in pairs for each in pair):
        return _means(pairs, "dice")
    found = []
    for side in zip(*pairs, strict=True):
        counts = (
            [each["hits"][1] for each in side],
            [each["said"][1] for each in side],
            [each["true"] for each in side],
        )
        found.append(float(dice_of_counts(*counts, alone=all(each["alone"] for each in side))[0]))
    return None if any(map(math.isnan, found)) else (found[0], found[1])


def _means(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], what: str) -> tuple[float, float] | None:
    """Return the means of a figure after training over the slices for which both versions have it."""
    values = [(a[what][1], b[what][1]) for a, b in pairs if a[what][1] is not None and b[what][1] is not None]
    if not values:
        return None
    return sum(value for value, _ in values) / len(values), sum(value for _, value in values) / len(values)


class _Pointer(Manifest):
    number: int | None = None


def _with_card(checkpoint: Checkpoint, version: Version) -> Checkpoint:
    """Return the checkpoint with a card that says what the version says, for who meets the folder elsewhere."""
    card = checkpoint.config.card
    facts = {
        "version": version.number,
        "parent": f"{version.parent_name} ({version.parent[:12]})" if version.parent else "none",
        "corrected_slices": len(version.samples),
        "parts": version.parts,
    }
    scores = {f"held_back_{key}": version.gate[key] for key in _SCORES if version.gate.get(key) is not None}
    changes = {"name": version.name, "training": card.training | facts, "scores": scores}
    config = checkpoint.config.model_copy(update={"card": card.model_copy(update=changes)})
    return replace(checkpoint, config=config)


_SCORES = ("n", "dice_before", "dice_after", "interval", "hd95_before", "hd95_after", "hd95_unit")
