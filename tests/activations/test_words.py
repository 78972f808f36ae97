"""Words are those that the norm and the unembedding give by hand; what is not whole is refused in words."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from napari_llm4seg.activations.words import Vocabulary, folder_at_hand
from napari_llm4seg.errors import CheckpointError, InputError

ENTRIES = ("lesion", "cat", "left", "the")


def made(folder, tied):
    from tokenizers import Tokenizer, models

    torch.manual_seed(0)
    norm, embedding, head = 1 + torch.rand(6), torch.randn(4, 6), torch.randn(4, 6)
    tensors = {"model.norm.weight": norm, "model.embed_tokens.weight": embedding}
    save_file(tensors | ({} if tied else {"lm_head.weight": head}), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"rms_norm_eps": 1e-5, "hidden_size": 6}))
    words = {text: number for number, text in enumerate(ENTRIES)}
    Tokenizer(models.WordLevel(words, unk_token="the")).save(str(folder / "tokenizer.json"))
    return norm, embedding if tied else head


@pytest.mark.parametrize("tied", [True, False])
def test_the_nearest_entries_are_those_of_norm_and_unembedding(tmp_path, tied):
    norm, matrix = made(tmp_path, tied)
    x = torch.randn(6) * 30
    wanted = (matrix @ (x / (x.pow(2).mean() + 1e-5).sqrt() * norm)).softmax(0)
    found = Vocabulary(tmp_path).nearest(x.numpy(), 3)
    assert [word.text for word in found] == [ENTRIES[k] for k in wanted.argsort(descending=True)[:3]]
    assert [word.share for word in found] == pytest.approx(wanted.sort(descending=True).values[:3].tolist())


def test_another_width_or_a_part_of_a_model_is_refused(tmp_path):
    made(tmp_path, True)
    with pytest.raises(InputError, match="7 channels"):
        Vocabulary(tmp_path).nearest(torch.zeros(7))
    save_file({"model.norm.weight": torch.ones(6)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="embed_tokens"):
        Vocabulary(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Vocabulary(tmp_path)


def test_what_is_not_in_the_cache_is_not_fetched():
    assert folder_at_hand("nobody/no-such-model") is None
    assert folder_at_hand("random/made") is None
