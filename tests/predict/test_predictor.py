from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from napari_llm4seg.config import ClassSpec, PredictConfig
from napari_llm4seg.errors import Cancelled, DeviceError, InputError
from napari_llm4seg.io import read, write
from napari_llm4seg.predict import Predictor
from napari_llm4seg.preprocess import Preprocessor
from napari_llm4seg.volume import Volume
from tests.predict.helpers import Identity, checkpoint


def scan(shape: tuple[int, ...] = (1, 1, 16, 16), seed: int = 0) -> Volume:
    return Volume(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), name="made")


def predictor(net: nn.Module | None = None, **config: Any) -> Predictor:
    return Predictor(checkpoint(net, **config), "cpu")


def test_identity_returns_the_scan_and_its_threshold() -> None:
    volume = scan((1, 3, 16, 16))
    found = predictor().predict(volume)
    expected = volume.data[0] / 255
    assert found.probabilities is not None
    assert found.probabilities.dtype == np.float16
    assert found.probabilities.shape == (1, 3, 16, 16)
    np.testing.assert_allclose(found.probabilities[0], expected, atol=6e-4)  # float16
    np.testing.assert_array_equal(found.labels, expected >= 0.5)
    assert found.labels.dtype == np.uint8
    assert found.classes == ((1, "lesion", "#E69F00"),)
    assert found.name == "made"


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (16, 16), (33, 16), (40, 61)])
def test_tiles_return_the_scan_at_its_own_resolution(shape: tuple[int, int]) -> None:
    volume = scan((1, 2, *shape))
    parts: dict[int, np.ndarray] = {}
    predictor(mode="tiles", batch=3, intensity="uint8").predict(
        volume, on_slice=lambda z, labels, probabilities: parts.update({z: probabilities})
    )
    if shape != (1, 1):  # a single pixel is constant and becomes mid-grey
        for z in range(2):
            np.testing.assert_allclose(parts[z][0], volume.data[0, z] / 255, atol=2e-6)


@settings(deadline=None, max_examples=30)
@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), depth=st.integers(1, 3), tiles=st.booleans())
def test_any_shape_gives_a_result_on_the_source_grid(shape: tuple[int, int], depth: int, tiles: bool) -> None:
    volume = scan((1, depth, *shape))
    found = predictor(mode="tiles" if tiles else "whole").predict(volume)
    assert found.labels.shape == (depth, *shape)
    assert found.probabilities is not None
    assert found.probabilities.shape == (1, depth, *shape)
    assert 0 <= found.probabilities.min() <= found.probabilities.max() <= 1


@pytest.mark.parametrize("stored", [False, True])
def test_only_the_largest_piece_of_a_class_is_kept_where_that_is_asked_for(stored: bool, tmp_path: Path) -> None:
    data = np.zeros((1, 6, 16, 16), np.uint8)
    data[0, :4, 2:8, 2:8] = 255
    data[0, 5, 12:14, 12:14] = 255  # a false piece far away
    volume = Volume(data, affine=np.diag([2.0, 1, 1, 1]), unit="mm")
    run = predictor(mode="tiles", intensity="uint8")
    into = np.memmap(tmp_path / "labels", np.uint8, "w+", shape=data.shape[1:]) if stored else None
    largest = run.with_config(run.config.model_copy(update={"largest": True}))
    found = largest.predict(volume, into=into, keep_probabilities=False)
    wanted = data[0] > 0
    wanted[5] = False
    np.testing.assert_array_equal(found.labels, wanted)
    said = "Of lesion the largest of 2 pieces was kept (8 mm³ removed)."
    assert said in found.provenance["messages"]
    assert found.provenance["predict"]["largest"] is True
    plain = run.predict(volume)
    np.testing.assert_array_equal(plain.labels, data[0] > 0)
    assert "largest" not in plain.provenance["predict"]


def test_affine_and_unit_are_the_sources() -> None:
    affine = np.array([[3.0, 0, 0, -10], [0, 0.8, 0, 5], [0, 0, -0.7, 2], [0, 0, 0, 1]])
    volume = Volume(scan().data, affine=affine, unit="mm")
    found = predictor().predict(volume)
    np.testing.assert_array_equal(found.affine, affine)
    assert found.unit == "mm"
    assert found.as_volume().grid == volume.grid


def test_the_current_slice_runs_alone_and_the_rest_outward_in_batches() -> None:
    net = Identity()
    seen: list[int] = []
    predictor(net, batch=3).predict(scan((1, 8, 16, 16)), first=3, on_slice=lambda z, *_: seen.append(z))
    assert seen == [3, 2, 4, 1, 5, 0, 6, 7]
    assert net.batches == [1, 3, 3, 1]


def test_only_the_asked_for_slices_are_run() -> None:
    volume = Volume(np.full((1, 5, 8, 8), 255, dtype=np.uint8) * np.eye(8, dtype=np.uint8))
    found = predictor(size=(8, 8)).predict(volume, slices=[3, 1])
    assert [bool(found.labels[z].any()) for z in range(5)] == [False, True, False, True, False]
    assert found.provenance["slices"] == [1, 3]


def test_on_slice_gives_float32_probabilities_also_when_none_are_kept() -> None:
    parts: list[tuple[int, np.ndarray, np.ndarray]] = []
    found = predictor().predict(
        scan((1, 2, 16, 16)), keep_probabilities=False, on_slice=lambda *part: parts.append(part)
    )
    assert found.probabilities is None
    assert [(z, labels.shape, p.shape, p.dtype) for z, labels, p in parts] == [
        (0, (16, 16), (1, 16, 16), np.float32),
        (1, (16, 16), (1, 16, 16), np.float32),
    ]


def test_lazy_scans_are_read_once_slice_by_slice() -> None:
    volume = scan((1, 4, 16, 16))
    read: list[int] = []

    def load(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        read.append(block_info[0]["array-location"][1][0])
        return block

    lazy = da.map_blocks(load, da.from_array(volume.data, chunks=(1, 1, 16, 16)), meta=np.empty((0,) * 4, np.uint8))
    found = predictor(batch=2).predict(Volume(lazy), first=2)
    assert read == [2, 1, 3, 0]
    np.testing.assert_array_equal(found.labels, volume.data[0] >= 128)


class Halves(nn.Module):
    """Says lesion in the lower right half, so that rows and columns cannot be taken for one another."""

    def forward(self, image: Tensor) -> Tensor:
        rows, columns = image.shape[-2:]
        below = torch.arange(rows)[:, None] * columns + torch.arange(columns) > rows * columns // 2
        return torch.where(below, image + 0.1, image - 0.6) * 9


@pytest.mark.parametrize("mode", ["whole", "tiles"])
@pytest.mark.parametrize(("axis", "plane"), [(0, "axial"), (1, "coronal"), (2, "sagittal")])
def test_slices_along_any_axis_are_those_of_the_turned_volume(axis: int, plane: Any, mode: Any) -> None:
    volume = scan((1, 5, 12, 17))
    model = predictor(Halves(), mode=mode, intensity="minmax")
    turned = Volume(np.moveaxis(volume.data, 1 + axis, 1))
    parts: dict[int, np.ndarray] = {}
    along = model.with_config(model.config.model_copy(update={"axis": plane}))
    found = along.predict(volume, first=2, on_slice=lambda z, labels, _: parts.update({z: labels}))
    expected = model.predict(turned, first=2)
    assert along.slice_axis(volume) == found.provenance["axis"] == axis
    np.testing.assert_array_equal(np.moveaxis(found.labels, axis, 0), expected.labels)
    assert found.probabilities is not None
    np.testing.assert_array_equal(np.moveaxis(found.probabilities, 1 + axis, 1), expected.probabilities)
    np.testing.assert_array_equal(np.stack([parts[z] for z in range(volume.grid[axis])]), expected.labels)
    assert found.labels.any()
    assert next(iter(parts)) == 2
    some = along.predict(volume, slices=[1])
    assert some.labels.any(axis=tuple({0, 1, 2} - {axis})).tolist() == [z == 1 for z in range(volume.grid[axis])]


def test_the_stored_slices_are_the_default_and_no_part_of_old_configurations() -> None:
    assert "axis" not in PredictConfig().model_dump()
    affine = np.array([[0, 1.0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    volume = Volume(scan((1, 3, 8, 8)).data, affine=affine, unit="mm")  # stored coronally
    seen: dict[str, int] = {}
    for plane in ("stored", "axial", "coronal", "sagittal"):
        seen[plane] = predictor(axis=plane).predict(volume).provenance["axis"]
    assert seen == {"stored": 0, "axial": 1, "coronal": 0, "sagittal": 2}


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_lazy_scan_goes_into_a_zarr_array_as_it_would_into_memory(plane: Any) -> None:
    zarr = pytest.importorskip("zarr")
    volume = scan((1, 9, 20, 16))
    lazy = Volume(da.from_array(volume.data, chunks=(1, 2, 7, 16)), name="made")
    target = zarr.create_array(store={}, shape=volume.grid, chunks=(4, 8, 8), dtype="uint8")
    model = predictor(batch=3, axis=plane)
    found = model.predict(lazy, first=4, into=target)
    expected = model.predict(volume, first=4)
    assert found.labels is target
    assert found.probabilities is None
    np.testing.assert_array_equal(target[:], expected.labels)
    assert found.provenance["source"] == expected.provenance["source"]
    with pytest.raises(InputError, match="the scan's grid is"):
        model.predict(scan((1, 8, 20, 16)), into=target)


def test_softmax_gives_background_first_and_class_values() -> None:
    class Two(nn.Module):
        """Background where dark, the first class where bright, the second in the left column."""

        def forward(self, image: Tensor) -> Tensor:
            left = torch.zeros_like(image)
            left[..., 0] = 9
            return torch.cat([torch.full_like(image, 2.0), image * 4, left], dim=1)

    classes = (ClassSpec(value=7, name="a"), ClassSpec(value=300, name="b"))
    data = np.zeros((1, 1, 16, 16), np.uint8)
    data[..., 8:] = 255
    found = predictor(Two(), head="softmax", classes=classes).predict(Volume(data))
    expected = np.zeros((16, 16), np.uint16)
    expected[:, 8:], expected[:, 0] = 7, 300
    np.testing.assert_array_equal(found.labels[0], expected)
    assert found.labels.dtype == np.uint16
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=2e-3)


def test_small_islands_go() -> None:
    data = np.zeros((1, 1, 16, 16), np.uint8)
    data[..., 2:8, 2:8] = data[..., 12, 12] = 255
    assert predictor().predict(Volume(data)).labels.sum() == 37
    assert predictor(min_area=0.05).predict(Volume(data)).labels.sum() == 36


def test_progress_counts_slices_or_tiles_up_to_the_total() -> None:
    seen: list[tuple[int, int, str]] = []
    predictor(batch=2).predict(scan((1, 4, 16, 16)), progress=lambda *args: seen.append(args))
    assert [(done, total) for done, total, _ in seen] == [(0, 4), (1, 4), (3, 4), (4, 4)]
    assert seen[-1][2] == "slice 4/4"
    seen.clear()
    predictor(batch=4, mode="tiles", overlap=0.0).predict(
        scan((1, 2, 32, 32)), slices=[1], progress=lambda *args: seen.append(args)
    )
    assert [args[:2] for args in seen] == [(0, 4), (4, 4)]


@pytest.mark.parametrize("mode", ["whole", "tiles"])
def test_cancel_stops_the_run_and_the_predictor_stays_usable(mode: str) -> None:
    net = Identity()
    model = predictor(net, mode=mode, batch=1)
    cancel = threading.Event()
    calls = []

    def progress(done: int, total: int, message: str) -> None:
        calls.append(done)
        if done == 2:
            cancel.set()

    with pytest.raises(Cancelled):
        model.predict(scan((1, 6, 48, 48)), progress=progress, cancel=cancel.is_set)
    assert calls == [0, 1, 2]
    assert len(net.batches) == 2
    assert model.predict(scan()).labels.shape == (1, 16, 16)


def test_cancel_acts_between_the_slices_of_a_batch_before_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[int] = []
    prepare = Preprocessor.prepare

    def counted(self: Preprocessor, volume: Volume, z: int) -> Any:
        prepared.append(z)
        return prepare(self, volume, z)

    monkeypatch.setattr(Preprocessor, "prepare", counted)
    with pytest.raises(Cancelled):
        predictor(batch=8).predict(scan((1, 9, 16, 16)), cancel=lambda: len(prepared) >= 3)
    assert len(prepared) == 3


def test_cancel_before_the_start() -> None:
    with pytest.raises(Cancelled):
        predictor().predict(scan(), cancel=lambda: True)


def test_threads_take_turns_and_waiting_can_be_cancelled() -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Waiting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.at_once, self.most = 0, 0

        def forward(self, image: Tensor) -> Tensor:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            inside.set()
            assert go_on.wait(10)
            self.at_once -= 1
            return image

    net = Waiting()
    model = predictor(net)
    done: list[object] = []
    threads = [threading.Thread(target=lambda: done.append(model.predict(scan()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert inside.wait(10)
    with pytest.raises(Cancelled):
        model.predict(scan(), cancel=lambda: True)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(done) == 2
    assert net.most == 1


def test_out_of_memory_is_said_in_the_provenance() -> None:
    class Small(Identity):
        def forward(self, image: Tensor) -> Tensor:
            if len(image) > 1:
                raise MemoryError
            return super().forward(image)

    found = predictor(Small(), batch=2).predict(scan((1, 3, 16, 16)))
    np.testing.assert_array_equal(found.labels, scan((1, 3, 16, 16)).data[0] >= 128)
    assert found.provenance["messages"] == ["CPU ran out of memory at 2 images at once; went on with 1."]


def messages(volume: Volume, **config: Any) -> tuple[np.ndarray, list[str]]:
    found = predictor(**config).predict(volume)
    assert found.probabilities is not None
    assert np.isfinite(found.probabilities).all()
    return found.probabilities[0, 0].astype(np.float32), found.provenance["messages"]


RAMP = np.linspace(0, 1, 256).reshape(16, 16)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint8, 0, 255),
        (np.int8, -128, 127),
        (np.uint16, 0, 65535),
        (np.int16, -1000, 3000),
        (np.int32, -(2**31), 2**31 - 1),
        (np.uint32, 0, 2**32 - 1),
        (np.int64, -(2**62), 2**62),
        (np.uint64, 0, 2**63),
        (np.float16, -1000, 1000),
        (np.float32, -1e30, 1e30),
        (np.float64, -1e300, 1e300),
        (">f4", -5, 5),
        (">i2", -5000, 5000),
    ],
)
def test_every_real_dtype_maps_its_range_onto_the_same_picture(dtype: Any, low: float, high: float) -> None:
    values = (low + RAMP * (float(high) - float(low))).astype(dtype)
    found, said = messages(Volume(values[None, None]), intensity="minmax")
    np.testing.assert_allclose(found, RAMP, atol=0.005)
    assert said == []


def test_boolean_scans() -> None:
    found, said = messages(Volume((RAMP > 0.5)[None, None]))
    np.testing.assert_allclose(found, RAMP > 0.5, atol=1e-3)
    assert said == []


def test_nan_and_infinities_become_the_finite_extremes_and_are_said() -> None:
    values = RAMP.astype(np.float32)[None, None].copy()
    values[0, 0, 8, :3] = np.nan, np.inf, -np.inf
    found, said = messages(Volume(values), intensity="minmax")
    expected = RAMP.copy()
    expected[8, :3] = 0, 1, 0
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert len(said) == 1
    assert said[0].startswith("The scan has values that are not numbers or infinite;")


def test_a_scan_without_any_finite_value_is_said() -> None:
    _, said = messages(Volume(np.full((1, 1, 8, 8), np.nan)))
    assert said[0].startswith("This checkpoint was made for 8-bit images; float64 values")
    assert said[1:] == ["The scan has no finite value at all; zeros were put in their place."]


@pytest.mark.parametrize("value", [0, 7, 255])
def test_constant_slices_predict_with_a_message(value: int) -> None:
    data = np.stack([np.full((16, 16), value), RAMP * 255]).astype(np.uint8)[None]
    found = predictor(intensity="minmax").predict(Volume(data))
    assert found.provenance["messages"] == ["Slice 0 has the same value everywhere; nothing can be told from it."]
    np.testing.assert_array_equal(found.labels[1], RAMP >= 0.5)


def test_one_pixel() -> None:
    found = predictor().predict(Volume(np.array([[[[200]]]], np.uint8)))
    assert found.labels.shape == (1, 1, 1)
    assert "same value everywhere" in found.provenance["messages"][0]


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (np.zeros((1, 1, 8, 8), complex), "intensity", "complex128 values; segmenting needs real numbers"),
        (np.zeros((1, 1, 8, 8), "U3"), "intensity", "segmenting needs real numbers"),
        (np.zeros((1, 1, 8, 8), object), "intensity", "segmenting needs real numbers"),
        (np.zeros((1, 1, 8, 8), np.uint8), "label", "is a label map"),
        (np.zeros((5, 1, 8, 8), np.uint8), "intensity", "has 5 channels"),
    ],
)
def test_unusable_scans_get_one_line(data: np.ndarray, kind: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        predictor().predict(Volume(data, kind=kind))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("shape", [(1, 0, 8, 8), (1, 1, 0, 8), (0, 1, 8, 8)])
def test_empty_scans_get_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="is empty"):
        predictor().predict(Volume(np.zeros(shape)))


def test_colour_for_a_grey_model_is_its_brightness() -> None:
    data = np.zeros((3, 1, 16, 16), np.uint8)
    data[:, 0, :, 8:] = np.array([200, 100, 50])[:, None, None]
    found, said = messages(Volume(data))
    np.testing.assert_allclose(found[:, 8:], (0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255, atol=1e-3)
    assert said == ["This checkpoint expects grey images; the scan is in colour. It was run on its brightness."]


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sequences_in_one_nifti_are_not_taken_for_colours(tmp_path: Path, channels: int) -> None:
    sequences = np.random.default_rng(0).integers(0, 900, (channels, 2, 8, 8)).astype(np.int16)
    write(tmp_path / "mri.nii.gz", Volume(sequences))
    with pytest.raises(InputError, match=f"'mri' holds {channels} volumes of int16"):
        predictor().predict(read(tmp_path / "mri.nii.gz"))
    write(tmp_path / "photo.nii.gz", Volume(sequences.astype(np.uint8)))
    assert predictor().predict(read(tmp_path / "photo.nii.gz")).labels.shape == (2, 8, 8)


def test_grey_for_a_colour_model_is_repeated_and_alpha_is_dropped() -> None:
    data = np.stack([RAMP * 255, np.full((16, 16), 17)]).astype(np.uint8)[:, None]
    found, said = messages(Volume(data), channels="rgb")
    np.testing.assert_allclose(found, RAMP, atol=0.005)
    assert said == [
        "The scan has an alpha channel; it was dropped.",
        "This checkpoint expects colour images; the scan is grey. It was run on the grey values three times.",
    ]


def test_a_network_that_gives_nan_is_found_out() -> None:
    class Broken(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image * torch.nan

    found = predictor(Broken()).predict(scan((1, 2, 16, 16)), slices=[1])
    assert not found.labels.any()
    assert found.provenance["messages"] == [
        "Slice 1 has places where the network gave no finite value; they count as probability 0."
    ]


def test_provenance_says_what_made_it_and_is_json() -> None:
    found = predictor(threshold=0.25).predict(scan())
    told = json.loads(json.dumps(found.provenance))
    assert told["checkpoint"] == {"name": "identity", "sha256": "0" * 64}
    assert told["predict"]["threshold"] == 0.25
    assert told["source"]["grid"] == [1, 16, 16]
    assert told["device"] == "CPU"
    assert told["versions"]["torch"] == torch.__version__
    assert told["date"].endswith("+00:00")
    assert told["messages"] == told["frozen_layers"] == []
    again = predictor().predict(scan()).provenance["source"]["sha256"]
    assert told["source"]["sha256"] == again
    assert predictor().predict(scan(seed=1)).provenance["source"]["sha256"] != again


def test_other_settings_share_the_network() -> None:
    model = predictor()
    other = model.with_config(PredictConfig(threshold=0.9))
    assert other.net is model.net
    assert model.config.threshold == 0.5
    np.testing.assert_array_equal(other.predict(scan()).labels, scan().data[0] >= 230)


def test_absent_device() -> None:
    with pytest.raises(DeviceError):
        Predictor(checkpoint(), "cuda:63")
