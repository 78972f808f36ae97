"""The training child: a process of its own that is kept warm, takes commands and tells how it goes.

Both ways a JSON object per line: commands on standard input ("load", "warm", "train", "new", "cross_check", "stop",
"cancel"), events on what was standard output when it started; whatever libraries print goes to standard error. It only
reads the project. It ends when its input does, so it never outlives the window.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from napari_llm4seg.errors import Cancelled, LLM4SegError, one_line
from napari_llm4seg.jobs.exchange import Message, corrections, judged, keep, keys, of_keys, settings

if TYPE_CHECKING:
    from napari_llm4seg.config import FinetuneConfig
    from napari_llm4seg.engine.corrections import Corrections
    from napari_llm4seg.engine.finetune import Finetuner
    from napari_llm4seg.engine.fit import Event

# Exit status where the memory it was given did not suffice.
OUT_OF_MEMORY = 12
_LOOK_SECONDS = 0.2
# Events of single steps are thinned to this many per second.
_STEPS_PER_SECOND = 10


class Trainer:
    """Carries out commands one after another; "stop" and "cancel" reach the one under way.

    Parameters
    ----------
    commands : text stream
    events : text stream
    """

    def __init__(self, commands: IO[str], events: IO[str]) -> None:
        self._commands, self._events = commands, events
        self._waiting: queue.Queue[Message | None] = queue.Queue()
        # numbers of the newest command that a cancel or a stop was meant for, and of the one under way
        self._cancelled = self._stopped = self._current = 0
        self._writing = threading.Lock()
        self._told_step = 0.0
        self._tuner: Finetuner | None = None

    def tell(self, event: str, **facts: Any) -> None:
        """Send an event to the owner."""
        with self._writing:
            self._events.write(json.dumps({"event": event, **facts}) + "\n")
            self._events.flush()

    def serve(self) -> None:
        """Work until the input ends."""
        threading.Thread(target=self._listen, name="llm4seg-commands", daemon=True).start()
        import_everything()
        self.tell("ready")
        while True:
            command = self._waiting.get()
            if command is None:
                return
            self._carry_out(command)

    def _listen(self) -> None:
        for text in self._commands:
            command = json.loads(text)
            if command["do"] == "cancel":
                self._cancelled = command["number"]
            elif command["do"] == "stop":
                self._stopped = command["number"]
            else:
                self._waiting.put(command)
        os._exit(0)  # the owner is gone; whatever is under way is of no use to anybody

    def _cancel(self) -> bool:
        return self._current <= self._cancelled

    def _stop(self) -> bool:
        return self._current <= self._stopped

    def _carry_out(self, command: Message) -> None:
        what = command.pop("do")
        number = self._current = command.pop("number")
        doing: dict[str, Callable[..., Message]] = {
            "load": self._load,
            "warm": self._warm,
            "train": self._train,
            "new": self._new,
            "cross_check": self._cross_check,
        }
        try:
            self.tell("finished", what=what, number=number, **doing[what](**command))
        except Cancelled:
            self.tell("cancelled", what=what, number=number)
        except MemoryError:
            self.tell("failed", what=what, number=number, error=memory_words(None))
        except LLM4SegError as error:
            self.tell("failed", what=what, number=number, error=one_line(error, 600))
        except Exception as error:
            from napari_llm4seg.predict.forward import is_out_of_memory

            words = memory_words(None) if is_out_of_memory(error) else f"Unexpected problem: {one_line(error)}"
            self.tell("failed", what=what, number=number, error=words)

    def _load(self, model: str, config: Message | None = None, device: str = "auto") -> Message:
        """Build the checkpoint ``model`` (name or path), ready to be trained from."""
        from napari_llm4seg.checkpoint import Checkpoint, resolve
        from napari_llm4seg.engine.finetune import Finetuner

        self._tuner = None  # two at once would take twice the memory
        checkpoint = Checkpoint.load(resolve(model))
        self._tuner = Finetuner(checkpoint, settings(config), device)
        return {"digest": checkpoint.digest, "name": checkpoint.name}

    def _loaded(self) -> Finetuner:
        if self._tuner is None:
            raise LLM4SegError("No checkpoint is loaded; choose a model first.")
        return self._tuner

    def _warm(self, project: str, scans: Sequence[str] | None = None) -> Message:
        """Compute what a training on the project's corrections will need; gives way to the next command."""
        tuner = self._loaded()
        slices = corrections(project, scans)[0]
        tuner.warm(slices, lambda: self._cancel() or not self._waiting.empty())
        return {"slices": len(slices), "cached": len(tuner.cache), "cached_mb": round(tuner.cache.bytes / 1e6, 1)}

    def _train(
        self, project: str, out: str, scans: Sequence[str] | None = None, config: Message | None = None, name: str = ""
    ) -> Message:
        """Train on the corrections of ``scans``, replay those of others, and write the checkpoint into ``out``."""
        tuner = self._loaded()
        slices, others, locked = corrections(project, scans)
        chosen = settings(config) or tuner.config
        how = self._how(locked, name, chosen)
        return keep(tuner.train(slices, chosen, replay=others, **how), slices, Path(out), tuner.checkpoint)

    def _new(
        self,
        project: str,
        out: str,
        classes: list[Message],
        scans: Sequence[str] | None = None,
        config: Message | None = None,
        name: str = "",
        **made: Any,
    ) -> Message:
        """Train a new model of ``classes`` on the corrections of ``scans``; ``made`` as for ``untrained``."""
        slices, _, locked = corrections(project, scans)
        tuner = untrained_one(slices, classes, config, name or "new model", **made)
        done = tuner.train(slices, **self._how(locked, name or "new model", tuner.config))
        return keep(done, slices, Path(out), tuner.checkpoint)

    def _cross_check(
        self,
        project: str,
        only: list[list[Any]],
        scans: Sequence[str] | None = None,
        config: Message | None = None,
        new: Message | None = None,
    ) -> Message:
        """Judge the corrections ``only`` (their keys), each by a training on the others; ``new`` as for "new"."""
        from napari_llm4seg.engine.crosscheck import cross_check

        started = time.monotonic()
        slices, others, _ = corrections(project, scans)
        slices = of_keys(slices, only)
        tuner = self._loaded() if new is None else untrained_one(slices, config=config, **new)
        chosen = settings(config) or tuner.config

        def fold(number: int, folds: int) -> None:
            self.tell("fold", number=number, folds=folds, seconds=chosen.seconds)

        replay = others if new is None else None
        how: dict[str, Any] = {"on_fold": fold, "on_event": self._told, "cancel": self._cancel}
        gate = cross_check(tuner, slices, chosen, replay=replay, **how)
        return {"gate": judged(gate, new is not None), "seconds": round(time.monotonic() - started, 2)}

    def _how(self, locked: frozenset[str], name: str, config: FinetuneConfig) -> dict[str, Any]:
        """Return what every training is given: what never trains, whom to tell, and when to end."""

        def split(train: Corrections, held: Corrections) -> None:
            # with the time there is for it all: who waits is told what is left from the first step on
            self.tell("split", train=keys(train), held_back=keys(held), seconds=config.seconds)

        return {
            "locked": locked,
            "name": name or None,
            "on_split": split,
            "on_event": self._told,
            "cancel": self._cancel,
            "stop": self._stop,
        }

    def _told(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind == "step" and now - self._told_step < 1 / _STEPS_PER_SECOND:
            return
        self._told_step = now if event.kind == "step" else self._told_step
        facts = asdict(event)
        self.tell(facts.pop("kind"), **facts)


def untrained_one(
    slices: Corrections, classes: list[Message], config: Message | None = None, name: str = "new model", **made: Any
) -> Finetuner:
    """Return what trains a new model of ``classes`` (``ClassSpec`` as JSON); ``made`` as for ``untrained``."""
    from napari_llm4seg.config import ClassSpec, LayerRef
    from napari_llm4seg.engine.scratch import settings_for, untrained

    specs = [ClassSpec.model_validate(each) for each in classes]
    chosen = settings(config) or settings_for(slices, made.get("preset", "small"))
    if isinstance(made.get("layer"), dict):
        made["layer"] = LayerRef.model_validate(made["layer"])
    return untrained(specs, slices, chosen, name=name, **made)


def import_everything() -> None:
    """Import what a training needs, slow as it is."""
    from monai.losses import DiceLoss  # noqa: F401
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance  # noqa: F401
    from monai.transforms import RandAffined  # noqa: F401

    import napari_llm4seg.engine.scratch  # noqa: F401


def memory_words(limit_mb: float | None) -> str:
    """Return what a person reads where memory did not suffice."""
    more = "" if limit_mb is None else f" (it needed more than the {limit_mb:.0f} MB it may take)"
    return f"Memory did not suffice for the training{more}. Close other programs, or train fewer parts."


def watch_memory(limit_mb: float, tell: Callable[..., None]) -> None:
    """End this process, having said so, when its resident memory has exceeded ``limit_mb``."""
    import resource  # which Windows lacks

    unit = 1 if sys.platform == "darwin" else 1024
    while resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit <= limit_mb * 1e6:
        time.sleep(_LOOK_SECONDS)
    tell("failed", what="memory", number=0, error=memory_words(limit_mb))
    os._exit(OUT_OF_MEMORY)


def main(arguments: Sequence[str]) -> None:
    """Be the child: ``THREADS MEMORY_MB`` (0: no limit)."""
    # the events' own channel: what libraries print must not get between them
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(int(arguments[0]))
    if hasattr(os, "nice"):
        os.nice(5)  # the window comes first
    trainer = Trainer(sys.stdin, events)
    if float(arguments[1]) and sys.platform != "win32":
        watching = (float(arguments[1]), trainer.tell)
        threading.Thread(target=watch_memory, args=watching, name="llm4seg-memory", daemon=True).start()
    trainer.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
