"""The predictor around the real network, with the shipped frozen layer and untrained weights."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_llm4seg.assets import asset
from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import (
    BackboneConfig,
    BlockConfig,
    Card,
    CheckpointConfig,
    ModelConfig,
    PredictConfig,
    PreprocessConfig,
)
from napari_llm4seg.errors import Cancelled
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import read_pack
from napari_llm4seg.predict import Predictor, load_model
from napari_llm4seg.volume import Volume


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    pack = read_pack(asset("layers", "smollm2-135m-instruct-14"))
    backbone = BackboneConfig(widths=(4, 8, 16), depths=(1, 1, 1), kernels=(3, 3, 3))
    model = ModelConfig(backbone=backbone, block=BlockConfig(layers=(pack.ref,)))
    torch.manual_seed(0)
    net = LLM4SegNet(model, [pack.build()])
    config = CheckpointConfig(model=model, preprocess=PreprocessConfig(size=(32, 32)), card=Card(name="untrained"))
    return Checkpoint(config, net.trained_tensors())


@pytest.fixture
def volume() -> Volume:
    return Volume(np.random.default_rng(0).integers(0, 256, (1, 3, 37, 45), dtype=np.uint8))


def probabilities(predictor: Predictor, volume: Volume) -> np.ndarray:
    parts: dict[int, np.ndarray] = {}
    predictor.predict(volume, on_slice=lambda z, labels, found: parts.update({z: found}))
    return np.stack([parts[z] for z in sorted(parts)])


def test_folding_changes_nothing_but_the_arithmetic(checkpoint: Checkpoint, volume: Volume) -> None:
    model = Predictor(checkpoint, "cpu", PredictConfig(folded=True))
    plain = model.with_config(PredictConfig(folded=False))
    assert model._fold() is not model.net
    np.testing.assert_allclose(probabilities(model, volume), probabilities(plain, volume), atol=1e-5)


def test_switching_the_block_takes_effect_also_when_folded(checkpoint: Checkpoint, volume: Volume) -> None:
    model = Predictor(checkpoint, "cpu")
    assert isinstance(model.net, LLM4SegNet)
    answers = {}
    for state in ("on", "random", "off"):
        model.net.set_block(state)
        answers[state] = probabilities(model, volume)
        plain = model.with_config(PredictConfig(folded=False))
        np.testing.assert_allclose(answers[state], probabilities(plain, volume), atol=1e-5)
        assert model.predict(volume, slices=[0]).provenance["block_state"] == state
    assert not np.allclose(answers["on"], answers["off"], atol=1e-5)
    assert not np.allclose(answers["on"], answers["random"], atol=1e-5)


def test_other_layers_than_the_checkpoints_are_said_in_the_provenance(checkpoint: Checkpoint, volume: Volume) -> None:
    model = Predictor(checkpoint, "cpu")
    assert isinstance(model.net, LLM4SegNet)
    before = probabilities(model, volume)
    assert model.predict(volume, slices=[0]).provenance["block_state"] == "on"
    model.net.swap_layers([LLMLayer.random(model.net.llm_block().running()[0].spec, seed=3)])
    assert not np.allclose(probabilities(model, volume), before, atol=1e-5)
    assert model.predict(volume, slices=[0]).provenance["block_state"] == "swapped"


def test_the_network_can_be_trained_after_it_has_predicted(checkpoint: Checkpoint, volume: Volume) -> None:
    model = Predictor(checkpoint, "cpu")
    model.predict(volume)
    assert not any(tensor.is_inference() for tensor in model.net.state_dict().values())
    model.net.train()(torch.rand(2, 1, 32, 32)).mean().backward()
    assert all(p.grad is not None for name, p in model.net.named_parameters() if p.requires_grad)


def test_batches_and_order_change_nothing(checkpoint: Checkpoint, volume: Volume) -> None:
    answers = [probabilities(Predictor(checkpoint, "cpu", PredictConfig(batch=batch)), volume) for batch in (1, 2, 8)]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-5)
    np.testing.assert_allclose(answers[2], answers[0], atol=1e-5)


def test_a_saved_checkpoint_loads_by_path_and_predicts_the_same(
    checkpoint: Checkpoint, volume: Volume, tmp_path: Path
) -> None:
    path = checkpoint.save(tmp_path / "model")
    loaded = load_model(path, "cpu")
    found = loaded.predict(volume)
    expected = Predictor(checkpoint, "cpu").predict(volume)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    about = {"name": "untrained", "sha256": checkpoint.digest, "reference": str(path)}
    assert found.provenance["checkpoint"] == about
    block = checkpoint.config.model.block
    assert block is not None
    assert found.provenance["frozen_layers"] == [block.layers[0].model_dump()]


def test_cancel_acts_inside_the_network(checkpoint: Checkpoint, volume: Volume) -> None:
    """Raised from another thread while the network runs; asked many times within one forward."""
    asked: list[int] = []
    cancel = threading.Event()

    def ask() -> bool:
        asked.append(1)
        if len(asked) == 30:
            cancel.set()
        return cancel.is_set()

    with pytest.raises(Cancelled):
        Predictor(checkpoint, "cpu").predict(volume, slices=[0], cancel=ask)
    assert len(asked) == 30


def test_importing_prediction_loads_neither_transformers_nor_monai() -> None:
    code = (
        "import sys, napari_llm4seg.predict; "
        "print(sorted({'transformers', 'monai', 'qtpy', 'napari', 'scipy.ndimage'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("mode", ["whole", "tiles"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64, np.float16, np.float64])
@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (1, 2, 3, 90), (3, 1, 20, 20)])
def test_odd_scans_pass_the_real_network(
    checkpoint: Checkpoint, shape: tuple[int, ...], dtype: type, mode: str
) -> None:
    ramp = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    ramp[:, 0] = np.array(300).astype(dtype)  # a constant slice
    config = PredictConfig.model_validate({"mode": mode})
    found = Predictor(checkpoint, "cpu", config).predict(Volume(ramp))
    assert found.probabilities is not None
    assert found.probabilities.shape == (1, *shape[1:])
    assert np.isfinite(found.probabilities).all()


def test_a_volumetric_network_is_saved_loaded_folded_and_predicts_at_any_size(tmp_path: Path) -> None:
    pack = read_pack(asset("layers", "smollm2-135m-instruct-14"))
    backbone = BackboneConfig(kind="dynunet", spatial_dims=3, widths=(2, 3, 4, 5), deep_supervision=True)
    model = ModelConfig(backbone=backbone, block=BlockConfig(layers=(pack.ref,), positions="axial"), head="softmax")
    torch.manual_seed(0)
    config = CheckpointConfig(
        model=model,
        preprocess=PreprocessConfig(patch=(8, 16, 16), spacing=(1, 1, 1), intensity="zscore"),
        card=Card(name="untrained"),
    )
    stored = Checkpoint(config, LLM4SegNet(model, [pack.build()]).trained_tensors()).save(tmp_path / "model")
    loaded = load_model(stored, "cpu")
    volume = Volume(np.random.default_rng(0).normal(size=(1, 11, 20, 9)).astype(np.float32))
    found = probabilities(loaded, volume)
    assert found.shape == (11, 2, 20, 9)
    plain = probabilities(loaded.with_config(PredictConfig(folded=False)), volume)
    np.testing.assert_allclose(found, plain, atol=1e-5)
    loaded.net.set_block("off")
    assert not np.allclose(probabilities(loaded, volume), found, atol=1e-5)


@pytest.mark.gpu
def test_the_card_gives_the_cpus_answer(checkpoint: Checkpoint, volume: Volume) -> None:
    found = probabilities(Predictor(checkpoint, "cuda"), volume)
    np.testing.assert_allclose(found, probabilities(Predictor(checkpoint, "cpu"), volume), atol=2e-3)


@pytest.mark.gpu
def test_a_full_card_falls_back_to_the_cpu(checkpoint: Checkpoint, volume: Volume) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        found = Predictor(checkpoint, "cuda").predict(volume)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found.provenance["device"] == "CPU"
    assert found.provenance["messages"][-1].endswith("went on with the CPU, slower.")
    np.testing.assert_array_equal(found.labels, Predictor(checkpoint, "cpu").predict(volume).labels)
