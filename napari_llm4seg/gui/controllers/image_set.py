"""The single images of a folder as one row: each one click away, what was done with it, which to correct next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_llm4seg.corrections import Suggester, Suggestion
from napari_llm4seg.corrections.review import SliceState
from napari_llm4seg.corrections.suggest import Evidence
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.earlier import EarlierSession
from napari_llm4seg.gui.controllers.follower import Follower
from napari_llm4seg.gui.controllers.ports import Runner
from napari_llm4seg.gui.controllers.retrain_ports import Parent
from napari_llm4seg.gui.controllers.review_ports import Classes, ReviewPort
from napari_llm4seg.gui.controllers.saving import Saver
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.common import Message


@dataclass(frozen=True)
class Row:
    """What the dock shows of the images: ``here`` is on the screen."""

    names: tuple[str, ...]
    marks: tuple[SliceState, ...]
    here: int
    suggestion: Suggestion | None = None


class ImageSet:
    """Goes from one image of a folder, or of a chosen project, to another.

    Parameters
    ----------
    session : Session
    port : ReviewPort
    saver : Saver
        Knows the image that is followed, the files it lies among and what was corrected of them.
    follower : Follower
    reader : Runner
    read : callable(Path) -> list of Volume
        Reads an image file; called in jobs.
    say : callable(Message)
    """

    def __init__(
        self,
        session: Session,
        port: ReviewPort,
        saver: Saver,
        follower: Follower,
        reader: Runner,
        read: Callable[[Path], Sequence[Any]],
        say: Callable[[Message], None],
    ) -> None:
        self._session, self._port, self._saver, self._follower = session, port, saver, follower
        self._reader, self._read, self._say = reader, read, say
        self._paths: tuple[Path, ...] = ()
        self._evidence: dict[Path, Evidence] = {}
        self._thought: tuple[object, Suggestion | None] = (None, None)
        self._going_to: str | None = None
        self._by_hand: Classes | None = None
        self._with: Parent = (None, None)

    def close(self) -> None:
        if self._reader.current is not None:
            self._reader.current.cancel()

    # ------------------------------------------------------------------ what there is

    def row(self) -> Row | None:
        """Return the images as they are now; None while it is no single image among others that is followed."""
        image, saver = self._saver.image, self._saver
        if image is None:
            return None
        if saver.images:  # known once the image was recognised; until then those of the one before stand
            more = sorted(path for path in saver.marks if path not in set(saver.images))
            self._paths = (*saver.images, *more)
        if image not in self._paths or len(self._paths) < 2:
            return None
        marks = self._marks(saver.marks, image)
        here = self._paths.index(image)
        return Row(tuple(path.stem for path in self._paths), marks, here, self._next(marks, here))

    def _marks(self, known: Mapping[Path, SliceState], image: Path) -> tuple[SliceState, ...]:
        reviewing = self._follower.reviewing
        now = dict(known)
        if reviewing is not None and len(reviewing.states()) == 1:
            now[image] = reviewing.states()[0]
            seen = reviewing.stack.evidence().get(0)
            if seen is not None:
                self._evidence[image] = seen
        return tuple(now.get(path, "untouched") for path in self._paths)

    def _next(self, marks: tuple[SliceState, ...], here: int) -> Suggestion | None:
        """Return which image to correct next: of those alike the first after this one."""
        asked = self._paths, marks, here, len(self._evidence)
        if self._thought[0] != asked:
            self._thought = asked, self._think(marks, here)
        return self._thought[1]

    def _think(self, marks: tuple[SliceState, ...], here: int) -> Suggestion | None:
        suggester = Suggester(len(marks), stack=False)
        suggester.note({i: self._evidence[path] for i, path in enumerate(self._paths) if path in self._evidence})
        done = {i for i, mark in enumerate(marks) if mark != "untouched"} | {here}
        ranked = suggester.rank(done)
        best = [each for each in ranked if each.gain == ranked[0].gain]
        found = min(best, key=lambda each: (each.z - here) % len(marks), default=None)
        if found is None or self._paths[found.z] in self._evidence:
            return found
        return replace(found, reason="")

    # ------------------------------------------------------------------ going there

    def go(self, number: int) -> None:
        """Show image ``number``: its layer where it is open, else its file."""
        if not 0 <= number < len(self._paths):
            return
        path = self._paths[number]
        if path == self._saver.image:
            return
        stack = self._follower.stack
        self._by_hand = stack.classes() if stack is not None and not stack.model() else None
        if self._session.predictor is not None:
            self._with = self._session.model, self._session.predictor
        known = self._port.image_of(path)
        if known is not None:
            self._arrive(known)
            return

        def failed(error: BaseException) -> None:
            self._say(words.failure(error, f"Opening {path.name}"))

        self._reader.start(
            lambda ctx: self._read(path),
            on_result=lambda volumes: self._arrive(self._port.add_image(volumes)),
            on_error=failed,
        )

    def _arrive(self, scan_id: str) -> None:
        self._going_to = scan_id
        self._port.show_alone(scan_id)
        self._session.scan_id = scan_id

    def see_to(self, earlier: EarlierSession) -> None:
        """Give an image that was gone to from here its mask: the one that is open, that of before, or a new one."""
        arriving = self._going_to is not None and self._going_to == self._session.scan_id
        if not arriving or self._saver.home is None:  # not there yet, or not recognised yet
            return
        if self._follower.stack is not None:
            self._going_to = None
        elif earlier.offer:
            self._going_to = None
            earlier.restore()
        elif not self._session.busy:
            self._going_to = None
            self._give_mask(self._session.scan_id)

    def _give_mask(self, scan_id: str | None) -> None:
        """Have the image segmented with the model of the one before, whatever this one looks like.

        Where those before were drawn by hand for want of a model, add an empty mask; a model that a person has trained
        is used whatever came before.
        """
        model, predictor = self._with
        if self._by_hand is not None and scan_id is not None and (model is None or model.starter):
            self._session.mask_id = self._port.make_mask(scan_id, self._by_hand)
            return
        if model is not None and model != self._session.model:
            self._session.model_wanted.emit(model, predictor)
        self._session.segment_wanted.emit()
