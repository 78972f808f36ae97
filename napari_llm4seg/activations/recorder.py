"""Reads named points of a network while it runs, without changing what it computes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from napari_llm4seg.activations.points import check_points, is_tokens, points_of
from napari_llm4seg.errors import ConfigError
from napari_llm4seg.models.block import LLMBlock
from napari_llm4seg.models.bridge import to_features, to_tokens
from napari_llm4seg.models.llm4seg import LLM4SegNet


@dataclass(frozen=True)
class Activations:
    """What one forward held at the recorded points.

    Attributes
    ----------
    tensors : mapping of point name to tensor
        Copies, as the points' table says (``napari_llm4seg.activations.points``).
    grid : sizes of the bottleneck's grid, in cells; its tokens are those cells in raster order
    image_grid : sizes of the image that came, in pixels or voxels
    padded_grid : the same after padding to the network's stride; this is what the bottleneck's grid covers
    """

    tensors: Mapping[str, Tensor]
    grid: tuple[int, ...]
    image_grid: tuple[int, ...]
    padded_grid: tuple[int, ...]

    def __getitem__(self, name: str) -> Tensor:
        """Return the point's tensor; ConfigError where it was not recorded."""
        if name not in self.tensors:
            raise ConfigError(f"'{name[:60]}' was not recorded; recorded were {', '.join(self.tensors)}.")
        return self.tensors[name]

    def features(self, name: str) -> Tensor:
        """Return the point as features (B, C, *grid), tokens folded back onto the bottleneck's grid."""
        tensor = self[name]
        return to_features(tensor, self.grid) if is_tokens(name) else tensor

    def tokens(self, name: str) -> Tensor:
        """Return the point as tokens (B, N, C) in raster order."""
        tensor = self[name]
        return tensor if is_tokens(name) else to_tokens(tensor)


class ActivationRecorder:
    """Context in which every forward of ``net`` in this thread is recorded.

    The network is listened to, not rebuilt: the outputs are bit for bit those without a recorder. Other threads'
    forwards pass unrecorded. On leaving, also by an error, the network is as it was. A forward that fails leaves no
    record.

    Parameters
    ----------
    net : LLM4SegNet
        In train or eval mode, with its block on, off or random. A network with a folded block has no points inside
        the block.
    points : iterable of str, optional
        All that the network has by default; they can be many times the size of the image.
    device : torch.device or str, optional
        Where the copies go; by default they stay on the network's.

    Raises
    ------
    ConfigError
        If the network has no such point.

    Examples
    --------
    >>> with ActivationRecorder(net, ["bottleneck", "decoder"]) as recorder:
    ...     logits = net(image)
    >>> recorder.activations.features("decoder").shape
    """

    def __init__(
        self, net: LLM4SegNet, points: Iterable[str] | None = None, device: torch.device | str | None = None
    ) -> None:
        self._net = net
        self._points = check_points(net, points_of(net) if points is None else points)
        self._device = device
        self._stack: ExitStack | None = None
        self._owner = 0
        self._tensors: dict[str, Tensor] = {}
        self._grids: dict[str, tuple[int, ...]] = {}
        self.passes: list[Activations] = []

    @property
    def activations(self) -> Activations:
        """The latest forward's record; ConfigError before the first."""
        if not self.passes:
            raise ConfigError("Nothing was recorded; run the network inside the recorder's context.")
        return self.passes[-1]

    def __enter__(self) -> ActivationRecorder:
        self._owner = threading.get_ident()
        with ExitStack() as stack:
            self._listen(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stack is not None:
            self._stack.close()
            self._stack = None

    def _listen(self, stack: ExitStack) -> None:
        """Lay the hooks; ``stack`` takes them up again."""
        net, backbone = self._net, self._net.backbone
        stack.enter_context(_replaced(backbone, "encode", self._encoding(backbone.encode)))
        for name in ("decode", "decode_deep"):
            stack.enter_context(_replaced(backbone, name, self._decoding(getattr(backbone, name))))
        self._hook(stack, net, "", "logits")
        handle = net.register_forward_pre_hook(self._begin)
        stack.callback(handle.remove)
        if net.block is not None:
            self._hook(stack, net.block, "", "block")
        if isinstance(net.block, LLMBlock):
            bridge = net.block.bridge
            self._hook(stack, bridge.adapter_in, "adapter_in.in", "adapter_in.out")
            for k, layer in enumerate(net.block.running()):
                self._hook(stack, layer, f"layer.{k + 1}.in", f"layer.{k + 1}.out")
            self._hook(stack, bridge.adapter_out, "adapter_out.in", "adapter_out.out")

    def _hook(self, stack: ExitStack, module: nn.Module, before: str, after: str) -> None:
        def take(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if self._here():
                self._keep(before, args[0])
                self._keep(after, out)
                if module is self._net:
                    self._end()

        handle = module.register_forward_hook(take)
        stack.callback(handle.remove)

    def _encoding(self, encode: Callable[[Tensor], list[Tensor]]) -> Callable[[Tensor], list[Tensor]]:
        def recorded(image: Tensor) -> list[Tensor]:
            features = encode(image)
            if self._here():
                for i, feature in enumerate(features):
                    self._keep(f"encoder.{i + 1}", feature)
                self._keep("bottleneck", features[-1])
                self._grids |= {"padded": tuple(image.shape[2:]), "bottleneck": tuple(features[-1].shape[2:])}
            return features

        return recorded

    def _decoding(self, decode: Callable[[list[Tensor]], Any]) -> Callable[[list[Tensor]], Any]:
        def recorded(features: list[Tensor]) -> Any:
            if self._here():
                self._keep("decoder", features[-1])
            return decode(features)

        return recorded

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._here():
            self._tensors, self._grids = {}, {"image": tuple(args[0].shape[2:])}

    def _end(self) -> None:
        grids = self._grids
        # in the order asked for, whatever order the forward came by them
        tensors = {name: self._tensors[name] for name in self._points}
        self.passes.append(Activations(tensors, grids["bottleneck"], grids["image"], grids["padded"]))
        self._tensors = {}

    def _here(self) -> bool:
        return threading.get_ident() == self._owner

    def _keep(self, name: str, value: Any) -> None:
        if name not in self._points:
            return
        # with deep supervision, a network in training gives its full-size output first
        tensor: Tensor = value[0] if isinstance(value, (list, tuple)) else value
        # copied, because later layers may work in place; outside inference mode, so that the copy is an ordinary tensor
        with torch.inference_mode(False), torch.no_grad():
            copy = tensor.clone()
            self._tensors[name] = copy if self._device is None else copy.to(self._device)


class _replaced:
    """Context in which ``owner``'s method ``name`` is another, on this one object."""

    def __init__(self, owner: nn.Module, name: str, other: Callable[..., Any]) -> None:
        self._owner, self._name, self._other = owner, name, other

    def __enter__(self) -> None:
        self._before = vars(self._owner).get(self._name)
        vars(self._owner)[self._name] = self._other

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            vars(self._owner).pop(self._name, None)
        else:  # another recorder's, around whose context this one lies
            vars(self._owner)[self._name] = self._before
