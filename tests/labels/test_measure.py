from __future__ import annotations

import csv
import math

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.labels.cleanup import Hooks
from napari_llm4seg.labels.measure import absent_words, measure, sizes, table_text, write_csv
from napari_llm4seg.labels.size import Scale, number_words
from napari_llm4seg.volume import Volume, affine_from_spacing

CLASSES = ((1, "liver", "#E69F00"), (2, "cyst", "#56B4E9"), (5, "absent", "#009E73"))


def turned(spacing):
    """An affine turned by 30 degrees about two axes."""
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    affine = np.eye(4)
    about_z, about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    affine[:3, :3] = about_z @ about_x @ np.diag(spacing)
    affine[:3, 3] = -7, 3, 11
    return affine


def boxes():
    labels = np.zeros((10, 30, 40), np.uint8)
    labels[2:6, 5:15, 10:30] = 1
    labels[8, 25, 35] = labels[8, 27, 35] = 2
    return labels


def volume(labels=None, affine=None, unit="mm", classes=CLASSES):
    labels = boxes() if labels is None else labels
    affine = affine_from_spacing((3, 0.5, 0.7)) if affine is None else affine
    return Volume(labels[None], affine, "label", unit, "mask", {"classes": classes})


@pytest.mark.parametrize("affine", [affine_from_spacing((3, 0.5, 0.7)), turned((3, 0.5, 0.7))])
def test_a_box_of_known_size(affine):
    liver, cyst, absent = measure(volume(affine=affine))
    assert (liver.value, liver.name, liver.colour, liver.voxels, liver.components) == (1, "liver", "#E69F00", 800, 1)
    assert liver.volume_ml == pytest.approx(800 * 3 * 0.5 * 0.7 / 1000)
    assert liver.area_mm2 is None
    assert liver.box == ((2, 6), (5, 15), (10, 30))
    assert liver.extent == pytest.approx((12, 5, 14))
    # opposite corner voxels, half a step further at either end along the axis that gains most
    assert liver.diameter == pytest.approx(math.sqrt((4 * 3) ** 2 + (9 * 0.5) ** 2 + (19 * 0.7) ** 2))
    assert (liver.mean, liver.sd) == (None, None)
    assert (cyst.voxels, cyst.components) == (2, 2)
    assert (absent.voxels, absent.components, absent.volume_ml, absent.diameter, absent.box) == (0, 0, 0.0, None, None)


def test_a_sheared_grid_has_its_determinant():
    affine = affine_from_spacing((3, 0.5, 0.7))
    affine[1, 0] = 2.0  # a tilted gantry: slices shift along y
    (liver, *_) = measure(volume(affine=affine))
    assert liver.volume_ml == pytest.approx(800 * 3 * 0.5 * 0.7 / 1000)


def test_one_slice_has_an_area_and_its_diameter_lies_in_it():
    (liver, *_) = measure(volume(boxes()[3:4]))
    assert liver.volume_ml is None
    assert liver.area_mm2 == pytest.approx(200 * 0.5 * 0.7)
    assert liver.diameter == pytest.approx(math.hypot(9 * 0.5, 20 * 0.7))


def test_without_mm_sizes_are_counts():
    row = measure(volume(unit="pixel", affine=np.eye(4)))[0].row()
    assert row["pixels"] == 800
    assert not any("mm" in key or "ml" in key for key in row)
    assert row["diameter_pixel"] == pytest.approx(math.sqrt(3**2 + 9**2 + 20**2))


def test_intensity_is_that_of_the_voxels_of_the_class():
    rng = np.random.default_rng(0)
    values = rng.normal(1000, 30, (2, 10, 30, 40)).astype(np.float32)
    values[0, 2, 5, 10] = np.nan
    for data in (values, da.from_array(values, chunks=(1, 1, 30, 40))):
        liver, cyst, absent = measure(volume(), Volume(data, affine_from_spacing((3, 0.5, 0.7)), unit="mm"))
        grey = values.astype(float).mean(axis=0)
        inside = grey[boxes() == 1]
        inside = inside[np.isfinite(inside)]
        assert liver.intensity_words() == f"{inside.mean():.0f} ± {inside.std():.0f}"
        assert liver.mean == pytest.approx(inside.mean())
        assert liver.sd == pytest.approx(inside.std())
        assert cyst.mean == pytest.approx(grey[boxes() == 2].mean())
        assert (absent.mean, absent.sd) == (None, None)


def test_a_constant_far_from_zero_has_no_spread():
    scan = Volume(np.full((1, 10, 30, 40), 30000.3), affine_from_spacing((3, 0.5, 0.7)))
    assert measure(volume(), scan)[0].sd == pytest.approx(0, abs=1e-6)


def test_labels_that_are_no_class_are_measured_too():
    labels = boxes()
    labels[0, 0, 0] = 9
    names = [item.name for item in measure(volume(labels, classes=CLASSES[:1]))]
    assert names == ["liver", "label 2", "label 9"]


def test_a_scan_of_another_size_is_refused_and_a_run_can_be_stopped():
    with pytest.raises(InputError, match="40 × 30 × 9 voxels but the mask 40 × 30 × 10"):
        measure(volume(), Volume(np.zeros((1, 9, 30, 40))))
    with pytest.raises(Cancelled):
        measure(volume(), hooks=Hooks(cancel=lambda: True))
    said = []
    measure(volume(), hooks=Hooks(progress=lambda *report: said.append(report)))
    assert said[-3:] == [(0, 3, "liver"), (1, 3, "cyst"), (2, 3, "absent")]


def test_sizes_are_those_of_the_measures():
    labels = volume()
    rows = sizes(labels.data[0], labels.affine, "mm", CLASSES)
    assert rows[0] == {"value": 1, "name": "liver", "pixels": 800, "volume_ml": 0.84}
    full = [item.row() for item in measure(labels)]
    assert rows == [{key: row[key] for key in ("value", "name", "pixels", "volume_ml")} for row in full]
    (flat, *_) = sizes(labels.data[0][3:4], labels.affine, "mm", CLASSES)
    assert flat == {"value": 1, "name": "liver", "pixels": 200, "area_mm2": 70.0}
    assert sizes(labels.data[0], labels.affine, "pixel", CLASSES)[2] == {"value": 5, "name": "absent", "pixels": 0}


@given(arrays(np.uint16, (3, 4, 5), elements=st.sampled_from([0, 1, 2, 5, 700])))
def test_every_labelled_voxel_is_in_one_class(labels):
    found = measure(volume(labels))
    assert sum(item.voxels for item in found) == np.count_nonzero(labels)
    for item in found:
        if item.box is not None:
            inside = labels[tuple(slice(first, last) for first, last in item.box)]
            assert np.count_nonzero(inside == item.value) == item.voxels == np.count_nonzero(labels == item.value)


def test_what_is_not_there_is_named() -> None:
    names = tuple((value, f"c{value}", "#000000") for value in range(1, 8))
    assert absent_words(measure(volume(classes=names))) == "Not in the mask: c3, c4, c5 and 2 more."
    assert absent_words(measure(volume(classes=CLASSES[:2]))) == ""


def test_the_table_comes_back_from_csv(tmp_path):
    rows = [item.row() for item in measure(volume())]
    path = write_csv(tmp_path / "new" / "measures.csv", rows)
    with path.open(newline="", encoding="utf-8") as file:
        back = list(csv.DictReader(file))
    assert [row["name"] for row in back] == ["liver", "cyst", "absent"]
    assert float(back[0]["volume_ml"]) == 0.84
    assert (back[0]["box_z_first"], back[0]["box_z_last"]) == ("2", "5")
    assert (back[0]["mean"], back[2]["diameter_mm"]) == ("", "")
    assert table_text(rows, "\t").splitlines()[0].split("\t")[:4] == ["value", "name", "pixels", "volume_ml"]


def test_words_have_units():
    assert Scale((1, 1, 1), 1.0, "mm").words(1234) == "1.23 mL"
    assert Scale((1, 1, 1), 1.0, "mm").words(7) == "7 mm³"
    assert [Scale((1, 1, 1), 1.0, "mm").words(n) for n in (123_456, 1_234_567)] == ["123.5 mL", "1235 mL"]
    assert [number_words(number) for number in (0, 0.0071, 0.5, 99.5, 255.24)] == [
        "0",
        "0.007",
        "0.50",
        "99.50",
        "255.2",
    ]
    assert Scale((1, 1), 0.25, "mm").words(10) == "2.5 mm²"
    assert Scale.pixels(3).words(1) == "1 voxel"
    assert Scale.pixels(2).words(4) == "4 pixels"
