"""The training child: warm, told to stop or cancel, killed, out of memory, started again."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.jobs.child import TrainingChild, ended_words
from napari_llm4seg.jobs.machine import spare_threads
from napari_llm4seg.jobs.trainer import OUT_OF_MEMORY
from napari_llm4seg.models.inventory import resolve_layer

from .made_project import make_checkpoint, make_project, settings

Message = dict[str, Any]
PATIENCE = 120.0


class Owner:
    """A child with the events it has sent."""

    def __init__(self, **more: Any) -> None:
        self.events: queue.Queue[Message] = queue.Queue()
        self.seen: list[Message] = []
        self.child = TrainingChild(self.events.put, threads=1, **more)

    def until(self, *names: str) -> Message:
        end = time.monotonic() + PATIENCE
        while True:
            event = self.events.get(timeout=max(0.1, end - time.monotonic()))
            self.seen.append(event)
            if event["event"] in names:
                return event
            assert event["event"] not in ("failed", "died"), event


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("child")
    make_checkpoint(root / "model")
    make_project(root / "project")
    return {"root": root, "model": root / "model", "project": root / "project"}


@pytest.fixture(scope="module")
def owner(folders: dict[str, Path]) -> Iterator[Owner]:
    """One warm child for the tests that leave it alive: starting one takes seconds."""
    owner = Owner()
    owner.child.load(folders["model"], settings())
    owner.until("finished")
    yield owner
    owner.child.close()


def test_it_trains_and_tells_how_it_goes(owner: Owner, folders: dict[str, Path]) -> None:
    owner.child.warm(folders["project"])
    assert owner.until("finished")["slices"] == 5
    owner.seen.clear()
    out = folders["root"] / "one"
    owner.child.train(folders["project"], out, name="v2", config=settings(seconds=60.0))
    assert owner.child.busy == "train"
    result = owner.until("finished")
    assert owner.child.busy == ""
    kinds = [event["event"] for event in owner.seen]
    assert kinds.index("split") < kinds.index("step") < kinds.index("validated") < kinds.index("finished")
    split = next(event for event in owner.seen if event["event"] == "split")
    assert (len(split["train"]), len(split["held_back"])) == (4, 1)
    assert split["seconds"] == 60.0, "what is left is known from the first step on"
    assert result["held_back"] == [[each["scan"], each["axis"], each["index"]] for each in split["held_back"]]
    assert result["gate"]["n"] == 1
    new = Checkpoint.load(out)
    assert new.digest == result["digest"]
    assert new.name == "v2"
    assert (out / "held-back.npz").is_file()
    with SampleStore.open(folders["project"], read_only=True) as store:
        known = {record.image_digest for record in store.records()}
    assert {each["digest"] for each in split["train"] + split["held_back"]} == known


def test_stop_keeps_the_best_and_cancel_keeps_nothing(owner: Owner, folders: dict[str, Path]) -> None:
    endless = settings(epochs=1_000_000)
    owner.child.train(folders["project"], folders["root"] / "stopped", config=endless)
    owner.until("step")
    owner.child.stop()
    assert owner.until("finished")["training"]["epochs"] < 1_000_000
    assert Checkpoint.load(folders["root"] / "stopped").config.card.training["parts"] == "adapters+decoder"
    owner.child.train(folders["project"], folders["root"] / "cancelled", config=endless)
    owner.until("step")
    owner.child.cancel()
    assert owner.until("cancelled")["what"] == "train"
    assert not (folders["root"] / "cancelled").exists()
    owner.child.cancel()  # too late for anything, and of no effect on what comes
    owner.child.train(folders["project"], folders["root"] / "after")
    assert owner.until("finished")["what"] == "train"


def test_a_cross_check_judges_every_slice_and_writes_nothing(owner: Owner, folders: dict[str, Path]) -> None:
    owner.child.train(folders["project"], folders["root"] / "judged", config=settings(epochs=2))
    trained = owner.until("finished")
    assert trained["cross_check"] == {"slices": 5, "trainings": 3, "fewest": 4}
    only = trained["train"] + trained["held_back"] + trained["left_out"]
    owner.seen.clear()
    owner.child.cross_check(folders["project"], only, config=settings(seconds=60.0))
    result = owner.until("finished")
    assert (result["what"], result["gate"]["n"], result["gate"]["new"]) == ("cross_check", 5, False)
    folds = [(event["number"], event["folds"], event["seconds"]) for event in owner.seen if event["event"] == "fold"]
    assert folds == [(1, 3, 60.0), (2, 3, 60.0), (3, 3, 60.0)]
    assert not any(event["event"] == "split" for event in owner.seen), "nothing is held back for good"
    assert {event["event"] for event in owner.seen} >= {"step", "validated"}

    owner.child.cross_check(folders["project"], only, config=settings(epochs=1_000_000))
    owner.until("step")
    owner.child.cancel()
    assert owner.until("cancelled")["what"] == "cross_check"

    new = {"classes": [{"value": 1, "name": "square"}], "preset": "tiny", "layer": "none", "device": "cpu"}
    owner.child.cross_check(folders["project"], only, config=settings(parts="all"), new=new)
    gate = owner.until("finished")["gate"]
    low, high = gate["dice_interval"]
    assert gate["new"]
    assert low <= gate["dice_after"] <= high
    owner.child.cross_check(folders["project"], only[:3])
    with pytest.raises(
        AssertionError, match="needs 4 corrected slices that the model has not learnt from; there are 3"
    ):
        owner.until("finished")


def test_a_new_model_is_made_too(owner: Owner, folders: dict[str, Path]) -> None:
    classes = [{"value": 1, "name": "square"}]
    owner.child.train_new(
        folders["project"],
        folders["root"] / "new",
        classes,
        config=settings(parts="all", seconds=60.0),
        preset="tiny",
        backbone="unet",
        layer=resolve_layer("smollm2-135m").model_dump(),
    )
    owner.seen.clear()
    assert owner.until("finished")["what"] == "new"
    split = next(event for event in owner.seen if event["event"] == "split")
    assert split["seconds"] == 60.0, "a new model tells how long it takes as well"
    new = Checkpoint.load(folders["root"] / "new")
    model = new.config.model
    assert (model.classes[0].name, model.backbone.kind) == ("square", "unet")
    assert model.block is not None
    assert model.block.layers == (resolve_layer("smollm2-135m"),)
    owner.child.train(folders["project"], folders["root"] / "wrong", config={"parts": "head"})
    failed = owner.events.get(timeout=PATIENCE)
    assert (failed["event"], "parts" in failed["error"]) == ("failed", True)


def test_what_cannot_be_done_is_said_and_the_child_lives_on(owner: Owner, folders: dict[str, Path]) -> None:
    for project, words in ((folders["root"] / "nowhere", "is no project"), (folders["model"], "is no project")):
        owner.child.train(project, folders["root"] / "never")
        event = owner.events.get(timeout=PATIENCE)
        assert event["event"] == "failed"
        assert words in event["error"]
        assert "\n" not in event["error"]
    assert owner.child.alive
    with pytest.raises(LLM4SegError, match="choose a model first"):
        Owner().child.warm(folders["project"])


def test_a_killed_child_is_said_in_words_and_comes_again(folders: dict[str, Path]) -> None:
    owner = Owner()
    try:
        owner.child.load(folders["model"], settings(epochs=1_000_000))
        owner.child.train(folders["project"], folders["root"] / "killed")
        owner.until("step")
        assert owner.child.pid is not None
        os.kill(owner.child.pid, signal.SIGKILL)
        died = owner.until("died")
        assert died["what"] == "train"
        assert "killed, probably because memory ran out. Your corrections are saved" in died["error"]
        assert not owner.child.alive
        assert not owner.child.busy
        owner.child.train(folders["project"], folders["root"] / "again", config=settings())
        assert owner.until("finished")["what"] == "load"
        assert owner.until("finished")["what"] == "train"
    finally:
        owner.child.close()
    assert not owner.child.alive


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
def test_memory_is_bounded() -> None:
    owner = Owner(memory_mb=50.0)
    owner.child.start()
    assert "50 MB" in owner.events.get(timeout=PATIENCE)["error"]
    died = owner.until("died")
    assert died["code"] == OUT_OF_MEMORY
    assert "more memory than it may" in died["error"]


def test_it_ends_with_its_owner(folders: dict[str, Path]) -> None:
    code = (
        "import os, sys, time\n"
        "from napari_llm4seg.jobs.child import TrainingChild\n"
        "child = TrainingChild(print)\nchild.start()\nprint(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert wait_for(lambda: not running(pid))


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(true: Callable[[], bool], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.1)
    return False


def test_every_ending_has_words() -> None:
    for code in (-9, -11, -15, 1, OUT_OF_MEMORY):
        words = ended_words(code, "Traceback...")
        assert words.endswith("Your corrections are saved; try again.")
    assert "SIGSEGV" in ended_words(-11, "")
    assert "odd problem" in ended_words(1, "odd problem")
    assert spare_threads() >= 1
