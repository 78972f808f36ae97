"""The recorder reads the real forward, changes nothing and leaves nothing behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_llm4seg.activations import ActivationRecorder, inner_points_of, points_of, spectrum_of
from napari_llm4seg.config import BackboneConfig, BlockConfig, LayerRef, ModelConfig
from napari_llm4seg.errors import ConfigError
from napari_llm4seg.models.bridge import to_features, to_tokens
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer
from tests.models.base import SPEC, lively

BACKBONES = {
    "2-D": BackboneConfig(kind="cmunext", widths=(4, 8, 16), depths=(1, 1, 1), kernels=(3, 3, 3)),
    "3-D": BackboneConfig.model_validate({"kind": "unet", "spatial_dims": 3, "widths": (4, 8, 16)}),
}
GRIDS = {"2-D": (30, 24), "3-D": (12, 10, 8)}  # sides that the stride of 4 does not divide


def network(kind: str = "2-D", layers: int = 2, block: bool = True, **settings: Any) -> LLM4SegNet:
    torch.manual_seed(0)
    refs = tuple(LayerRef(repository="made/layer", index=i, sha256="0" * 64) for i in range(layers))
    config = ModelConfig(
        backbone=BACKBONES[kind], block=BlockConfig(layers=refs, hidden=SPEC.hidden, **settings) if block else None
    )
    net = LLM4SegNet(config, [LLMLayer.random(SPEC, 7 + i) for i in range(layers)] if block else [])
    return lively(net, image(kind))


def image(kind: str = "2-D") -> Tensor:
    return torch.rand(2, 1, *GRIDS[kind], generator=torch.Generator().manual_seed(1))


def traces(net: LLM4SegNet) -> list[tuple[str, int, int, set[str]]]:
    """Return what a recorder could have left on any module."""
    replaced = {"encode", "decode", "decode_deep", "mix"}
    return [
        (name, len(m._forward_hooks), len(m._forward_pre_hooks), replaced & set(vars(m)))
        for name, m in net.named_modules()
    ]


@pytest.mark.parametrize("kind", ["2-D", "3-D"])
@pytest.mark.parametrize("settings", [{}, {"gate": "residual", "norm": True}], ids=["plain", "gated"])
def test_every_point_holds_what_the_forward_computes(kind: str, settings: dict[str, Any]) -> None:
    net, picture = network(kind, **settings), image(kind)
    with torch.inference_mode():
        before = net(picture)
        with ActivationRecorder(net) as recorder:
            logits = net(picture)
        after = net(picture)
    assert torch.equal(logits, before)
    assert torch.equal(logits, after)
    seen = recorder.activations
    assert tuple(seen.tensors) == points_of(net)
    assert seen.image_grid == GRIDS[kind]
    assert seen.padded_grid == tuple(side + -side % 4 for side in GRIDS[kind])
    assert torch.equal(seen["logits"], logits)
    assert [seen[f"encoder.{i + 1}"].shape[1] for i in range(3)] == [4, 8, 16]
    bridge, block = net.llm_block().bridge, net.llm_block()
    with torch.no_grad():
        bottleneck = seen["bottleneck"]
        assert torch.equal(bottleneck, seen["encoder.3"])
        assert torch.equal(seen["adapter_in.in"], bridge.norm(to_tokens(bottleneck)))
        assert torch.equal(seen["adapter_in.out"], bridge.enter(bottleneck))
        tokens = seen["adapter_in.out"]
        mask = bridge.mask(tokens.shape[1], tokens.device)
        for k, layer in enumerate(block.running(), start=1):
            assert torch.equal(seen[f"layer.{k}.in"], tokens)
            tokens = layer(tokens, bridge.angles(layer.spec, seen.grid, tokens.device), mask)
            assert torch.equal(seen[f"layer.{k}.out"], tokens)
        assert torch.equal(seen["adapter_out.in"], tokens)
        assert torch.equal(seen.features("adapter_out.out"), bridge.leave(tokens, seen.grid))
        assert torch.equal(seen["block"], block.add(bottleneck, seen.features("adapter_out.out")))
        assert torch.equal(seen["decoder"], seen["block"])
        stages = [seen["encoder.1"], seen["encoder.2"], seen["decoder"]]
        whole = net.backbone.decode(stages)
        assert torch.equal(whole[(..., *(slice(side) for side in GRIDS[kind]))], logits)


def test_without_a_block_the_decoder_takes_the_bottleneck() -> None:
    net = network(block=False)
    with ActivationRecorder(net) as recorder, torch.no_grad():
        net(image())
    assert points_of(net) == ("encoder.1", "encoder.2", "encoder.3", "bottleneck", "decoder", "logits")
    assert torch.equal(recorder.activations["decoder"], recorder.activations["bottleneck"])


@pytest.mark.parametrize("state", ["off", "random"])
def test_a_switched_block_is_recorded_as_it_runs(state: Any) -> None:
    net = network(layers=1)
    net.set_block(state, seed=3)
    with ActivationRecorder(net) as recorder, torch.no_grad():
        net(image())
    seen = recorder.activations
    if state == "off":
        assert not any(name.startswith("layer.") for name in seen.tensors)
        assert torch.equal(seen["adapter_out.in"], seen["adapter_in.out"])
    else:
        bridge, (layer,) = net.llm_block().bridge, net.llm_block().running()
        tokens = seen["layer.1.in"]
        mask = bridge.mask(tokens.shape[1], tokens.device)
        with torch.no_grad():
            again = layer(tokens, bridge.angles(layer.spec, seen.grid, tokens.device), mask)
        assert torch.equal(seen["layer.1.out"], again)


@pytest.mark.slow  # loads MONAI
def test_deep_supervision_gives_the_full_size_output() -> None:
    torch.manual_seed(0)
    backbone = BackboneConfig.model_validate({"kind": "dynunet", "widths": (4, 8, 8, 16), "deep_supervision": True})
    net = LLM4SegNet(ModelConfig(backbone=backbone)).train()
    with ActivationRecorder(net) as recorder:
        outputs = net(image())
    assert len(outputs) > 1
    assert torch.equal(recorder.activations["logits"], outputs[0])
    assert torch.equal(recorder.activations["decoder"], recorder.activations["bottleneck"])


def test_copies_are_ordinary_tensors_of_their_own() -> None:
    net = network()
    with torch.inference_mode(), ActivationRecorder(net, ["bottleneck", "adapter_in.in"]) as recorder:
        net(image())
        net(torch.zeros_like(image()))
    first, last = recorder.passes
    assert recorder.activations is last
    assert not torch.equal(first["bottleneck"], last["bottleneck"])
    assert not any(tensor.is_inference() or tensor.requires_grad for tensor in first.tensors.values())
    assert spectrum_of(first.tokens("bottleneck")).effective_rank.shape == (2,)
    assert torch.equal(first.tokens("bottleneck"), first.tokens("adapter_in.in"))
    assert torch.equal(first.features("adapter_in.in"), to_features(first["adapter_in.in"], first.grid))


def test_gradients_are_those_without_a_recorder() -> None:
    grads = []
    for recorded in (False, True):
        twin = network().train()
        if recorded:
            with ActivationRecorder(twin):
                twin(image()).mean().backward()
        else:
            twin(image()).mean().backward()
        grads.append({n: p.grad for n, p in twin.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.equal(grads[0][name], grads[1][name]) for name in grads[0])


def test_nothing_stays_behind_after_an_error() -> None:
    net = network()
    clean = traces(net)
    recorder = ActivationRecorder(net)

    def run_into_an_error() -> None:
        with recorder, torch.no_grad():
            net(image())
            assert traces(net) != clean
            net(torch.zeros(1, 3, 16, 16))

    with pytest.raises(RuntimeError, match="channels"):
        run_into_an_error()
    assert traces(net) == clean
    assert len(recorder.passes) == 1  # the forward that failed is none


def test_two_recorders_at_once() -> None:
    net = network()
    clean = traces(net)
    with ActivationRecorder(net, ["bottleneck"]) as outer, torch.no_grad():
        with ActivationRecorder(net, ["bottleneck", "decoder"]) as inner:
            net(image())
        net(image())
    assert traces(net) == clean
    assert (len(outer.passes), len(inner.passes)) == (2, 1)
    assert torch.equal(outer.passes[0]["bottleneck"], inner.activations["bottleneck"])


def test_other_threads_pass_unrecorded() -> None:
    net = network()
    with ActivationRecorder(net, ["bottleneck"]) as recorder:
        thread = threading.Thread(target=lambda: net(image()))
        thread.start()
        thread.join()
    assert not recorder.passes
    with pytest.raises(ConfigError, match="Nothing was recorded"):
        _ = recorder.activations


def test_a_folded_block_has_no_inside() -> None:
    net = network()
    folded = net.folded()
    with ActivationRecorder(folded) as recorder, torch.no_grad():
        folded(image())
    with ActivationRecorder(net, ["block"]) as plain, torch.no_grad():
        net(image())
    assert set(recorder.activations.tensors) == set(points_of(folded))
    assert "layer.1.in" not in points_of(folded)
    torch.testing.assert_close(recorder.activations["block"], plain.activations["block"])
    with pytest.raises(ConfigError, match="folded=False"):
        ActivationRecorder(folded, ["layer.1.out"])


def test_unknown_points_and_what_was_not_recorded() -> None:
    net = network()
    with pytest.raises(ConfigError, match=r"no point 'botleneck'.*Nearest: 'bottleneck'"):
        ActivationRecorder(net, ["botleneck"])
    with ActivationRecorder(net, ["bottleneck"]) as recorder, torch.no_grad():
        net(image())
    with pytest.raises(ConfigError, match="recorded were bottleneck"):
        recorder.activations["decoder"]


@pytest.mark.parametrize("kind", ["2-D", "3-D"])
def test_inner_points_are_recorded_on_request_and_change_nothing(kind: str) -> None:
    net, picture = network(kind), image(kind)
    clean = traces(net)
    with torch.inference_mode():
        before = net(picture)
        with ActivationRecorder(net, inner_points_of(net)) as recorder:
            assert torch.equal(net(picture), before)
    assert traces(net) == clean
    seen = recorder.activations
    tokens = seen["layer.2.mlp"].shape[1]
    assert seen["layer.2.attention"].shape == (2, SPEC.heads, tokens, tokens)
    assert seen["layer.1.v"].shape == (2, SPEC.heads, tokens, SPEC.head_dim)
    assert [seen[f"decoder.{i}"].shape[1] for i in (1, 2)] == [8, 4]
    assert not set(inner_points_of(net)) & set(points_of(net))


def test_decoder_stages_end_in_the_logits() -> None:
    net = network()
    with torch.no_grad(), ActivationRecorder(net, ["decoder.2", "logits"]) as recorder:
        net(image())
        whole = net.backbone.Conv_1x1(recorder.activations["decoder.2"])
    assert torch.equal(whole[..., : GRIDS["2-D"][0], : GRIDS["2-D"][1]], recorder.activations["logits"])


def test_chosen_images_of_a_batch() -> None:
    net, points = network(), ["bottleneck", "layer.1.attention"]
    with torch.no_grad(), ActivationRecorder(net, points) as all_of_them:
        net(image())
    with torch.no_grad(), ActivationRecorder(net, points, items=[1]) as one:
        net(image())
    for name in points:
        assert torch.equal(one.activations[name], all_of_them.activations[name][1:])


def test_memory_is_bounded() -> None:
    net = network()
    clean = traces(net)
    with torch.no_grad(), ActivationRecorder(net, ["layer.1.attention"]) as recorder:
        net(image())
    each = recorder.activations.n_bytes
    bounded = ActivationRecorder(net, ["layer.1.attention"], limit=2 * each)

    def run_three() -> None:
        with torch.no_grad(), bounded:
            for _ in range(3):
                net(image())

    with pytest.raises(ConfigError, match="half precision"):
        run_three()
    assert len(bounded.passes) == 2
    assert traces(net) == clean
    with torch.no_grad(), ActivationRecorder(net, ["layer.1.attention"], half=True) as half:
        net(image())
    assert half.activations.n_bytes == each / 2


def test_a_paused_recorder_and_a_folded_twin_record_nothing() -> None:
    net = network()
    twin = net.folded()
    with torch.no_grad(), ActivationRecorder(net, points_of(net) + inner_points_of(net)) as recorder:
        with recorder.paused():
            net(image())
        twin(image())
        assert not recorder.passes
        assert not recorder._tensors
        net(image())
    assert len(recorder.passes) == 1


def test_a_forward_of_another_thread_meanwhile_disturbs_nothing() -> None:
    net, points = network(), [*points_of(network()), *inner_points_of(network())]
    with torch.no_grad(), ActivationRecorder(net, points) as alone:
        net(image())
    owner = threading.get_ident()

    def another(module: torch.nn.Module, args: Any) -> None:
        if threading.get_ident() == owner:
            thread = threading.Thread(target=lambda: net(torch.zeros_like(image())))
            thread.start()
            thread.join()

    with torch.no_grad(), ActivationRecorder(net, points) as recorder:
        handle = net.llm_block().register_forward_pre_hook(another)
        net(image())
        handle.remove()
    assert len(recorder.passes) == 1
    for name in points:
        assert torch.equal(recorder.activations[name], alone.activations[name]), name


def test_after_a_forward_that_failed_a_folded_twin_is_not_its_rest() -> None:
    net = network()
    twin = net.folded()
    with torch.no_grad(), ActivationRecorder(net, ["bottleneck", "logits"]) as recorder:
        with pytest.raises(RuntimeError, match="channels"):
            net(torch.zeros(1, 3, 16, 16))
        twin(image())
        assert not recorder.passes
        assert not recorder._tensors
