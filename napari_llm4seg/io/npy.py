"""Numpy's ``.npy`` arrays; never pickled objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_llm4seg.errors import InputError
from napari_llm4seg.files import replacing
from napari_llm4seg.io._files import PathLike, existing, plain, reading, stem_of
from napari_llm4seg.volume import Volume


def read(path: PathLike) -> Volume:
    """Read an array of numbers.

    The axes are taken by these rules, and where a rule had to choose, ``metadata["messages"]`` says so:

    - two axes: one slice (Y, X);
    - three axes: (Y, X, colour) if the last one has 3 or 4 entries, else a stack (Z, Y, X);
    - four axes: (C, Z, Y, X), as this package writes them.

    The unit is "pixel": such a file has no spacing.

    Raises
    ------
    InputError
        If the file is missing, damaged, holds pickled objects, or has another number of axes.
    """
    path = existing(path)
    with reading(path, "a NumPy array of numbers (.npy)"):
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise InputError(f"'{path.name}' is an archive of several arrays; save the one you need with np.save.")
    array = plain(array, path.name)
    messages: list[str] = []
    if array.ndim == 2:
        data = array[None, None]
    elif array.ndim == 3 and array.shape[-1] in (3, 4):
        data = np.moveaxis(array, -1, 0)[:, None]
        messages.append(f"Axes {array.shape} were read as (y, x, colour).")
    elif array.ndim == 3:
        data = array[None]
        messages.append(f"Axes {array.shape} were read as a stack (z, y, x).")
    elif array.ndim == 4:
        data = array
    else:
        raise InputError(
            f"'{path.name}' has {array.ndim} axes {array.shape}; needed: (y, x), (z, y, x), (y, x, colour) or "
            "(channel, z, y, x). Save it with such axes."
        )
    return Volume(
        data=np.ascontiguousarray(data),
        name=stem_of(path),
        metadata={"source_path": str(path), "messages": messages},
    )


def write(path: PathLike, volume: Volume) -> Path:
    """Write the values: (Y, X) or (Z, Y, X) for one channel, else (C, Z, Y, X). Spacing and affine are not kept.

    A single-channel stack of width 3 or 4 keeps all four axes, or it would come back as a colour image.
    """
    path = Path(path)
    data = np.asarray(volume.data)
    if volume.channels == 1 and volume.grid[2] not in (3, 4):
        data = data[0, 0] if volume.n_slices == 1 else data[0]
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, data, allow_pickle=False)
    return path
