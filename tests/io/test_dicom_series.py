"""What lies in a DICOM folder: which files make a series, which are told apart, and what is said about their places."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.io import dicom, read, read_stack, series
from tests.io.made_dicom import made, made_series, save

AXIAL = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.5, 0.75]}
CORONAL = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "PixelSpacing": [0.5, 0.75]}


def slices(folder: Path, depths: list[float], prefix: str = "s", value: int = 0, **elements: Any) -> None:
    """Save one 3 x 4 slice at each depth, its number as value."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, z in enumerate(depths):
        place = {**AXIAL, "ImagePositionPatient": [0, 0, z], "InstanceNumber": number, **elements}
        save(made(np.full((3, 4), value + number, np.int16), **place), folder / f"{prefix}{number}")


def words(path: Path) -> list[str]:
    return [str(one) for one in series(path)]


def test_several_series_are_listed_and_chosen(tmp_path: Path) -> None:
    slices(tmp_path / "a", [0, 2, 4], SeriesDescription="thorax")
    slices(tmp_path / "b" / "c", [0, 5], "t", 10, SeriesInstanceUID="9.9", SeriesDescription="liver")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff" + bytes(200))
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(50))
    assert words(tmp_path) == ["1: CT, liver, 2 slices of 4 × 3", "2: CT, thorax, 3 slices of 4 × 3"]
    with pytest.raises(InputError, match=r"holds 2 series\. .*--series N.* 1: CT, liver.*; 2: CT, thorax") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    for choice in (1, "1", "9.9"):
        volume = read(tmp_path, series=choice)
        assert volume.name == "liver"
        np.testing.assert_array_equal(volume.data[0, :, 0, 0], [10, 11])
    assert read(tmp_path, series=2).n_slices == 3
    for choice in ("3", "0", "8.8", "-1"):
        with pytest.raises(InputError, match=f"'{choice}' is none of them"):
            read(tmp_path, series=choice)


def test_only_dicom_has_series(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    assert series(tmp_path / "a.npy") == []
    with pytest.raises(InputError, match="no DICOM"):
        read(tmp_path / "a.npy", series=1)
    (tmp_path / "empty").mkdir()
    assert series(tmp_path / "empty") == []
    with pytest.raises(InputError, match="no DICOM image"):
        read(tmp_path / "empty")


def test_localisers_are_split_off(tmp_path: Path) -> None:
    slices(tmp_path, [0, 2, 4])
    save(made(np.eye(5, 4, dtype=np.int16), ImagePositionPatient=[0, 9, 0], **CORONAL), tmp_path / "scout")
    assert words(tmp_path) == [
        "1: CT, part 1, axial, 3 slices of 4 × 3",
        "2: CT, part 2, coronal, 1 image of 4 × 5",
    ]
    assert read(tmp_path, series=1).grid == (3, 3, 4)
    np.testing.assert_array_equal(read(tmp_path, series=2).data[0, 0], np.eye(5, 4))
    with pytest.raises(InputError, match="several parts of one series"):
        read(tmp_path, series="1.2.3")


@pytest.mark.parametrize(
    ("element", "values", "expected"),
    [
        ("TemporalPositionIdentifier", (1, 2), ["time point 1", "time point 2"]),
        ("EchoNumbers", (1, 2), ["echo 1", "echo 2"]),
        ("EchoTime", (4.6, 20), ["echo time 4.6 ms", "echo time 20 ms"]),
        ("DiffusionBValue", (0.0, 800.0), ["b-value 0 s/mm²", "b-value 800 s/mm²"]),
        ("AcquisitionNumber", (9, 10), ["acquisition 9", "acquisition 10"]),
        ("PatientComments", ("x", "y"), ["pass 1 by instance number", "pass 2 by instance number"]),
    ],
)
def test_images_at_one_position_are_told_apart(
    tmp_path: Path, element: str, values: tuple[Any, Any], expected: list[str]
) -> None:
    slices(tmp_path, [0, 2, 4], "a", 0, **{element: values[0]})
    slices(tmp_path, [0, 2, 4], "b", 10, **{element: values[1]})
    assert [one.part for one in series(tmp_path)] == expected
    for number in (1, 2):
        volume = read(tmp_path, series=number)
        np.testing.assert_array_equal(volume.data[0, :, 0, 0], np.arange(3) + 10 * (number - 1))
        assert volume.metadata["series"] == expected[number - 1]


def test_trigger_times_that_differ_by_slice_go_by_turn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for phase in range(2):
        for z in range(3):
            place = {**AXIAL, "ImagePositionPatient": [0, 0, z], "InstanceNumber": 2 * z + phase}
            place["TriggerTime"] = 100 * phase + float(rng.uniform(0, 50))
            save(made(np.full((3, 4), phase, np.int16), **place), tmp_path / f"{phase}{z}")
    assert len(series(tmp_path)) == 2
    for phase in range(2):
        assert (read(tmp_path, series=phase + 1).data == phase).all()


def test_echoes_and_times_together(tmp_path: Path) -> None:
    for echo in (1, 2):
        for time in (1, 2, 3):
            elements = {"EchoNumbers": echo, "TemporalPositionIdentifier": time}
            slices(tmp_path, [0, 2], f"{echo}{time}", 10 * echo + time, **elements)
    assert len(series(tmp_path)) == 6
    found = {one.part: int(read(tmp_path, series=one.number).data.min()) for one in series(tmp_path)}
    assert found["time point 2 echo 1"] == 12


def test_copies_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    made_series(tmp_path / "a", (3, 2, 2), np.eye(3), 2.0)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    volume = read(tmp_path)
    assert volume.n_slices == 3
    assert "3 files are copies" in volume.metadata["messages"][0]


def enhanced(times: tuple[int, ...], depths: tuple[int, ...], index_given: bool = True) -> Dataset:
    """Return an enhanced image whose frame at (time, depth) has the value 10 * time + depth."""
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    groups, frames = [], []
    for z in depths:
        for time in times:
            group, position, content = Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient = [1, 2, z]
            content.TemporalPositionIndex = time
            group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
            groups.append(group)
            frames.append(np.full((3, 4), 10 * time + z, np.int16))
    return made(
        np.stack(frames),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=groups,
        Modality="MR",
    )


def test_time_points_in_one_file(tmp_path: Path) -> None:
    path = save(enhanced((1, 2, 3), (0, 2, 4, 6)), tmp_path / "dynamic.dcm")
    assert words(path)[1] == "2: MR, time point 2, 4 slices of 4 × 3"
    volume = read(path, series=2)
    np.testing.assert_array_equal(volume.data[0, :, 0, 0], [20, 22, 24, 26])
    assert [one["frame"] for one in volume.metadata["dicom"]["slices"]] == [2, 5, 8, 11]


def test_one_enhanced_file_per_time_point(tmp_path: Path) -> None:
    for name, time in (("a.dcm", 1), ("b.dcm", 2)):
        dataset = enhanced((time,), (0, 2))
        for group in dataset.PerFrameFunctionalGroupsSequence:
            del group.FrameContentSequence
        save(dataset, tmp_path / name)
    assert [one.part for one in series(tmp_path)] == ["file 1", "file 2"]
    np.testing.assert_array_equal(read(tmp_path, series=2).data[0, :, 0, 0], [20, 22])


def test_frames_of_a_film_are_in_time(tmp_path: Path) -> None:
    frames = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    film = {"SOPClassUID": UltrasoundMultiFrameImageStorage, "Modality": "US", "FrameTime": 33}
    assert read(save(made(frames, **film), tmp_path / "us.dcm")).metadata["stack_axis"] == "t"
    assert "stack_axis" not in read(save(enhanced((1,), (0, 2)), tmp_path / "mr.dcm")).metadata


def test_missing_slices_are_counted_and_placed(tmp_path: Path) -> None:
    slices(tmp_path / "one", [0, 2, 6, 8])
    (message,) = read(tmp_path / "one").metadata["messages"]
    assert message.startswith("1 slice is probably missing: 1 between slices 2 and 3 (2 to 6 mm).")
    slices(tmp_path / "more", [0, 2, 4, 10, 12, 16, 18])
    (message,) = read(tmp_path / "more").metadata["messages"]
    assert "3 slices are probably missing: 2 between slices 3 and 4 (4 to 10 mm), 1 between slices 5 and 6" in message
    slices(tmp_path / "chosen", [0, 2, 4, 40])
    (message,) = read(tmp_path / "chosen").metadata["messages"]
    assert "unevenly spaced, 2 to 36 mm" in message
    slices(tmp_path / "uneven", [0, 2, 4.6, 6.6])
    (message,) = read(tmp_path / "uneven").metadata["messages"]
    assert "unevenly spaced, 2 to 2.6 mm; the widest gap is between slices 2 and 3" in message


def test_tilted_gantry_gives_a_sheared_grid_and_is_said(tmp_path: Path) -> None:
    for z in range(4):
        position = [0.0, 0.5 * z, 3.0 * z]
        save(made(np.full((3, 3), z, np.int16), ImagePositionPatient=position, **AXIAL), tmp_path / f"{3 - z}")
    volume = read(tmp_path)
    np.testing.assert_allclose(volume.affine[:3, 0], (3, 0.5, 0))
    (message,) = volume.metadata["messages"]
    assert "tilted by 9.5°" in message


def test_slices_beside_the_line_are_said(tmp_path: Path) -> None:
    for z, aside in enumerate((0, 0, 3, 0, 0)):
        elements = {**AXIAL, "ImagePositionPatient": [aside, 0, 2 * z]}
        save(made(np.zeros((3, 4), np.int16), **elements), tmp_path / f"{z}")
    (message,) = read(tmp_path).metadata["messages"]
    assert "sideways by up to 3 mm" in message


def test_every_slice_has_its_own_rescale(tmp_path: Path) -> None:
    for z, slope in enumerate((0.5, 2.0, 4.0)):
        elements = {**AXIAL, "ImagePositionPatient": [0, 0, z], "RescaleSlope": slope, "RescaleIntercept": -z}
        save(made(np.full((3, 4), 10, np.uint16), **elements), tmp_path / f"{z}")
    volume = read(tmp_path)
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data[0, :, 0, 0], [5, 19, 38])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("rescale", [(1, 0), (1, -1024), (3, 7), (0.25, 1)])
def test_reading_in_place_equals_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type[np.integer], photometric: str, rescale: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype)
    used = {1: 8, 2: 12, 4: 20}[top.bits // 8]
    for z in range(3):
        pixels = rng.integers(top.min, top.max, (4, 5), dtype=dtype, endpoint=True)  # also bits that are not used
        elements = {**AXIAL, "ImagePositionPatient": [0, 0, z], "Modality": "MR", "BitsStored": used}
        elements |= {"PhotometricInterpretation": photometric, "HighBit": used - 1}
        elements |= {"RescaleSlope": rescale[0], "RescaleIntercept": rescale[1]}
        save(made(pixels, **elements), tmp_path / f"{z}")
    fast = read(tmp_path).data
    monkeypatch.setattr(dicom, "_fast", dicom._decoded)
    slow = read(tmp_path).data
    np.testing.assert_array_equal(fast, slow)
    assert fast.dtype == slow.dtype


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLSNearLossless])
def test_compressed_series(tmp_path: Path, syntax: str) -> None:
    values = made_series(tmp_path, (3, 40, 50), np.eye(3), 2.0)
    values = np.sort(values, axis=-1)
    for z, path in enumerate(sorted(tmp_path.iterdir(), key=depth_of)):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = values[z].tobytes()
        options = {"jls_error": 2} if syntax == JPEGLSNearLossless else {}
        dataset.compress(syntax, generate_instance_uid=False, **options)
        dataset.save_as(path)
    np.testing.assert_allclose(read(tmp_path).data[0], values, atol=2 if syntax == JPEGLSNearLossless else 0)


@pytest.mark.parametrize(
    ("syntax", "options"),
    [("1.2.840.10008.1.2.4.57", {}), ("1.2.840.10008.1.2.4.70", {}), ("1.2.840.10008.1.2.4.50", {})],
)
def test_jpeg_of_the_old_kinds(tmp_path: Path, syntax: str, options: dict[str, Any]) -> None:
    import imagecodecs
    from pydicom.encaps import encapsulate

    lossless = syntax[-2:] in ("57", "70")
    values = np.sort(np.random.default_rng(0).integers(0, 4000 if lossless else 256, (2, 40, 50)), axis=-1)
    values = values.astype(np.uint16 if lossless else np.uint8)
    for z in range(2):
        dataset = made(values[z], ImagePositionPatient=[0, 0, z], **AXIAL)
        if lossless:
            coded = imagecodecs.ljpeg_encode(values[z], bitspersample=16)
        else:
            coded = imagecodecs.jpeg8_encode(values[z], level=100)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([coded])
        dataset["PixelData"].is_undefined_length = True
        save(dataset, tmp_path / f"{z}")
    np.testing.assert_allclose(read(tmp_path).data[0].astype(int), values, atol=0 if lossless else 3)


@pytest.mark.parametrize("used", [12, 16])
def test_signed_values_in_lossless_jpeg(tmp_path: Path, used: int) -> None:
    import imagecodecs
    from pydicom.encaps import encapsulate

    values = np.random.default_rng(0).integers(-(2 ** (used - 1)), 2 ** (used - 1), (40, 50)).astype(np.int16)
    coded = imagecodecs.ljpeg_encode(values.view(np.uint16) & np.uint16(2**used - 1), bitspersample=used)
    dataset = made(values, ImagePositionPatient=[0, 0, 0], BitsStored=used, HighBit=used - 1, **AXIAL)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
    dataset.PixelData = encapsulate([coded])
    dataset["PixelData"].is_undefined_length = True
    np.testing.assert_array_equal(read(save(dataset, tmp_path / "x.dcm")).data[0, 0], values)


def depth_of(path: Path) -> float:
    return float(pydicom.dcmread(path).ImagePositionPatient[2])


def test_damaged_files_are_named(tmp_path: Path) -> None:
    made_series(tmp_path, (5, 2, 2), np.eye(3), 2.0)
    by_place = sorted(tmp_path.iterdir(), key=depth_of)
    whole = by_place[1].read_bytes()
    by_place[1].write_bytes(whole[:-4])
    with pytest.raises(InputError, match=f"'{by_place[1].name}' is cut off"):
        read(tmp_path)
    for length in (200, 400, 600):
        by_place[1].write_bytes(whole[:length])
        missing, unread = read(tmp_path).metadata["messages"]
        assert "1 slice is probably missing" in missing
        assert "1 file cannot be read" in unread
        assert by_place[1].name in unread
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "x.dcm").touch()
    with pytest.raises(InputError, match=r"x\.dcm' is an empty file"):
        read(tmp_path / "only")


def test_damage_elsewhere_is_not_said(tmp_path: Path) -> None:
    slices(tmp_path / "good", [0, 2])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.dcm").touch()
    assert read(tmp_path).metadata["messages"] == []


def test_links_in_a_circle_and_pipes_do_not_hang(tmp_path: Path) -> None:
    import os

    slices(tmp_path / "a", [0, 2])
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe.dcm")
    assert read(tmp_path).n_slices == 2


def test_a_file_of_the_time_before_the_mark(tmp_path: Path) -> None:
    slices(tmp_path, [0, 2, 4])
    dataset = pydicom.dcmread(tmp_path / "s1")
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    pydicom.dcmwrite(tmp_path / "s1", dataset, implicit_vr=True, little_endian=True)
    assert read(tmp_path).n_slices == 3


@pytest.mark.parametrize("compressed", [False, True])
def test_reading_tells_how_far_it_is_and_stops(tmp_path: Path, compressed: bool) -> None:
    slices(tmp_path, [0, 2, 4, 6])
    if compressed:
        for path in tmp_path.iterdir():
            dataset = pydicom.dcmread(path)
            dataset.compress(RLELossless, generate_instance_uid=False)
            dataset.save_as(path)
    told: list[tuple[int, int, str]] = []
    read_stack(tmp_path, progress=lambda *step: told.append(step))
    what = "file" if compressed else "slice"
    assert told[-4:] == [(done, 4, f"{what} {done}/4") for done in (1, 2, 3, 4)]

    def stop(*_: object) -> None:
        raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        read_stack(tmp_path, progress=stop)
