"""Reads named points of a network while it runs, without changing what it computes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from napari_llm4seg.activations.points import check_points, is_by_head, is_tokens, points_of
from napari_llm4seg.errors import ConfigError
from napari_llm4seg.models.block import LLMBlock
from napari_llm4seg.models.bridge import to_features, to_tokens
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import Angles, LLMLayer, attention_weights

LIMIT = 1 << 30


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
    handed : for each layer that ran, from 1 on, the rotary angles and the mask that the forward handed to it
    """

    tensors: Mapping[str, Tensor]
    grid: tuple[int, ...]
    image_grid: tuple[int, ...]
    padded_grid: tuple[int, ...]
    handed: Mapping[int, tuple[Angles | None, Tensor]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """Return the point's tensor; ConfigError where it was not recorded."""
        if name not in self.tensors:
            raise ConfigError(f"'{name[:60]}' was not recorded; recorded were {', '.join(self.tensors)}.")
        return self.tensors[name]

    def features(self, name: str) -> Tensor:
        """Return the point as features (B, C, *grid), tokens folded back onto the bottleneck's grid."""
        tensor = self._of_tokens(name)
        return to_features(tensor, self.grid) if is_tokens(name) else tensor

    def tokens(self, name: str) -> Tensor:
        """Return the point as tokens (B, N, C) in raster order."""
        tensor = self._of_tokens(name)
        return tensor if is_tokens(name) else to_tokens(tensor)

    def _of_tokens(self, name: str) -> Tensor:
        if is_by_head(name):
            raise ConfigError(f"'{name}' is of every head and token, {tuple(self[name].shape)}; take it as it is.")
        return self[name]

    @property
    def n_bytes(self) -> int:
        """Bytes that the tensors take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


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
        By default ``points_of(net)``; they can be many times the size of the image. What lies inside a layer, its
        attention weights among it, is recorded by name alone (``inner_points_of``).
    device : torch.device or str, optional
        Where the copies go; by default they stay on the network's.
    items : sequence of int, optional
        Which images of the batch to record, all by default.
    half : bool
        Whether attention weights are kept in float16 (relative error 5e-4) rather than float32.
    limit : int
        Bytes that all passes together may take, 1 GiB by default.

    Raises
    ------
    ConfigError
        If the network has no such point; inside the context, if a forward holds more than ``limit``.

    Notes
    -----
    The forward computes attention in one fused step that never has the weights. They are computed beside it, from the
    very queries and keys that went in, under the mask that went in; ``napari_llm4seg.activations.proof`` shows that
    the fused output follows from them.

    Examples
    --------
    >>> with ActivationRecorder(net, ["bottleneck", "decoder"]) as recorder:
    ...     logits = net(image)
    >>> recorder.activations.features("decoder").shape
    """

    def __init__(
        self,
        net: LLM4SegNet,
        points: Iterable[str] | None = None,
        device: torch.device | str | None = None,
        *,
        items: Sequence[int] | None = None,
        half: bool = False,
        limit: int = LIMIT,
    ) -> None:
        self._net = net
        self._points = check_points(net, points_of(net) if points is None else points)
        self._device, self._items, self._half, self._limit = device, items, half, limit
        self._running = self._paused = False
        self._held = 0
        self._stack: ExitStack | None = None
        self._owner = 0
        self._tensors: dict[str, Tensor] = {}
        self._grids: dict[str, tuple[int, ...]] = {}
        self._handed: dict[int, tuple[Angles | None, Tensor]] = {}
        self.passes: list[Activations] = []

    @property
    def activations(self) -> Activations:
        """The latest forward's record; ConfigError before the first."""
        if not self.passes:
            raise ConfigError("Nothing was recorded; run the network inside the recorder's context.")
        return self.passes[-1]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within this context the recorder stays attached and records nothing."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

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
        # also where a forward fails: a folded twin that runs next would be taken for its rest
        stack.callback(net.register_forward_hook(self._stop, always_call=True).remove)
        if net.block is not None:
            self._hook(stack, net.block, "", "block")
        if isinstance(net.block, LLMBlock):
            bridge = net.block.bridge
            self._hook(stack, bridge.adapter_in, "adapter_in.in", "adapter_in.out")
            for k, layer in enumerate(net.block.running()):
                self._listen_inside(stack, k + 1, layer)
            self._hook(stack, bridge.adapter_out, "adapter_out.in", "adapter_out.out")

        for i, stage in enumerate(backbone.decoder_stages()):
            self._hook(stack, stage, "", f"decoder.{i + 1}")

    def _listen_inside(self, stack: ExitStack, number: int, layer: LLMLayer) -> None:
        name = f"layer.{number}"
        self._hook(stack, layer, f"{name}.in", f"{name}.out")

        def take(module: nn.Module, args: tuple[Any, ...]) -> None:
            if self._here():
                self._handed[number] = (args[1], args[2])

        stack.callback(layer.register_forward_pre_hook(take).remove)
        stack.enter_context(_replaced(layer.self_attn, "mix", self._mixing(layer.self_attn.mix, name)))
        self._hook(stack, layer.post_attention_layernorm, f"{name}.after_attention", "")
        self._hook(stack, layer.mlp, "", f"{name}.mlp")

    def _mixing(self, mix: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
        def recorded(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
            mixed = mix(q, k, v, mask)
            if self._here():
                for part, tensor in (("q", q), ("k", k), ("v", v), ("mixed", mixed)):
                    self._keep(f"{name}.{part}", tensor)
                if f"{name}.attention" in self._points:
                    self._keep_attention(f"{name}.attention", q, k, mask)
            return mixed

        return recorded

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
        if threading.get_ident() != self._owner:
            return
        self._running = not self._paused
        if self._running:
            self._tensors, self._grids, self._handed = {}, {"image": tuple(args[0].shape[2:])}, {}
            self._held = sum(seen.n_bytes for seen in self.passes)

    def _stop(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if threading.get_ident() == self._owner:
            self._running = False

    def _end(self) -> None:
        grids = self._grids
        # in the order asked for, whatever order the forward came by them
        tensors = {name: self._tensors[name] for name in self._points}
        self.passes.append(Activations(tensors, grids["bottleneck"], grids["image"], grids["padded"], self._handed))
        self._tensors = {}

    def _here(self) -> bool:
        """Return whether a forward of the network itself, not of a folded twin that shares parts, runs here."""
        return self._running and threading.get_ident() == self._owner

    def _keep(self, name: str, value: Any) -> None:
        if name not in self._points:
            return
        # with deep supervision, a network in training gives its full-size output first
        tensor: Tensor = value[0] if isinstance(value, (list, tuple)) else value
        self._room(name, tensor.numel() // len(tensor) * self._count(tensor) * tensor.element_size())
        # copied, because later layers may work in place; outside inference mode, so that the copy is an ordinary tensor
        with torch.inference_mode(False), torch.no_grad():
            copy = tensor.clone() if self._items is None else tensor[list(self._items)]
            self._tensors[name] = copy if self._device is None else copy.to(self._device)

    def _keep_attention(self, name: str, q: Tensor, k: Tensor, mask: Tensor) -> None:
        """Keep the weights; computed head by head, so that what lies around them is small against them."""
        dtype = torch.float16 if self._half else torch.float32
        shape = (self._count(q), q.shape[1], q.shape[2], k.shape[2])
        self._room(name, math.prod(shape) * dtype.itemsize)
        with torch.inference_mode(False), torch.no_grad():
            if self._items is not None:
                q, k = q[list(self._items)], k[list(self._items)]
            weights = torch.empty(shape, dtype=dtype, device=self._device or q.device)
            for head in range(shape[1]):
                weights[:, head] = attention_weights(q[:, head, None], k[:, head, None], mask)[:, 0]
            self._tensors[name] = weights

    def _count(self, tensor: Tensor) -> int:
        return len(tensor) if self._items is None else len(self._items)

    def _room(self, name: str, n_bytes: int) -> None:
        self._held += n_bytes
        if self._held > self._limit:
            raise ConfigError(
                f"Recording '{name}' would hold {self._held / 1e6:.0f} MB, and {self._limit / 1e6:.0f} MB are allowed. "
                "Record fewer points, slices or passes, attention in half precision, or raise the limit."
            )


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
