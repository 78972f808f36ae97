"""The language models known by name, and how a person names any other one.

Only data and words: neither torch nor the network is touched here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_llm4seg.errors import CheckpointError, ConfigError

HUB, RANDOM = "hf:", "random:"


@dataclass(frozen=True)
class LanguageModel:
    """A language model known by name.

    Attributes
    ----------
    name : what a person types
    repository : on the Hugging Face Hub
    default_layer : 0-based index that is taken where none is said
    licence : as the repository states it
    gated : whether the Hub hands it out only to who accepted the licence on its page
    config : what a decoder layer needs of the model's ``config.json``
    """

    name: str
    repository: str
    default_layer: int
    licence: str
    config: Mapping[str, Any] = field(repr=False)
    gated: bool = False

    @property
    def layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def hidden(self) -> int:
        """Width of the tokens."""
        return int(self.config["hidden_size"])


SMOLLM2: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "max_position_embeddings": 8192,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    "attention_bias": False,
    "mlp_bias": False,
}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "attention_bias": False,
    "mlp_bias": False,
}
DEEPSEEK: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "max_position_embeddings": 131072,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
# The same shape as DeepSeek's distillation, with other rotary frequencies and other weights.
QWEN_CODER: dict[str, Any] = DEEPSEEK | {
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
}

LANGUAGE_MODELS: dict[str, LanguageModel] = {
    model.name: model
    for model in (
        LanguageModel("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", 14, "Apache-2.0", SMOLLM2),
        LanguageModel("qwen2.5-coder-1.5b", "Qwen/Qwen2.5-Coder-1.5B", 27, "Apache-2.0", QWEN_CODER),
        LanguageModel("qwen2.5-coder-1.5b-instruct", "Qwen/Qwen2.5-Coder-1.5B-Instruct", 27, "Apache-2.0", QWEN_CODER),
        # layer 28 of 28, as published
        LanguageModel(
            "deepseek-r1-distill-qwen-1.5b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 27, "MIT", DEEPSEEK
        ),
        # layer 15 of 16, as published
        LanguageModel("llama-3.2-1b", "meta-llama/Llama-3.2-1B", 14, "Llama 3.2 Community License", LLAMA, gated=True),
    )
}


@dataclass(frozen=True)
class Source:
    """Where a person says that layers shall come from.

    Attributes
    ----------
    text : as the person wrote it
    kind : "hub", "local" or "random"
    repository : what ``LayerRef.repository`` says of its layers
    revision : branch, tag or commit on the Hub, where one was given
    file : a GGUF file inside a Hub repository, where one was given
    model : the entry of the registry, where it is one
    """

    text: str
    kind: Literal["hub", "local", "random"]
    repository: str
    revision: str | None = None
    file: str | None = None
    model: LanguageModel | None = None

    @property
    def default_layer(self) -> int | None:
        return self.model.default_layer if self.model else None

    @property
    def fetchable(self) -> str:
        """The name to hand to ``llm4seg models fetch``."""
        return self.text.removeprefix(RANDOM)


def parse_source(text: str) -> Source:
    """Read a language model's name.

    Parameters
    ----------
    text : str
        A name of the registry; ``hf:ORG/REPO[@REVISION]`` or ``hf:ORG/REPO/FILE.gguf[@REVISION]``; ``random:NAME``
        for the frozen random layers of a registry's model, where a layer's index is the seed of its weights; else
        the path of a folder with safetensors or of a GGUF file.

    Raises
    ------
    CheckpointError
        One line where it can be none of these.
    """
    if text in LANGUAGE_MODELS:
        model = LANGUAGE_MODELS[text]
        return Source(text, "hub", model.repository, model=model)
    if text.startswith(RANDOM):
        name = text.removeprefix(RANDOM)
        if name not in LANGUAGE_MODELS:
            raise CheckpointError(f"There is no language model {name[:80]!r} for '{RANDOM}'. {known()}")
        return Source(text, "random", f"random/{name}", model=LANGUAGE_MODELS[name])
    if text.startswith(HUB):
        return _on_hub(text)
    if not text or "\0" in text:
        raise CheckpointError(f"There is no language model {text[:80]!r}. {known()}")
    path = Path(text)
    stem = path.stem if path.suffix == ".gguf" else path.resolve().name
    return Source(text, "local", f"local/{slug(stem)}")


def _on_hub(text: str) -> Source:
    name, _, revision = text.removeprefix(HUB).partition("@")
    found = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)(?:/(\w[\w./ -]*\.gguf))?", name)
    if found is None or re.search(r"\s|^$", revision if "@" in text else "main"):
        raise CheckpointError(
            f"'{text[:120]}' could not be fetched: it needs the form hf:ORG/REPO, hf:ORG/REPO@REVISION or "
            "hf:ORG/REPO/FILE.gguf."
        )
    repository = found[1]
    model = next((model for model in LANGUAGE_MODELS.values() if model.repository == repository), None)
    return Source(text, "hub", repository, revision or None, found[2], model)


def known() -> str:
    """Return the sentence that lists what a person may give."""
    return f"Give hf:ORG/REPO, a folder with safetensors, a .gguf file or one of: {', '.join(LANGUAGE_MODELS)}."


def check_layer(index: int, config: Mapping[str, Any], name: str) -> None:
    """Raise CheckpointError where a language model of that config has no such layer; ``name`` is how it is called."""
    count = config.get("num_hidden_layers")
    if isinstance(count, int) and not 0 <= index < count:
        raise CheckpointError(f"Layer {index} was asked for; {name} has layers 0 to {count - 1}.")


def slug(text: str) -> str:
    """Return ``text`` as a name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:80].lower() or "model"


def parse_layers(text: str) -> tuple[int, ...]:
    """Read 0-based layer indices: "14", "12,13" or "12-14".

    Raises
    ------
    ConfigError
        One line where it is no such list, names a layer twice or more than 32.
    """
    indices: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part)
        if found is None:
            raise ConfigError(f"Layers {text[:80]!r} need 0-based numbers such as 14, 12,13 or 12-14.")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise ConfigError(f"Layers {text[:80]!r}: {first}-{last} runs backwards; give {last}-{first}.")
        indices += range(first, last + 1)
    if len(set(indices)) != len(indices):
        raise ConfigError(f"Layers {text[:80]!r} name a layer twice.")
    if len(indices) > 32:
        raise ConfigError(f"Layers {text[:80]!r} are {len(indices)}; at most 32 fit a block.")
    return tuple(indices)
