"""Which values are shown, on a ``ViewerModel``."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_llm4seg.gui.controllers.window import WindowController
from napari_llm4seg.gui.layer_tuples import layer_tuples
from napari_llm4seg.gui.layers import layer_id, volume_from_layer
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.window_port import NapariWindows
from napari_llm4seg.volume import Volume


class Bench:
    def __init__(self, fakes):
        self.viewer, self.session, self.view, self.settings = (
            ViewerModel(),
            Session(),
            fakes.RecordingView(),
            Settings(),
        )
        self.controller = WindowController(self.session, NapariWindows(self.viewer), self.view, self.settings)
        self.controller.start()

    def add(self, layer):
        self.viewer.add_layer(layer)
        self.session.scan_id = layer_id(layer)
        return layer

    def image(self, data, **how):
        return self.add(Layer.create(data, how, "image"))

    @property
    def labels(self):
        return [choice.label for choice in self.view.state.choices]


@pytest.fixture
def bench(fakes):
    return Bench(fakes)


def ct(shape=(6, 20, 20)):
    """Values from air to metal in every slice."""
    return np.broadcast_to(np.linspace(-1000, 2000, shape[-1]).astype(np.int16), shape).copy()


def test_a_ct_is_opened_in_the_soft_tissue_window_and_can_be_shown_whole(bench):
    (item,) = layer_tuples(Volume(ct()[None], name="a", metadata={"dicom": {"Modality": "CT"}}))
    layer = bench.add(Layer.create(*item))
    assert tuple(layer.contrast_limits) == (-160, 240)
    assert bench.view.state.current == "soft tissue"
    assert bench.view.state.unit == "HU"
    assert bench.labels == ["soft tissue", "lung", "bone", "brain", "liver", "full range", "own…"]
    bench.controller.choose_window("lung")
    assert tuple(layer.contrast_limits) == (-1350, 150)
    assert bench.view.state.current == "lung"
    bench.controller.choose_window("full")
    assert tuple(layer.contrast_limits) == (-1000, 2000)
    assert bench.view.state.current == "full"
    bench.controller.choose_window("soft tissue")
    assert tuple(layer.contrast_limits) == (-160, 240)
    assert "napari_llm4seg" not in volume_from_layer(layer).metadata


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        (Volume(ct()[None]), True),  # a NIfTI says nothing, but has air
        (Volume(ct()[None] + 2000), False),
        (Volume(ct()[None], metadata={"modality": "MR"}), False),
        (Volume(da.from_array(ct()[None])), False),  # nothing is computed to find out
        (Volume(np.zeros((1, 2, 8, 8), np.uint8), metadata={"modality": "CT"}), False),
        (Volume(np.zeros((2, 2, 8, 8), np.int16), metadata={"modality": "CT"}), False),
    ],
)
def test_what_is_opened_as_ct(volume, expected):
    assert all(("contrast_limits" in options) == expected for _, options, _ in layer_tuples(volume))


def test_other_scans_have_percentiles(bench):
    values = np.arange(1000, dtype=np.float32)
    values[-1] = 1e6
    layer = bench.image(np.random.default_rng(0).permutation(values).reshape(10, 10, 10), name="mri")
    assert bench.labels == ["full range", "0.5 to 99.5 %", "own…"]
    assert bench.view.state.current == "full"
    assert bench.view.state.unit == ""
    bench.controller.choose_window("percentile")
    np.testing.assert_allclose(layer.contrast_limits, (5, 994), atol=1)
    assert bench.view.state.current == "percentile"
    layer.contrast_limits = (10, 20)
    assert bench.view.state.current == "by hand"
    assert "10 to 20" in bench.labels


def test_percentiles_of_a_lazy_scan_come_of_its_middle_slice(bench):
    values = np.zeros((5, 20, 20), np.float32)
    values[2] = np.arange(400).reshape(20, 20)
    layer = bench.image(da.from_array(values, chunks=(1, 20, 20)), contrast_limits=(0, 1))
    bench.controller.choose_window("percentile")
    np.testing.assert_allclose(layer.contrast_limits, (2, 397), atol=0.1)


def test_a_lazy_scan_of_whole_numbers_is_no_ct_for_its_dtype(bench):
    values = np.random.default_rng(0).integers(0, 900, (5, 20, 20)).astype(np.int16)
    layer = bench.image(da.from_array(values), name="mri")
    assert bench.labels == ["full range", "0.5 to 99.5 %", "own…"]
    assert bench.view.state.current == "full"
    layer.contrast_limits = (-900, 100)
    assert "lung" not in bench.labels
    bench.image(da.from_array(ct()), name="something")
    assert "lung" in bench.labels
    bench.controller.choose_window("brain")
    assert "lung" in bench.labels


def test_own_windows_are_kept(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("LLM4SEG_SETTINGS", str(tmp_path / "settings.json"))
    layer = bench.image(ct(), name="ct")
    bench.controller.choose_window("own")
    assert bench.view.state.editing
    assert (bench.view.state.centre, bench.view.state.width) == (500, 3000)
    bench.controller.use_own(50, 120)
    assert tuple(layer.contrast_limits) == (-10, 110)
    assert not bench.view.state.editing
    assert "50 / 120" in bench.labels
    assert bench.view.state.current == "own 50 120"
    assert Settings.load().windows == [[50, 120]]
    (tmp_path / "settings.json").write_text('{"windows": [[1, 2], [1, 0], "x", [1], [true, 2], [null, 3]]}')
    assert Settings.load().windows == [[1, 2]]


def test_pictures_have_no_windows(bench):
    bench.image(np.zeros((8, 8, 3), np.uint8), rgb=True)
    assert bench.view.state.choices == ()
    bench.image(np.zeros((8, 8), np.uint8))
    assert bench.view.state.choices == ()
    bench.session.scan_id = None
    assert bench.view.state.choices == ()


def test_a_closed_scan_and_a_closed_controller_do_no_harm(bench):
    layer = bench.image(ct(), name="ct")
    bench.viewer.layers.remove(layer)
    bench.controller._render()
    assert bench.view.state.choices == ()
    shown = len(bench.view.states)
    bench.controller.close()
    other = bench.viewer.add_image(ct())
    other.contrast_limits = (0, 1)
    assert len(bench.view.states) == shown
