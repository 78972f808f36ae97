"""Two processes on a shared batch against one process: statistics, loss, gradients, and a whole fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from napari_llm4seg.engine.distributed import Share, SyncedBatchNorm, lost_process, synchronised
from napari_llm4seg.errors import DeviceError

from .shared_run import trained

ROOT = Path(__file__).resolve().parents[2]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 1, 8, 8, generator=generator) for n in (5, 2, 1)]


def steps(net: nn.Module, share: Share, run: nn.Module) -> dict[str, torch.Tensor]:
    """Three steps of a loss that the whole batch decides, as Dice over a batch is."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    with torch.enable_grad():
        for images in batches():
            share.start_batch(len(images))
            index = share.take(torch.arange(len(images)))
            out = torch.sigmoid(share.gather(run(images[index])))
            loss = 1 - out.sum() / (out.pow(2).sum() + 1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    net, share = network(), Share(rank, 2)
    with synchronised(net, share):
        assert isinstance(net[1], SyncedBatchNorm)
        run = DistributedDataParallel(net, broadcast_buffers=False)
        found = steps(net, share, run)
    assert type(net[1]) is nn.BatchNorm2d
    torch.save({"found": found, "after": net.state_dict()}, f"{folder}/{rank}.pt")
    os._exit(0)  # see napari_llm4seg.cli.launch.leave


def test_two_processes_compute_what_one_computes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    net = network()
    alone = steps(net, Share(), net)
    for rank in range(2):
        other = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, tensor in alone.items():
            torch.testing.assert_close(other["found"][name], tensor, rtol=1e-5, atol=1e-6, msg=name)
            assert torch.equal(other["after"][name], other["found"][name]), "what was learnt stays behind"


def test_a_process_without_a_sample_computes_one_along_uncounted() -> None:
    share = Share(1, 2)
    share.start_batch(1)
    assert share.sizes == [1, 0]
    assert share.take(torch.tensor([7])).tolist() == [7]
    assert share.counted == 0


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Return the folder of a run in two processes, and what each of them found."""
    folder = tmp_path_factory.mktemp("together")
    watched = (
        "import sys; from napari_llm4seg.cli.launch import World, run_processes; "
        "sys.exit(run_processes(sys.argv[1:], World(2, 1, 0, False), ('-m', 'tests.engine.shared_run')))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", watched, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(together: Any, tmp_path: Path) -> None:
    alone = trained(tmp_path)
    folder, found = together
    assert found[0]["ranks"] == found[1]["ranks"] == [0, 1]
    for each in (part["fit"] for part in found):
        for part in ("net", "best"):
            assert each[part].keys() == alone[part].keys()
            for name, tensor in alone[part].items():
                torch.testing.assert_close(each[part][name], tensor, rtol=1e-5, atol=1e-5, msg=name)
        for mine, row in zip(each["history"], alone["history"], strict=True):
            assert mine["loss"] == pytest.approx(row["loss"], abs=1e-5)
            assert mine["val_loss"] == pytest.approx(row["val_loss"], abs=1e-4)
            assert mine["val_iou"] == pytest.approx(row["val_iou"], abs=1e-3)
        assert each["kinds"] == alone["kinds"]  # the run leaves the network as it was
    assert all(torch.equal(found[0]["fit"]["net"][name], t) for name, t in found[1]["fit"]["net"].items())
    assert sorted(path.name for path in (folder / "run").iterdir()) == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.slow
def test_one_process_goes_on_with_what_two_began(together: Any, tmp_path: Path) -> None:
    folder, found = together
    again = trained(folder / "run")  # finished there: nothing is trained, everything is read
    assert all(torch.equal(again["net"][name], tensor) for name, tensor in found[0]["fit"]["net"].items())


def test_every_sample_has_one_process() -> None:
    index = torch.tensor([7, 3, 9, 1, 4])
    shares = [Share(rank, 3) for rank in range(3)]
    for n in (5, 3, 2, 1):
        parts = []
        for share in shares:
            share.start_batch(n)
            parts.append(share.take(index[:n])[: share.counted])
            assert len(share.take(index[:n])) >= 1
        assert torch.equal(torch.cat(parts), index[:n])


def test_a_lost_process_is_said_in_words_and_other_errors_pass() -> None:
    with pytest.raises(DeviceError, match="Another process of this training has ended"), lost_process(2):
        raise RuntimeError("[../gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:2")
    with pytest.raises(RuntimeError, match="shape"), lost_process(2):
        raise RuntimeError("shape mismatch")
    with pytest.raises(RuntimeError, match="Connection"), lost_process(1):
        raise RuntimeError("Connection closed")
