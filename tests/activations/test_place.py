"""Tokens lie where the image that they were made of lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.activations.frame import frame_of, nearest_tile
from napari_llm4seg.activations.place import TokenGrid, slice_to_scan, volume_to_scan
from napari_llm4seg.config import PreprocessConfig
from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.preprocess import Preprocessor, VolumePreprocessor
from napari_llm4seg.tiling import Tiling
from napari_llm4seg.volume import Volume
from tests.activations.planted import planted


def oblique(seed: int = 0, spacing: tuple[float, float, float] = (2.0, 0.7, 0.9)) -> np.ndarray:
    """Return an affine of a turned and shifted grid."""
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned * spacing, rng.normal(size=3) * 50
    return affine


def ramps(grid: tuple[int, int, int]) -> list[np.ndarray]:
    """Return for each axis a volume (1, *grid) whose values are the index along it."""
    return [index[None].astype(np.float64) for index in np.indices(grid)]


def seen_index(values: torch.Tensor, side: int) -> np.ndarray:
    return values.numpy() * 2 * (side + 1) - (side + 1) / 2


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(9, 90), st.integers(9, 90)),
    st.tuples(st.integers(16, 64), st.integers(16, 64)),
    st.sampled_from(["stretch", "pad"]),
)
def test_pixels_of_a_slice_hold_what_lies_there(source: tuple[int, int], size: tuple[int, int], resize: str) -> None:
    for axis, ramp in enumerate(ramps((1, *source))[1:]):
        side = source[axis]
        config = PreprocessConfig.model_validate(
            {
                "size": size,
                "resize": resize,
                "antialias": False,
                "intensity": "window",
                "window": (-(side + 1) / 2, (side + 1) * 1.5),
                "mean": (0.0,),
                "sd": (1.0,),
            }
        )
        image, trace = Preprocessor(config).apply(Volume(ramp), [0])
        matrix = slice_to_scan(trace, 0)
        rows, columns = np.indices(size)
        wanted = (matrix @ np.stack([0 * rows, rows, columns, 0 * rows + 1]).reshape(4, -1))[1 + axis].reshape(size)
        came = seen_index(image[0, 0], side)
        inside = (wanted >= 0) & (wanted <= side - 1)  # beyond its centres, the edge pixel's value is repeated
        np.testing.assert_allclose(came[inside], wanted[inside], atol=1e-3 * side)


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(4, 12)] * 3), st.integers(0, 20), st.sampled_from([None, (1.0, 1.0, 1.0)]))
def test_voxels_of_a_volume_hold_what_lies_there(grid: tuple[int, int, int], seed: int, spacing: object) -> None:
    affine = oblique(seed, (0.6, 1.0, 0.5))
    for axis, ramp in enumerate(ramps(grid)):
        side = grid[axis]
        config = PreprocessConfig.model_validate(
            {
                "patch": (8, 8, 8),
                "spacing": spacing,
                "antialias": False,
                "intensity": "window",
                "window": (-(side + 1) / 2, (side + 1) * 1.5),
                "mean": (0.0,),
                "sd": (1.0,),
            }
        )
        image, trace = VolumePreprocessor(config).apply(Volume(ramp, affine, unit="mm"))
        index = np.indices(trace.size).reshape(3, -1)
        wanted = (volume_to_scan(trace) @ np.concatenate((index, np.ones((1, index.shape[1])))))[axis]
        came = seen_index(image[0], side).ravel()
        inside = (wanted >= 0) & (wanted <= side - 1)
        np.testing.assert_allclose(came[inside], wanted[inside], atol=1e-3 * side)


def grid_of(shape: tuple[int, ...], stride: float = 16) -> TokenGrid:
    to_scan = np.diag([1.0, 0.5, 2.0, 1.0])
    to_scan[:3, 3] = (7, 1, -2)
    return TokenGrid(shape, (stride,) * len(shape), to_scan, oblique(), "mm")


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4)])
def test_every_centre_belongs_to_its_token(shape: tuple[int, ...]) -> None:
    tokens = grid_of(shape)
    for token in range(len(tokens)):
        assert tokens.token_at(tokens.centre(token)) == token
        world = tokens.affine @ [*tokens.centre(token), 1]
        assert tokens.token_at_world(world[:3]) == token


def test_the_first_token_is_half_a_stride_in() -> None:
    """Of a slice that is taken as it is: 16 pixels from 0 to 15, whose middle is 7.5."""
    tokens = TokenGrid((2, 2), (16.0, 16.0), np.eye(4), np.diag([3.0, 0.5, 0.5, 1.0]), "mm")
    assert tokens.centre(0) == (0, 7.5, 7.5)
    assert tokens.centre(3) == (0, 23.5, 23.5)
    assert [tokens.token_at((0, y, 3)) for y in (-0.5, 0, 15.4, 15.6, 31.4)] == [0, 0, 0, 2, 2]
    assert tokens.cells_to_world[:3, 3].tolist() == [0, 3.75, 3.75]
    assert tokens.cells_to_world[:3, :3].diagonal().tolist() == [3, 8, 8]
    covered = tokens.tokens_of_slice((34, 32), 0)
    assert np.array_equal(covered[:32], np.kron([[0, 1], [2, 3]], np.ones((16, 16), dtype=int)))
    assert (covered[32:] == -1).all()
    assert (tokens.tokens_of_slice((4, 4), 1) == -1).all()


def test_a_drawn_region_is_all_tokens_it_touches() -> None:
    tokens = TokenGrid((2, 2), (4.0, 4.0), np.eye(4), np.eye(4))
    drawn = np.zeros((8, 8))
    assert tokens.tokens_in(drawn) == ()
    drawn[3, 3:5] = 1
    assert tokens.tokens_in(drawn) == (0, 1)


def test_what_no_token_covers() -> None:
    tokens = grid_of((3, 5))
    with pytest.raises(InputError, match="No token covers"):
        tokens.token_at((7, -20, 0))
    with pytest.raises(InputError, match="1 numbers"):
        tokens.token_at((7,))
    with pytest.raises(InputError, match="one slice"):
        tokens.tokens_in(np.zeros(3))
    with pytest.raises(InputError, match="15 tokens"):
        tokens.volume(np.zeros(14), "short")


def test_several_channels_make_one_volume() -> None:
    tokens = grid_of((2, 3, 4))
    volume = tokens.volume(np.arange(48.0).reshape(2, 24), "two", why="test")
    assert volume.data.shape == (2, 2, 3, 4)
    assert volume.metadata["why"] == "test"
    assert volume.unit == "mm"


def test_the_tile_around_a_place_is_taken() -> None:
    tiling = Tiling((40, 90), (32, 32), 0.5)
    assert nearest_tile(tiling, (39, 0)) == len(tiling) - len(tiling) // 2
    assert nearest_tile(tiling, (0, 89)) == len(tiling) // 2 - 1
    predictor = planted(size=(16, 16), mode="tiles")
    rng = np.random.default_rng(0)
    scan = Volume(rng.uniform(size=(1, 2, 40, 10)).astype(np.float32), oblique(), unit="mm")
    frame = frame_of(predictor, scan, 1, (33, 2))
    assert frame.kind == "tile"
    assert "tiles" in frame.messages[-1]
    top, left = (frame.to_scan[axis, 3] for axis in (1, 2))
    assert (top, left) == (24, -3)  # narrower than the tile: padded by three on either side
    np.testing.assert_array_equal(frame.image[0, 0, :, 3:13].numpy(), scan.data[0, 1, 24:40])
    with pytest.raises(InputError, match="no slice 2"):
        frame_of(predictor, scan, 2)
    with pytest.raises(InputError, match="40 x 10"):
        frame_of(predictor, scan, 1, (40, 0))


@pytest.mark.parametrize("grid", [(9, 30, 12), (30, 7, 9), (20, 20, 30)])
def test_a_patch_is_the_predictions_own(grid: tuple[int, int, int]) -> None:
    """Cut out of the whole volume, resampled, turned and padded, as it would be in memory at once."""
    predictor = planted(patch=(12, 16, 12), spacing=(1.0, 1.0, 1.0))
    values = np.random.default_rng(0).uniform(size=(1, *grid)).astype(np.float32)
    scan = Volume(values, oblique(2, (1.5, 1.0, 0.7)), unit="mm")
    prepare = predictor.preprocessor
    assert isinstance(prepare, VolumePreprocessor)
    whole, trace = prepare.apply(scan)
    tiling = Tiling(trace.size, prepare.patch, predictor.config.overlap)
    padded = tiling.pad(whole.numpy())
    for z, at in ((0, (0, 0)), (grid[0] - 1, (grid[1] - 1, 3)), (grid[0] // 2, (2, grid[2] - 1))):
        frame = frame_of(predictor, scan, z, at)
        place = np.linalg.inv(volume_to_scan(trace)) @ [z, *at, 1]
        wanted = tiling.tiles(padded, [nearest_tile(tiling, place[:3])])
        np.testing.assert_allclose(frame.image.numpy(), wanted, atol=1e-6)
    with pytest.raises(Cancelled):
        frame_of(predictor, scan, cancel=lambda: True)
