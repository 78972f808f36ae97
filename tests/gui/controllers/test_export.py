"""The Export section on a ``ViewerModel``: real files, no window."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_llm4seg.gui.controllers.export import ExportController, suggested
from napari_llm4seg.gui.controllers.ports import ResultSpec, SlicePart
from napari_llm4seg.gui.layer_tuples import layer_tuples
from napari_llm4seg.gui.layers import layer_id
from napari_llm4seg.gui.mask_port import NapariMasks
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.io import read
from napari_llm4seg.jobs import InlineRunner
from napari_llm4seg.volume import Volume, affine_from_spacing

CLASSES = ((1, "liver", "#E69F00"), (2, "spleen", "#56B4E9"))


@pytest.fixture
def bench(fakes):
    viewer, session, view = ViewerModel(), Session(), fakes.RecordingView()
    controller = ExportController(session, NapariMasks(viewer), view, InlineRunner(interval=0))
    controller.start()
    return viewer, session, view, controller


def scan_with_result(fakes, viewer, session, provenance, shape=(3, 8, 9)):
    volume = Volume(
        np.arange(np.prod(shape), dtype=np.int16).reshape(1, *shape), affine_from_spacing((3, 2, 1)), unit="mm"
    )
    (scan,) = [viewer.add_layer(Layer.create(*item)) for item in layer_tuples(volume)]
    result = fakes.begun(viewer, scan, ResultSpec("model", "0" * 64, CLASSES))
    for z in range(shape[0]):
        labels = np.zeros(shape[1:], np.uint8)
        labels[2:4, 3:6] = 1 + z % 2
        result.write(SlicePart(z, labels))
    result.finish(provenance)
    session.mask_id = result.id
    return scan, viewer.layers[-1] if layer_id(viewer.layers[-1]) == result.id else viewer.layers[result.name]


PROVENANCE = {
    "checkpoint": {"name": "model", "sha256": "0" * 64},
    "frozen_layers": [],
    "block_state": None,
    "model": {},
    "preprocess": {},
    "predict": {},
    "source": {"name": "scan", "sha256": "1" * 64, "grid": [3, 8, 9]},
    "slices": [0, 1, 2],
    "device": "CPU",
    "versions": {"python": "3"},
    "date": "2026-01-01T00:00:00+00:00",
    "seconds": 0.1,
    "messages": [],
}


def test_nothing_to_export_is_said(bench):
    _, _, view, _ = bench
    assert view.state.formats == ()
    assert not view.state.save.enabled


def test_a_result_is_written_with_its_place_and_record(bench, tmp_path, fakes):
    viewer, session, view, controller = bench
    _, layer = scan_with_result(fakes, viewer, session, PROVENANCE)
    assert view.state.format == ".nii.gz"
    assert view.state.suggested == "scan_seg_model.nii.gz"
    assert ".png" not in [choice.key for choice in view.state.formats], "a stack does not fit a picture"
    assert "DICOM-SEG" in view.state.formats[0].tooltip
    controller.save(tmp_path / "mask")
    written = read(tmp_path / "mask.nii.gz")
    assert np.array_equal(written.data[0], layer.data)
    np.testing.assert_allclose(written.affine, affine_from_spacing((3, 2, 1)), atol=1e-6)
    assert "mask.record.json" in view.state.message.text
    record = json.loads((tmp_path / "mask.record.json").read_text())
    assert record["result"]["edited"] is False
    layer.paint((1, 0, 0), 1)
    controller.save(tmp_path / "again.nii.gz")
    assert json.loads((tmp_path / "again.record.json").read_text())["result"]["edited"] is True
    assert record["result"]["clean_up"] == []
    controller.port.note_step(layer_id(layer), "liver: filled 1 hole, 4 mm³")
    controller.save(tmp_path / "clean.nii.gz")
    cleaned = json.loads((tmp_path / "clean.record.json").read_text())
    assert cleaned["result"]["clean_up"] == ["liver: filled 1 hole, 4 mm³"]


def test_names_and_colours_are_kept(bench, tmp_path, fakes):
    viewer, session, view, controller = bench
    scan_with_result(fakes, viewer, session, PROVENANCE)
    controller.choose_format(".seg.nrrd")
    assert view.state.suggested.endswith(".seg.nrrd")
    controller.save(tmp_path / "m.seg.nrrd")
    assert [name for _, name, _ in read(tmp_path / "m.seg.nrrd").metadata["classes"]] == ["liver", "spleen"]


def test_a_drawn_mask_is_written_without_a_record(bench, tmp_path):
    viewer, session, view, controller = bench
    layer = viewer.add_labels(np.eye(8, dtype=np.uint8), name="my mask")
    session.mask_id = layer_id(layer)
    session.masks_changed.emit()
    assert view.state.format == ".png"
    controller.save(tmp_path / "mine.png")
    assert read(tmp_path / "mine.png").grid == (1, 8, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.png"]


def test_what_cannot_be_written_is_said_in_a_line(bench, tmp_path, fakes):
    viewer, session, view, controller = bench
    scan_with_result(fakes, viewer, session, PROVENANCE)
    (tmp_path / "file").write_text("x")
    controller.save(tmp_path / "file" / "mask.nii.gz")
    assert view.state.message.kind == "error"
    assert "\n" not in view.state.message.text
    assert view.state.progress is None
    controller.save(tmp_path / "mask.xyz")
    assert view.state.message.kind == "error"
    controller.close()


def test_a_name_becomes_a_file_name():
    assert suggested("ct · seg · liver/v3") == "ct_seg_liver_v3"
    assert suggested("···") == "mask"


def test_what_a_file_had_to_make_up_is_said(bench, tmp_path, monkeypatch, fakes):
    from napari_llm4seg.predict import export

    viewer, session, view, controller = bench
    scan_with_result(fakes, viewer, session, PROVENANCE)
    whole = export.export

    def told(*arguments, **named):
        return replace(whole(*arguments, **named), messages=("The place is made up.",))

    monkeypatch.setattr(export, "export", told)
    controller.save(tmp_path / "mask.nii.gz")
    assert view.state.message.kind == "warning"
    assert view.state.message.text.endswith("in mask.record.json. The place is made up.")
