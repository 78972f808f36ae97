"""One slice, recorded once: every click, view and what-if reads from here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_llm4seg.activations.attention import (
    Head,
    TokenMap,
    Way,
    by_head,
    entropy,
    entropy_share,
    token_map,
)
from napari_llm4seg.activations.frame import Frame, frame_of
from napari_llm4seg.activations.place import TokenGrid
from napari_llm4seg.activations.points import INSIDE, inner_points_of, points_of
from napari_llm4seg.activations.proof import Proof, prove
from napari_llm4seg.activations.recorder import LIMIT, ActivationRecorder, Activations
from napari_llm4seg.activations.replay import Replay, View
from napari_llm4seg.errors import ConfigError, InputError
from napari_llm4seg.metrics import dice
from napari_llm4seg.models.backbone import channels_last
from napari_llm4seg.models.block import LLMBlock
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.predict import Predictor
from napari_llm4seg.predict.forward import interruptible
from napari_llm4seg.volume import Prediction, Volume

Float = npt.NDArray[np.float32]
Cancel = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Answer:
    """A mask of the recorded slice, tile or patch.

    Attributes
    ----------
    probabilities : array (K, [Z,] Y, X), float32 in [0, 1], on the masks' grid (``Frame``)
    labels : array ([Z,] Y, X), label values of the checkpoint's classes
    """

    probabilities: Float
    labels: npt.NDArray[np.unsignedinteger]


class Inspection:
    """What one forward held, where it lies on the scan, and the means to run it again; made by ``inspect_slice``.

    Everything but the interventions reads recorded tensors alone and takes milliseconds. Usable from several threads.

    Attributes
    ----------
    predictor : Predictor
    frame : Frame
        What the network saw, and its place.
    activations : Activations
    normal : Answer
        The mask that the prediction makes of this slice, tile or patch, from this very forward.
    proof : Proof
        Where it fails, every map of attention is refused with its words.
    tokens : TokenGrid
    layers : list of LLMLayer
        Those that ran.
    messages : tuple of str
        What a reader must know, in words.
    """

    def __init__(
        self,
        predictor: Predictor,
        frame: Frame,
        activations: Activations,
        proof: Proof,
        layers: Sequence[LLMLayer],
        probabilities: Tensor,
    ) -> None:
        self.predictor, self.frame, self.activations, self.proof = predictor, frame, activations, proof
        self.layers = list(layers)
        self.tokens = TokenGrid.of(activations, frame.to_scan, frame.scan)
        said = frame.messages
        if predictor.config.flips:
            said = (
                *said,
                "The mask averages the slice and its mirror image; attention and features are those of the slice as "
                "it lies.",
            )
        self.messages: tuple[str, ...] = said
        self._lock = threading.RLock()
        self._replay: dict[bool, Replay] = {}
        self.normal = self.answer(probabilities)

    # --- attention ------------------------------------------------------------------------------------------------

    def token_at(self, *position: float) -> int:
        """Return the token at (y, x) of the recorded slice, or at (z, y, x) of the scan with its slices first."""
        if len(position) == 2:
            position = (self.frame.z, *position)
        return self.tokens.token_at(position)

    def weights(self) -> list[Tensor]:
        """Return every layer's attention weights (heads, N, N).

        Raises
        ------
        ProofError
            If they could not be shown to be the forward's.
        ConfigError
            If no layer ran.
        """
        self.proof.require()
        if not self.layers:
            raise ConfigError(
                "No language-model layer runs in this network now, so there is no attention. Switch the layer on, or "
                "choose a model that has one."
            )
        return [self.activations[f"layer.{k}.attention"][0] for k in range(1, len(self.layers) + 1)]

    @property
    def mask(self) -> Tensor:
        """Which token may look at which, (N, N) bool, as the forward handed it to its layers."""
        self.weights()
        return self.activations.handed[1][1]

    def attention(
        self,
        token: int,
        way: Way = "from",
        head: Head = "mean",
        layer: int | Literal["mean", "rollout"] = 1,
    ) -> TokenMap:
        """Return what a token looks at ("from"), or what looks at it ("to"); see ``attention.token_map``."""
        return token_map(self.weights(), self.mask, token, way, head, layer)

    def heads(self, token: int, way: Way = "from", layer: int = 1) -> Float:
        """Return a token's attention in every head of a layer, (heads, N), for thumbnails."""
        return by_head(self._weights_of(layer), token, way)

    def entropy(self, layer: int = 1) -> tuple[Float, Float]:
        """Return every head's and token's entropy in nats and as a share of its largest possible, (heads, N) each."""
        weights = self._weights_of(layer)
        return entropy(weights), entropy_share(weights, self.mask)

    def _weights_of(self, layer: int) -> Tensor:
        weights = self.weights()
        if not 1 <= layer <= len(weights):
            raise ConfigError(f"There is no layer {layer}; {len(weights)} layer(s) ran.")
        return weights[layer - 1]

    def volume(self, values: TokenMap | npt.ArrayLike, name: str = "") -> Volume:
        """Return a map as a volume that lies on the scan in the world, one voxel for each token.

        Parameters
        ----------
        values : TokenMap, or array (N,) or (C, N)
        name : str
        """
        if isinstance(values, TokenMap):
            about: dict[str, Any] = {**values.about, "title": values.title, "unit": values.unit}
            about |= {"proof": self.proof.as_dict(), "grid": list(self.tokens.grid)}
            return self.tokens.volume(values.values, name or values.title, about=about)
        return self.tokens.volume(values, name or "tokens")

    # --- features -------------------------------------------------------------------------------------------------

    def features(self, point: str) -> Float:
        """Return a recorded point as tokens (N, C), float32."""
        return np.asarray(self.activations.tokens(point)[0].float().cpu().numpy())

    # --- the mask, and running again ------------------------------------------------------------------------------

    def replay(self, mirrored: bool = True, cancel: Cancel | None = None) -> Replay:
        """Return what runs the forward again from its bottleneck.

        Parameters
        ----------
        mirrored : bool
            Whether to average the mirror image too where the prediction does. Its encoder runs once, at the first call.
        cancel : callable -> bool, optional

        Notes
        -----
        Run it inside ``predictor.network()``, so that no prediction moves the network meanwhile.
        """
        both = mirrored and self.predictor.config.flips
        with self._lock:
            if both not in self._replay:
                with self.predictor.network(cancel) as net, torch.no_grad(), interruptible(net, cancel):
                    self._replay[both] = self._make_replay(network_of(net), both)
            return self._replay[both]

    def _make_replay(self, net: LLM4SegNet, both: bool) -> Replay:
        device = self.predictor.device
        stages = range(1, len(net.backbone.out_channels) + 1)
        image_grid = self.activations.image_grid
        views = [View([self.activations[f"encoder.{i}"].to(device) for i in stages], image_grid)]
        if both:
            image = placed(self.frame.image.flip(-1), device)
            views.append(View(net.encode(image), image_grid, mirrored=True))
        return Replay(net, views, self.predictor.checkpoint.config.model.head, self.layers)

    def answer(self, probabilities: Tensor) -> Answer:
        """Return the mask of probabilities (K, *network grid)."""
        found = self.frame.finish(torch.nan_to_num(probabilities)[None])[0]
        return Answer(found, self.frame.labels(self.predictor, found))

    def held_to(self, prediction: Prediction) -> float:
        """Return the Dice between a prediction's mask of this slice and the one of the recorded forward.

        Raises
        ------
        InputError
            If a tile or patch was recorded, which is not the whole mask, or the grids differ.
        """
        if self.frame.kind != "slice":
            raise InputError(f"A {self.frame.kind} was recorded; its mask is one part of the prediction's.")
        labels = np.take(prediction.labels, self.frame.z, axis=self.frame.axis)
        if labels.shape != self.normal.labels.shape:
            raise InputError(f"The mask's slice has {labels.shape} pixels, the recorded {self.normal.labels.shape}.")
        return dice(labels, self.normal.labels)


def inspect_slice(
    predictor: Predictor,
    volume: Volume,
    z: int | None = None,
    *,
    at: Sequence[float] | None = None,
    decoder: bool = False,
    half: bool = False,
    limit: int = LIMIT,
    cancel: Cancel | None = None,
) -> Inspection:
    """Record the forward that makes the mask of one slice, and prove that it is that one.

    Parameters
    ----------
    predictor : Predictor
        Its network is run as it is switched now, unfolded, in its turn with other predictions.
    volume : Volume of kind "intensity"
    z : int, optional
        Slice along the predictor's axis; the middle one by default.
    at : (y, x), optional
        Where tiles or volumes are run: the place whose tile or patch is recorded.
    decoder : bool
        Whether to record the decoder's stages too.
    half : bool
        Whether to keep attention weights in half precision.
    limit : int
        Bytes that the recording may take.
    cancel : callable -> bool, optional
        Asked often, also inside the network.

    Raises
    ------
    InputError
        If the scan cannot be segmented or has no such slice.
    ConfigError
        If the recording would take more than ``limit``.
    Cancelled

    Examples
    --------
    >>> seen = inspect_slice(model, volume, z=40)
    >>> token = seen.token_at(128, 200)
    >>> where = seen.volume(seen.attention(token))
    """
    frame = frame_of(predictor, volume, z, at, cancel)
    with predictor.network(cancel) as net:
        plain = network_of(net)
        inside = [name for name in inner_points_of(plain) if decoder or name.rpartition(".")[2] in INSIDE]
        recorder = ActivationRecorder(plain, [*points_of(plain), *inside], half=half, limit=limit)
        with torch.inference_mode(), recorder, interruptible(plain, cancel):
            plain(placed(frame.image, predictor.device))
        activations = recorder.activations
        layers = plain.block.running() if isinstance(plain.block, LLMBlock) else []
        proof = prove(plain, activations)
        with torch.no_grad(), interruptible(plain, cancel):
            probabilities = _probabilities(predictor, plain, frame.image, activations["logits"])
    return Inspection(predictor, frame, activations, proof, layers, probabilities)


def _probabilities(predictor: Predictor, net: LLM4SegNet, image: Tensor, logits: Tensor) -> Tensor:
    """Return what the prediction makes of the recorded logits, (K, *grid); with the mirror image where it takes one."""
    parts = [logits]
    if predictor.config.flips:
        mirrored = net(placed(image.flip(-1), predictor.device))
        assert isinstance(mirrored, Tensor)  # in eval mode
        parts.append(mirrored.flip(-1))
    sigmoid = predictor.checkpoint.config.model.head == "sigmoid"
    found = [each.float().sigmoid() if sigmoid else each.float().softmax(dim=1) for each in parts]
    return torch.stack(found).mean(0)[0].cpu()


def network_of(net: Any) -> LLM4SegNet:
    """Return ``net``, which must be one of this package's networks; ConfigError where it is another module."""
    if not isinstance(net, LLM4SegNet):
        raise ConfigError(f"A {type(net).__name__} cannot be inspected; the model needs to be one of this package.")
    return net


def placed(image: Tensor, device: torch.device) -> Tensor:
    """Return the image as a prediction hands it to the network."""
    return image.to(device, torch.float32).contiguous(memory_format=channels_last(image.ndim - 2))
