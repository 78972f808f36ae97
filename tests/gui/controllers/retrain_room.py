"""The training part of the dock on the bench of corrections: what trains and keeps versions are fakes."""

from __future__ import annotations

from pathlib import Path

from napari_llm4seg.config import Card
from napari_llm4seg.corrections import Version
from napari_llm4seg.gui.controllers.choices import Chooser
from napari_llm4seg.gui.controllers.loading import ModelLoader
from napari_llm4seg.gui.controllers.retrain import RetrainController
from napari_llm4seg.gui.state.session import ModelEntry
from napari_llm4seg.gui.viewer_port import NapariPort
from napari_llm4seg.jobs import InlineRunner

BETTER = {
    "n": 2,
    "verdict": "perhaps better",
    "worse": False,
    "dice_before": 0.84,
    "dice_after": 0.91,
    "interval": [0.02, 0.11],
    "hd95_before": 5.1,
    "hd95_after": 3.2,
    "hd95_interval": [-3.0, 0.2],
    "hd95_unit": "mm",
    "remarks": ["No distance: class absent in 1 -> 0 slices"],
    "trust": "Perhaps better: Dice rose, but 2 slices are too few to tell it from chance.",
    "words": "Better.",
}
WORSE = {**BETTER, "verdict": "worse", "worse": True, "dice_after": 0.7, "interval": [-0.2, -0.08], "trust": "Worse."}
PERHAPS = {**WORSE, "verdict": "perhaps worse", "interval": [-0.2, 0.01], "trust": "Perhaps worse."}
# as versions hold it that were kept before pixels were counted
OLD = {key: value for key, value in BETTER.items() if key not in ("remarks", "trust", "hd95_interval")}


class FakeTrainer:
    """Takes commands; the test says what becomes of them."""

    def __init__(self, on_event):
        self.tell = on_event
        self.asked, self.busy, self.closed = [], "", False

    def start(self):
        self.asked.append(("start",))

    def load(self, model, config=None, device="auto"):
        self.asked.append(("load", str(model), device))

    def warm(self, project, scans=None):
        self.asked.append(("warm", project, scans))

    def train(self, project, out, scans=None, *, config=None, name=""):
        self.asked.append(("train", scans, config, name))
        self.out, self.busy = Path(out), "train"

    def train_new(self, project, out, classes, scans=None, *, config=None, name="", **made):
        self.asked.append(("new", [each["name"] for each in classes], scans, name, made))
        self.out, self.busy = Path(out), "new"

    def cross_check(self, project, only, scans=None, *, config=None, new=None):
        self.asked.append(("cross_check", project, only, scans, config, new))
        self.busy = "cross_check"

    def stop(self):
        self.asked.append(("stop",))

    def cancel(self):
        self.asked.append(("cancel",))

    def close(self, timeout=2.0):
        self.closed = True

    def names(self):
        return [each[0] for each in self.asked]

    def finish(self, gate=BETTER, **more):
        what, self.busy = self.busy, ""
        self.tell({"event": "finished", "what": what, "checkpoint": str(self.out), "gate": gate, **more})


class FakeKeeper:
    """Versions in memory."""

    def __init__(self):
        self.kept, self.current, self.broken = [], 0, None

    def versions(self, project):
        return tuple(self.kept), self.current

    def keep(self, trained):
        if self.broken:
            raise self.broken
        number = len(self.kept) + 1
        self.kept.append(
            Version(
                number=number,
                name=f"liver v{number}",
                digest=f"d{number}",
                gate=dict(trained.facts["gate"]),
                cross_check=dict(trained.cross),
            )
        )
        self.current = number
        return self.entry(trained.project, number), number

    def entry(self, project, number):
        name = self.kept[number - 1].name
        return ModelEntry(f"/versions/v{number}", name, Path(f"/versions/v{number}"), Card(name=name))

    def use(self, project, number):
        self.current = number

    def rename(self, project, number, name):
        self.kept[number - 1] = self.kept[number - 1].model_copy(update={"name": name})
        return self.entry(project, number)

    def compare(self, project, a, b):
        return f"v{a} against v{b}"

    def ready(self, project, stack, volumetric):
        assert project.writer.flush(10)


class Room:
    """The bench of corrections with the training on top, and a loader that answers to the session as the dock does."""

    def __init__(self, fakes, correct_bench):
        self.bench = correct_bench.Bench(fakes)
        self.session = self.bench.session
        self.models, self.keeper, self.view = fakes.FakeModels(), FakeKeeper(), fakes.RecordingView()
        self.trainers = []

        def make(on_event):
            self.trainers.append(FakeTrainer(on_event))
            return self.trainers[-1]

        self.controller = RetrainController(
            self.session,
            self.bench.controller,
            self.bench.port,
            self.models,
            self.keeper,
            make,
            self.view,
            lambda: InlineRunner(interval=0),
            aside=lambda call: call(),
        )
        self.controller.start()
        settings = self.session.settings
        chooser = Chooser(self.session, NapariPort(self.bench.viewer), settings)
        nothing = lambda *_: None  # noqa: E731
        loader = self.loader = ModelLoader(
            self.session, self.models, chooser, settings, InlineRunner(interval=0), nothing, nothing, nothing
        )
        self.session.model_wanted.connect(loader.take)
        self.chooser = chooser
        self.start = ModelEntry("liver-v1", "liver", Path("/starters/liver"), Card(name="liver"))
        loader.take(self.start, None)

    @property
    def state(self):
        return self.view.state

    @property
    def trainer(self):
        return self.trainers[-1]

    def correct(self, *slices):
        layer = self.bench.segment()
        for z in slices:
            self.bench.paint(layer, z, 3, 4)
        self.bench.written()
        self.bench.controller._render()
        return layer

    def trained(self, gate=BETTER):
        layer = self.correct(2)
        self.controller.retrain()
        self.trainer.finish(gate)
        return layer
