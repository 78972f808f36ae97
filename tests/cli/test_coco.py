"""``llm4seg segment ... -o annotations.json``."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from PIL import Image
from pycocotools.coco import COCO


def test_many_images_make_one_file(llm4seg, everywhere, scan, tmp_path) -> None:
    other = tmp_path / "scans" / "other.png"
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(other)
    broken = tmp_path / "scans" / "broken.png"
    broken.write_bytes(b"no image")
    answer = llm4seg("segment", scan, broken, other, "-o", tmp_path / "a.json", "-m", everywhere, "--json")
    assert answer.status == 1
    assert [case["status"] for case in answer.json["cases"]] == ["ok", "failed", "ok"]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "a.json"))
    assert [image["file_name"] for image in coco.dataset["images"]] == ["scan.png", "other.png"]
    assert [each["area"] for each in coco.dataset["annotations"]] == [1200, 63]
    record = tmp_path / "a.other.record.json"
    assert answer.json["cases"][2]["record"] == str(record)
    assert llm4seg("segment", "--replay", record).status == 0


def test_a_folder_of_images(llm4seg, everywhere, scan, tmp_path) -> None:
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(scan.parent / "b.png")
    answer = llm4seg("segment", scan.parent, "-o", tmp_path / "a.json", "-m", everywhere)
    assert answer.status == 0
    assert answer.out.strip().endswith("a.json")
    assert (tmp_path / "a.json").exists()


def test_one_image_and_a_stack(llm4seg, everywhere, scan, tmp_path) -> None:
    assert llm4seg("segment", scan, "-o", tmp_path / "a.json", "-m", everywhere).status == 0
    assert (tmp_path / "a.record.json").exists()
    np.save(tmp_path / "stack.npy", np.zeros((3, 20, 20), np.uint8))
    answer = llm4seg("segment", tmp_path / "stack.npy", "-o", tmp_path / "b.json", "-m", everywhere)
    assert (answer.status, "single images" in answer.err) == (1, True)
    assert not (tmp_path / "b.json").exists()
    wrong = llm4seg("segment", scan, "-o", tmp_path / "c.json", "-m", everywhere, "--overlay", tmp_path / "o.png")
    assert wrong.status == 2
