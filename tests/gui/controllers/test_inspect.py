"""The Inspect dock's behaviour: a network whose attention is planted, napari's model of a viewer, no window."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg.gui.controllers.inspect import InspectController
from napari_llm4seg.gui.inspect_port import NapariInspect
from napari_llm4seg.gui.layers import is_mask, is_scan
from napari_llm4seg.gui.state.session import ModelEntry, Session
from napari_llm4seg.jobs import InlineRunner
from tests.activations.planted import marked, middle, planted, planted_net

BRIGHT, DARK = (slice(4, 8), slice(24, 28)), (slice(20, 24), slice(8, 12))


class View:
    """Keeps every state it was shown."""

    def __init__(self):
        self.states, self.hovers, self.shown = [], [], True

    def attach(self, actions):
        self.actions = actions

    def show_state(self, state):
        self.states.append(state)

    def show_hover(self, text):
        self.hovers.append(text)

    def in_view(self):
        return self.shown

    @property
    def state(self):
        return self.states[-1]


class Bench:
    """A viewer with a scan, a loaded model, and the dock's controller."""

    def __init__(self, data=None, predictor=None, runner=None, **options):
        self.viewer, self.session, self.view = ViewerModel(), Session(), View()
        data = marked((32, 32), BRIGHT, DARK) if data is None else data
        self.layer = self.viewer.add_image(data, name="scan", **options)
        self.session.model = ModelEntry("planted", "planted", None)
        self.session.predictor = predictor or planted(size=(32, 32))
        self.session.scan_id = str(self.layer.unique_id)
        self.port = NapariInspect(self.viewer)
        self.runner = runner or (lambda: InlineRunner(interval=0))
        self.controller = InspectController(
            self.session, self.port, self.view, self.runner, self.session.settings, lambda call: call()
        )
        self.controller.start()

    @property
    def state(self):
        return self.view.state

    @property
    def recording(self):
        return self.controller.recording

    def map(self, slot="attention"):
        return self.port.overlays.layer(slot)

    def event(self, kind, place, modifiers=(), canvas=(100.0, 100.0)):
        position = self.layer.data_to_world(np.asarray(place, dtype=float))
        return SimpleNamespace(
            type=kind, position=position, modifiers=list(modifiers), pos=canvas, button=1, handled=False
        )

    def click(self, *place, drag_to=None, modifiers=(), moved=0.0):
        """Press, move and release through the viewer's own callbacks; return the last event."""
        event = self.event("mouse_press", place, modifiers)
        for callback in self.viewer.mouse_drag_callbacks:
            gen = callback(self.viewer, event)
            if gen is None or next(gen, "over") == "over":
                continue
            # napari hands a generator one event, whose inside it changes
            if drag_to is not None or moved:
                later = self.event("mouse_move", drag_to or place, modifiers, (100.0 + moved, 100.0))
                event.__dict__.update(later.__dict__)
                next(gen, None)
            handled = event.handled
            event.__dict__.update(self.event("mouse_release", drag_to or place, modifiers).__dict__)
            next(gen, None)
            event.handled = handled
        return event

    def show(self, place):
        """Bring the viewer to a voxel of the scan."""
        self.viewer.dims.set_point(range(self.viewer.dims.ndim), self.layer.data_to_world(place))

    def world_of_strongest(self, slot="attention"):
        layer = self.map(slot)
        return np.asarray(layer.data_to_world(np.unravel_index(int(layer.data.argmax()), layer.data.shape)))


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.controller.close()


def test_the_slice_on_show_is_recorded_and_a_click_shows_where_its_place_looks(bench):
    assert bench.recording is not None
    assert bench.state.proof.ok
    assert "same forward" in bench.state.proof.text
    assert "Click the scan" in bench.state.hint
    assert bench.map() is None
    bench.click(*middle(BRIGHT))
    assert bench.state.hint == ""
    bench.controller.choose("head", "0")
    np.testing.assert_allclose(bench.world_of_strongest(), bench.layer.data_to_world(middle(DARK)))
    assert bench.map().data.shape == (8, 8)
    assert len(bench.state.attention.thumbnails) == bench.recording.seen.layers[0].spec.heads
    bench.controller.choose("way", "to")
    bench.click(*middle(DARK))
    np.testing.assert_allclose(bench.world_of_strongest(), bench.layer.data_to_world(middle(BRIGHT)))
    assert len(bench.viewer.layers) == 3


def test_maps_are_neither_scans_nor_masks_and_the_selection_stays(bench):
    bench.click(*middle(BRIGHT))
    assert [layer.name for layer in bench.viewer.layers if is_scan(layer)] == ["scan"]
    assert not [layer for layer in bench.viewer.layers if is_mask(layer)]
    assert bench.viewer.layers.selection.active is bench.layer


def test_what_a_person_set_is_kept_while_clicking_around(bench):
    bench.click(*middle(BRIGHT))
    layer = bench.map()
    bench.click(*middle(DARK))
    assert tuple(layer.contrast_limits) == (0, pytest.approx(layer.data.max()))
    layer.opacity, layer.colormap, layer.contrast_limits = 0.3, "inferno", (0.0, 0.02)
    bench.click(1, 1)
    assert bench.map() is layer
    assert (layer.opacity, layer.colormap.name, tuple(layer.contrast_limits)) == (0.3, "inferno", (0.0, 0.02))


def test_a_drag_pans_and_shift_drag_follows(bench):
    bench.click(*middle(BRIGHT), drag_to=middle(DARK), moved=40)
    assert bench.controller.token is None
    bench.click(*middle(BRIGHT), moved=2)
    assert bench.controller.token == bench.recording.seen.token_at(*middle(BRIGHT))
    event = bench.click(*middle(BRIGHT), drag_to=middle(DARK), modifiers=("Shift",), moved=40)
    assert bench.controller.token == bench.recording.seen.token_at(*middle(DARK))
    assert event.handled
    bench.click(1, 1, modifiers=("Control",))
    assert bench.controller.token == bench.recording.seen.token_at(*middle(DARK))


def test_painting_is_left_alone_and_a_dock_out_of_view_does_not_listen(bench):
    labels = bench.viewer.add_labels(np.zeros((32, 32), np.uint8))
    labels.mode = "paint"
    bench.click(*middle(BRIGHT))
    assert bench.controller.token is None
    labels.mode = "pan_zoom"
    bench.view.shown = False
    bench.click(*middle(BRIGHT))
    assert bench.controller.token is None
    bench.view.shown = True
    bench.click(*middle(BRIGHT))
    assert bench.controller.token is not None


def test_the_hovered_value_is_told(bench):
    bench.click(*middle(BRIGHT))
    for callback in bench.viewer.mouse_move_callbacks:
        callback(bench.viewer, bench.event("mouse_move", middle(DARK)))
    token = bench.recording.seen.token_at(*middle(DARK))
    value = bench.recording.seen.attention(bench.controller.token).values[token]
    assert bench.view.hovers[-1].startswith(f"token {token}: {value:.4f}")
    assert bench.viewer.status == f"Ready  ·  {bench.view.hovers[-1]}"
    bench.viewer.status = {"layer_name": "scan", "coordinates": "[21 9]: 0"}  # as napari does at every move
    assert bench.viewer.status["coordinates"] == f"[21 9]: 0  ·  {bench.view.hovers[-1]}"
    bench.controller.close()
    assert bench.viewer.status["coordinates"] == "[21 9]: 0"


def test_out_of_sight_is_hatched_under_a_causal_mask():
    bench = Bench(predictor=planted(planted_net(mask="causal"), size=(32, 32)))
    bench.click(*middle(DARK))
    seen, token = bench.recording.seen, bench.controller.token
    fine = bench.map("token").data.reshape(8, 8, 8, 8).transpose(0, 2, 1, 3).reshape(64, 64)
    striped = (fine == 2).any(axis=1)
    np.testing.assert_array_equal(striped, np.arange(64) > token)
    assert (fine[token] == 3).sum() == 28
    assert f"{63 - token} of 64 tokens are out of sight" in " ".join(bench.state.attention.notes)
    assert bench.controller.attention.value_at(63).endswith("out of sight")
    grey = np.asarray([110, 110, 110])
    assert (bench.state.attention.thumbnails[0].pixels.reshape(64, 3)[token + 1 :] == grey).all()
    assert seen.proof.ok
    bench.controller.close()


def test_a_failed_proof_draws_nothing_and_says_why(monkeypatch):
    from napari_llm4seg.activations import recorder

    bench = Bench()
    bench.click(*middle(BRIGHT))
    assert bench.map().visible
    right = recorder.attention_weights
    monkeypatch.setattr(recorder, "attention_weights", lambda q, k, mask: right(q, k, mask).flip(-1))
    bench.controller._followed = bench.controller.recording = None
    bench.controller._follow()
    assert not bench.recording.seen.proof.ok
    assert bench.state.proof.ok is False
    assert "Nothing is drawn" in bench.state.attention.problem
    assert not bench.state.attention.thumbnails
    assert not bench.map().visible
    bench.click(*middle(DARK))
    assert not bench.map().visible
    bench.controller.close()


def tilted(degrees):
    turn, affine = np.deg2rad(degrees), np.eye(4)
    affine[:2, :2] = [[3 * np.cos(turn), -0.5 * np.sin(turn)], [3 * np.sin(turn), 0.5 * np.cos(turn)]]
    affine[:3, 3] = -7, 4, 10
    return affine


def on_screen(viewer, layer, index):
    """Where napari draws a layer's index: by the part of its affine along the axes on the screen."""
    shown = list(viewer.dims.displayed)
    part = np.asarray(layer.affine.affine_matrix)
    return part[np.ix_(shown, shown)] @ np.asarray(index, float)[shown] + part[shown, -1]


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_a_map_is_drawn_on_a_tilted_scan_as_napari_draws_it():
    data = np.stack([marked((32, 32), BRIGHT, DARK)] * 9)
    bench = Bench(data, affine=tilted(15))
    bench.controller.choose("head", "0")
    for z in (1, 7):
        matrix = np.linalg.inv(np.asarray(bench.layer.affine.affine_matrix))
        bench.viewer.dims.set_point(0, (z - matrix[0, 3]) / matrix[0, 0])
        assert bench.recording.seen.frame.z == z
        target = on_screen(bench.viewer, bench.layer, (z, *middle(BRIGHT)))
        event = bench.event("mouse_press", (0, 0, 0))
        event.position = (bench.viewer.dims.point[0], *target)
        assert bench.port._where(event)[1] == pytest.approx((z, *middle(BRIGHT)))
        bench.controller._clicked(0, bench.port._where(event)[1])
        layer = bench.map()
        strongest = np.unravel_index(int(layer.data.argmax()), layer.data.shape)
        np.testing.assert_allclose(
            on_screen(bench.viewer, layer, strongest), on_screen(bench.viewer, bench.layer, (z, *middle(DARK)))
        )
        assert layer._slice.image.raw.max() == layer.data.max()  # it is the slice that is drawn
    bench.viewer.dims.ndisplay = 3
    world = layer.data_to_world(strongest)
    np.testing.assert_allclose(world, bench.layer.data_to_world((7, *middle(DARK))), atol=1e-9)
    bench.controller.close()


@pytest.mark.parametrize("options", [{}, {"scale": (3, 0.5, 0.7), "translate": (5, -3, 2)}])
def test_a_map_lies_on_its_slice_of_a_stack(options):
    data = np.stack([marked((32, 32), BRIGHT, DARK)] * 5)
    bench = Bench(data, **options)
    assert bench.recording.seen.frame.z == 2
    bench.controller.choose("head", "0")
    bench.click(2, *middle(BRIGHT))
    np.testing.assert_allclose(bench.world_of_strongest(), bench.layer.data_to_world((2, *middle(DARK))), atol=1e-9)
    bench.show((4, 16, 16))
    assert bench.recording.seen.frame.z == 4
    np.testing.assert_allclose(bench.world_of_strongest(), bench.layer.data_to_world((4, *middle(DARK))), atol=1e-9)
    bench.viewer.dims.order = (1, 0, 2)
    bench.show((4, *middle(BRIGHT)))
    bench.click(0, *middle(BRIGHT))  # seen in another plane
    assert bench.recording.seen.frame.z == 0
    assert bench.controller.token == bench.recording.seen.token_at(*middle(BRIGHT))
    bench.controller.close()


def test_slices_along_another_axis_and_frames():
    data = np.stack([marked((32, 32), BRIGHT, DARK)] * 3, axis=1)
    bench = Bench(np.stack([data * 0 + 0.5, data]), scale=(1, 2, 1, 0.5), units=("pixel", "mm", "mm", "mm"))
    bench.session.settings.options = {"axis": "coronal"}
    bench.viewer.dims.order = (0, 2, 1, 3)
    bench.show((1, 16, 1, 16))
    bench.controller.choose("head", "0")
    bench.click(1, BRIGHT[0].start + 1.5, 1, BRIGHT[1].start + 1.5)
    assert bench.recording.seen.frame.axis == 1
    wanted = bench.layer.data_to_world((1, DARK[0].start + 1.5, 1, DARK[1].start + 1.5))
    np.testing.assert_allclose(bench.world_of_strongest(), wanted)
    assert bench.map().data.shape == (1, 8, 1, 8)
    bench.controller.close()


def test_a_volume_is_mapped_in_all_three_planes():
    box = tuple(slice(4 * k, 4 * k + 4) for k in (1, 2, 0))
    dark = tuple(slice(4 * k, 4 * k + 4) for k in (3, 0, 2))
    bench = Bench(marked((16, 16, 16), box, dark), planted(patch=(16, 16, 16)), scale=(2, 1, 1))
    bench.controller.choose("head", "0")
    bench.click(*middle(box))
    assert bench.map().data.shape == (4, 4, 4)
    np.testing.assert_allclose(bench.world_of_strongest(), bench.layer.data_to_world(middle(dark)))
    recorded = bench.recording
    bench.viewer.dims.set_current_step(0, 1)
    assert bench.recording is recorded
    assert bench.state.attention.thumbnails[0].pixels.shape == (4, 4, 3)
    bench.controller.close()


def test_another_model_takes_the_old_map_down(bench):
    bench.click(*middle(BRIGHT))
    before = bench.recording
    bench.session.predictor = None
    assert bench.recording is None
    assert not bench.map().visible
    assert "loaded" in bench.state.hint
    bench.session.predictor = planted(planted_net(layers=2), size=(32, 32))
    assert bench.recording is not None
    assert bench.recording is not before
    assert bench.map().visible  # the same place is asked for anew
    assert [choice.key for choice in bench.state.attention.layers] == ["1", "2", "mean", "rollout"]
    bench.controller.choose("layer", "rollout")
    assert "rollout" in bench.state.attention.title


def test_nothing_is_left_behind(bench):
    net = bench.session.predictor.net
    from tests.activations.test_recorder import traces

    clean = traces(net)
    bench.click(*middle(BRIGHT))
    assert traces(net) == clean
    before = len(bench.viewer.mouse_drag_callbacks)
    bench.controller.close()
    assert len(bench.viewer.mouse_drag_callbacks) == before - 1
    assert not bench.viewer.mouse_move_callbacks
    assert traces(net) == clean
    bench.session.busy = "something"  # nobody listens any more


def test_what_cannot_be_recorded_is_said(bench):
    bench.session.predictor = SimpleNamespace(
        checkpoint=bench.session.predictor.checkpoint, with_config=lambda config: 1 / 0
    )
    assert bench.recording is None
    assert bench.state.message.kind == "error"
    assert "Recording the slice failed" in bench.state.message.text


def test_nothing_is_recorded_while_something_runs(bench):
    bench.session.predictor = None
    bench.session.busy = "A run."
    bench.session.predictor = planted(size=(32, 32))
    assert bench.recording is None
    assert "when it has ended" in bench.state.hint
    bench.session.busy = ""
    assert bench.recording is not None


def test_features_stand_side_by_side_and_one_lies_on_the_scan(bench):
    from napari_llm4seg.activations import features as fe

    bench.controller.show_tab("features")
    state = bench.state.features
    assert [picture.key for picture in state.pictures] == list(fe.POINTS)
    seen = bench.recording.seen
    np.testing.assert_array_equal(bench.map("features").data.ravel(), fe.norms(seen.features(state.picked)))
    bench.controller.choose("picked", "bottleneck")
    np.testing.assert_array_equal(bench.map("features").data.ravel(), fe.norms(seen.features("bottleneck")))
    bench.controller.choose("kind", "channel")
    bench.controller.choose("number", 1)
    np.testing.assert_array_equal(bench.map("features").data.ravel(), seen.features("bottleneck")[:, 1])
    bench.controller.choose("kind", "cosine")
    assert "Click the scan" in bench.state.features.notes[0]
    assert not bench.map("features").visible
    bench.click(*middle(BRIGHT))
    token = bench.controller.token
    np.testing.assert_array_equal(bench.map("features").data.ravel(), fe.cosine(seen.features("bottleneck"), token))
    assert bench.controller.features.value_at(token).startswith(f"token {token}: 1 cosine")
    for kind, slot in (("colours", "colours"), ("clusters", "colours"), ("change", "features"), ("norm", "features")):
        bench.controller.choose("kind", kind)
        assert bench.map(slot).visible
    assert not bench.map("colours").visible
    bench.controller.choose("kind", "activation")
    assert len(bench.state.features.pictures) == 2
    assert any("IoU" in note and "before" in note and "after" in note for note in bench.state.features.notes)
    bench.controller.choose("kind", "grad-cam")
    from napari_llm4seg.activations import grad_cam

    np.testing.assert_allclose(bench.map("features").data.ravel(), grad_cam(seen))


def test_a_tab_shows_its_own_layers_alone(bench):
    bench.click(*middle(BRIGHT))
    bench.controller.show_tab("features")
    assert bench.map("features").visible
    assert not bench.map("attention").visible
    bench.controller.show_tab("spectrum")
    assert not any(bench.map(slot).visible for slot in ("attention", "features", "token"))
    bench.controller.show_tab("attention")
    assert bench.map("attention").visible


def test_the_spectrum_of_a_slice_and_of_the_stack():
    from napari_llm4seg.activations.spectra import of_slice

    bench = Bench(np.stack([marked((32, 32), BRIGHT, DARK)] * 3))
    bench.controller.show_tab("spectrum")
    state = bench.state.spectrum
    wanted = of_slice(bench.recording.seen)
    assert [row[1] for row in state.rows] == [f"{row['effective_rank']:.2f}" for row in wanted]
    assert all(curve.y.sum() == pytest.approx(1) for curve in state.plot.curves)
    bench.controller.choose("centred", True)
    assert [row[1] for row in bench.state.spectrum.rows] == [f"{row['effective_rank_centred']:.2f}" for row in wanted]
    bench.controller.act("stack")
    plot = bench.state.spectrum.stack_plot
    assert plot.curves[0].x.tolist() == [0, 1, 2]
    np.testing.assert_allclose(plot.curves[0].y, wanted[0]["effective_rank_centred"])
    assert bench.session.busy == ""
    bench.controller.close()


def test_what_if_changes_the_mask_and_not_the_network(bench):
    from napari_llm4seg.activations import switch_off

    net = bench.session.predictor.net
    before = {name: value.clone() for name, value in net.state_dict().items()}
    bench.controller.show_tab("what_if")
    assert bench.state.what_if.run.enabled
    bench.controller.act("run")
    (row,) = bench.state.what_if.rows
    wanted = switch_off(bench.recording.seen)
    assert (row.dice, row.pixels) == (wanted.dice, wanted.changed)
    np.testing.assert_array_equal(bench.map("difference").data, wanted.difference)
    bench.controller.choose("change", "head")
    bench.controller.choose("head", 1)
    bench.controller.act("run")
    assert bench.state.what_if.picked == "without head 1"
    bench.controller.act("table")
    rows = bench.state.what_if.table_rows
    assert [row.name for row in rows] == [str(k) for k in range(bench.recording.seen.layers[0].spec.heads)]
    assert rows[1].dice == bench.state.what_if.rows[1].dice
    bench.controller.choose("picked", "head 1")
    assert bench.map("difference").visible
    bench.controller.choose("picked", "head 1")
    assert not bench.map("difference").visible
    after = net.state_dict()
    assert all((after[name] == value).all() for name, value in before.items())
    assert net.block.state == "on"


@pytest.mark.parametrize("kind", ["labels", "rectangle", "ellipse"])
def test_a_drawn_region_is_blocked(kind):
    from napari_llm4seg.activations import block_tokens

    bench = Bench(np.stack([marked((32, 32), BRIGHT, DARK)] * 3), scale=(2, 0.5, 0.7), translate=(1, 2, 3))
    z = bench.recording.seen.frame.z
    if kind == "labels":
        data = np.zeros((3, 32, 32), np.uint8)
        data[z, DARK[0], DARK[1]] = 1
        bench.viewer.add_labels(data, scale=(2, 0.5, 0.7), translate=(1, 2, 3), name="region")
    else:
        low, high = (DARK[0].start, DARK[1].start), (DARK[0].stop - 1, DARK[1].stop - 1)
        box = [(z, low[0], low[1]), (z, low[0], high[1]), (z, high[0], high[1]), (z, high[0], low[1])]
        world = [bench.layer.data_to_world(corner) for corner in box]
        bench.viewer.add_shapes([np.asarray(world)], shape_type=kind, name="region")
    bench.controller.show_tab("what_if")
    bench.controller.render()
    key = next(choice.key for choice in bench.state.what_if.changes if "region" in choice.label)
    bench.controller.choose("change", key)
    bench.controller.act("run")
    seen = bench.recording.seen
    wanted = block_tokens(seen, [seen.token_at(*middle(DARK))])
    (row,) = bench.state.what_if.rows
    assert row.name == wanted.name
    assert row.dice == wanted.dice
    bench.viewer.dims.set_current_step(0, 0)
    bench.controller.act("run")
    assert "no area on this slice" in bench.state.message.text
    bench.controller.close()


def test_a_map_is_held_to_random_ones_in_words(bench, monkeypatch):
    monkeypatch.setattr("napari_llm4seg.gui.controllers.inspect_what_if._RANDOM_MAPS", 2)
    bench.controller.show_tab("what_if")
    bench.controller.choose("map", "clicked")
    assert "Click the scan" in bench.state.what_if.test.tooltip
    bench.controller.choose("map", "attention")
    bench.controller.act("test")
    (verdict,) = bench.state.what_if.verdicts
    assert verdict.startswith("attention: ")
    assert bench.controller.what_if.found().faithfulness["attention"].words in verdict


def test_everything_tried_is_exported(bench, tmp_path):
    import json

    assert not bench.state.export.enabled
    assert "Click the scan first" in bench.state.export.tooltip
    bench.click(*middle(BRIGHT))
    bench.controller.show_tab("what_if")
    bench.controller.act("run")
    bench.controller.act("table")
    bench.controller.export_to(tmp_path / "out")
    assert "are in" in bench.state.message.text
    report = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert report["token"]["number"] == bench.controller.token
    assert report["proof"]["ok"]
    assert len(report["heads"]) == bench.recording.seen.layers[0].spec.heads
    assert (tmp_path / "out" / "attention.png").exists()
    assert (tmp_path / "out" / "what_if.csv").exists()
    assert bench.session.busy == ""


def test_words_are_off_until_asked_for_and_need_the_whole_model(bench, tmp_path):
    from tests.activations import test_words

    bench.controller.show_tab("features")
    bench.click(*middle(BRIGHT))
    words = bench.state.features.words
    assert not words.on
    assert words.lines[0].startswith("Off")
    bench.controller.choose("words", True)
    words = bench.state.features.words
    assert "is not on this machine" in words.problem
    assert "Chance names words too" in words.warning
    test_words.made(tmp_path, True)
    bench.controller.act("words_folder", tmp_path)
    assert "channels, this language model 6" in bench.state.features.words.problem


def test_the_words_of_the_clicked_token(bench, tmp_path):
    import json

    import torch
    from safetensors.torch import save_file

    from napari_llm4seg.activations.words import Vocabulary
    from tests.activations import test_words

    test_words.made(tmp_path, True)
    width = bench.recording.seen.features("adapter_out.in").shape[1]
    tensors = {"model.norm.weight": torch.ones(width), "model.embed_tokens.weight": torch.randn(4, width)}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": width}))
    bench.controller.show_tab("features")
    bench.controller.choose("words", True)
    bench.controller.act("words_folder", tmp_path)
    bench.click(*middle(DARK))
    token = bench.controller.token
    wanted = Vocabulary(tmp_path).nearest(bench.recording.seen.features("adapter_out.in")[token])
    lines = bench.state.features.words.lines
    assert [line.split("  ")[0] for line in lines] == [word.text for word in wanted]
