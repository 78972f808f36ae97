"""Lists the models in the background and loads the chosen one ahead of the click."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.choices import Chooser
from napari_llm4seg.gui.controllers.ports import Catalogue, ModelSource, Runner
from napari_llm4seg.gui.state.session import ModelEntry, Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.views.abstract.common import Message


class ModelLoader:
    """Keeps ``session.model`` and ``session.predictor`` in step.

    Parameters
    ----------
    session : Session
    models : ModelSource
        Only ever called in jobs of ``runner``.
    chooser : Chooser
    settings : Settings
    runner : Runner
    on_change : callable()
        Something to draw has changed.
    on_ready : callable()
        The chosen model is loaded.
    on_problem : callable(Message)
        A model, or the list of them, could not be read.
    """

    def __init__(
        self,
        session: Session,
        models: ModelSource,
        chooser: Chooser,
        settings: Settings,
        runner: Runner,
        on_change: Callable[[], None],
        on_ready: Callable[[], None],
        on_problem: Callable[[Message], None],
    ) -> None:
        self._session, self._models, self._chooser, self._settings = session, models, chooser, settings
        self._runner, self._on_change, self._on_ready, self._on_problem = runner, on_change, on_ready, on_problem
        self._last_good: ModelEntry | None = None
        self.loading = False
        self.catalogue: Catalogue | None = None

    def start(self) -> None:
        """Begin to list what can be chosen; the model that fits is loaded right after."""
        # A dock opened anew finds the session of the one before it, model loaded and all.
        if self._session.model is None:
            self._session.device = self._settings.device
        self._chooser.by_hand = self._session.model is not None
        self.loading = True
        self._runner.start(lambda ctx: self._models.catalogue(), on_result=self._listed, on_error=self._not_listed)

    def choose(self, key: str) -> bool:
        """Load the entry ``key`` as chosen by a person; return False where it is in use already."""
        entry = next((item for item in self._chooser.entries if item.key == key), None)
        if entry is None:
            return False
        # a proposal that a person picks as well is theirs from now on
        self._chooser.by_hand = True
        if entry == self._session.model and (self.loading or self._session.predictor is not None):
            return False
        self.use(entry)
        return True

    def add(self, path: Path) -> bool:
        """Load a checkpoint by path; it stays in the list, and is remembered, if it can be read."""
        return self.choose(self._chooser.add(path).key)

    def choose_device(self, key: str) -> None:
        if key != self._session.device:
            self._session.device = key
            if self._session.model is not None:
                self.use(self._session.model)

    def preselect(self) -> None:
        """Until a person chooses, the model that fits the scan's modality is the chosen one."""
        entry = self._chooser.proposal()
        if entry is not None and entry != self._session.model:
            self.use(entry)

    def use(self, entry: ModelEntry) -> None:
        """Choose ``entry`` and load it now, so that the click finds it warm."""
        if self._session.predictor is not None:
            self._last_good = self._session.model
        self._session.model = entry
        self._session.predictor = None
        self.loading = True
        device = self._session.device
        self._runner.start(
            lambda ctx: self._models.load(entry, device),
            on_result=lambda predictor: self._loaded(entry, predictor),
            on_error=lambda error: self._not_loaded(entry, error),
            on_cancelled=self._stopped,
        )

    def take(self, entry: ModelEntry, predictor: Any) -> None:
        """Choose ``entry`` for a person who chose it elsewhere, loaded already as ``predictor``, or None."""
        self._chooser.entries = [entry if item.key == entry.key else item for item in self._chooser.entries]
        self._chooser.include(entry)
        self._chooser.by_hand = True
        if predictor is None:
            self.use(entry)
            return
        if self._runner.current is not None:
            self._runner.current.cancel()
        self._session.model = entry
        self._loaded(entry, predictor)

    def own_config(self) -> PredictConfig:
        """Return how the chosen model suggests to be run."""
        predictor = self._session.predictor
        own: PredictConfig = predictor.checkpoint.config.predict if predictor is not None else PredictConfig()
        return own

    def config(self) -> PredictConfig:
        """Return the model's own configuration with the person's changes on top."""
        return with_options(self.own_config(), self._settings)

    def _listed(self, catalogue: Catalogue) -> None:
        self.loading = False
        self.catalogue = catalogue
        self._chooser.entries = list(catalogue.models)
        if self._session.device not in {key for key, _ in catalogue.devices}:
            self._session.device = "auto"
        kept = self._session.model
        if kept is not None:
            self._chooser.include(kept)
            if self._session.predictor is None:
                self.use(kept)
        self.preselect()
        self._on_change()

    def _not_listed(self, error: BaseException) -> None:
        self.loading = False
        self._on_problem(words.failure(error, "Looking for models"))

    def _loaded(self, entry: ModelEntry, predictor: Any) -> None:
        self.loading = False
        if entry.card is None:
            entry = self._chooser.described(entry, predictor.checkpoint.config.card)
            self._session.model = entry
        self._session.predictor = predictor
        if self._chooser.by_hand:
            self._settings.model = entry.key
            if not entry.starter:
                others = [path for path in self._settings.models if path != entry.key]
                self._settings.models = [entry.key, *others][:20]
            self._settings.save()
        self._on_ready()

    def _not_loaded(self, entry: ModelEntry, error: BaseException) -> None:
        self.loading = False
        if entry.card is None and not entry.starter:
            # What turned out to be no checkpoint leaves the list; the model in use before comes back.
            self._chooser.entries.remove(entry)
            self._session.model = None
            if self._last_good is not None:
                self.use(self._last_good)
        self._on_problem(words.failure(error, "Loading the model"))

    def _stopped(self) -> None:
        self.loading = False
        self._on_change()


def with_options(own: PredictConfig, settings: Settings) -> PredictConfig:
    """Return a model's own configuration with a person's changes on top."""
    changes = {k: v for k, v in settings.options.items() if k in PredictConfig.model_fields}
    if not changes:
        return own
    try:
        return PredictConfig(**{**own.model_dump(), **changes})
    except ValueError:  # settings edited by hand
        settings.options = {}
        return own
