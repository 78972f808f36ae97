"""OME-Zarr in both storage versions: axes, scale, units, channels, labels, laziness, damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import TimeStack, ome_zarr, read, read_stack
from napari_llm4seg.volume import Volume

FILES = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
SIZES = {"t": 3, "c": 2, "z": 4, "y": 5, "x": 6}
TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def store(
    path: Path, values: np.ndarray, axes: str = "zyx", version: str = "0.4", unit: str = "", **extra: Any
) -> Path:
    """Write an OME-Zarr image with scale 1, 2, 3 ... and translation 10, 20 ... along its axes."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    full = group.create_array(
        "0", shape=values.shape, dtype=values.dtype, chunks=tuple(max(1, n // 2) for n in values.shape)
    )
    full[...] = values
    group.create_array("1", shape=values.shape, dtype=values.dtype, chunks=values.shape)
    described = [
        {"name": axis, "type": TYPES[axis], **({"unit": unit} if unit and axis in "zyx" else {})} for axis in axes
    ]
    scale = {"type": "scale", "scale": [float(n + 1) for n in range(len(axes))]}
    shift = {"type": "translation", "translation": [10.0 * (n + 1) for n in range(len(axes))]}
    datasets = [{"path": name, "coordinateTransformations": [scale, shift]} for name in ("0", "1")]
    ome = {"multiscales": [{"axes": described, "datasets": datasets, "version": version}], **extra}
    group.attrs.update(ome if version == "0.4" else {"ome": {"version": version, **ome}})
    return path


@FILES
@given(st.permutations("tczyx"), st.sets(st.sampled_from("tcz")), st.sampled_from(["0.4", "0.5"]))
def test_axes_in_any_order(tmp_path: Path, order: list[str], left_out: set[str], version: str) -> None:
    axes = "".join(axis for axis in order if axis not in left_out)
    values = np.random.default_rng(0).integers(0, 999, [SIZES[axis] for axis in axes]).astype(np.uint16)
    path = store(tmp_path / "a.ome.zarr", values, axes, version, "micrometer")
    expected = values.transpose([axes.index(axis) for axis in "ctzyx" if axis in axes])
    expected = expected[tuple(slice(None) if axis in axes else None for axis in "ctzyx")]
    found = read_stack(path)
    if "t" in left_out:
        assert isinstance(found, Volume)
        np.testing.assert_array_equal(found.data, expected[:, 0])
    else:
        assert isinstance(found, TimeStack)
        np.testing.assert_array_equal(found.data, expected)
        np.testing.assert_array_equal(read(path, time=2).data, expected[:, 1])
    assert isinstance(found.data, da.Array)
    assert (found.unit, found.name) == ("mm", "a")
    for row, axis in enumerate("zyx"):
        if axis in axes:
            place = axes.index(axis) + 1
            np.testing.assert_allclose(found.affine[row], [*(np.eye(3)[row] * place / 1000), place / 100])


@pytest.mark.parametrize(("unit", "factor"), [("millimeter", 1), ("nanometer", 1e-6), ("meter", 1e3), ("inch", 25.4)])
def test_units(tmp_path: Path, unit: str, factor: float) -> None:
    volume = read(store(tmp_path / "a.zarr", np.zeros((2, 3, 4), np.uint8), unit=unit))
    np.testing.assert_allclose(volume.spacing, np.array([1, 2, 3]) * factor)


def test_without_unit_the_scale_is_in_pixels(tmp_path: Path) -> None:
    volume = read(store(tmp_path / "a.zarr", np.zeros((2, 3, 4), np.uint8)))
    assert (volume.unit, volume.spacing) == ("pixel", (1, 2, 3))


def test_transformations_of_the_image_come_after_the_datasets(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr", np.zeros((2, 3, 4), np.uint8), unit="millimeter")
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [2, 2, 2]},
        {"type": "identity"},
        {"type": "translation", "translation": [1, 1, 1]},
    ]
    (path / ".zattrs").write_text(json.dumps(attributes))
    volume = read(path)
    assert volume.spacing == (2, 4, 6)
    np.testing.assert_allclose(volume.affine[:3, 3], (21, 41, 61))
    attributes["multiscales"][0]["coordinateTransformations"] = [{"type": "rotation", "rotation": [1]}]
    (path / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(InputError, match="placed by a rotation"):
        read(path)


def test_an_affine_of_our_own_is_exact(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr", np.zeros((2, 3, 4), np.uint8), unit="millimeter")
    affine = np.eye(4) + np.random.default_rng(0).normal(size=(4, 4)) * [[0.1], [0.1], [0.1], [0]]
    zarr.open_group(path).attrs[ome_zarr.KEY] = {"affine": affine.tolist(), "unit": "mm", "kind": "label"}
    volume = read(path)
    np.testing.assert_array_equal(volume.affine, affine)
    assert volume.kind == "label"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_channels_and_labels(tmp_path: Path, version: str) -> None:
    channels = [
        {"label": "DAPI", "color": "0000FF", "window": {"start": 10, "end": 200, "min": 0, "max": 255}},
        {"color": "f00"},
    ]
    values = np.zeros((2, 4, 5, 6), np.uint16)
    path = store(tmp_path / "a.zarr", values, "czyx", version, omero={"channels": channels})
    assert read(path).metadata["channels"] == [
        {"name": "DAPI", "colour": "#0000FF", "limits": [10, 200]},
        {"name": "channel 2", "colour": "", "limits": None},
    ]
    assert ome_zarr.labels_in(path) == []
    about = {
        "colors": [{"label-value": 1, "rgba": [255, 0, 16, 255]}, {"label-value": 0, "rgba": [0, 0, 0, 0]}],
        "properties": [{"label-value": 2, "name": "nucleus"}],
    }
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.int32)
    store(path / "labels" / "cells", labels, "zyx", version, **{"image-label": about})
    names = {"labels": ["cells"]}
    group = zarr.open_group(path / "labels", mode="a", zarr_format=2 if version == "0.4" else 3)
    group.attrs.update(names if version == "0.4" else {"ome": names})
    (place,) = ome_zarr.labels_in(path)
    found = read(place)
    assert (found.kind, found.name) == ("label", "cells")
    np.testing.assert_array_equal(found.data[0], labels)
    assert [(value, name) for value, name, _ in found.metadata["classes"]] == [(1, "label 1"), (2, "nucleus")]
    assert found.metadata["classes"][0][2] == "#FF0010"


@pytest.mark.parametrize("version", [2, 3])
def test_plain_arrays(tmp_path: Path, version: int) -> None:
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    zarr.create_array(tmp_path / "a.zarr", data=values, zarr_format=version)
    volume = read(tmp_path / "a.zarr")
    np.testing.assert_array_equal(volume.data[0], values)
    assert (volume.unit, isinstance(volume.data, da.Array)) == ("pixel", True)
    group = zarr.open_group(tmp_path / "g.zarr", mode="w", zarr_format=version)
    group.create_array("one", data=values)
    np.testing.assert_array_equal(read(tmp_path / "g.zarr").data[0], values)
    group.create_array("two", data=values)
    with pytest.raises(InputError, match="holds 2 images: one, two"):
        read(tmp_path / "g.zarr")
    assert read(tmp_path / "g.zarr" / "two").grid == (3, 4, 5)


def test_nothing_is_read_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(tmp_path / "a.zarr", np.arange(120, dtype=np.uint16).reshape(4, 5, 6))
    asked = []
    original = ome_zarr._Checked.__getitem__
    monkeypatch.setattr(ome_zarr._Checked, "__getitem__", lambda self, key: asked.append(key) or original(self, key))
    volume = read(path)
    assert asked == []
    volume.slice_at(3)
    assert {(key[0].start, key[0].stop) for key in asked} == {(2, 4)}


def test_several_images_of_a_converter_and_plates(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "c.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    for name in ("0", "1"):
        store(tmp_path / "c.zarr" / name, np.full((2, 3, 4), int(name), np.uint8))
    volume = read(tmp_path / "c.zarr")
    assert (np.asarray(volume.data) == 0).all()
    assert volume.metadata["messages"] == ["The file holds 2 images; the first was read."]
    plate = zarr.open_group(tmp_path / "p.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": []}
    with pytest.raises(InputError, match="plate of many images"):
        read(tmp_path / "p.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_damage_is_one_line(tmp_path: Path, version: str) -> None:
    path = store(tmp_path / "a.zarr", np.arange(120, dtype=np.uint16).reshape(4, 5, 6), version=version)
    files = sorted(file for file in (path / "0").rglob("*") if file.is_file())
    chunk = next(file for file in files if not file.name.startswith((".z", "zarr")))
    chunk.write_bytes(b"no chunk")
    with pytest.raises(InputError, match="chunk cannot be read"):
        np.asarray(read(path).data)
    for name in (".zattrs", ".zgroup", "zarr.json", "0/.zarray", "0/zarr.json"):
        if not (path / name).exists():
            continue
        kept = (path / name).read_bytes()
        for content in (b"", b"{", b"[]", b"null", b"{}", kept[: len(kept) // 2]):
            (path / name).write_bytes(content)
            try:
                read(path)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017 - some damage leaves a plain array that opens
        (path / name).write_bytes(kept)
    empty = tmp_path / "empty.zarr"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty\.zarr"):
        read(empty)


def test_pickled_chunks_are_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr", np.zeros((2, 3, 4), np.uint8))
    about = json.loads((path / "0" / ".zarray").read_text())
    about["filters"] = [{"id": "pickle", "protocol": 5}]
    (path / "0" / ".zarray").write_text(json.dumps(about))
    with pytest.raises(InputError):
        read(path)


@pytest.mark.parametrize("axes", ["zy", "zyxq", "yy"])
def test_axes_that_are_no_scan(tmp_path: Path, axes: str) -> None:
    path = store(tmp_path / "a.zarr", np.zeros((2, 3, 4), np.uint8))
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["multiscales"][0]["axes"] = [{"name": axis} for axis in axes]
    (path / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(InputError, match="has the axes"):
        read(path)
