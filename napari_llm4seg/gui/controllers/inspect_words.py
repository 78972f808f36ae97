"""Nearest words of the clicked token: off until a person asks, with a warning, and from this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers.inspect_recording import Desk, Recording, waiting
from napari_llm4seg.gui.views.abstract.inspect import WordsState

if TYPE_CHECKING:
    from napari_llm4seg.activations.words import Vocabulary, Word

_OFF = "Off. Where the whole language model lies on this machine, the vocabulary entries nearest to the clicked token."


class WordsPart:
    """Names the clicked token's nearest vocabulary entries.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._on, self._problem = False, ""
        self._folder: Path | None = None
        self._vocabulary: Vocabulary | None = None
        self._words: dict[int, list[Word]] = {}
        self._job: Any = None

    def switch(self, on: bool) -> None:
        self._on, self._problem = on, ""
        if not on:
            self._vocabulary = None  # which may take as much memory as the scan

    def use(self, folder: Path) -> None:
        """Take the language model from a folder."""
        self._folder, self._vocabulary, self._problem, self._words = folder, None, "", {}

    def forget(self) -> None:
        self._words, self._problem = {}, ""

    def draw(self) -> None:
        """Look the clicked token up, in a job."""
        recording, token = self._desk.recording, self._desk.token
        if not self._on or self._problem or recording is None or token is None or token in self._words:
            return
        if not recording.seen.layers or waiting(self._job):
            return
        folder, vocabulary = self._folder, self._vocabulary

        def done(found: tuple[Vocabulary | None, list[Word], str]) -> None:
            self._vocabulary, self._words[token], self._problem = found

        self._job = self._desk.quick(
            "Looking words up", lambda ctx: look_up(recording, token, folder, vocabulary), done
        )

    def state(self) -> WordsState:
        recording, token = self._desk.recording, self._desk.token
        if not self._on:
            return WordsState(lines=(_OFF,))
        from napari_llm4seg.activations.words import WARNING

        if recording is not None and not recording.seen.layers:
            return WordsState(True, WARNING, "This model has no language-model layer.")
        if token is None:
            return WordsState(True, WARNING, self._problem, ("Click the scan.",))
        words = self._words.get(token, ())
        lines = tuple(f"{word.text.strip() or repr(word.text)}  {100 * word.share:.1f} %" for word in words)
        return WordsState(True, WARNING, self._problem, lines)


def look_up(
    recording: Recording, token: int, folder: Path | None, vocabulary: Vocabulary | None
) -> tuple[Vocabulary | None, list[Word], str]:
    """Return the vocabulary, the token's words, and why there are none."""
    from napari_llm4seg.activations.words import Vocabulary, folder_at_hand

    block = recording.seen.predictor.checkpoint.config.model.block
    repository = block.layers[-1].repository if block is not None and block.layers else ""
    folder = folder or folder_at_hand(repository)
    if folder is None:
        return (
            None,
            [],
            (
                f"The whole of {repository or 'the language model'} is not on this machine, one layer of it alone. "
                "Download it once (config.json, tokenizer.json, *.safetensors) and choose its folder."
            ),
        )
    try:
        found = vocabulary or Vocabulary(folder)
        return found, found.nearest(recording.seen.features("adapter_out.in")[token]), ""
    except LLM4SegError as error:
        return None, [], str(error)
