"""What a frozen encoder makes of images, computed once for each."""

from __future__ import annotations

import hashlib
import threading

import torch
from torch import Tensor

from napari_llm4seg.errors import ConfigError
from napari_llm4seg.models.backbone import channels_last
from napari_llm4seg.models.llm4seg import Features, LLM4SegNet

# An image of 256 x 256 pixels takes CMUNeXt base 9.3 MB in float32: room for 5 slices in 8 variants and as many again.
DEFAULT_MB = 768


class FeatureCache:
    """Encoder features by the content of their image; what finds no room is computed anew each time.

    Float32 throughout, so that training from the cache is training without it. Usable from several threads.

    Parameters
    ----------
    net : LLM4SegNet
        Its encoder is frozen (``train_only``) and on the device of its weights; features are kept on the CPU.
    limit_mb : float
        Room for features in MB (1e6 bytes).

    Raises
    ------
    ConfigError
        If the encoder trains, so that its features change.
    """

    def __init__(self, net: LLM4SegNet, limit_mb: float = DEFAULT_MB) -> None:
        if net.parts == "all":
            raise ConfigError("Features are cached of a frozen encoder only; train adapters or adapters+decoder.")
        self._net, self._limit = net, limit_mb * 1e6
        self._stages: dict[str, tuple[Tensor, ...]] = {}
        self._lock = threading.Lock()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._stages)

    def __call__(self, images: Tensor) -> Features:
        """Return the features of images (B, C, *grid), on the CPU."""
        digests = [image_digest(image) for image in images]
        with self._lock:
            found = {digest: self._stages[digest] for digest in digests if digest in self._stages}
        absent = [i for i, digest in enumerate(digests) if digest not in found]
        if absent:
            encoded = self._encode(images[absent])
            for i, *stages in zip(absent, *encoded, strict=True):
                found[digests[i]] = tuple(stages)
                self._keep(digests[i], tuple(stages))
        rows = [found[digest] for digest in digests]
        return Features(tuple(torch.stack(stages) for stages in zip(*rows, strict=True)), tuple(images.shape[2:]))

    def forget(self) -> None:
        """Make room: everything is computed anew when asked for."""
        with self._lock:
            self._stages, self.bytes = {}, 0

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        device = next(self._net.parameters()).device
        layout = channels_last(images.ndim - 2)
        # also when asked during validation: tensors made in inference mode could never be trained on
        with torch.inference_mode(False), torch.no_grad():
            features = self._net.features(images.to(device, memory_format=layout))
        return tuple(stage.cpu() for stage in features.stages)

    def _keep(self, digest: str, stages: tuple[Tensor, ...]) -> None:
        size = sum(stage.numel() * stage.element_size() for stage in stages)
        with self._lock:
            if digest in self._stages or self.bytes + size > self._limit:
                return
            # a row of a batch would keep the whole batch alive
            self._stages[digest] = tuple(stage.clone() for stage in stages)
            self.bytes += size


def image_digest(image: Tensor) -> str:
    """Return a digest of an image's values and shape."""
    values = image.detach().cpu().contiguous().numpy()
    return hashlib.blake2b(values.tobytes() + str(values.shape).encode(), digest_size=16).hexdigest()
