"""What napari's reader takes, leaves alone and gives."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from napari.layers import Layer
from PIL import Image

from napari_llm4seg.errors import InputError
from napari_llm4seg.gui import reading
from napari_llm4seg.io import write
from napari_llm4seg.volume import Volume, affine_from_spacing
from tests.io.made_dicom import made, made_series, save


@pytest.fixture
def no_window(monkeypatch):
    """As in a script: there is no application."""
    monkeypatch.setattr(reading, "_application", lambda: None)


def two_series(folder: Path) -> None:
    made_series(folder, (3, 4, 5), np.eye(3), 2.0)
    place = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "PixelSpacing": [1, 1], "ImagePositionPatient": [0, 0, 0]}
    save(made(np.zeros((6, 7), np.int16), "9.9", SeriesDescription="scout", **place), folder / "scout")


def test_a_file_becomes_a_layer(tmp_path, no_window):
    values = np.arange(5 * 40 * 50, dtype=np.uint8).reshape(1, 5, 40, 50)
    path = write(tmp_path / "ct.nii.gz", Volume(values, affine_from_spacing((3, 1, 0.5)), unit="mm", name="ct"))
    reader = reading.get_reader(str(path))
    ((data, options, kind),) = reader(str(path))
    layer = Layer.create(data, options, kind)
    assert layer.data.shape == (5, 40, 50)
    step = np.array(layer.data_to_world((1, 1, 1))) - np.array(layer.data_to_world((0, 0, 0)))
    np.testing.assert_allclose(np.abs(step), (3, 1, 0.5))
    assert reading.get_reader([str(path), str(path)]) is None
    assert reading.get_reader("notes.txt") is None


def test_folders_of_others_are_left_alone(tmp_path):
    assert reading.get_reader(tmp_path) is None
    for number in range(300):
        (tmp_path / f"{number:03d}.png").write_bytes(b"\x89PNG")
    Image.new("L", (4, 4)).save(tmp_path / "real.tif")
    started = time.monotonic()
    assert reading.get_reader(str(tmp_path)) is None
    assert time.monotonic() - started < 0.5


def test_folders_of_dicom_and_zarr_are_taken(tmp_path, no_window):
    (tmp_path / "ct").mkdir()
    made_series(tmp_path / "ct", (3, 4, 5), np.eye(3), 2.0)
    (tmp_path / "ct" / "notes.txt").write_text("hello")
    ((data, options, kind),) = reading.get_reader(str(tmp_path / "ct"))(str(tmp_path / "ct"))
    assert (data.shape, kind, options["axis_labels"]) == ((3, 4, 5), "image", ("z", "y", "x"))
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros((2, 3, 4), np.uint8))
    ((data, _, _),) = reading.get_reader(tmp_path / "a.zarr")(tmp_path / "a.zarr")
    assert data.shape == (2, 3, 4)


def test_without_a_window_all_series_are_opened(tmp_path, no_window):
    two_series(tmp_path)
    assert [data.shape for data, _, _ in reading.read_path(tmp_path)] == [(3, 4, 5), (6, 7)]


def test_labels_of_a_zarr_come_with_it(tmp_path, no_window):
    from tests.io.test_ome_zarr import store

    path = store(tmp_path / "a.zarr", np.zeros((4, 5, 6), np.uint16))
    store(path / "labels" / "cells", np.ones((4, 5, 6), np.uint8), **{"image-label": {}})
    image, labels = reading.read_path(path)
    assert (image[2], labels[2], labels[1]["name"], labels[1]["visible"]) == ("image", "labels", "cells", False)


@pytest.mark.gui
def test_a_person_ticks_the_series(tmp_path, qtbot, monkeypatch):
    from napari_llm4seg.gui.views import series_dialog

    two_series(tmp_path)
    asked = []

    def choose(name, lines, first):
        asked.append((name, lines, first))
        return answer

    monkeypatch.setattr(series_dialog, "choose_series", choose)
    answer = [1]
    ((data, _, _),) = reading.read_path(tmp_path)
    assert data.shape == (6, 7)
    assert asked == [(tmp_path.name, ["1: CT, 3 slices of 5 × 4", "2: CT, scout, 1 image of 7 × 6"], 0)]
    answer = []
    assert reading.read_path(tmp_path) == [(None,)]


@pytest.mark.gui
def test_the_window_lives_while_a_file_is_read(qtbot):
    from qtpy.QtCore import QTimer

    from napari_llm4seg.gui.views.waiting import wait_for

    ticks = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(threading.current_thread()))
    timer.start(10)

    def slow(tell):
        for step in range(6):
            time.sleep(0.05)
            tell(step, 6, f"slice {step}/6")
        return threading.current_thread()

    thread = wait_for(slow, "Opening x")
    assert thread is not threading.main_thread()
    assert len(ticks) > 3
    with pytest.raises(InputError, match="broken"):
        wait_for(lambda tell: (_ for _ in ()).throw(InputError("broken")), "Opening x")


@pytest.mark.gui
def test_waiting_can_be_cancelled(qtbot):
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication, QProgressDialog

    from napari_llm4seg.gui.views.waiting import wait_for

    stopped = threading.Event()

    def endless(tell):
        try:
            while True:
                time.sleep(0.01)
                tell(1, 2, "slice 1/2")
        finally:
            stopped.set()

    def cancel():
        for widget in QApplication.topLevelWidgets():
            if isinstance(widget, QProgressDialog) and not widget.wasCanceled():
                widget.cancel()

    QTimer.singleShot(200, cancel)
    assert wait_for(endless, "Opening x") is None
    assert stopped.wait(10)
