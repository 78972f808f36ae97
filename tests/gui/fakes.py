"""Stand-ins at the controllers' seams: a predictor that thresholds, a source of such models, a view that remembers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from napari_llm4seg.config import (
    BackboneConfig,
    Card,
    CheckpointConfig,
    ClassSpec,
    ModelConfig,
    PreprocessConfig,
)
from napari_llm4seg.errors import Cancelled, CheckpointError
from napari_llm4seg.gui.controllers.ports import Catalogue
from napari_llm4seg.gui.results import begin
from napari_llm4seg.gui.state.look import Look
from napari_llm4seg.gui.state.session import ModelEntry
from napari_llm4seg.planes import slice_axis, turned
from napari_llm4seg.volume import Prediction, Volume, affine_from_spacing

ULTRASOUND = Card(
    name="breast-ultrasound",
    modality="breast ultrasound",
    training_data="BUSI",
    licence="CC0-1.0",
    scores={"test": {"iou": 0.714, "n": 103}},
)
HEAD = Card(name="volume-head", modality="MR", training_data="some volumes", licence="CC-BY-4.0")
ABDOMEN = Card(name="abdomen", modality="CT", training_data="some volumes", licence="CC-BY-4.0")

SKIN = Card(name="skin-lesion", modality="dermoscopy")
BRAIN = Card(name="hippocampus-mri", modality="MRI")
POLYP = Card(name="polyp", modality="colonoscopy")
LOOKS = {
    "hippocampus-mri": Look(True, False, False),
    "breast-ultrasound": Look(False, False, False, (0.33, 0.33, 0.33)),
    "skin-lesion": Look(False, True, False, (0.7, 0.6, 0.55)),
    "polyp": Look(False, True, False, (0.55, 0.32, 0.23)),
}


def checkpoint(card=ULTRASOUND, head="sigmoid", classes=None, digest="0" * 64):
    """A checkpoint's outside: config and digest; of a network for volumes where the card's name says so."""
    volumetric = "volume" in card.name
    config = CheckpointConfig(
        model=ModelConfig(
            backbone=BackboneConfig(kind="unet", spatial_dims=3) if volumetric else BackboneConfig(),
            classes=classes or (ClassSpec(value=1, name="lesion"),),
            head=head,
        ),
        preprocess=PreprocessConfig(patch=(8, 16, 16) if volumetric else None),
        card=card,
    )
    return SimpleNamespace(config=config, digest=digest, name=card.name)


def begun(viewer, scan, spec):
    """Return what a run on ``scan`` writes to, all of it in the viewer; a window takes a turn for each part of that."""
    result = begin(viewer, scan, spec)
    while result.prepare():
        pass
    return result


class FakePredictor:
    """Labels every pixel above the threshold (as a fraction of 255) with the first class; real arithmetic, no torch.

    ``hooks`` maps a slice to a callable that runs just before that slice is done.
    """

    def __init__(self, checkpoint, config=None, hooks=None, fail_at=None, messages=()):
        self.checkpoint, self.device = checkpoint, "cpu"
        self.config = config or checkpoint.config.predict
        self.hooks, self.fail_at, self.messages = hooks or {}, fail_at, messages
        self.ran, self.seen = [], []

    def predict(self, volume, *, slices=None, first=None, progress=None, cancel=None, on_slice=None, **_):
        volume = turned(volume, slice_axis(volume, self.config.axis))
        order = list(range(volume.n_slices)) if slices is None else list(slices)
        if first in order:
            order.sort(key=lambda z: (z != first, z))
        self.ran.append(order)
        self.seen.append(volume)
        labels = np.zeros(volume.grid, dtype=np.uint8)
        for done, z in enumerate(order):
            if z in self.hooks:
                self.hooks[z]()
            if cancel is not None and cancel():
                raise Cancelled("Stopped.")
            if self.fail_at == z:
                raise RuntimeError("kernel image is missing")
            grey = volume.slice_at(z).mean(axis=0) / 255
            labels[z] = grey > self.config.threshold
            if on_slice is not None:
                on_slice(z, labels[z], grey[None].astype(np.float32))
            if progress is not None:
                progress(done + 1, len(order), f"slice {done + 1}/{len(order)}")
        return Prediction(
            labels,
            None,
            volume.affine,
            volume.unit,
            volume.name,
            ((1, "lesion", "#E69F00"),),
            {"checkpoint": self.checkpoint.digest, "messages": list(self.messages)},
        )


class FakeModels:
    """``ModelSource`` with two starters; ``predictor`` is what every load gives unless it is an exception."""

    def __init__(self, cards=(ABDOMEN, ULTRASOUND), devices=(("auto", "auto: CPU"), ("cpu", "cpu")), looks=None, **how):
        self.cards, self.devices, self.looks, self.how = cards, devices, looks or {}, how
        self.loaded = []
        self.predictor = None
        self.listed, self.notes = [], ()

    def catalogue(self):
        entries = [
            ModelEntry(card.name, card.name, Path("/starters") / card.name, card, True, self.looks.get(card.name))
            for card in self.cards
        ]
        return Catalogue(tuple(entries), tuple(self.devices))

    def load(self, entry, device):
        self.loaded.append((entry.key, device))
        if "broken" in entry.key:
            raise CheckpointError(f"'{entry.name}' is no checkpoint of this program.")
        card = entry.card or Card(name=entry.name, modality="ultrasound", licence="own")
        self.predictor = FakePredictor(checkpoint(card, digest=entry.key), **self.how)
        return self.predictor

    def configured(self, predictor, config):
        predictor.config = config
        return predictor

    def series(self, path, progress=None):
        return self.listed

    def read_scan(self, path, numbers=(None,), progress=None):
        if progress is not None:
            progress(1, 3, "slice 1/3")
        metadata = {"messages": list(self.notes)}
        names = [path.stem if number is None else f"{path.stem} {number}" for number in numbers]
        return [Volume(np.zeros((1, 1, 40, 50), np.uint8), name=name, metadata=metadata) for name in names]

    def read_sample(self, key):
        return [volume(name=key)]


def volume(shape=(1, 1, 40, 50), name="scan", spacing=(1.0, 0.2, 0.1)):
    """A bright square on black; the unit is mm."""
    data = np.zeros(shape, np.uint8)
    data[..., 10:20, 15:30] = 200
    return Volume(data, affine_from_spacing(spacing), unit="mm", name=name, metadata={"modality": "US"})


class RecordingView:
    """Keeps every state it was shown."""

    def __init__(self):
        self.states, self.actions = [], None
        self.ticks, self.asked = [], []

    def attach(self, actions):
        self.actions = actions

    def show_state(self, state):
        self.states.append(state)

    def choose_series(self, name, lines, first):
        self.asked.append((name, list(lines)))
        return self.ticks

    @property
    def state(self):
        return self.states[-1]
