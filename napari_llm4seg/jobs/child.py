"""The owner's end of the training child: starts it, sends commands, hands its events on, says why it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from napari_llm4seg.errors import LLM4SegError, one_line
from napari_llm4seg.jobs.exchange import Message
from napari_llm4seg.jobs.machine import most_memory_mb, spare_threads
from napari_llm4seg.jobs.trainer import OUT_OF_MEMORY

Post = Callable[[Callable[[], None]], Any]

_SAVED = "Your corrections are saved; try again."


class TrainingChild:
    """A process that trains, beside a window that stays usable. No torch here.

    Parameters
    ----------
    on_event : callable(dict)
        Called with every event of the child, in order: ``{"event": ..., ...}``.

        ========== =================================================================================================
        ready      imports are done
        split      ``train`` and ``held_back``: scan, axis, index and digest of each; lock the latter now
        fold       ``number`` from 1 of ``folds`` trainings of a cross-check, and the ``seconds`` each may take
        step       ``epoch``, ``epochs``, ``loss``, ``fraction`` in [0, 1]
        validated  the same with ``score`` and ``best`` (IoU on the training slices), ``seconds_left``
        finished   ``what`` was asked for and its facts; of "train" ``checkpoint``, ``gate`` (``Gate.as_dict``),
                   ``train``, ``held_back``, ``left_out`` (keys of records), ``training``, ``history``, ``seconds``,
                   ``messages`` (corrections that could not be read), ``cross_check`` (what one would take:
                   ``Outlook``); of "cross_check" ``gate`` (``exchange.judged``) and ``seconds``
        cancelled  ``what`` has really stopped
        failed     ``what``, and ``error`` in one line
        died       ``error``: the process is gone, in one line; ``what`` was under way ("" if nothing)
        ========== =================================================================================================
    post : callable(callable)
        Runs its argument in the owner's thread, as for ``ThreadRunner``; by default events come in a thread of their
        own.
    threads : int, optional
        Of torch; by default all cores but one, which is the window's.
    memory_mb : float, optional
        Resident memory at which the child gives up, by default two thirds of the machine's; 0 for no limit.
    """

    def __init__(
        self,
        on_event: Callable[[Message], None],
        post: Post | None = None,
        *,
        threads: int | None = None,
        memory_mb: float | None = None,
    ) -> None:
        self._on_event = on_event
        self._post: Post = post or (lambda callback: callback())
        self._threads = threads or spare_threads()
        self._memory_mb = most_memory_mb() if memory_mb is None else memory_mb
        self._process: subprocess.Popen[str] | None = None
        self._load: Message | None = None
        self._number = 0
        self._pending: dict[int, str] = {}
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def busy(self) -> str:
        """What is under way or waits, the first of it: "load", "warm", "train", "new", "cross_check" or ""."""
        with self._lock:
            return next(iter(self._pending.values()), "")

    def start(self) -> None:
        """Start the process where it does not run; returns at once. It loads again what it had loaded before."""
        if self.alive:
            return
        root = str(Path(__file__).resolve().parents[2])
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH", ""))))
        environment["OMP_NUM_THREADS"] = str(self._threads)
        # closed by the thread that listens
        said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "napari_llm4seg.jobs.trainer", str(self._threads), str(self._memory_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=environment,
                encoding="utf-8",
            )
        except OSError as error:
            raise LLM4SegError(f"The training process cannot be started: {one_line(error, 120)}.") from error
        with self._lock:
            self._process = process
            self._pending = {}
        threading.Thread(target=self._listen, args=(process, said), name="llm4seg-training", daemon=True).start()
        if self._load is not None:
            self._send("load", **self._load)

    def load(self, model: str | Path, config: Message | None = None, device: str = "auto") -> None:
        """Have a checkpoint (name or path) built and kept; ``config`` is a ``FinetuneConfig`` as JSON."""
        self._load = {"model": str(model), "config": config, "device": device}
        if self.alive:
            self._send("load", **self._load)
        else:
            self.start()

    def warm(self, project: Path, scans: list[str] | None = None) -> None:
        """Have features of the project's corrections computed; gives way to whatever is asked next."""
        self._ask("warm", project=str(project), scans=scans)

    def train(
        self,
        project: Path,
        out: Path,
        scans: list[str] | None = None,
        *,
        config: Message | None = None,
        name: str = "",
    ) -> None:
        """Train on the project's corrections of ``scans`` (all by default), replaying those of other scans.

        Parameters
        ----------
        project : Path
        out : Path
            Folder that becomes the new checkpoint; with it ``held-back.npz`` holds ``before0``, ``after0``... (Y, X).
        scans : list of str, optional
        config : FinetuneConfig as JSON, optional
            By default that of ``load``.
        name : str
            Of the checkpoint.

        Raises
        ------
        LLM4SegError
            If the process cannot be started, or nothing was loaded.
        """
        self._ask("train", project=str(project), out=str(out), scans=scans, config=config, name=name)

    def train_new(
        self,
        project: Path,
        out: Path,
        classes: list[Message],
        scans: list[str] | None = None,
        *,
        config: Message | None = None,
        name: str = "",
        **made: Any,
    ) -> None:
        """Train a new model of ``classes`` (``ClassSpec`` as JSON) on the project's corrections; needs no ``load``.

        Parameters
        ----------
        project, out, scans, config, name
            As for ``train``; what is told is of "new" instead of "train".
        made
            ``preset``, ``backbone``, ``layer`` (a ``LayerRef`` as JSON), ``modality`` and ``device`` of
            ``engine.scratch.from_scratch``.
        """
        facts = {"project": str(project), "out": str(out), "classes": classes, "scans": scans, "config": config}
        self._begin("new", **facts, name=name, **made)

    def cross_check(
        self,
        project: Path,
        only: list[list[Any]],
        scans: list[str] | None = None,
        *,
        config: Message | None = None,
        new: Message | None = None,
    ) -> None:
        """Judge corrections, each by a training on the others; no checkpoint is written.

        Parameters
        ----------
        project, scans, config
            As for ``train``.
        only : list of [scan, axis, index]
            Which are judged, and train.
        new : dict, optional
            For a new model, which needs no ``load``: ``classes`` and ``made`` as for ``train_new``.
        """
        ask = self._ask if new is None else self._begin
        ask("cross_check", project=str(project), only=only, scans=scans, config=config, new=new)

    def stop(self) -> None:
        """End the training under way and keep the best weights so far."""
        self._write({"do": "stop", "number": self._number})

    def cancel(self) -> None:
        """End what is under way, keeping nothing."""
        self._write({"do": "cancel", "number": self._number})

    def close(self, timeout: float = 2.0) -> None:
        """End the process, and do not come back before it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()

    def _ask(self, what: str, **facts: Any) -> None:
        if self._load is None:
            raise LLM4SegError("No checkpoint is loaded; choose a model first.")
        self._begin(what, **facts)

    def _begin(self, what: str, **facts: Any) -> None:
        self.start()
        self._send(what, **facts)

    def _send(self, what: str, **facts: Any) -> None:
        with self._lock:
            self._number += 1
            number = self._number
            self._pending[number] = what
        self._write({"do": what, "number": number, **facts})

    def _write(self, command: Message) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            with self._lock:
                process.stdin.write(json.dumps(command) + "\n")
                process.stdin.flush()
        except (OSError, ValueError):
            pass  # it is dying: the thread that listens says so

    def _listen(self, process: subprocess.Popen[str], said: IO[str]) -> None:
        assert process.stdout is not None
        for text in process.stdout:
            try:
                event: Message = json.loads(text)
            except ValueError:
                continue  # cut short by a kill
            with self._lock:
                if event["event"] in ("finished", "failed", "cancelled"):
                    self._pending.pop(event.get("number", 0), None)
            self._tell(process, event)
        code = process.wait()
        closed = process is not self._process
        with self._lock:
            what = next(iter(self._pending.values()), "")
            self._pending = {} if not closed else self._pending
        if not closed:
            self._tell(process, {"event": "died", "what": what, "code": code, "error": ended_words(code, tail(said))})
        for stream in (said, process.stdout, process.stdin):
            with contextlib.suppress(OSError):  # what was still to be written to it
                if stream is not None:
                    stream.close()

    def _tell(self, process: subprocess.Popen[str], event: Message) -> None:
        def deliver() -> None:
            if process is self._process:
                self._on_event(event)

        self._post(deliver)


def tail(said: IO[str]) -> str:
    """Return the last line of what the process wrote to standard error."""
    said.seek(0)
    lines = [line.strip() for line in said.read()[-10_000:].splitlines() if line.strip()]
    return lines[-1] if lines else ""


def ended_words(code: int, last: str) -> str:
    """Return why a process ended, for a person to read.

    Parameters
    ----------
    code : int
        Its exit status, negative for a signal.
    last : str
        The last line it wrote.
    """
    if code == OUT_OF_MEMORY:
        return f"The training process took more memory than it may. {_SAVED}"
    if code == -getattr(signal, "SIGKILL", 9):
        return f"The training process was killed, probably because memory ran out. {_SAVED}"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"The training process crashed ({name}). {_SAVED}"
    reason = f": {last[:200]}" if last else ""
    return f"The training process ended unexpectedly with status {code}{reason}. {_SAVED}"
