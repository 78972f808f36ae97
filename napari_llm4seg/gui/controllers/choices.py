"""Which scan and which model are chosen when nobody chooses: the selected layer, the model of its modality."""

from __future__ import annotations

from pathlib import Path

from napari_llm4seg.config import Card
from napari_llm4seg.gui.controllers.ports import ScanInfo, ViewerPort
from napari_llm4seg.gui.controllers.words import modality
from napari_llm4seg.gui.state.session import ModelEntry, Session
from napari_llm4seg.gui.state.settings import Settings


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

    def proposal(self) -> ModelEntry | None:
        """Return the model to use: what a person chose, the last one where it fits, the first that fits, any."""
        if not self.entries:
            return None
        if self.by_hand:
            return self._session.model
        last = [entry for entry in self.entries if entry.key == self._settings.model]
        ranked = [*last, *self.entries]
        scan = self.scan()
        wanted = modality(scan.modality) if scan is not None else ""
        if wanted:
            for entry in ranked:
                if entry.card is not None and modality(entry.card.modality) == wanted:
                    return entry
        return ranked[0]

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
        named = ModelEntry(entry.key, card.name or entry.name, entry.path, card, entry.starter)
        self.entries = [named if item.key == entry.key else item for item in self.entries]
        return named
