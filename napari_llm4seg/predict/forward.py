"""One network on one device: folding, memory fallbacks, and a cancel that also acts inside a forward pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.errors import Cancelled, DeviceError
from napari_llm4seg.models.backbone import channels_last
from napari_llm4seg.predict.device import describe_device

Cancel = Callable[[], bool]

# A batch must end well within the half second in which a cancel has to act.
_BATCH_SECONDS = 0.3


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` says that a device's memory did not suffice."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return any(words in text for words in ("can't allocate memory", "not enough memory", "out of memory"))


@contextmanager
def interruptible(net: nn.Module, cancel: Cancel | None) -> Iterator[None]:
    """Within the context, a forward pass of ``net`` in this thread stops between its modules once ``cancel()``."""
    if cancel is None:
        yield
        return
    owner = threading.get_ident()

    def check(module: nn.Module, args: Any) -> None:
        if threading.get_ident() == owner and cancel():
            raise Cancelled("Stopped.")

    hooks = [module.register_forward_pre_hook(check) for module in net.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Folding:
    """Keeps a network's folded twin and makes it anew when the block has been switched or swapped."""

    def __init__(self, net: nn.Module) -> None:
        self._net: Any = net
        self._twin: nn.Module | None = None
        self._state = ""
        self._layers: list[nn.Module] = []

    def __call__(self) -> nn.Module:
        """Return the folded twin, or the plain network where there is nothing to fold."""
        plain: nn.Module = self._net
        block: Any = getattr(self._net, "block", None)
        if not hasattr(self._net, "folded") or not hasattr(block, "running"):
            return plain
        layers = list(block.running())
        # The layers themselves are kept, not their ids: a freed layer's id may be the next one's.
        same = len(layers) == len(self._layers) and all(a is b for a, b in zip(layers, self._layers, strict=True))
        if self._twin is None or block.state != self._state or not same:
            self._twin, self._state, self._layers = self._net.folded(), str(block.state), layers
        twin: nn.Module = self._twin
        return twin


class Forward:
    """Runs batches for one prediction.

    Parameters
    ----------
    net : nn.Module
        Image (B, C, *grid) -> logits (B, K, *grid), in eval mode; the grid has two axes or three.
    fold : callable -> nn.Module
        Gives the network to run where ``config.folded``.
    head : {"sigmoid", "softmax"}
    config : PredictConfig
    device : torch.device
    say : callable(str)
        Takes a sentence about every fallback.
    cancel : callable -> bool, optional
    """

    def __init__(
        self,
        net: nn.Module,
        fold: Callable[[], nn.Module],
        head: Literal["sigmoid", "softmax"],
        config: PredictConfig,
        device: torch.device,
        say: Callable[[str], None],
        cancel: Cancel | None = None,
    ) -> None:
        self._plain, self._fold, self._head, self._config = net, fold, head, config
        self._say, self._cancel = say, cancel
        self.device = device
        self.non_finite = False
        self._fitting = config.batch  # lowered when memory runs out
        self._quick = config.batch  # lowered on a slow device, so that cancel acts in time
        self._net: nn.Module | None = None

    @property
    def batch(self) -> int:
        """Images to run at once from now on."""
        return max(1, min(self._fitting, self._quick))

    def probabilities(self, images: Tensor) -> Tensor:
        """Return probabilities (B, K, *grid) on the CPU for images (B, C, *grid).

        Raises
        ------
        Cancelled
        DeviceError
            If not even one image fits into the CPU's memory.
        """
        parts: list[Tensor] = []
        done = 0
        while done < len(images):
            chunk = images[done : done + self.batch]
            result = self._attempt(chunk)
            if result is not None:
                parts.append(result)
                done += len(chunk)
        return torch.cat(parts)

    def _attempt(self, chunk: Tensor) -> Tensor | None:
        """Return the chunk's probabilities, or None after a fallback that asks for another try."""
        try:
            return self._run(chunk)
        except NotImplementedError as error:
            if self.device.type != "mps":
                raise
            reason = f"{describe_device(self.device)} lacks an operation of this network"
            trouble: tuple[str, str] = ("unsupported", f"{reason} ({str(error)[:80]})")
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            trouble = ("memory", f"{describe_device(self.device)} ran out of memory")
        # Outside the handlers: the traceback there keeps the failed tensors alive.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._fall_back(*trouble, len(chunk))
        return None

    def _fall_back(self, trouble: str, reason: str, size: int) -> None:
        if trouble == "memory" and size > 1:
            self._fitting = size // 2
            self._say(f"{reason} at {size} images at once; went on with {self._fitting}.")
        elif self.device.type != "cpu":
            self._say(f"{reason}{' even for one image' if trouble == 'memory' else ''}; went on with the CPU, slower.")
            self.device = torch.device("cpu")
            self._net = None
        else:
            raise DeviceError(
                "Memory does not suffice even for one image on the CPU. Close other programs, or choose tiles "
                "or a checkpoint with a smaller input size."
            )

    def _placed(self, dims: int) -> nn.Module:
        if self._net is None:
            # The plain network first: its folded twin shares what it does not fold.
            self._plain.to(self.device, memory_format=channels_last(dims))  # type: ignore[call-overload]
            block = getattr(self._plain, "block", None)
            if block is not None and hasattr(block, "running"):
                for layer in block.running():  # random layers are no part of the module tree
                    layer.to(self.device)
            net = self._fold() if self._config.folded else self._plain
            self._net = net.to(self.device)
        return self._net

    def _run(self, chunk: Tensor) -> Tensor:
        # Outside inference mode, in which moved weights would become tensors that can never be trained again.
        dims = chunk.ndim - 2
        with torch.no_grad():
            net = self._placed(dims)
        with torch.inference_mode():
            started = time.perf_counter()
            with interruptible(net, self._cancel):
                images = chunk.to(self.device, torch.float32).contiguous(memory_format=channels_last(dims))
                result = self._activate(net(images))
                if self._config.flips:
                    mirrored = self._activate(net(images.flip(-1))).flip(-1)
                    result = (result + mirrored) / 2
            result = result.cpu()
        if not torch.isfinite(result).all():
            self.non_finite = True
            result = torch.nan_to_num(result)
        self._quick = max(1, int(_BATCH_SECONDS * len(chunk) / max(time.perf_counter() - started, 1e-6)))
        return result

    def _activate(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        return logits.sigmoid() if self._head == "sigmoid" else logits.softmax(dim=1)
