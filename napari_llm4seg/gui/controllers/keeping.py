"""Versions of a project's checkpoint, and what a training needs on the disk. For jobs: it reads and writes files."""

from __future__ import annotations

from typing import Any

from napari_llm4seg.corrections import Record, Version, Versions
from napari_llm4seg.errors import InputError
from napari_llm4seg.gui.controllers.projects import Project
from napari_llm4seg.gui.controllers.retrain_ports import Trained
from napari_llm4seg.gui.controllers.review_ports import Stack
from napari_llm4seg.gui.state.session import ModelEntry


class ProjectKeeper:
    """``Keeper`` on ``corrections.Versions``."""

    def versions(self, project: Project) -> tuple[tuple[Version, ...], int]:
        kept = Versions(project.store)
        current = kept.current
        return kept.list(), current.number if current is not None else 0

    def keep(self, trained: Trained) -> tuple[ModelEntry, int]:
        from napari_llm4seg.checkpoint import Checkpoint

        facts, store = trained.facts, trained.project.store
        records = {record.key: record for record in store.records()}

        def of(name: str) -> list[Record]:
            keys = [(str(scan), int(axis), int(index)) for scan, axis, index in facts.get(name, ())]
            return [records[key] for key in keys if key in records]

        parent = trained.parent_predictor.checkpoint if trained.parent_predictor is not None else None
        checkpoint = Checkpoint.load(trained.out)
        version = Versions(store).add(
            checkpoint,
            parent=parent,
            samples=of("train"),
            held_back=of("held_back"),
            parts=str(facts.get("training", {}).get("parts", "")),
            gate=facts.get("gate", {}),
            training=facts.get("training", {}),
            cross_check=trained.cross,
        )
        return self._entry(trained.project, version), version.number

    def entry(self, project: Project, number: int) -> ModelEntry:
        return self._entry(project, self._version(project, number))

    def use(self, project: Project, number: int) -> None:
        Versions(project.store).use(self._version(project, number) if number else None)

    def rename(self, project: Project, number: int, name: str) -> ModelEntry:
        return self._entry(project, Versions(project.store).rename(self._version(project, number), name))

    def compare(self, project: Project, a: int, b: int) -> str:
        first, second = self._version(project, a), self._version(project, b)
        found = Versions(project.store).compare(first, second)
        if not found.n:
            return found.words
        figures = [f"{what} {one:.3f} → {other:.3f} ({difference:+.3f})" for what, one, other, difference in found.rows]
        slices = "the one slice" if found.n == 1 else f"the {found.n} slices"
        text = f"{first.name} → {second.name}, on {slices} that judged both: {', '.join(figures)}."
        return f"{text} {found.words}".strip()

    def ready(self, project: Project, stack: Stack, volumetric: bool) -> None:
        writer = project.writer
        if writer is not None and not writer.flush(10.0):
            raise InputError(writer.trouble or "The corrections are not all on the disk yet; try again.")
        if volumetric:
            project.store.put_scan(stack.scan)

    def _version(self, project: Project, number: int) -> Version:
        for version in Versions(project.store).list():
            if version.number == number:
                return version
        raise InputError(f"Version {number} is not in the project '{project.store.folder}' any more.")

    def _entry(self, project: Project, version: Version) -> ModelEntry:
        from napari_llm4seg.checkpoint import Checkpoint

        path = Versions(project.store).path(version)
        card: Any = Checkpoint.load(path).config.card.model_copy(update={"name": version.name})
        return ModelEntry(key=str(path), name=version.name, path=path, card=card)
