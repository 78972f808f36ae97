"""Which scan and which model are chosen when nobody chooses: the selected layer, the model of its modality."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_llm4seg.config import Card
from napari_llm4seg.gui.controllers.ports import ScanInfo, ViewerPort
from napari_llm4seg.gui.state.look import Look, unlike
from napari_llm4seg.gui.state.session import ModelEntry, Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.modalities import modality


class Chooser:
    """Keeps the lists of scans and models and proposes from them.

    Attributes
    ----------
    scans : list of ScanInfo
    entries : list of ModelEntry
        Starters first, then what was added by hand.
    by_hand : bool
        Whether a person has chosen the model; then nothing is proposed any more.
    """

    def __init__(self, session: Session, port: ViewerPort, settings: Settings) -> None:
        self._session, self._port, self._settings = session, port, settings
        self.scans: list[ScanInfo] = []
        self.entries: list[ModelEntry] = []
        self.by_hand = False
        self._last_selected: str | None = None
        self._said: set[str] = set()

    def follow(self) -> None:
        """Take the layer list anew; a newly selected image layer becomes the scan."""
        self.scans = self._port.scans()
        known = [scan.id for scan in self.scans]
        selected = self._port.selected_scan()
        if selected in known and selected != self._last_selected:
            self._session.scan_id = selected
        self._last_selected = selected
        if self._session.scan_id not in known:
            self._session.scan_id = known[-1] if known else None

    def scan(self) -> ScanInfo | None:
        """Return the chosen scan."""
        return next((scan for scan in self.scans if scan.id == self._session.scan_id), None)

    def notes(self) -> str:
        """Return what reading the chosen scan had to say, the first time that it is asked for."""
        scan = self.scan()
        if scan is None or scan.id in self._said:
            return ""
        self._said.add(scan.id)
        return " ".join(scan.notes)

    def proposal(self) -> ModelEntry | None:
        """Return the model to use: what a person chose, the last one where it fits, the one that fits best, any.

        What fits is said by the scan's modality, or else by its look.
        """
        if not self.entries:
            return None
        if self.by_hand:
            return self._session.model
        last = [entry for entry in self.entries if entry.key == self._settings.model]
        scan = self.scan()
        wanted = modality(scan.modality) if scan is not None else ""
        if wanted:
            for entry in [*last, *self.entries]:
                needs_volume = entry.look is not None and entry.look.stack
                if needs_volume and scan is not None and scan.n_slices == 1:
                    continue
                if entry.card is not None and modality(entry.card.modality) == wanted:
                    return entry
        return _alike(last, self.entries, scan.look if scan is not None else None)

    def add(self, path: Path) -> ModelEntry:
        """Return the entry for ``path``, new or known."""
        for entry in self.entries:
            if entry.path == path:
                return entry
        entry = ModelEntry(key=str(path), name=path.stem if path.is_file() else path.name, path=path)
        self.entries.append(entry)
        return entry

    def include(self, entry: ModelEntry) -> None:
        """Put ``entry`` into the list unless it is there."""
        if all(item.key != entry.key for item in self.entries):
            self.entries.append(entry)

    def described(self, entry: ModelEntry, card: Card) -> ModelEntry:
        """Return ``entry`` with its card, in the list too."""
        named = replace(entry, name=card.name or entry.name, card=card)
        self.entries = [named if item.key == entry.key else item for item in self.entries]
        return named


def _alike(last: list[ModelEntry], entries: list[ModelEntry], look: Look | None) -> ModelEntry:
    """Return the model used last where it takes scans of this kind, else the one whose training images look alike."""
    if look is None:
        return [*last, *entries][0]
    for entry in last:  # a person's own two-dimensional model is meant for stacks too, which differ by 1
        if entry.look is None or unlike(look, entry.look)[0] <= (0 if entry.starter else 1):
            return entry
    judged = [(unlike(look, entry.look), entry) for entry in entries if entry.look is not None and entry.starter]
    return min(judged, key=lambda pair: pair[0])[1] if judged else entries[0]
