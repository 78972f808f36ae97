"""The training loop: it learns, leaves frozen weights alone, stops at once and goes on without loss."""

from __future__ import annotations

import csv
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import Card, CheckpointConfig, FitConfig, PreprocessConfig
from napari_llm4seg.engine.data import Samples
from napari_llm4seg.engine.fit import Event, FitResult, fit, make_fabric, validate
from napari_llm4seg.engine.source import ImageTraining, ImageValidation
from napari_llm4seg.errors import Cancelled, CheckpointError, DeviceError, InputError
from napari_llm4seg.models.llm4seg import LLM4SegNet

from .conftest import FIT

Maker = Callable[[], LLM4SegNet]
Data = tuple[Samples, Samples]


def run(net: LLM4SegNet, data: Data, folder: Path, config: FitConfig = FIT, **more: object) -> FitResult:
    sources = ImageTraining(data[0], config.augment), ImageValidation(data[1])
    return fit(make_fabric(config, "cpu"), net, sources, config, folder=folder, **more)  # type: ignore[arg-type]


def test_it_learns_to_find_discs(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    result = run(make_net(), made_samples, tmp_path, FIT.model_copy(update={"epochs": 25, "ema": None}))
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    assert result.best_score > 0.7
    assert result.best_score == max(row["val_iou"] for row in result.history)


def test_frozen_layers_keep_their_weights_and_the_rest_moves(
    make_net: Maker, made_samples: Data, tmp_path: Path
) -> None:
    net = make_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    run(net, made_samples, tmp_path, FIT.model_copy(update={"epochs": 1}))
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not {name for name in moved if name.startswith("block.layers.")}
    assert {"block.bridge.adapter_in.weight", "block.bridge.adapter_out.weight", "backbone.Conv_1x1.weight"} <= moved


@pytest.mark.parametrize("stop_at", [0, 5, 11])
def test_a_stopped_run_goes_on_to_the_very_same_weights(
    make_net: Maker, made_samples: Data, tmp_path: Path, stop_at: int
) -> None:
    config = FIT.model_copy(update={"augment": "strong", "patience": 3})
    straight = run(make_net(), made_samples, tmp_path / "straight", config)
    asked = 0

    def cancel() -> bool:
        nonlocal asked
        asked += 1
        return asked > stop_at

    with pytest.raises(Cancelled):
        run(make_net(), made_samples, tmp_path / "stopped", config, cancel=cancel)
    resumed = run(make_net(), made_samples, tmp_path / "stopped", config)
    assert resumed.best_epoch == straight.best_epoch
    assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in straight.tensors.items())
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in straight.history]
    ends = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("straight", "stopped")]
    for part in ("net", "ema"):  # the moving average too, whether or not it was the best
        assert ends[0][part]
        assert ends[0][part].keys() == ends[1][part].keys()
        assert all(torch.equal(ends[1][part][name], tensor) for name, tensor in ends[0][part].items())


@pytest.mark.parametrize("stop_at", [0, 1, 5, 6])
def test_told_to_stop_it_ends_with_the_best_so_far(make_net: Maker, made_samples: Data, stop_at: int) -> None:
    asked, events = iter(range(100)), []
    net = make_net()
    config = FIT.model_copy(update={"epochs": 50, "ema": None})
    sources = ImageTraining(made_samples[0], "none"), ImageValidation(made_samples[1])
    fabric = make_fabric(config, "cpu")
    result = fit(fabric, net, sources, config, folder=None, stop=lambda: next(asked) >= stop_at, on_event=events.append)
    steps = [event for event in events if event.kind == "step"]
    assert len(steps) == stop_at
    scored = [row["val_iou"] for row in result.history]
    assert result.best_score == max(scored)
    assert result.best_epoch == scored.index(max(scored)) + (1 if stop_at else 0)
    assert result.tensors.keys() == net.trained_tensors().keys()
    if stop_at in (1, 5):  # within an epoch: what it had learnt so far was judged too
        assert events[-1].kind == "validated"
        assert events[-1].stopped_early


def test_told_to_stop_it_judges_what_was_not_judged_yet(make_net: Maker, made_samples: Data) -> None:
    asked = iter(range(100))
    config = FIT.model_copy(update={"epochs": 50, "validate_every": 20, "ema": None})
    sources = ImageTraining(made_samples[0], "none"), ImageValidation(made_samples[1])
    net = make_net()
    result = fit(make_fabric(config, "cpu"), net, sources, config, folder=None, stop=lambda: next(asked) >= 6)
    assert [row["epoch"] for row in result.history] == [1, 2]  # of three steps each
    assert "val_iou" in result.history[1]
    assert math.isfinite(result.history[1]["loss"])
    assert result.best_epoch == 2
    assert all(torch.equal(tensor, result.tensors[name]) for name, tensor in net.trained_tensors().items())


def test_time_ends_a_run_and_its_schedule(make_net: Maker, made_samples: Data) -> None:
    config = FIT.model_copy(update={"epochs": 100_000, "seconds": 1.0, "warmup_epochs": 0.0, "schedule": "cosine"})
    sources = ImageTraining(made_samples[0], "none"), ImageValidation(made_samples[1])
    events: list[Event] = []
    result = fit(make_fabric(config, "cpu"), make_net(), sources, config, folder=None, on_event=events.append)
    assert 0 < len(result.history) < 100_000
    rates = [row["lr"] for row in result.history]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.3 * config.lr
    assert events[-1].fraction == 1.0
    assert all(event.seconds_left is None or event.seconds_left <= 1.0 for event in events)


def test_a_finished_run_is_returned_without_training(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    first = run(make_net(), made_samples, tmp_path)
    events: list[Event] = []
    again = run(make_net(), made_samples, tmp_path, on_event=events.append)
    assert not events
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in first.tensors.items())


def test_another_config_in_the_same_folder_is_refused(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    run(make_net(), made_samples, tmp_path, FIT.model_copy(update={"epochs": 1}))
    with pytest.raises(CheckpointError, match="choose another output folder"):
        run(make_net(), made_samples, tmp_path, FIT.model_copy(update={"epochs": 1, "lr": 0.5}))


@pytest.mark.parametrize("damage", [b"", b"not a state", None])
def test_a_damaged_state_is_said_in_words(
    make_net: Maker, made_samples: Data, tmp_path: Path, damage: bytes | None
) -> None:
    config = FIT.model_copy(update={"epochs": 1})
    run(make_net(), made_samples, tmp_path, config)
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(CheckpointError, match=r"state\.pt.* is damaged"):
        run(make_net(), made_samples, tmp_path, config)


def test_events_and_log_tell_the_same_story(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    events: list[Event] = []
    result = run(make_net(), made_samples, tmp_path, on_event=events.append)
    validated = [event for event in events if event.kind == "validated"]
    assert [event.epoch for event in validated] == [1, 2, 3, 4]
    assert validated[-1].fraction == pytest.approx(1.0)
    assert validated[-1].seconds_left == 0
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_iou"]) for row in rows] == [event.score for event in validated]
    assert result.best_score == validated[-1].best


def test_a_loss_that_is_no_number_stops_the_run(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    train, val = made_samples
    train.images[3] = math.nan
    with pytest.raises(InputError, match=r"loss became nan.*lower fit\.lr"):
        run(make_net(), (train, val), tmp_path)


def test_nothing_to_train_is_refused(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    net = make_net()
    net.requires_grad_(False)
    with pytest.raises(InputError, match="frozen"):
        run(net, made_samples, tmp_path)


@pytest.mark.parametrize("device", ["cuda:x", "gpu", "foo", "cpu:0", "", "cuda:999", "CPU:1"])
def test_a_device_that_is_not_there_is_one_line(device: str) -> None:
    with pytest.raises(DeviceError) as caught:
        make_fabric(FIT, device)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("change", ["masks", "intensities", "one image"])
def test_other_data_under_the_same_names_is_refused(
    make_net: Maker, made_samples: Data, tmp_path: Path, change: str
) -> None:
    train, val = made_samples
    run(make_net(), made_samples, tmp_path, FIT.model_copy(update={"epochs": 1}))
    images, labels = train.images.clone(), train.labels.clone()
    if change == "masks":
        labels[0] = 0
    elif change == "intensities":
        images = images * 0.8
    else:
        images[3] = images[4]
    with pytest.raises(CheckpointError, match="other data"):
        run(make_net(), (Samples(images, labels, train.names), val), tmp_path, FIT.model_copy(update={"epochs": 1}))
    rounded = Samples(train.images * (1 + 1e-6), train.labels, train.names)  # as another machine resizes
    run(make_net(), (rounded, val), tmp_path, FIT.model_copy(update={"epochs": 1}))


def test_a_state_without_a_fingerprint_goes_on(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    straight = run(make_net(), made_samples, tmp_path / "straight")
    asked = iter(range(100))
    with pytest.raises(Cancelled):
        run(make_net(), made_samples, tmp_path / "old", cancel=lambda: next(asked) >= 8)
    state = torch.load(tmp_path / "old" / "state.pt", weights_only=True)
    assert 0 < state["epoch"] < FIT.epochs
    del state["fingerprint"]
    torch.save(state, tmp_path / "old" / "state.pt")
    gone_on = run(make_net(), made_samples, tmp_path / "old")
    assert all(torch.equal(gone_on.tensors[name], tensor) for name, tensor in straight.tensors.items())


@pytest.mark.parametrize("batch", [1, 4, 13, 50])
def test_progress_ends_at_one(make_net: Maker, made_samples: Data, tmp_path: Path, batch: int) -> None:
    events: list[Event] = []
    run(make_net(), made_samples, tmp_path, FIT.model_copy(update={"batch": batch}), on_event=events.append)
    assert events[-1].fraction == 1.0
    assert sum(event.kind == "step" for event in events) == {1: 52, 4: 12, 13: 4, 50: 4}[batch]


@pytest.mark.parametrize("stop_at", [None, 7])
def test_patience_ends_the_run_and_it_stays_ended(
    make_net: Maker, made_samples: Data, tmp_path: Path, stop_at: int | None
) -> None:
    # nothing moves at such a rate, so the first epoch stays the best
    config = FIT.model_copy(update={"epochs": 50, "patience": 2, "lr": 1e-12, "ema": None, "weight_decay": 0.0})
    if stop_at is not None:
        asked = iter(range(1000))
        with pytest.raises(Cancelled):
            run(make_net(), made_samples, tmp_path, config, cancel=lambda: next(asked) >= stop_at)
    events: list[Event] = []
    result = run(make_net(), made_samples, tmp_path, config, on_event=events.append)
    best = result.best_epoch
    assert [row["epoch"] for row in result.history] == list(range(1, best + 3))
    assert events[-1].stopped_early
    assert not any(event.stopped_early for event in events[:-1])
    assert events[-1].seconds_left == 0
    again = run(make_net(), made_samples, tmp_path, config, on_event=events.append)
    assert len(again.history) == best + 2


def test_patience_counts_from_validation_to_validation(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    config = FIT.model_copy(update={"epochs": 20, "patience": 1, "validate_every": 3, "lr": 1e-12, "ema": None})
    first = run(make_net(), made_samples, tmp_path, config)
    assert len(first.history) % 3 == 0
    assert len(first.history) < 20


def test_best_and_last_are_checkpoints_that_load(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    description = CheckpointConfig(
        model=make_net().config, preprocess=PreprocessConfig(size=(32, 32)), card=Card(name="discs")
    )
    net = make_net()
    result = run(net, made_samples, tmp_path, FIT.model_copy(update={"ema": None}), checkpoint=description)
    best, last = (Checkpoint.load(tmp_path / name) for name in ("best", "last"))
    assert all(torch.equal(best.tensors[name], tensor) for name, tensor in result.tensors.items())
    assert all(torch.equal(last.tensors[name], tensor) for name, tensor in net.trained_tensors().items())
    assert best.config.card.training == {"epoch": result.best_epoch, "val_iou": result.best_score}
    assert last.config.card.training["epoch"] == FIT.epochs


def test_a_second_run_into_the_folder_is_refused(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as other:
        fcntl = pytest.importorskip("fcntl")
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(InputError, match="Another run"):
            run(make_net(), made_samples, tmp_path)
    run(make_net(), made_samples, tmp_path, FIT.model_copy(update={"epochs": 1}))


def test_waiting_and_seconds_are_logged_and_seconds_go_on(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    asked = iter(range(1000))
    with pytest.raises(Cancelled):
        run(make_net(), made_samples, tmp_path, cancel=lambda: next(asked) >= 8)
    rows = run(make_net(), made_samples, tmp_path).history
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert all(0 <= row["waiting"] <= 1 for row in rows)


def test_no_thread_is_left_behind(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    run(make_net(), made_samples, tmp_path / "whole", FIT.model_copy(update={"epochs": 1}))
    with pytest.raises(Cancelled):
        run(make_net(), made_samples, tmp_path / "stopped", cancel=lambda: True)
    assert not [thread for thread in threading.enumerate() if thread.name == "llm4seg-batches"]


def test_cancel_is_heard_in_validation(make_net: Maker, made_samples: Data, tmp_path: Path) -> None:
    net, objective = make_net(), None
    with pytest.raises(Cancelled):
        validate(net, ImageValidation(made_samples[1]), objective, 2, 0.5, cancel=lambda: True)  # type: ignore[arg-type]


def test_fp16_wants_cuda() -> None:
    with pytest.raises(DeviceError, match=r"fp16 needs CUDA"):
        make_fabric(FIT.model_copy(update={"precision": "fp16"}), "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_resumes(
    make_net: Maker, made_samples: Data, tmp_path: Path, precision: str
) -> None:
    config = FIT.model_copy(update={"epochs": 25, "ema": None, "precision": precision})
    sources = ImageTraining(made_samples[0], "none"), ImageValidation(made_samples[1])
    asked = iter(range(1000))
    with pytest.raises(Cancelled):
        fit(make_fabric(config, "cuda"), make_net(), sources, config, folder=tmp_path, cancel=lambda: next(asked) > 20)
    result = fit(make_fabric(config, "cuda"), make_net(), sources, config, folder=tmp_path)
    assert result.best_score > 0.7


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.engine import killed_run
killed_run.main(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_very_same_weights(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", KILLED]

    def start(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, str(folder), str(root)], cwd=root)

    assert start(tmp_path / "straight").wait() == 0
    victim = start(tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert start(tmp_path / "killed").wait() == 0
    one = torch.load(tmp_path / "straight" / "best.pt", weights_only=True)
    other = torch.load(tmp_path / "killed" / "best.pt", weights_only=True)
    assert all(torch.equal(other[name], tensor) for name, tensor in one.items())
