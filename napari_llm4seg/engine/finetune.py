"""Fine-tuning on a person's corrections: parts of a checkpoint, a few slices, judged by slices held back."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import FinetuneConfig, FitConfig
from napari_llm4seg.engine.corrections import Correction, Corrections
from napari_llm4seg.engine.features import FeatureCache
from napari_llm4seg.engine.fit import Event, FitResult, fit, make_fabric
from napari_llm4seg.engine.gate import Gate, compare
from napari_llm4seg.engine.held_back import Parts, hold_back
from napari_llm4seg.engine.judge import judge
from napari_llm4seg.engine.resume import Data
from napari_llm4seg.engine.round import learnt_from, replayed, timed, training_facts, with_scores
from napari_llm4seg.engine.scores import Score
from napari_llm4seg.engine.source import ImageValidation
from napari_llm4seg.engine.variants import CachedValidation, VariantTraining
from napari_llm4seg.engine.volumes import VolumeTraining, VolumeValidation
from napari_llm4seg.errors import InputError
from napari_llm4seg.predict import Predictor
from napari_llm4seg.predict.device import choose_device, computes_bfloat16

Labels = npt.NDArray[Any]
Ask = Callable[[], bool]
OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Finetuned:
    """What came of a fine-tuning.

    Attributes
    ----------
    checkpoint : Checkpoint
        A new one; the old one is untouched.
    gate : Gate
        Scores of the held-back slices before and after.
    split : Parts
        Which of the slices trained, were held back or left out, by number.
    history : list of dict
        A row per validation, as ``fit`` gives it.
    seconds : float
        From the start until everything was judged.
    held_back : Corrections
    before, after : list of array (Y, X)
        Label values that the old and the new checkpoint give the held-back slices.
    """

    checkpoint: Checkpoint
    gate: Gate
    split: Parts
    history: list[dict[str, float]]
    seconds: float
    held_back: Corrections
    before: list[Labels] = field(repr=False)
    after: list[Labels] = field(repr=False)

    @property
    def locked(self) -> tuple[str, ...]:
        """Digests of the held-back slices, which are to stay so in later rounds."""
        return tuple(each.digest for each in self.held_back.slices)


class Finetuner:
    """A checkpoint ready to be fine-tuned, again and again, from where it is.

    Parameters
    ----------
    checkpoint : Checkpoint
    config : FinetuneConfig
        Its default parts, fit and limits.
    device : str
        As in ``make_fabric``.
    parent : bool
        Whether ``checkpoint`` is one that people know; False for an untrained one.

    Raises
    ------
    CheckpointError, DeviceError
        If the network cannot be built, or not on that device.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: FinetuneConfig | None = None,
        device: str = "auto",
        *,
        parent: bool = True,
    ) -> None:
        self.checkpoint, self.config, self.device = checkpoint, config or FinetuneConfig(), device
        self.parent = checkpoint if parent else None
        self.predictor = Predictor(checkpoint, device)
        self._net = checkpoint.build().train_only("adapters+decoder")
        self.volumetric = self.predictor.volumetric
        self.cache = FeatureCache(self._net, 0 if self.volumetric else self.config.cache_mb)

    def warm(self, slices: Corrections, cancel: Ask | None = None) -> None:
        """Do what training on ``slices`` will need and can be done before: features of all their variants.

        Raises
        ------
        Cancelled
        InputError
            If a slice cannot be used.
        """
        if self.volumetric or not len(slices) or self.config.parts == "all":
            return
        self._net.eval()
        config = self.checkpoint.config
        samples = slices.samples(config.preprocess, config.model.classes)
        source = VariantTraining(
            samples, self.config.fit.augment, self.config.variants, seed=self.config.fit.seed, cache=self.cache
        )
        source.fill(cancel)

    def train(
        self,
        slices: Corrections,
        config: FinetuneConfig | None = None,
        *,
        replay: Corrections | None = None,
        locked: Collection[str] = (),
        name: str | None = None,
        on_split: Callable[[Corrections, Corrections], None] | None = None,
        on_event: OnEvent | None = None,
        cancel: Ask | None = None,
        stop: Ask | None = None,
    ) -> Finetuned:
        """Train on corrected slices and judge by those held back.

        Parameters
        ----------
        slices : Corrections
        config : FinetuneConfig, optional
            By default the one given at first.
        replay : Corrections, optional
            Earlier ones that shall not be forgotten, of other scans.
        locked : collection of str
            Digests of slices that were held back before and never train.
        name : str, optional
            Of the new checkpoint; by default the old one's.
        on_split : callable
            Told before the training which slices train and which are held back, so that these can be locked.
        on_event, cancel, stop
            As in ``fit``.

        Raises
        ------
        Cancelled
        ConfigError
            If the checkpoint lacks the parts.
        InputError
            If no slice is left to train on, or one cannot be used.
        """
        started = time.monotonic()
        config = config or self.config
        slices.needs_some()
        items = slices.items()
        split = hold_back(items, config.hold_back, gap=config.gap, locked=locked, seed=config.fit.seed)
        if not split.train:
            raise InputError(
                f"All {len(items)} corrected slices are held back or beside one that is; correct one further away."
            )
        held = slices[split.held_back]
        if on_split is not None:
            on_split(slices[split.train], held)
        judging = time.monotonic()
        before, labels_before = self._judge_before(held, cancel)
        now = time.monotonic()
        again = replayed(replay, slices, locked, config)
        result = self._fit(slices[split.train], again, config, now - started, now - judging, on_event, cancel, stop)
        facts = training_facts(self.parent, config, slices, split, again, result)
        facts["precision"] = self._precise(config.fit, config.mixed).precision
        checkpoint = self._as_checkpoint(result, facts, name)
        after, labels_after = judge(Predictor(checkpoint, self.device), held, cancel) if len(held) else ([], [])
        known = learnt_from(self.parent) if self.parent is not None else set()
        taught = sum(each.digest in known for each in held.slices)
        gate = compare(before, after, wanted=config.hold_back > 0, taught=taught)
        return Finetuned(
            with_scores(checkpoint, gate),
            gate,
            split,
            result.history,
            time.monotonic() - started,
            held,
            labels_before,
            labels_after,
        )

    def _judge_before(self, held: Corrections, cancel: Ask | None) -> tuple[list[Score], list[Labels]]:
        return judge(self.predictor, held, cancel) if len(held) else ([], [])

    def _fit(
        self,
        train: Corrections,
        replay: Corrections | None,
        config: FinetuneConfig,
        spent: float,
        needed: float,
        on_event: OnEvent | None,
        cancel: Ask | None,
        stop: Ask | None,
    ) -> FitResult:
        """Train, for as long as ``spent`` seconds before and ``needed`` ones after leave of the config's."""
        net, started = self._net, time.monotonic()
        try:
            net.train_only(config.parts)
            data = self._volumes(train, replay, config) if self.volumetric else self._images(train, replay, config)
            spent += time.monotonic() - started
            fit_config = self._precise(timed(config, spent + needed), config.mixed)
            return fit(
                make_fabric(fit_config, self.device),
                net,
                data,
                fit_config,
                folder=None,
                threshold=self.checkpoint.config.predict.threshold,
                on_event=on_event,
                cancel=cancel,
                stop=stop,
            )
        finally:  # the next training begins where this one did, and the cache needs this encoder
            net.load_state_dict(dict(self.checkpoint.tensors), strict=False)
            net.train_only("adapters+decoder").eval()

    def _precise(self, config: FitConfig, mixed: bool) -> FitConfig:
        """Return ``config`` in the precision that is fastest here; 3-D ones in bfloat16 give NaN on some CPUs."""
        fast = mixed and config.precision == "32" and not self.volumetric
        if not fast or not computes_bfloat16(choose_device(self.device)):
            return config
        return config.model_copy(update={"precision": "bf16"})

    def _images(self, train: Corrections, replay: Corrections | None, config: FinetuneConfig) -> Data:
        preprocess, classes = self.checkpoint.config.preprocess, self.checkpoint.config.model.classes
        samples = train.samples(preprocess, classes)
        cache = None if config.parts == "all" else self.cache
        training = VariantTraining(
            samples,
            config.fit.augment,
            config.variants,
            seed=config.fit.seed,
            cache=cache,
            window=config.window,
            replay=replay.samples(preprocess, classes) if replay else None,
            share=config.replay,
        )
        return training, ImageValidation(samples) if cache is None else CachedValidation(samples, cache)

    def _volumes(self, train: Corrections, replay: Corrections | None, config: FinetuneConfig) -> Data:
        preprocess, classes = self.checkpoint.config.preprocess, self.checkpoint.config.model.classes
        assert preprocess.patch is not None  # a volumetric network's
        loaded = train.loaded(preprocess, classes)
        others = replay.loaded(preprocess, classes, skip=True) if replay else []
        each = config.fit.patches_per_volume
        training = VolumeTraining(loaded, preprocess.patch, config.fit.augment, each, others, config.replay)
        return training, VolumeValidation(loaded, preprocess.patch, classes)

    def _as_checkpoint(self, result: FitResult, facts: dict[str, Any], name: str | None) -> Checkpoint:
        old = self.checkpoint
        if self.parent is None:
            facts = old.config.card.training | facts  # what an untrained one was made of
        card = old.config.card.model_copy(update={"name": name or old.name, "training": facts, "scores": {}})
        # the frozen layers that lie beside the old one are found, and carried along, through its path
        return Checkpoint(old.config.model_copy(update={"card": card}), result.tensors, old.path)


def finetune(
    checkpoint: Checkpoint,
    slices: Corrections | Sequence[Correction],
    config: FinetuneConfig | None = None,
    *,
    device: str = "auto",
    **more: Any,
) -> Finetuned:
    """Fine-tune ``checkpoint`` on corrected slices; ``more`` as for ``Finetuner.train``.

    >>> from napari_llm4seg.engine.corrections import from_store
    >>> done = finetune(checkpoint, from_store(store))  # doctest: +SKIP
    >>> print(done.gate.words())  # doctest: +SKIP
    """
    chosen = slices if isinstance(slices, Corrections) else Corrections(tuple(slices))
    return Finetuner(checkpoint, config, device).train(chosen, **more)


__all__ = ["Correction", "Corrections", "Finetuned", "Finetuner", "finetune"]
