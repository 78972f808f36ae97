"""Two processes on a shared batch against one process, without a network: statistics, loss and gradients."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from napari_llm4seg.engine.distributed import Share, SyncedBatchNorm, synchronised


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
    torch.distributed.destroy_process_group()


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
