from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.digests import mask_digest, scan_digest
from napari_llm4seg.predict.order import SliceLog
from napari_llm4seg.volume import Volume


def ones() -> np.ndarray:
    labels = np.zeros((20, 30), np.uint8)
    labels[2:5, 3:9] = 1
    return labels


def test_mask_digests_tell_slices_apart() -> None:
    assert mask_digest(np.zeros((3, 4), np.uint8)) == ""
    assert mask_digest(ones()) != mask_digest(ones()[::-1])
    assert mask_digest(ones()) == mask_digest(np.asfortranarray(ones()))


@given(st.sampled_from(["u2", "i4", ">i4", "i8", "u8", "?"]), st.sampled_from([1, 255, 300, 40000]))
def test_a_mask_s_digest_is_the_same_in_every_integer_type(dtype: str, value: int) -> None:
    if dtype == "?" and value > 1:
        value = 1
    labels = ones().astype(np.uint16) * np.uint16(value)
    assert mask_digest(labels.astype(dtype)) == mask_digest(labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.bool_])
def test_a_scan_is_known_by_its_voxels_and_their_places(dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 2, (1, 5, 6, 7)).astype(dtype)
    digest = scan_digest(Volume(values))
    assert scan_digest(Volume(values.copy(), np.diag([2, 3, 4, 1.0]), name="elsewhere")) == digest
    assert scan_digest(Volume(values[:, ::-1])) != digest
    assert scan_digest(Volume(values.reshape(1, 5, 7, 6))) != digest
    log = SliceLog(5)
    for z in range(5):
        log.add(z, values[:, z])
    assert log.digest() == digest


def test_of_a_huge_scan_some_slices_count_from_first_to_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_llm4seg.digests._WHOLE_BYTES", 100)
    values = np.zeros((1, 400, 2, 2), np.uint8)
    seen: list[int] = []
    volume = Volume(values)
    digest = scan_digest(volume, lambda done, total, message: seen.append(total))
    assert seen == [64] * 64
    for z, counts in ((0, True), (399, True), (1, False)):
        other = values.copy()
        other[0, z] = 1
        assert (scan_digest(Volume(other)) != digest) == counts
