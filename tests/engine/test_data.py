"""Cases are what the recipe asks for; samples lie on the network's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from napari_llm4seg.config import ClassSpec, PreprocessConfig
from napari_llm4seg.engine.data import load_cases, load_samples
from napari_llm4seg.engine.recipe import DataConfig, SplitConfig
from napari_llm4seg.engine.split import split_cases
from napari_llm4seg.errors import InputError
from napari_llm4seg.io import write
from napari_llm4seg.volume import Volume

LESION = (ClassSpec(value=1, name="lesion"),)


def config_of(root: Path, **changes: object) -> DataConfig:
    fields: dict[str, object] = {
        "root": str(root),
        "images": "images",
        "masks": "masks",
        "index": "index.csv",
        "group": "near_duplicate_group",
        "stratum": "class",
    }
    return DataConfig.model_validate(fields | changes)


def test_cases_carry_group_and_stratum_of_the_index(made_folder: Path) -> None:
    cases = load_cases(config_of(made_folder))
    assert [c.name for c in cases] == [f"case{i:02d}" for i in range(20)]
    assert cases[4].group == cases[5].group != cases[6].group
    assert cases[0].stratum == "a"
    assert cases[2].stratum == "b"


def test_limit_keeps_an_even_choice(made_folder: Path) -> None:
    assert [c.name for c in load_cases(config_of(made_folder, limit=10))] == [f"case{i:02d}" for i in range(0, 20, 2)]


def test_keep_leaves_out_every_other_stratum_and_the_split_of_the_rest_stays(made_folder: Path) -> None:
    whole, kept = load_cases(config_of(made_folder)), load_cases(config_of(made_folder, keep=("a",)))
    assert [case.name for case in kept] == [case.name for case in whole if case.stratum == "a"]
    config = SplitConfig(val=0.2, test=0.2)
    of_whole, of_kept = split_cases(whole, config), split_cases(kept, config)
    names = {case.name for case in kept}
    assert set(of_kept.test) == set(of_whole.test) & names
    assert set(of_kept.val) == set(of_whole.val) & names
    with pytest.raises(InputError, match=r"asks for 'c'; class is one of: a, b"):
        load_cases(config_of(made_folder, keep=("a", "c")))
    with pytest.raises(InputError, match=r"data\.keep chooses values"):
        load_cases(config_of(made_folder, keep=("a",), stratum=None))


def test_masks_by_another_name_are_found_by_the_recipes_pattern(made_folder: Path) -> None:
    for path in (made_folder / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_segmentation.png"))
    cases = load_cases(config_of(made_folder, mask_name="{}_segmentation"))
    assert [c.name for c in cases] == [f"case{i:02d}" for i in range(20)]
    assert cases[3].pair.mask.name == "case03_segmentation.png"
    assert cases[4].group == cases[5].group  # the index still goes by the image's name
    with pytest.raises(InputError, match="no mask of the same name"):
        load_cases(config_of(made_folder))


@pytest.mark.parametrize("pattern", ["img", "{}{}", "{0}", "img{"])
def test_a_pattern_needs_one_place_for_what_is_shared(pattern: str) -> None:
    with pytest.raises(ValidationError, match="mask_name"):
        DataConfig.model_validate({"images": "i", "masks": "m", "mask_name": pattern})
    assert "mask_name" not in DataConfig(images="i", masks="m").model_dump()  # recipes without it stay the same


def test_missing_root_and_index_are_said_in_one_line(made_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_cases(config_of(tmp_path / "absent"))
    with pytest.raises(InputError, match="index"):
        load_cases(config_of(made_folder, index="absent.csv"))


def test_samples_lie_on_the_networks_grid(made_folder: Path) -> None:
    cases = load_cases(config_of(made_folder))[:3]
    samples = load_samples(cases, PreprocessConfig(size=(48, 40)), LESION)
    assert samples.images.shape == (3, 1, 48, 40)
    assert samples.labels.shape == (3, 48, 40)
    assert samples.labels.dtype == torch.uint8
    assert set(samples.labels.unique().tolist()) == {0, 1}
    inside = samples.images[:, 0][samples.labels == 1].mean()
    assert inside > samples.images[:, 0][samples.labels == 0].mean() + 1  # image and mask still overlay


@pytest.mark.parametrize(
    "stored", [{1: 1, 2: 1}, {1: 255, 2: 255}, {1: 65535, 2: 65535}, {1: 1, 2: 2}, {1: 128, 2: 128}]
)
def test_a_single_class_is_everything_in_its_masks_whatever_the_values(
    made_folder: Path, stored: dict[int, int]
) -> None:
    path = made_folder / "masks" / "case00.png"
    mask = np.asarray(Image.open(path)) > 0
    values = np.zeros(mask.shape, dtype=np.uint16 if max(stored.values()) > 255 else np.uint8)
    values[:16][mask[:16]], values[16:][mask[16:]] = stored[1], stored[2]
    Image.fromarray(values).save(path)
    cases = load_cases(config_of(made_folder))[:1]
    for value in (1, 7):
        samples = load_samples(cases, PreprocessConfig(size=(32, 32)), (ClassSpec(value=value, name="lesion"),))
        np.testing.assert_array_equal(samples.labels[0].numpy(), mask * value)


def test_a_label_that_is_no_class_is_refused_and_255_is_not_annotated(made_folder: Path) -> None:
    path = made_folder / "masks" / "case00.png"
    labels = np.zeros((32, 32), dtype=np.uint8)
    labels[4:8], labels[8:12], labels[12:16] = 1, 2, 255
    Image.fromarray(labels).save(path)
    cases = load_cases(config_of(made_folder))[:1]
    both = (ClassSpec(value=1, name="a"), ClassSpec(value=2, name="b"))
    for classes, expected in ((both, labels), (LESION, np.where(labels == 2, 1, labels))):
        samples = load_samples(cases, PreprocessConfig(size=(32, 32)), classes)
        np.testing.assert_array_equal(samples.labels[0].numpy(), expected)
    with pytest.raises(InputError, match=r"case00.*label 2"):
        load_samples(cases, PreprocessConfig(size=(32, 32)), (both[0], ClassSpec(value=3, name="c")))


@pytest.mark.parametrize("column", ["group", "stratum", "file"])
def test_a_column_that_is_not_in_the_index_is_refused(made_folder: Path, column: str) -> None:
    with pytest.raises(InputError, match=r"no column 'absent'.*near_duplicate_group"):
        load_cases(config_of(made_folder, **{column: "absent"}))


def test_columns_without_an_index_are_refused(made_folder: Path) -> None:
    with pytest.raises(InputError, match=r"data\.index"):
        load_cases(config_of(made_folder, index=None))


def test_an_image_that_is_not_in_the_index_is_refused(made_folder: Path) -> None:
    index = made_folder / "index.csv"
    index.write_text("\n".join(index.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(InputError, match=r"no row for 'case19\.png'"):
        load_cases(config_of(made_folder))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"file\n" + b"x" * 200_000])
def test_a_damaged_index_is_one_line(made_folder: Path, content: bytes) -> None:
    (made_folder / "index.csv").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_cases(config_of(made_folder, group=None, stratum=None))
    assert "\n" not in str(caught.value)


def test_the_index_knows_nifti_by_its_stem(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        write(tmp_path / folder / "case.nii.gz", Volume(np.ones((1, 2, 4, 4), dtype=np.uint8)))
    (tmp_path / "index.csv").write_text("\ufefffile,class,near_duplicate_group\ncase.nii.gz,a,3\n", encoding="utf-8")
    assert [(case.group, case.stratum) for case in load_cases(config_of(tmp_path))] == [("group 3", "a")]
