"""What the Segment dock does: choose, load in advance, run, stream the slices, cancel, take back. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.choices import Chooser
from napari_llm4seg.gui.controllers.history import ResultHistory
from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.loading import ModelLoader
from napari_llm4seg.gui.controllers.opening import ScanOpener
from napari_llm4seg.gui.controllers.ports import ModelSource, Runner, ScanInfo, ViewerPort
from napari_llm4seg.gui.controllers.present import Facts, present
from napari_llm4seg.gui.controllers.running import Run, spec_of
from napari_llm4seg.gui.controllers.runs import RunKeeper
from napari_llm4seg.gui.state.session import ModelEntry, Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.views.abstract.common import Message
from napari_llm4seg.gui.views.abstract.segment import SegmentView
from napari_llm4seg.modalities import mismatch
from napari_llm4seg.planes import slice_axis

Kind = Literal["slice", "all"]


class SegmentController:
    """Connects the session, the viewer, the models and one view.

    Parameters
    ----------
    session : Session
    port : ViewerPort
    models : ModelSource
        Only ever called inside jobs.
    view : SegmentView
    make_runner : callable() -> Runner
        Called three times: loading models, running them and reading files each have a line of their own.
    settings : Settings
    later : callable(callable), optional
        Runs its argument in the window's thread when other work there has had its turn; at once if not given.
    """

    def __init__(
        self,
        session: Session,
        port: ViewerPort,
        models: ModelSource,
        view: SegmentView,
        make_runner: Callable[[], Runner],
        settings: Settings,
        later: Callable[[Callable[[], None]], object] = lambda call: call(),
    ) -> None:
        self.session, self.port, self.models, self.view, self.settings = session, port, models, view, settings
        self._listening = Listening()
        load_runner, worker, read_runner = make_runner(), make_runner(), make_runner()
        self._runners = (load_runner, worker, read_runner)
        self._chooser = Chooser(session, port, settings)
        self._loader = ModelLoader(
            session, models, self._chooser, settings, load_runner, self._loader_changed, self._ready, self._problem
        )
        choose = view.choose_series
        self._opener = ScanOpener(models, port, read_runner, self._say, self._opened, self._problem, choose)
        self._pending: Kind | None = None
        self._message: Message | None = None
        self._history = ResultHistory(session)
        self._runs = RunKeeper(session, port, models, worker, self._history, later, self._render, self._ended)
        self._closed = False

    def start(self) -> None:
        """Show what is there and begin to list and load the models."""
        self.view.attach(self)
        self.port.connect(self._layers_changed)
        self._chooser.follow()
        self._listening.to(
            (self.session.busy_changed, self._render_again),
            (self.session.scan_changed, self._render_again),
            (self.session.model_wanted, self._model_wanted),
            (self.session.segment_wanted, self.segment_all),
        )
        self._loader.start()
        self._render()

    def close(self) -> None:
        """Stop everything calmly; nothing is drawn or written any more."""
        if self._closed:
            return
        self._closed = True
        self._listening.stop()
        self.port.disconnect()
        for runner in self._runners:
            if runner.current is not None:
                runner.current.cancel()
        self._runs.close()

    # ------------------------------------------------------------------ choices

    def choose_scan(self, scan_id: str) -> None:
        self.session.scan_id = scan_id
        self._message = self._notes()
        self._preselect()
        self._render()

    def choose_model(self, key: str) -> None:
        self._message = None
        self._loader.choose(key)
        self._render()

    def add_model(self, path: Path) -> None:
        """Take a checkpoint from a file or folder; it stays in the list, and is remembered, if it can be read."""
        if self._runs.run is None:
            self._message = None
            self._loader.add(path)
        self._render()

    def _model_wanted(self, entry: ModelEntry, predictor: Any) -> None:
        """Another dock has chosen a model, or made one."""
        self._message = None
        self._loader.take(entry, predictor)
        self._render()

    def choose_device(self, key: str) -> None:
        self._loader.choose_device(key)
        self.settings.device = key
        self._keep_and_render()

    def set_option(self, name: str, value: Any) -> None:
        """Change one field of ``PredictConfig``, or "probability"; what equals the model's own is not kept."""
        if name == "probability":
            self.settings.probability = bool(value)
        else:
            options = {**self.settings.options, name: value}
            if getattr(self._loader.own_config(), name) == value:
                del options[name]
            self.settings.options = options
        self._keep_and_render()

    def reset_options(self) -> None:
        self.settings.options, self.settings.probability = {}, False
        self._keep_and_render()

    def config(self) -> PredictConfig:
        """Return how the chosen model would be run now."""
        return self._loader.config()

    def dismiss_message(self) -> None:
        self._message = None
        self._render()

    def _keep_and_render(self) -> None:
        self.settings.save()
        self._render()

    def _preselect(self) -> None:
        if self._runs.run is None:
            self._loader.preselect()

    # ------------------------------------------------------------------ models and files

    def _loader_changed(self) -> None:
        if self.session.model is None or not self._loader.loading:
            self._pending = None
        self._render()

    def _ready(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self._segment(pending)
        self._render()

    def _problem(self, message: Message) -> None:
        self._pending = None
        self._message = message
        self._render()

    def open_scan(self, path: Path) -> None:
        self._opener.scan(path)

    def open_sample(self, key: str) -> None:
        self._opener.sample(key)

    def _say(self, message: Message) -> None:
        self._message = message
        self._render()

    def _opened(self) -> None:
        self._message = None
        self._layers_changed()

    # ------------------------------------------------------------------ running

    def segment_slice(self) -> None:
        self._segment("slice")

    def segment_all(self) -> None:
        self._segment("all")

    def _segment(self, kind: Kind) -> None:
        scan = self._chooser.scan()
        if self._closed or self._runs.run or self.session.busy or scan is None or scan.problem:
            self._render()
            return
        self._message = None
        if self.session.predictor is None:
            self._pending = kind if self._loader.loading else None
            self._render()
            return
        try:
            run, config = self._planned(scan, kind)
        except LLM4SegError as error:
            self._problem(words.failure(error, "Reading the layer"))
            return
        self._runs.launch(run, self.session.predictor, config)

    def _planned(self, scan: ScanInfo, kind: Kind) -> tuple[Run, PredictConfig]:
        """Return the run that is asked for, what is on show first, and the settings to run it with."""
        config, volumetric = self._loader.config(), self._volumetric()
        if scan.stack_of or volumetric:  # which have no slices along another axis
            config = config.model_copy(update={"axis": "stored"})
        axis = slice_axis(self.port.volume(scan.id, 0), config.axis)
        frame, z = self.port.on_show(scan.id, axis)
        frames = sorted(range(scan.frames), key=lambda other: abs(other - frame)) if kind == "all" else [frame]
        volumes = {number: self.port.volume(scan.id, number) for number in frames}
        each = volumes[frame].grid[axis]
        slices: tuple[int, ...] | None = (frame * each + z,)
        if kind == "all" or each == 1 or volumetric:
            slices = None if len(frames) == scan.frames else tuple(range(frame * each, (frame + 1) * each))
        predictor, entry = self.session.predictor, self.session.model
        name = entry.name if entry is not None else predictor.checkpoint.config.card.name
        plane = config.axis if axis or scan.n_slices > 1 else "stored"
        spec = spec_of(predictor, name, slices, self.settings.probability, plane, axis)
        return Run(scan, spec, volumes, z), config

    def _volumetric(self) -> bool:
        """Return whether the chosen model sees volumes: then a slice needs all of its neighbours anyway."""
        predictor, entry = self.session.predictor, self.session.model
        if predictor is None:
            return entry is not None and entry.look is not None and entry.look.stack
        return bool(predictor.checkpoint.config.model.backbone.spatial_dims == 3)

    def _ended(self, run: Run, message: Message) -> None:
        card = self.session.model.card if self.session.model is not None else None
        # said before the run as well; a result must not make it forgotten
        doubt = mismatch(run.scan.modality, card.modality) if run.complete and card is not None else ""
        self._say(Message("warning", f"{message.text} {doubt}") if doubt else message)
        if run.of_a_volume() and run.result is not None and run.result.alive():
            self.session.stack_written.emit(run.result.id)

    def cancel(self) -> None:
        """Stop the run, or the start that waits for a model; where there is neither, the reading of a file."""
        if self._runs.run is None and self._pending is None:
            self._opener.cancel()
        self._pending = None
        self._runs.cancel()
        self._render()

    def undo(self) -> None:
        """Take the newest run back, unless its result was edited: then it stays and that is said."""
        message = self._history.take_back() if self._runs.run is None else None
        if message is not None:
            self._say(message)

    # ------------------------------------------------------------------ layers and drawing

    def _layers_changed(self) -> None:
        if self._closed:
            return
        before = self.session.scan_id
        self._chooser.follow()
        if self.session.scan_id != before and not self._opener.opening:
            self._message = None
        if self._message is None:
            self._message = self._notes()
        self._runs.follow({scan.id for scan in self._chooser.scans})
        self._history.forget_gone()
        self._preselect()
        self._render()

    def _notes(self) -> Message | None:
        """Return what is to be known of the chosen scan from its file, once."""
        notes = self._chooser.notes()
        return Message("warning", notes) if notes else None

    def _render_again(self, _: object) -> None:
        self._render()

    def _render(self) -> None:
        if self._closed:
            return
        loader, predictor = self._loader, self.session.predictor
        self.view.show_state(
            present(
                Facts(
                    scans=tuple(self._chooser.scans),
                    scan=self._chooser.scan(),
                    entries=tuple(self._chooser.entries),
                    entry=self.session.model,
                    devices=loader.catalogue.devices if loader.catalogue else (("auto", "auto"),),
                    device=self.session.device,
                    head="" if predictor is None else predictor.checkpoint.config.model.head,
                    config=loader.config(),
                    settings=self.settings,
                    ready=predictor is not None,
                    volumetric=self._volumetric(),
                    listed=loader.catalogue is not None,
                    loading=loader.loading,
                    opening=self._opener.opening,
                    pending=self._pending is not None,
                    running=self._runs.run is not None,
                    undoable=self._history.newest,
                    elsewhere="" if self._runs.run is not None else self.session.busy,
                    progress=self._runs.progress or self._opener.progress,
                    message=self._message,
                )
            )
        )
