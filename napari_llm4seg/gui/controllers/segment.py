"""What the Segment dock does: choose, load in advance, run, stream the slices, cancel, take back. No Qt, no napari."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.choices import Chooser
from napari_llm4seg.gui.controllers.ports import (
    Catalogue,
    ModelSource,
    ResultHandle,
    ResultSpec,
    Runner,
    ScanInfo,
    SlicePart,
    ViewerPort,
)
from napari_llm4seg.gui.controllers.present import Facts, present
from napari_llm4seg.gui.state.session import ModelEntry, Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.views.abstract import Message, ProgressState, SegmentView

Kind = Literal["slice", "all"]
_KEPT_UNDO = 20


@dataclass
class _Run:
    """One segmentation while it goes on."""

    scan: ScanInfo
    spec: ResultSpec
    first: int
    total: int
    started: float
    result: ResultHandle | None = None
    done: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    stopped: str = ""


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
    save : callable(Settings), optional
    """

    def __init__(
        self,
        session: Session,
        port: ViewerPort,
        models: ModelSource,
        view: SegmentView,
        make_runner: Callable[[], Runner],
        settings: Settings,
        save: Callable[[Settings], object] = Settings.save,
    ) -> None:
        self.session, self.port, self.models, self.view = session, port, models, view
        self.settings, self._save = settings, save
        self._loader, self._worker, self._opener = make_runner(), make_runner(), make_runner()
        self._chooser = Chooser(session, port, settings)
        self._catalogue: Catalogue | None = None
        self._loading = self._opening = False
        self._pending: Kind | None = None
        self._run: _Run | None = None
        self._progress: ProgressState | None = None
        self._message: Message | None = None
        self._undo: list[ResultHandle] = []
        self._closed = False

    def start(self) -> None:
        """Show what is there and begin to list and load the models."""
        self.view.attach(self)
        self.port.connect(self._layers_changed)
        self.session.device = self.settings.device
        self._chooser.follow()
        self._loading = True
        self._loader.start(
            lambda ctx: self.models.catalogue(), on_result=self._got_catalogue, on_error=self._no_catalogue
        )
        self._render()

    def close(self) -> None:
        """Stop everything calmly; nothing is drawn or written any more."""
        if self._closed:
            return
        self._closed = True
        self.port.disconnect()
        for runner in (self._worker, self._loader, self._opener):
            if runner.current is not None:
                runner.current.cancel()
        self.session.busy = ""

    # ------------------------------------------------------------------ choices

    def choose_scan(self, scan_id: str) -> None:
        self.session.scan_id = scan_id
        self._message = None
        self._preselect()
        self._render()

    def choose_model(self, key: str) -> None:
        entry = next((item for item in self._chooser.entries if item.key == key), None)
        if entry is None or (entry == self.session.model and self.session.predictor is not None):
            return
        self._chooser.by_hand = True
        self._message = None
        self._use(entry)
        self._remember(model=key)

    def add_model(self, path: Path) -> None:
        """Take a checkpoint from a file or folder; it joins the list once it has been read."""
        entry = self._chooser.add(path)
        self.settings.models = [str(path), *[item for item in self.settings.models if item != str(path)]][:20]
        self.choose_model(entry.key)

    def choose_device(self, key: str) -> None:
        if key == self.session.device:
            return
        self.session.device = key
        self._remember(device=key)
        if self.session.model is not None:
            self._use(self.session.model)

    def set_option(self, name: str, value: Any) -> None:
        if name == "probability":
            self._remember(probability=bool(value))
        else:
            self._remember(options={**self.settings.options, name: value})
        self._render()

    def reset_options(self) -> None:
        self._remember(options={}, probability=False)
        self._render()

    def dismiss_message(self) -> None:
        self._message = None
        self._render()

    def _remember(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self.settings, name, value)
        self._save(self.settings)

    # ------------------------------------------------------------------ models

    def _got_catalogue(self, catalogue: Catalogue) -> None:
        self._loading = False
        self._catalogue = catalogue
        self._chooser.entries = list(catalogue.models)
        if self.session.device not in {key for key, _ in catalogue.devices}:
            self.session.device = "auto"
        self._preselect()
        if self.session.model is None:
            self._pending = None
        self._render()

    def _no_catalogue(self, error: BaseException) -> None:
        self._loading = False
        self._pending = None
        self._message = words.failure(error, "Looking for models")
        self._render()

    def _preselect(self) -> None:
        """Until a person chooses, the model that fits the scan's modality is the chosen one."""
        entry = self._chooser.proposal()
        if entry is not None and entry != self.session.model and not self._run:
            self._use(entry)

    def _use(self, entry: ModelEntry) -> None:
        """Choose ``entry`` and load it now, so that the click finds it warm."""
        self.session.model = entry
        self.session.predictor = None
        self._loading = True
        device = self.session.device
        self._loader.start(
            lambda ctx: self.models.load(entry, device),
            on_result=self._loaded,
            on_error=self._not_loaded,
            on_cancelled=self._load_cancelled,
        )
        self._render()

    def _loaded(self, predictor: Any) -> None:
        self._loading = False
        entry = self.session.model
        if entry is not None and entry.card is None:
            self.session.model = self._chooser.described(entry, predictor.checkpoint.config.card)
        self.session.predictor = predictor
        pending, self._pending = self._pending, None
        if pending is not None:
            self._segment(pending)
        else:
            self._render()

    def _not_loaded(self, error: BaseException) -> None:
        self._load_cancelled()
        self._message = words.failure(error, "Loading the model")
        self._render()

    def _load_cancelled(self) -> None:
        self._loading = False
        self._pending = None
        self._render()

    def _config(self) -> PredictConfig:
        """Return the model's own configuration with the person's changes on top."""
        predictor = self.session.predictor
        own = predictor.checkpoint.config.predict if predictor is not None else PredictConfig()
        fields = PredictConfig.model_fields
        changes = {name: value for name, value in self.settings.options.items() if name in fields}
        try:
            return PredictConfig(**{**own.model_dump(), **changes})
        except ValueError:  # settings edited by hand
            self.settings.options = {}
            return PredictConfig(**own.model_dump())

    # ------------------------------------------------------------------ opening

    def open_scan(self, path: Path) -> None:
        self._open(lambda: self.models.read_scan(path), f"Opening {path.name}")

    def open_sample(self, key: str) -> None:
        self._open(lambda: self.models.read_sample(key), "Opening the sample")

    def _open(self, read: Callable[[], Any], doing: str) -> None:
        self._opening = True
        self._message = Message("info", f"{doing}…")

        def opened(volumes: Any) -> None:
            self._opening = False
            self._message = None
            self.port.add_volumes(volumes)
            self._layers_changed()

        def failed(error: BaseException) -> None:
            self._opening = False
            self._message = words.failure(error, doing)
            self._render()

        self._render()
        self._opener.start(lambda ctx: read(), on_result=opened, on_error=failed)

    # ------------------------------------------------------------------ running

    def segment_slice(self) -> None:
        self._segment("slice")

    def segment_all(self) -> None:
        self._segment("all")

    def _segment(self, kind: Kind) -> None:
        scan = self._chooser.scan()
        if self._closed or self._run or scan is None or scan.problem:
            self._render()
            return
        self._message = None
        if self.session.predictor is None:
            self._pending = kind if self._loading else None
            self._render()
            return
        try:
            volume = self.port.volume(scan.id)
        except LLM4SegError as error:
            self._message = words.failure(error, "Reading the layer")
            self._render()
            return
        z = self.port.current_slice(scan.id)
        slices = None if kind == "all" or scan.n_slices == 1 else (z,)
        self._launch(scan, volume, z, slices)

    def _launch(self, scan: ScanInfo, volume: Any, z: int, slices: tuple[int, ...] | None) -> None:
        predictor, config, probability = self.session.predictor, self._config(), self.settings.probability
        spec = self._spec(predictor, slices, probability)
        total = scan.n_slices if slices is None else len(slices)
        self._run = run = _Run(scan, spec, z, total, time.monotonic())
        self._progress = ProgressState(0, 0, "starting")
        self.session.busy = f"Segmenting {scan.name}"

        def job(ctx: Any) -> Any:
            def on_slice(index: int, labels: Any, probabilities: Any) -> None:
                ctx.partial(SlicePart(int(index), labels, probabilities if probability else None))

            return self.models.configured(predictor, config).predict(
                volume,
                slices=None if slices is None else list(slices),
                first=z,
                progress=ctx.progress,
                cancel=ctx.cancelled,
                on_slice=on_slice,
                keep_probabilities=False,
            )

        self._render()
        self._worker.start(
            job,
            on_progress=self._on_progress,
            on_partial=lambda part: self._on_part(run, part),
            on_result=lambda prediction: self._on_result(run, prediction),
            on_error=lambda error: self._on_error(run, error),
            on_cancelled=lambda: self._on_cancelled(run),
        )

    def _spec(self, predictor: Any, slices: tuple[int, ...] | None, probability: bool) -> ResultSpec:
        checkpoint = predictor.checkpoint
        model = checkpoint.config.model
        classes = tuple((item.value, item.name, item.colour) for item in model.classes)
        channels = tuple(item.name for item in model.classes)
        if model.head == "softmax":
            channels = ("background", *channels)
        entry = self.session.model
        return ResultSpec(
            model=entry.name if entry is not None else checkpoint.config.card.name,
            digest=str(checkpoint.digest),
            classes=classes,
            slices=slices,
            channels=channels if probability else (),
        )

    def _on_progress(self, progress: Any) -> None:
        if self._run is None or self._closed:
            return
        if progress.total > 1:
            text = f"slice {progress.done}/{progress.total}{words.left(progress.seconds_left)}"
        else:
            text = progress.message or "running"
        self._progress = ProgressState(progress.done, progress.total if progress.total > 1 else 0, text)
        self._render()

    def _on_part(self, run: _Run, part: SlicePart) -> None:
        if self._closed or run is not self._run or run.stopped:
            return
        if run.result is None:
            run.result = self.port.begin_result(run.scan.id, run.spec)
            self.session.result_id = run.result.id
        run.result.write(part)
        run.done.append(part.z)
        if part.labels.any():
            run.found.append(part.z)

    def _on_result(self, run: _Run, prediction: Any) -> None:
        seconds = time.monotonic() - run.started
        provenance = dict(prediction.provenance)
        notes = [str(note) for note in provenance.get("messages", ())]
        self._settle(run, provenance)
        self._message = present_result(run, seconds, notes)
        self._render()

    def _on_error(self, run: _Run, error: BaseException) -> None:
        self._settle(run, {"failed": str(error), "slices": sorted(run.done)})
        message = words.failure(error, "Segmenting")
        if run.done:
            message = replace(message, text=f"{message.text} The {len(run.done)} finished slices are kept.")
        self._message = message
        self._render()

    def _on_cancelled(self, run: _Run) -> None:
        self._settle(run, {"cancelled": True, "slices": sorted(run.done)})
        text = run.stopped or "Stopped."
        if run.done and run.result is not None and run.result.alive():
            text += f" {len(run.done)} of {run.total} slices were finished and are kept; Undo result takes them back."
        self._message = Message("info", text)
        self._render()

    def _settle(self, run: _Run, provenance: dict[str, Any]) -> None:
        """Leave the running state, whatever way it ended."""
        self._run, self._progress = None, None
        self.session.busy = ""
        if self._closed or run.result is None or not run.result.alive():
            return
        run.result.finish(provenance)
        self._undo = [*self._undo, run.result][-_KEPT_UNDO:]

    def cancel(self) -> None:
        """Stop the run, or the start that waits for a model; ends at ``on_cancelled``."""
        self._pending = None
        if self._run is not None:
            self._progress = ProgressState(0, 0, "stopping")
            if self._worker.current is not None:
                self._worker.current.cancel()
        self._render()

    def undo(self) -> None:
        """Take the newest run back, unless its result was edited: then it stays and that is said."""
        self._forget_gone()
        if self._run is not None or not self._undo:
            return
        result = self._undo[-1]
        if result.undo():
            self._undo.pop()
            self._message = Message("info", "The last result was taken back.")
            self.session.result_id = self._undo[-1].id if self._undo else None
        else:
            self._message = Message(
                "warning",
                f"'{result.name}' was edited since, so it stays. Delete or hide the layer if you do not want it.",
            )
        self._render()

    # ------------------------------------------------------------------ layers and drawing

    def _layers_changed(self) -> None:
        if self._closed:
            return
        self._chooser.follow()
        run = self._run
        if run is not None and not run.stopped:
            if run.scan.id not in {scan.id for scan in self._chooser.scans}:
                run.stopped = f"'{run.scan.name}' was closed, so its segmentation was stopped."
            elif run.result is not None and not run.result.alive():
                run.stopped = "The result layer was removed, so the segmentation was stopped."
            if run.stopped:
                self.cancel()
        self._forget_gone()
        self._preselect()
        self._render()

    def _forget_gone(self) -> None:
        self._undo = [result for result in self._undo if result.alive()]

    def _render(self) -> None:
        if self._closed:
            return
        self.view.show_state(
            present(
                Facts(
                    scans=tuple(self._chooser.scans),
                    scan=self._chooser.scan(),
                    entries=tuple(self._chooser.entries),
                    entry=self.session.model,
                    devices=self._catalogue.devices if self._catalogue else (("auto", "auto"),),
                    device=self.session.device,
                    head=_head(self.session.predictor),
                    config=self._config(),
                    settings=self.settings,
                    ready=self.session.predictor is not None,
                    listed=self._catalogue is not None,
                    loading=self._loading,
                    opening=self._opening,
                    pending=self._pending is not None,
                    running=self._run is not None,
                    undoable=self._undo[-1].name if self._undo else "",
                    progress=self._progress,
                    message=self._message,
                )
            )
        )


def _head(predictor: Any) -> str:
    return "" if predictor is None else str(predictor.checkpoint.config.model.head)


def present_result(run: _Run, seconds: float, notes: list[str]) -> Message:
    """Say what a finished run found, in one calm line; conversions and fallbacks follow it."""
    structures = ", ".join(name for _, name, _ in run.spec.classes)
    if run.total == 1:
        what = "Done" if run.found else f"The model found no {structures} in this image"
    else:
        what = f"{structures} in {len(run.found)} of {len(run.done)} slices".capitalize()
    parts = [f"{what} ({words.duration(seconds)})."]
    if run.result is not None and run.result.kept:
        shown = ", ".join(str(z) for z in run.result.kept[:5])
        parts.append(f"Painted during the run and kept as painted: slice {shown}.")
    return Message("warning" if notes else "info", " ".join([*parts, *notes]))
