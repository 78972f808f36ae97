"""A map that names what matters beats random ones; one that does not, does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_llm4seg.activations import inspect_slice
from napari_llm4seg.activations.faithfulness import Faithfulness, auc, faithfulness
from napari_llm4seg.activations.gradcam import grad_cam
from napari_llm4seg.activations.inspection import Inspection
from napari_llm4seg.errors import Cancelled, ConfigError, InputError
from napari_llm4seg.volume import Volume
from tests.activations.planted import marked, planted, planted_net
from tests.activations.test_interventions import inspected
from tests.activations.test_recorder import network


def planted_use() -> tuple[Inspection, int, int]:
    """Return a slice whose bright place is a structure because of what it takes from the dark place alone."""
    net = planted_net()
    block = net.llm_block()
    (layer,) = block.running()
    with torch.no_grad():
        layer.self_attn.v_proj.weight.zero_()
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        layer.self_attn.v_proj.weight[0, 1] = 1.0  # how dark the token is that is looked at
        layer.self_attn.o_proj.weight[3, 0] = 8.0  # into a channel of its own
        block.bridge.adapter_out.weight.zero_()
        block.bridge.adapter_out.bias.zero_()
        block.bridge.adapter_out.weight[0, 3] = 1.0
        block.bridge.adapter_out.bias[0] = -2.0
    bright, dark = (slice(4, 8), slice(4, 8)), (slice(24, 28), slice(16, 20))
    scan = Volume(marked((32, 32), bright, dark)[None, None])
    seen = inspect_slice(planted(net, size=(32, 32)), scan)
    return seen, seen.token_at(5, 5), seen.token_at(25, 17)


def test_the_map_that_names_the_used_token_is_better_than_random_ones() -> None:
    seen, bright, dark = planted_use()
    assert np.array_equal(np.unique(seen.tokens.tokens_of_slice((32, 32), 0)[seen.normal.labels > 0]), [bright])
    told: list[int] = []
    good = faithfulness(
        seen, seen.attention(bright, head=0).values, n_random=20, progress=lambda done, total, words: told.append(done)
    )
    assert good.reach > 0.3
    assert good.percentile > 90
    assert good.merit > good.random_merits.mean() + 0.2
    assert told == list(range(22))
    wrong = np.arange(64.0)
    wrong[dark] = -1
    bad = faithfulness(seen, wrong, n_random=20)
    assert bad.percentile < 50
    assert "explains little" in bad.words
    assert good.as_dict()["percentile"] == good.percentile
    assert np.array_equal(good.deletion[[0, -1]], good.insertion[[-1, 0]])
    assert faithfulness(seen, wrong, n_random=2).merit == bad.merit


def test_by_hand() -> None:
    curves = np.asarray([[1.0, 0.5, 0.0], [0.0, 1.0, 1.0]])
    assert auc(curves).tolist() == [0.5, 0.75]
    falls, rises = np.asarray([1.0, 0.2, 0.0]), np.asarray([0.0, 0.9, 1.0])
    found = Faithfulness(
        np.linspace(0, 1, 3), falls, rises, np.asarray([falls, rises[::-1]]), np.asarray([rises, rises])
    )
    assert found.merit == pytest.approx(0.7 - 0.35)
    assert found.percentile == pytest.approx(75)
    assert "explains little" in found.words
    flat = np.full(3, 0.5)
    nothing = Faithfulness(np.linspace(0, 1, 3), flat, flat, flat[None], flat[None])
    assert "hardly matters" in nothing.words


def test_what_cannot_be_held_to_random_maps() -> None:
    seen, _, _ = planted_use()
    with pytest.raises(InputError, match="64 finite numbers"):
        faithfulness(seen, np.zeros(63))
    with pytest.raises(InputError, match="empty"):
        faithfulness(seen, np.zeros(64), where=np.zeros((32, 32)))
    with pytest.raises(InputError, match="at least one"):
        faithfulness(seen, np.zeros(64), n_random=0)
    with pytest.raises(Cancelled):
        faithfulness(seen, np.zeros(64), cancel=lambda: True)


@pytest.mark.parametrize("kind", ["2-D", "3-D"])
def test_grad_cam_is_the_gradients(kind: str) -> None:
    net = network(kind, gate="residual")
    seen = inspected(net)
    found = grad_cam(seen, 1, "decoder")
    assert found.shape == (len(seen.tokens),)
    assert found.min() >= 0
    stages = [seen.activations[f"encoder.{i}"] for i in (1, 2)]
    leaf = seen.activations["decoder"].clone().requires_grad_()
    logits = net.decode([*stages, leaf], seen.activations.image_grid)
    inside = torch.from_numpy(np.asarray(seen.frame.to_grid(seen.normal.labels)) == 1)
    (logits[0, 0][inside].sum() if inside.any() else logits[0, 0].sum()).backward()
    assert leaf.grad is not None
    cam = torch.relu((leaf.grad.flatten(2).mean(-1, keepdim=True) * leaf.detach().flatten(2)).sum(1))[0]
    np.testing.assert_allclose(found, cam.numpy(), rtol=1e-3, atol=1e-6)
    assert not np.allclose(grad_cam(seen, 1), found)
    with pytest.raises(ConfigError, match="no class of label 7"):
        grad_cam(seen, 7)
    assert all(parameter.grad is None for parameter in net.llm_block().layers.parameters())
