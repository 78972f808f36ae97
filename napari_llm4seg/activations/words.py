"""Vocabulary entries nearest to a token after the layer, where the whole language model lies on this machine.

For a token x of width D: logits = U norm(x), with the model's final RMSNorm and its unembedding U (V, D), which is its
embedding where the two are tied; the entries with the largest softmax are named. The layers that would follow are
left out, and x was made from an image through a trained adapter, never from text. So a word here says in which
direction x points in a space that text has shaped, and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_llm4seg.errors import CheckpointError, InputError
from napari_llm4seg.files import read_json

WARNING = (
    "The token comes from an image, through a trained adapter: it is no word. The entries say where it points in a "
    "space that text has shaped. Chance names words too; take none for a finding."
)
_HEAD, _EMBEDDING, _NORM = "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"
_FILES = ("config.json", "tokenizer.json")


@dataclass(frozen=True)
class Word:
    """A vocabulary entry as it reads, and its share of the softmax in [0, 1]."""

    text: str
    share: float


class Vocabulary:
    """The end of a language model: final norm, unembedding and tokenizer.

    Parameters
    ----------
    folder : Path
        As saved for transformers: config.json, tokenizer.json, and model.safetensors or its parts with their index.

    Raises
    ------
    CheckpointError
        If a file or a tensor is missing, with its name.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(
                f"'{folder}' holds no whole language model: {', '.join(missing)} missing. Choose the folder with its "
                "config.json, tokenizer.json and safetensors."
            )
        config = read_json(folder / "config.json", "language model config")
        self.eps = float(config.get("rms_norm_eps", 1e-6))
        tensors = _tensors(folder)
        self.norm = tensors[_NORM]
        self.unembedding = tensors[_HEAD if _HEAD in tensors else _EMBEDDING]
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception
            raise CheckpointError(f"'{folder / 'tokenizer.json'}' is no tokenizer: {error}.") from error

    @property
    def width(self) -> int:
        return int(self.norm.numel())

    def nearest(self, token: Any, k: int = 8) -> list[Word]:
        """Return the ``k`` entries nearest to a token (D,), the nearest first.

        Raises
        ------
        InputError
            If the token has another width than the model.
        """
        x = torch.as_tensor(token).float().cpu()
        if x.shape != (self.width,):
            raise InputError(
                f"The layer's tokens have {x.numel()} channels, this language model {self.width}; choose the model "
                "that the layer is from."
            )
        with torch.no_grad():
            normed = x * torch.rsqrt(x.pow(2).mean() + self.eps) * self.norm.float()
            logits = self.unembedding.float() @ normed
            shares, found = logits.softmax(0).topk(min(k, len(logits)))
        return [
            Word(self._text(int(entry)), float(share))
            for entry, share in zip(found.tolist(), shares.tolist(), strict=True)
        ]

    def _text(self, entry: int) -> str:
        text: str = self._tokenizer.decode([entry], skip_special_tokens=False)
        return text if text.strip() else repr(self._tokenizer.id_to_token(entry))


def folder_at_hand(repository: str) -> Path | None:
    """Return where the Hugging Face cache holds a whole model, None where it does not; nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache

    if repository.count("/") != 1:
        return None
    found = [try_to_load_from_cache(repository, name) for name in _FILES]
    if not all(isinstance(path, str) for path in found):
        return None
    folder = Path(str(found[0])).parent
    return folder if any(folder.glob("*.safetensors")) else None


def _tensors(folder: Path) -> dict[str, Tensor]:
    """Return the norm, and unembedding or embedding, read alone from among the model's tensors."""
    from safetensors import SafetensorError, safe_open

    wanted = (_NORM, _HEAD, _EMBEDDING)
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as stored:
                names = set(stored.keys())
                for name in wanted:
                    if name in names and not (name == _EMBEDDING and _HEAD in found):
                        found[name] = stored.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"'{file.name}' cannot be read: {error}.") from error
    for needed in (_NORM, _EMBEDDING):
        if needed not in found and not (needed == _EMBEDDING and _HEAD in found):
            raise CheckpointError(
                f"'{folder}' holds no '{needed}': it is one part of a language model, and words need the whole."
            )
    return found
