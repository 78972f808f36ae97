"""The published LLM4Seg code (arXiv 2506.18034): its computation as a preset, and its state dicts in our names.

Its files hold the CNN (``stem``, ``encoder1..5``, ``Up5..2``, ``Up_conv5..2``, ``Conv_1x1``) and, with a language
model, ``llm4seg.adapter1``, ``llm4seg.llm`` (the frozen layer, Hugging Face names) and ``llm4seg.adapter2``.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from napari_llm4seg.config import (
    BackboneConfig,
    BlockConfig,
    Card,
    CheckpointConfig,
    LayerRef,
    ModelConfig,
    PredictConfig,
    PreprocessConfig,
    explain,
)
from napari_llm4seg.errors import CheckpointError, one_line
from napari_llm4seg.models.cmunext import cmunext_config
from napari_llm4seg.models.registry import DEEPSEEK, LLAMA

LanguageModel = Literal["llama", "deepseek"]
# The published code takes this layer whatever its --layer flag says, of either language model.
LAYER_INDEX = 14
HIDDEN: dict[LanguageModel, int] = {"llama": 2048, "deepseek": 1536}
# What a decoder layer needs of LLaMA-3.2-1B's and DeepSeek-R1-Distill-Qwen-1.5B's configs.
LANGUAGE_MODELS: dict[LanguageModel, dict[str, Any]] = {"llama": LLAMA, "deepseek": DEEPSEEK}


def paper_config(
    llm: LanguageModel | None = "llama",
    layers: tuple[LayerRef, ...] = (),
    *,
    hidden: int | None = None,
    backbone: BackboneConfig | None = None,
    card: Card | None = None,
) -> CheckpointConfig:
    """Return the published set-up: what its code computes, quirks included.

    Images are resized to 256 x 256 and read as BGR, normalised with ImageNet's mean and deviation in RGB order all
    the same, and divided by 255 once more. The block is causal in raster order with sine and cosine exchanged.

    Parameters
    ----------
    llm : {"llama", "deepseek"} or None
        None for the CNN alone.
    layers : tuple of LayerRef
        The frozen layer; empty for adapters only.
    hidden : int, optional
        Width of another language model.
    backbone : BackboneConfig, optional
        Default: CMUNeXt base on three channels.
    card : Card, optional
    """
    block = None
    if llm is not None or hidden is not None:
        width = hidden if llm is None or hidden is not None else HIDDEN[llm]
        block = BlockConfig.model_validate(
            {"layers": layers, "hidden": width, "positions": "paper", "mask": "causal", "gate": "none"}
        )
    return CheckpointConfig(
        model=ModelConfig(backbone=backbone or cmunext_config("base", 3), block=block, preset="paper"),
        preprocess=PreprocessConfig(
            size=(256, 256),
            channels="bgr",
            intensity="uint8",
            mean=(0.485, 0.456, 0.406),
            sd=(0.229, 0.224, 0.225),
            divide=255.0,
            resize="stretch",
            antialias=False,
        ),
        predict=PredictConfig(threshold=0.5, flips=False),
        card=card or Card(name="paper", task="lesion or organ against everything else", cite="arXiv 2506.18034"),
    )


@dataclass(frozen=True)
class Published:
    """A published state dict in our names.

    Attributes
    ----------
    backbone : BackboneConfig, read from the tensors' shapes
    tensors : what a checkpoint of ours holds
    layer : the frozen layer's tensors by their names inside the layer; empty where there is no language model
    """

    backbone: BackboneConfig
    tensors: dict[str, Tensor]
    layer: dict[str, Tensor]

    @property
    def hidden(self) -> int | None:
        """Width of the language model, None where there is none."""
        adapter = self.tensors.get("block.bridge.adapter_in.weight")
        return None if adapter is None else int(adapter.shape[0])


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """Read a state dict saved by torch, executing nothing of it.

    Also takes one that lies under "state_dict" or "model" of a training record, and one of a DataParallel network.

    Raises
    ------
    CheckpointError
        One line where the file is missing, damaged, no state dict, or holds anything but plain tensors.
    """
    _check_archive(file)
    try:
        value = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        # torch's own text advises to read it unsafely
        culprit = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
        raise CheckpointError(
            f"'{file}' holds more than tensors{f' ({culprit[1]})' if culprit else ''}, which could run code when "
            "read; nothing of it was run. It needs to be a plain state dict."
        ) from error
    # damage comes as many kinds of error
    except Exception as error:
        raise CheckpointError(f"'{file}' is damaged or no state dict: {one_line(error, 120)}") from error
    for key in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict) or not value or not all(isinstance(name, str) for name in value):
        raise CheckpointError(f"'{file}' holds a {type(value).__name__} that is no state dict of named tensors.")
    state = {name: tensor for name, tensor in value.items() if not name.endswith(("total_ops", "total_params"))}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    held = 0
    for name, tensor in state.items():
        plain = (
            type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and tensor.device.type == "cpu"
        )
        if not plain or tensor.is_quantized:
            raise CheckpointError(f"'{file}': {name[:120]!r} is no plain tensor; a state dict needs nothing else.")
        held += tensor.numel() * tensor.element_size()
    if held > file.stat().st_size:  # views that repeat one stored value: a small file that would fill the memory
        raise CheckpointError(f"'{file}' claims {held >> 20} MiB of weights in a smaller file; it is damaged.")
    return state


def _check_archive(file: Path) -> None:
    """Refuse what torch would read by other ways than its zip format; those had holes in older versions."""
    if not file.is_file():
        raise CheckpointError(f"There is no file '{file}'.")
    if not zipfile.is_zipfile(file):
        raise CheckpointError(
            f"'{file}' is no state dict in torch's zip format (torch 1.6 and later). If it is an older one that you "
            "trust, load and save it once with your torch."
        )
    try:
        with zipfile.ZipFile(file) as archive:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"'{file}' is damaged: {one_line(error, 120)}") from error
    if packed:
        raise CheckpointError(f"'{file}' is a compressed archive; torch writes none.")


def translate(state: Mapping[str, Tensor], file: Path) -> Published:
    """Give a published state dict our names and read the network's shape from it.

    Raises
    ------
    CheckpointError
        Where it is none of a CMUNeXt with three input channels and one output; ``file`` is named.
    """
    tensors: dict[str, Tensor] = {}
    layer: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith("llm4seg.llm."):
            if "rotary_emb" not in name:  # older transformers stored the rotary frequencies
                layer[name.removeprefix("llm4seg.llm.")] = tensor.detach()
            continue
        ours = re.sub(r"^llm4seg\.adapter1\.", "block.bridge.adapter_in.", name)
        ours = re.sub(r"^llm4seg\.adapter2\.", "block.bridge.adapter_out.", ours)
        ours = ours if ours.startswith("block.") else f"backbone.{ours}"
        tensors[ours] = tensor.detach().clone().contiguous()
    backbone = _backbone(state, file)
    if bool(layer) != ("block.bridge.adapter_in.weight" in tensors):
        raise CheckpointError(f"'{file}' has a language-model layer or adapters, but not both; it is no whole model.")
    return Published(backbone, tensors, layer)


def _backbone(state: Mapping[str, Tensor], file: Path) -> BackboneConfig:
    """Read widths, depths and kernels from the shapes of the encoder's tensors."""
    depths: dict[int, int] = {}
    for name in state:
        found = re.match(r"encoder([1-8])\.block\.(\d{1,2})\.", name)
        if found:
            depths[int(found[1])] = max(depths.get(int(found[1]), 0), int(found[2]) + 1)
    stages = range(1, len(depths) + 1)
    try:
        stem, head = state["stem.conv.0.weight"], state["Conv_1x1.weight"]
        shapes = {
            "in_channels": int(stem.shape[1]),
            "widths": [int(state[f"encoder{i}.up.conv.0.weight"].shape[0]) for i in stages],
            "depths": [depths[i] for i in stages],
            "kernels": [int(state[f"encoder{i}.block.0.0.fn.0.weight"].shape[-1]) for i in stages],
        }
        outputs = int(head.shape[0])
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"'{file}' is no state dict of the published CMUNeXt or CMUNeXt with LLM4Seg: it lacks {error}."
        ) from error
    if shapes["in_channels"] != 3 or outputs != 1:
        raise CheckpointError(
            f"'{file}' is of a network from {shapes['in_channels']} channel(s) to {outputs} output(s); the published "
            "preprocessing and classes need 3 and 1."
        )
    try:
        return BackboneConfig.model_validate({"kind": "cmunext", **shapes})
    except ValidationError as error:
        raise CheckpointError(f"'{file}': {explain(error, 'its encoder')}") from error


def language_model_config(
    layer: Mapping[str, Tensor], hidden: int, llm: str | Mapping[str, Any] = "auto"
) -> dict[str, Any]:
    """Return the Hugging Face config of the language model that ``layer`` was taken from.

    Parameters
    ----------
    layer : mapping
        The layer's tensors by their names inside the layer.
    hidden : int
        Width of the adapters.
    llm : "auto", "llama", "deepseek" or a config
        "auto" tells the two published ones by their width and query bias.

    Raises
    ------
    CheckpointError
        Where another language model's config is needed, because tensors do not tell how many heads they hold.
    """
    if isinstance(llm, Mapping):
        return dict(llm)
    if llm in LANGUAGE_MODELS:
        return dict(LANGUAGE_MODELS[llm])
    if llm != "auto":
        raise CheckpointError(f"There is no language model '{llm}'; give auto, llama, deepseek or a config.json.")
    family = "qwen2" if "self_attn.q_proj.bias" in layer else "llama"
    for config in LANGUAGE_MODELS.values():
        if config["hidden_size"] == hidden and config["model_type"] == family:
            return dict(config)
    raise CheckpointError(
        f"The file's language-model layer is {hidden} wide, neither LLaMA-3.2-1B's nor "
        "DeepSeek-R1-Distill-Qwen-1.5B's; give the config.json of the model it came from."
    )
