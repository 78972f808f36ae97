"""A batch shared by several processes computes what one process computes: statistics, loss and gradients alike.

Every process ends up with the whole batch's loss. The collectives are differentiable and add gradients up over the
processes; the mean that DistributedDataParallel then takes makes the gradient exact, however the batch was shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_llm4seg.errors import DeviceError, one_line

Outputs = TypeVar("Outputs", Tensor, Sequence[Tensor])


@dataclass
class Share:
    """Which part of the present batch this process computes.

    Attributes
    ----------
    rank, processes : this process's number and how many there are
    sizes : samples of the present batch on each process; some may have none
    """

    rank: int = 0
    processes: int = 1
    sizes: list[int] = field(default_factory=list)

    @property
    def counted(self) -> int:
        return self.sizes[self.rank]

    def take(self, index: Tensor) -> Tensor:
        """Return this process's part of a batch's sample numbers.

        Where there are fewer samples than processes, a process without one computes the first along, uncounted: a
        network need not stand an empty batch.
        """
        return self.part(index) if len(self.part(index)) else index[:1]

    def part(self, index: Tensor) -> Tensor:
        return index.tensor_split(self.processes)[self.rank]

    def start_batch(self, n: int) -> None:
        """Tell how many samples the coming batch has over all processes."""
        self.sizes = [len(part) for part in torch.arange(n).tensor_split(self.processes)]

    def gather(self, outputs: Outputs) -> Outputs:
        """Return the whole batch's (B, ...) from the parts of every process, in order; a list member by member."""
        if self.processes == 1:
            return outputs
        if not isinstance(outputs, Tensor):
            return type(outputs)(self.gather(each) for each in outputs)  # type: ignore[call-arg]
        before, after = sum(self.sizes[: self.rank]), sum(self.sizes[self.rank + 1 :])
        rest = outputs.shape[1:]
        parts = (outputs.new_zeros(before, *rest), outputs[: self.counted], outputs.new_zeros(after, *rest))
        return _sum(torch.cat(parts))

    def same_for_all(self, value: Any) -> list[Any]:
        """Return the ``value`` of every process, in order."""
        if self.processes == 1:
            return [value]
        values: list[Any] = [None] * self.processes
        torch.distributed.all_gather_object(values, value)
        return values


def _sum(tensor: Tensor) -> Tensor:
    """Return the sum over processes; its gradient is the sum of theirs."""
    from torch.distributed.nn.functional import all_reduce

    total: Tensor = all_reduce(tensor)
    return total


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the statistics of the whole batch, on any device (torch's own needs CUDA).

    Parameters
    ----------
    norm : BatchNorm1d, 2d or 3d
        Its weights and running statistics are shared, not copied.
    share : Share
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm, share: Share) -> None:
        super().__init__(0, norm.eps, norm.momentum, affine=False, track_running_stats=False)
        self.num_features, self.affine, self.track_running_stats = norm.num_features, norm.affine, True
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.replaced, self.share = [norm], share  # in a list: no child, so not in the state dict
        self.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        wide = input.float()
        mean, variance, n = self._statistics(wide[: self.share.counted])
        with torch.no_grad():
            self._track(mean, variance * n / (n - 1).clamp(min=1))
        shape = (1, -1, *(1,) * (input.ndim - 2))
        out = (wide - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and variance (C,) over all processes, joined as by Chan et al. 1979, and the number of values."""
        axes = [0, *range(2, x.ndim)]
        count = x.numel() // x.shape[1]
        mean = x.sum(axes) / max(count, 1)
        spread = (x - mean.view(1, -1, *(1,) * (x.ndim - 2))).pow(2).sum(axes)
        own = torch.cat((mean, spread, mean.new_tensor([float(count)])))
        rank, processes = self.share.rank, self.share.processes
        rows = F.pad(own[None], (0, 0, rank, processes - rank - 1))
        means, spreads, counts = _sum(rows).split((len(mean), len(mean), 1), dim=1)
        n = counts.sum()
        mean = (means * counts).sum(0) / n
        variance = (spreads + (means - mean).pow(2) * counts).sum(0) / n
        return mean, variance, n

    def _track(self, mean: Tensor, unbiased: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)


@contextmanager
def synchronised(net: nn.Module, share: Share) -> Iterator[None]:
    """Let the network's batch normalisations see the whole batch for the length of a run; names and weights stay."""
    found = [
        (parent, name, child)
        for parent in net.modules()
        for name, child in parent.named_children()
        if share.processes > 1 and isinstance(child, nn.modules.batchnorm._BatchNorm)
    ]
    for parent, name, child in found:
        setattr(parent, name, SyncedBatchNorm(child, share))
    try:
        yield
    finally:
        for parent, name, child in found:
            synced = getattr(parent, name)
            for buffer in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(child, buffer, getattr(synced, buffer))  # moving to a device made new ones
            setattr(parent, name, child.train(parent.training))


@contextmanager
def lost_process(processes: int) -> Iterator[None]:
    """Say in one line that another process of the training is gone, which the backends report in words of their own.

    Raises
    ------
    DeviceError
    """
    try:
        yield
    except RuntimeError as error:  # torch's errors of collectives are such
        text = str(error)
        if processes == 1 or not any(sign in text for sign in ("gloo", "NCCL", "Connection", "ProcessGroup", "store")):
            raise
        raise DeviceError(
            f"Another process of this training has ended ({one_line(error, 80)}). The same command goes on from the "
            "last finished epoch."
        ) from error
