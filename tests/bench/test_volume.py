"""The figure comes of a real run in processes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_llm4seg.bench import volume as bench


@pytest.mark.parametrize("network", ["2d", "3d"])
def test_the_child_segments_what_was_made(tmp_path: Path, network: str) -> None:
    bench.make_volume(tmp_path, 5, side=48)
    scan = zarr.open_array(str(tmp_path / "scan.zarr"))
    assert (scan.shape, scan.dtype, scan.chunks) == ((5, 48, 48), np.int16, (1, 48, 48))
    assert bench.segment_volume(tmp_path, network)["bytes"] > 1e6
    labels = zarr.open_array(str(tmp_path / "labels.zarr"))
    assert labels.shape == (5, 48, 48)
    assert all(labels[z].any() for z in range(5))


@pytest.mark.slow
def test_memory_is_compared_between_two_processes() -> None:
    said: list[str] = []
    found = bench.measure_volume(said.append, few=2, many=4, many_3d=3)
    for name in ("volume_memory_with_slices", "volume_memory_with_slices_3d"):
        assert 0.9 < found.figures[name].value < 1.1
        assert found.figures[name].target == 1.2
    assert set(found.details["volume_peak_bytes"]["2d"]) == {"2", "4"}
    assert len(said) == 4
