"""Learning from corrected slices by each method, on the code paths that the window and ``llm4seg finetune`` use."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.checkpoint import Checkpoint, resolve
from napari_llm4seg.config import FinetuneConfig
from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.corrections.suggest import Evidence, measure
from napari_llm4seg.engine.corrections import Corrections, from_store
from napari_llm4seg.engine.crosscheck import FEWEST, cross_check
from napari_llm4seg.engine.finetune import Finetuned, Finetuner
from napari_llm4seg.engine.gate import Gate
from napari_llm4seg.engine.scratch import LAYER, from_scratch, settings_for
from napari_llm4seg.models.build import build_network
from napari_llm4seg.predict import Predictor
from training.annotation_effort.cases import Case
from training.annotation_effort.forest import Forest
from training.annotation_effort.plan import MethodConfig

Array = npt.NDArray[Any]
# Whatever the number of slices, a training is not cut below this.
_FEWEST_EPOCHS = 20


@dataclass(frozen=True, eq=False)
class Said:
    """What a learnt model says of every slice of a case.

    Attributes
    ----------
    labels : list of array (Y, X)
    evidence : dict
        By slice; what the suggestion is made from.
    """

    labels: list[Array]
    evidence: dict[int, Evidence]


@dataclass
class Clock:
    """Seconds by the wall and of this process's processor time."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall += time.perf_counter() - wall
            self.cpu += time.process_time() - cpu


@dataclass(frozen=True, eq=False)
class Outcome:
    """A cell's result: what is said after learning, the time of learning and of saying it, and what else is known."""

    said: Said
    learning: Clock
    saying: Clock
    facts: dict[str, Any] = field(default_factory=dict)


def learn(method: MethodConfig, case: Case, numbers: Sequence[int], seed: int, device: str = "cpu") -> Outcome:
    """Correct the slices ``numbers`` in a fresh project, learn from it, and segment the whole case.

    With no slice a starter is asked as it is.
    """
    learning, saying = Clock(), Clock()
    if not numbers:
        with saying.running():
            said = ask(Predictor(_starter(method), device), case)
        return Outcome(said, learning, saying)
    facts: dict[str, Any]
    with tempfile.TemporaryDirectory(prefix="llm4seg-study-") as folder:
        with SampleStore.open(Path(folder, "project"), create=True, classes=case.classes) as store:
            case.correct(store, numbers, whole=_volumetric(method))
            slices = from_store(store)
            with learning.running():
                speak, facts = _learnt(method, case, slices, seed, device)
        with saying.running():
            said = speak()
    return Outcome(said, learning, saying, facts)


def _learnt(
    method: MethodConfig, case: Case, slices: Corrections, seed: int, device: str
) -> tuple[Callable[[], Said], dict[str, Any]]:
    if method.kind == "forest":
        forest = Forest([spec.value for spec in case.classes], case.modality, seed)
        forest.fit([each.image for each in slices.slices], [each.labels for each in slices.slices])
        return lambda: ask_forest(forest, case), {}
    if method.kind == "scratch":
        config = settings(method, settings_for(slices), len(slices), seed)
        layer = LAYER if method.block else None
        done = from_scratch(
            case.classes, slices, config, preset=method.preset, layer=layer, modality=case.modality, device=device
        )
    else:
        tuner = Finetuner(_starter(method), settings(method, FinetuneConfig(), len(slices), seed), device)
        done = tuner.train(slices)
        if method.check and len(slices) >= FEWEST:
            checked = {"cross_check": _of_gate(cross_check(tuner, slices))}
            return lambda: ask(Predictor(done.checkpoint, device), case), _facts(done) | checked
    return lambda: ask(Predictor(done.checkpoint, device), case), _facts(done)


def settings(method: MethodConfig, base: FinetuneConfig, k: int, seed: int) -> FinetuneConfig:
    """Return the settings for ``k`` slices: the method's own changes of ``base``, and epochs instead of seconds.

    An end by the clock would make every figure one of how busy the machine was.
    """
    fit = base.fit.model_dump() | method.fit | {"seed": seed}
    if method.passes is not None:
        fit["epochs"] = max(_FEWEST_EPOCHS, round(method.passes / k))
    return FinetuneConfig.model_validate(base.model_dump() | {"seconds": None} | method.more | {"fit": fit})


def ask(predictor: Predictor, case: Case) -> Said:
    """Return what a network says of every slice."""
    labels: list[Array] = []
    evidence: dict[int, Evidence] = {}
    head = predictor.checkpoint.config.model.head
    threshold = predictor.config.threshold
    for scan in case.scans:
        start = len(labels)

        def look(z: int, _: Array, probabilities: Array, start: int = start) -> None:
            evidence[start + z] = measure(probabilities, head, threshold)

        labels += list(predictor.predict(scan, on_slice=look, keep_probabilities=False).labels)
    return Said(labels, evidence)


def ask_forest(forest: Forest, case: Case) -> Said:
    """Return what a random forest says of every slice."""
    values = np.array([0, *forest.classes], dtype=np.uint8)
    labels, evidence = [], {}
    for number in range(len(case)):
        probabilities = forest.probabilities(case.image(number))
        labels.append(values[probabilities.argmax(axis=0)])
        evidence[number] = measure(probabilities, "softmax")
    return Said(labels, evidence)


def _starter(method: MethodConfig) -> Checkpoint:
    assert method.model is not None  # the plan's own check
    checkpoint = Checkpoint.load(resolve(method.model))
    return checkpoint if method.block else without_block(checkpoint)


def _volumetric(method: MethodConfig) -> bool:
    return method.kind == "finetune" and _starter(method).config.preprocess.patch is not None


def without_block(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with the language model's layer and its adapters taken out: encoder straight to decoder.

    The decoder was trained behind the block and has to adapt; a starter that never had one would be fairer.
    """
    config = checkpoint.config
    plain = config.model_copy(update={"model": config.model.model_copy(update={"block": None})})
    names = build_network(plain.model).trained_tensors()
    return replace(checkpoint, config=plain, tensors={name: checkpoint.tensors[name] for name in names}, _digest=[])


def _facts(done: Finetuned) -> dict[str, Any]:
    training = done.checkpoint.config.card.training
    facts = {key: training[key] for key in ("epochs", "best_epoch")}
    facts["trained_on"] = len(done.split.train)
    return facts | {"gate": _of_gate(done.gate)}


def _of_gate(gate: Gate) -> dict[str, Any]:
    """Return what a row keeps of a gate: its figures, not its words."""
    return {key: value for key, value in gate.as_dict().items() if key not in ("words", "trust", "remarks")}
