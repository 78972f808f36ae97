"""A planted look is shown on the right pixel, however the scan lies; and the recorded forward is the mask's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_llm4seg.activations import inspect_slice
from napari_llm4seg.errors import Cancelled, ConfigError, InputError, ProofError
from napari_llm4seg.volume import Volume
from tests.activations.planted import marked, middle, planted, planted_net
from tests.activations.test_place import oblique
from tests.activations.test_recorder import traces

SCANS: dict[str, dict[str, Any]] = {
    "as it is": {"grid": (1, 32, 32), "cell": (1, 4, 4), "bright": (0, 1, 6), "dark": (0, 5, 2)},
    "not square": {"grid": (1, 48, 80), "cell": (1, 6, 10), "bright": (0, 6, 1), "dark": (0, 2, 7)},
    "enlarged": {"grid": (1, 16, 8), "cell": (1, 2, 1), "bright": (0, 6, 1), "dark": (0, 2, 7)},
    "a slice of an oblique stack": {"grid": (3, 64, 32), "cell": (1, 8, 4), "bright": (2, 6, 1), "dark": (2, 2, 7)},
    "volume": {
        "grid": (16, 16, 16),
        "cell": (4, 4, 4),
        "bright": (1, 2, 0),
        "dark": (3, 0, 2),
        "settings": {"patch": (16, 16, 16)},
    },
    "resampled volume": {
        "grid": (8, 16, 32),
        "cell": (2, 4, 8),
        "spacing": (2.0, 1.0, 0.5),
        "bright": (1, 2, 0),
        "dark": (3, 0, 2),
        "settings": {"patch": (16, 16, 16), "spacing": (1.0, 1.0, 1.0)},
    },
}


def box(case: dict[str, Any], which: str) -> tuple[slice, ...]:
    return tuple(slice(k * n, (k + 1) * n) for k, n in zip(case[which], case["cell"], strict=True))


def scan_of(case: dict[str, Any], seed: int) -> Volume:
    values = marked(case["grid"], box(case, "bright"), box(case, "dark"))
    return Volume(values[None], oblique(seed, case.get("spacing", (1.0, 1.0, 1.0))), unit="mm")


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("name", SCANS)
def test_a_planted_look_lies_on_the_right_pixel(name: str, seed: int) -> None:
    case = SCANS[name]
    scan = scan_of(case, seed)
    predictor = planted(**(case.get("settings") or {"size": (32, 32)}))
    bright, dark = middle(box(case, "bright")), middle(box(case, "dark"))
    seen = inspect_slice(predictor, scan, int(bright[0]))
    assert seen.proof.ok
    token, other = seen.token_at(*bright), seen.token_at(*dark)
    shown = seen.volume(seen.attention(token, head=0))
    assert shown.data.max() > 0.9
    where = np.unravel_index(int(shown.data[0].argmax()), shown.grid)
    np.testing.assert_allclose(shown.affine @ [*where, 1], scan.affine @ [*dark, 1], atol=1e-6)
    back = seen.volume(seen.attention(other, "to", head=0)).data[0]
    np.testing.assert_allclose(
        shown.affine @ [*np.unravel_index(int(back.argmax()), back.shape), 1], scan.affine @ [*bright, 1], atol=1e-6
    )
    assert seen.attention(token).about["head"] == "mean"
    others = seen.heads(token)[1:]
    np.testing.assert_allclose(others, 1 / others.shape[1], rtol=1e-4)
    nats, share = seen.entropy()
    assert share[1:].min() > 0.999
    assert share[0, token] < 0.5
    np.testing.assert_allclose(nats[1:], np.log(others.shape[1]), rtol=1e-4)


def test_a_tile_is_recorded_where_it_was_asked_for() -> None:
    bright, dark = (slice(40, 44), slice(4, 8)), (slice(36, 40), slice(12, 16))
    scan = Volume(marked((48, 16), bright, dark)[None, None], oblique(), unit="mm")
    seen = inspect_slice(planted(size=(16, 16), mode="tiles"), scan, at=middle(bright))
    shown = seen.volume(seen.attention(seen.token_at(*middle(bright)), head=0))
    where = np.unravel_index(int(shown.data[0].argmax()), shown.grid)
    np.testing.assert_allclose(shown.affine @ [*where, 1], scan.affine @ [0, *middle(dark), 1], atol=1e-6)
    assert any("tiles" in words for words in seen.messages)
    with pytest.raises(InputError, match="No token covers"):
        seen.token_at(2, 2)


def test_slices_along_another_axis() -> None:
    bright, dark = (slice(0, 4), slice(4, 8)), (slice(8, 12), slice(12, 16))
    values = np.full((16, 3, 16), 0.5, dtype=np.float32)
    values[:, 2] = marked((16, 16), bright, dark)
    scan = Volume(values[None], np.diag([2.0, 0.5, 1.0, 1.0]), unit="mm")
    seen = inspect_slice(planted(size=(16, 16), axis="coronal"), scan, 2)
    shown = seen.volume(seen.attention(seen.token_at(*middle(bright)), head=0))
    where = np.unravel_index(int(shown.data[0].argmax()), shown.grid)
    np.testing.assert_allclose(shown.affine @ [*where, 1], scan.affine @ [9.5, 2, 13.5, 1], atol=1e-6)


def test_what_lies_behind_a_causal_mask_is_out_of_sight() -> None:
    case = SCANS["as it is"]
    scan = scan_of(case, 0)
    seen = inspect_slice(planted(planted_net(mask="causal"), size=(32, 32)), scan)
    token, other = seen.token_at(*middle(box(case, "bright"))), seen.token_at(*middle(box(case, "dark")))
    assert token < other
    shown = seen.attention(token, head=0)
    assert not shown.visible[other]
    assert not shown.values[~shown.visible].any()
    assert shown.visible.tolist() == [k <= token for k in range(64)]
    assert seen.attention(other, "to").visible.tolist() == [k >= other for k in range(64)]


def settings(**more: Any) -> dict[str, Any]:
    return {"size": (32, 32), **more}


@pytest.mark.parametrize("more", [{}, {"flips": True}, {"min_area": 0.004}, {"threshold": 0.52, "flips": True}])
def test_the_recorded_forward_makes_the_predicted_mask(more: dict[str, Any]) -> None:
    scan = Volume(np.random.default_rng(0).uniform(size=(1, 2, 40, 24)).astype(np.float32))
    predictor = planted(planted_net(mask="causal"), **settings(**more))
    prediction = predictor.predict(scan)
    seen = inspect_slice(predictor, scan, 1)
    assert 0 < np.count_nonzero(prediction.labels[1]) < prediction.labels[1].size
    assert seen.held_to(prediction) == 1.0
    assert prediction.probabilities is not None
    np.testing.assert_allclose(seen.normal.probabilities, prediction.probabilities[:, 1], atol=1e-3)
    assert any("mirror" in words for words in seen.messages) == bool(more.get("flips"))


def test_nothing_stays_on_the_network_whatever_happens() -> None:
    net = planted_net()
    predictor = planted(net, **settings())
    scan = Volume(np.random.default_rng(0).uniform(size=(1, 1, 40, 24)).astype(np.float32))
    clean = traces(net)
    inspect_slice(predictor, scan, decoder=True)
    with pytest.raises(ConfigError, match="MB are allowed"):
        inspect_slice(predictor, scan, limit=1000)
    with pytest.raises(Cancelled):
        inspect_slice(predictor, scan, cancel=lambda: True)
    assert traces(net) == clean
    assert inspect_slice(predictor, scan).proof.ok


def test_attention_that_is_not_the_forwards_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_llm4seg.activations import recorder

    def easy(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ k.transpose(-1, -2), dim=-1)

    monkeypatch.setattr(recorder, "attention_weights", easy)
    scan = Volume(np.random.default_rng(0).uniform(size=(1, 1, 32, 32)).astype(np.float32))
    seen = inspect_slice(planted(planted_net(mask="causal"), **settings()), scan)
    assert not seen.proof.ok
    for ask in (lambda: seen.attention(3), lambda: seen.heads(3), seen.entropy):
        with pytest.raises(ProofError, match="Nothing is drawn"):
            ask()


def test_without_a_layer_there_is_no_attention() -> None:
    net = planted_net()
    net.set_block("off")
    scan = Volume(np.random.default_rng(0).uniform(size=(1, 1, 32, 32)).astype(np.float32))
    seen = inspect_slice(planted(net, **settings()), scan)
    assert seen.proof.ok
    assert seen.features("adapter_in.out").shape == (64, 48)
    with pytest.raises(ConfigError, match="Switch the layer on"):
        seen.attention(0)


def test_another_module_cannot_be_inspected() -> None:
    from napari_llm4seg.predict import Predictor
    from tests.predict.helpers import checkpoint

    with pytest.raises(ConfigError, match="Identity"):
        inspect_slice(Predictor(checkpoint(), "cpu"), Volume(np.zeros((1, 1, 16, 16), dtype=np.uint8)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["breast-ultrasound", "skin-lesion", "hippocampus-mri"])
def test_the_shipped_models_are_proven_and_make_their_own_mask(name: str) -> None:
    from napari_llm4seg.io.samples import ultrasound_phantom
    from napari_llm4seg.predict import load_model

    predictor = load_model(name, "cpu")
    rng = np.random.default_rng(0)
    if predictor.volumetric:
        scan = Volume(rng.normal(size=(1, 40, 56, 40)).astype(np.float32), oblique(0, (1.0, 1.0, 1.0)), unit="mm")
    else:
        scan, _ = ultrasound_phantom(shape=(200, 240))
    seen = inspect_slice(predictor, scan)
    assert seen.proof.ok
    assert max(check.relative for check in seen.proof.checks) < 1e-5
    prediction = predictor.predict(scan)
    if seen.frame.kind == "slice":
        assert seen.held_to(prediction) == 1.0
    else:
        assert prediction.probabilities is not None
        z, y, x = (side // 2 for side in scan.grid)
        inside = np.linalg.inv(seen.frame.to_scan) @ [z, y, x, 1]
        place = tuple(round(value) for value in inside[:3])
        np.testing.assert_allclose(
            seen.normal.probabilities[(slice(None), *place)], prediction.probabilities[:, z, y, x], atol=1e-2
        )
    half = inspect_slice(predictor, scan, half=True)
    assert half.proof.ok
    assert half.activations["layer.1.attention"].dtype == torch.float16
