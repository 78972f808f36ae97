"""OME-Zarr images and labels (NGFF 0.1 to 0.5, zarr 2 and 3 storage) and plain zarr arrays, read lazily.

Source: OME-Zarr specification, https://ngff.openmicroscopy.org, versions 0.4 and 0.5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import CLASS_COLOURS
from napari_llm4seg.errors import InputError, one_line
from napari_llm4seg.io._files import PathLike, existing, is_zarr, plain, reading, stem_of
from napari_llm4seg.io._own import KEY, from_text
from napari_llm4seg.io._time import TimeStack
from napari_llm4seg.volume import Kind, Unit, Volume

_MM = {
    "meter": 1e3,
    "decimeter": 100.0,
    "centimeter": 10.0,
    "millimeter": 1.0,
    "micrometer": 1e-3,
    "nanometer": 1e-6,
    "picometer": 1e-9,
    "angstrom": 1e-7,
    "inch": 25.4,
    "mm": 1.0,
    "um": 1e-3,
    "µm": 1e-3,
    "micron": 1e-3,
    "nm": 1e-6,
}
_SECONDS = {"second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_ROLES = {"space": "", "channel": "c", "time": "t"}


@dataclass(frozen=True)
class _Axis:
    role: str  # one of t, c, z, y, x
    unit: str


class _Checked:
    """A zarr array whose damaged chunks give one line; dask slices it like any array."""

    def __init__(self, array: Any, name: str) -> None:
        self._array, self._name = array, name
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.chunks = getattr(array, "shards", None) or array.chunks

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        try:
            return np.asarray(self._array[key])
        except Exception as error:
            raise InputError(
                f"'{self._name}': a chunk cannot be read: {one_line(error, 120).rstrip('.')}. Copy it again."
            ) from error


def read(path: PathLike) -> Volume | TimeStack:
    """Read the full resolution of an OME-Zarr image or label image, or a zarr array; no value is loaded yet.

    Axes may come in any order. Scale and translation give the grid; lengths are turned into mm, without a unit the
    unit is "pixel". Names, colours and display ranges of channels are in ``metadata["channels"]``, names and colours
    of labels in ``metadata["classes"]``. A zarr array without OME metadata has the axes (y, x), (z, y, x),
    (c, z, y, x) or (t, c, z, y, x).

    Raises
    ------
    InputError
        If it is damaged, holds no image or several, or has axes or transformations that are no scan's.
    """
    path = existing(path)
    with reading(path, "an OME-Zarr image"):
        try:
            return _read(path)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"its metadata are not as OME-Zarr has them ({one_line(error)})") from error


def labels_in(path: PathLike) -> list[Path]:
    """Return the folders of the label images that come with the image at ``path``; none where it has none."""
    import zarr

    path = existing(path)
    with reading(path, "an OME-Zarr image"):
        _, place, _ = _image_group(path)
        folder = place / "labels"
        named = _ome(zarr.open_group(str(folder), mode="r")).get("labels") if is_zarr(folder) else None
        names = named or sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        return [folder / str(name) for name in names if is_zarr(folder / str(name))]


def _read(path: Path) -> Volume | TimeStack:
    import zarr

    node, place, messages = _image_group(path)
    attributes: Mapping[str, Any] = dict(node.attrs)
    ome = _ome(node)
    if isinstance(node, zarr.Array):
        array, axes = node, _plain_axes(node.shape, path.name)
        scale, shift = [1.0] * node.ndim, [0.0] * node.ndim
    else:
        image = ome["multiscales"][0]
        first = image["datasets"][0]
        array = node[first["path"]]
        axes = _axes(image, array.ndim, path.name)
        scale, shift = _transformed(image, first, array.ndim, path.name)
    data = _five_axes(_lazy(array, path.name), axes, path.name)
    affine, unit = _grid(axes, scale, shift)
    own = from_text(json.dumps(attributes.get(KEY)))
    if own.affine is not None:
        affine, unit = own.affine, own.unit or unit
    metadata: dict[str, Any] = {"source_path": str(path), "messages": messages}
    kind: Kind = "intensity"
    if ("image-label" in ome or own.kind == "label") and np.dtype(data.dtype).kind in "ui" and data.shape[0] == 1:
        kind = "label"
        metadata["classes"] = _classes(ome.get("image-label") or {}) or own.classes
    elif isinstance(ome.get("omero"), Mapping):
        metadata["channels"] = _channels(ome["omero"], data.shape[0])
    name = stem_of(path if place == path else place)
    if data.shape[1] == 1:
        return Volume(data[:, 0], affine, kind, unit, name, metadata)
    seconds = next(
        (scale[i] * _SECONDS[axis.unit] for i, axis in enumerate(axes) if axis.role == "t" and axis.unit in _SECONDS),
        None,
    )
    return TimeStack(data, affine, unit, name, kind, seconds, metadata)


def _image_group(path: Path) -> tuple[Any, Path, list[str]]:
    """Return the array, or the group with the multiscale image, that ``path`` stands for, its place and messages."""
    import zarr

    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array) or "multiscales" in _ome(node):
        return node, path, []
    if "plate" in _ome(node) or "well" in _ome(node):
        raise InputError(f"'{path.name}' is a plate of many images. Open one of the fields in it, such as A/1/0.")
    inside = sorted(node.keys())
    images = [name for name in inside if isinstance(node[name], zarr.Group) and "multiscales" in _ome(node[name])]
    arrays = [name for name in inside if isinstance(node[name], zarr.Array)]
    found = images or arrays
    if len(found) > 1 and "bioformats2raw.layout" not in {**dict(node.attrs), **_ome(node)}:
        listed = ", ".join(found[:6]) + (", …" if len(found) > 6 else "")
        raise InputError(f"'{path.name}' holds {len(found)} images: {listed}. Open the folder of one of them.")
    if not found:
        raise InputError(f"'{path.name}' is a zarr without an image in it. Open the folder that holds the image.")
    messages = [f"The file holds {len(found)} images; the first was read."] if len(found) > 1 else []
    return node[found[0]], path / found[0], messages


def _ome(node: Any) -> dict[str, Any]:
    """Return the OME metadata: since 0.5 under a key of their own."""
    attributes = dict(node.attrs)
    return dict(attributes["ome"]) if isinstance(attributes.get("ome"), Mapping) else attributes


def _lazy(array: Any, name: str) -> Any:
    import dask.array as da

    if "pickle" in str(array.metadata.to_dict()).lower():
        raise InputError(f"'{name}' is stored with Python's pickle, which could run code. Save it with another codec.")
    checked = _Checked(array, name)
    like = np.empty((0,) * array.ndim, array.dtype)
    return plain(da.from_array(checked, chunks=checked.chunks, name=False, asarray=False, meta=like), name)


def _plain_axes(shape: Sequence[int], name: str) -> list[_Axis]:
    roles = {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}.get(len(shape))
    if roles is None:
        raise InputError(
            f"'{name}' has {len(shape)} axes {tuple(shape)}; a scan has (y, x), (z, y, x) or (c, z, y, x)."
        )
    return [_Axis(role, "") for role in roles]


def _axes(image: Mapping[str, Any], ndim: int, name: str) -> list[_Axis]:
    """Return the axes of a multiscale image; before 0.4 they are names alone, before 0.3 always t, c, z, y, x."""
    given = image.get("axes") or list("tczyx"[-ndim:] if ndim != 5 else "tczyx")
    axes = []
    for axis in given:
        about: Mapping[str, Any] = axis if isinstance(axis, Mapping) else {"name": axis}
        role = _ROLES.get(str(about.get("type", "")), "") or str(about["name"]).lower()
        axes.append(_Axis(role, str(about.get("unit") or "").lower()))
    roles = [axis.role for axis in axes]
    if len(axes) != ndim or len(set(roles)) < ndim or not {"y", "x"} <= set(roles) <= set("tczyx"):
        raise InputError(
            f"'{name}' has the axes {', '.join(roles)}; a scan has x, y and at most one each of z, c and t."
        )
    return axes


def _transformed(
    image: Mapping[str, Any], dataset: Mapping[str, Any], ndim: int, name: str
) -> tuple[list[float], list[float]]:
    """Return scale and translation by axis, the dataset's transformations first, then those of the whole image."""
    scale, shift = np.ones(ndim), np.zeros(ndim)
    steps = [*(dataset.get("coordinateTransformations") or ()), *(image.get("coordinateTransformations") or ())]
    for step in steps:
        kind = step["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or not isinstance(step.get(kind), list):
            raise InputError(f"'{name}' is placed by a {kind} that is not read here; scale and translation are.")
        values = np.array(step[kind], dtype=np.float64)
        if values.shape != (ndim,) or not np.isfinite(values).all():
            raise InputError(f"'{name}' has a {kind} of {values.size} numbers for {ndim} axes. Export it again.")
        if kind == "scale":
            scale, shift = scale * values, shift * values
        else:
            shift = shift + values
    return scale.tolist(), shift.tolist()


def _five_axes(array: Any, axes: Sequence[_Axis], name: str) -> Any:
    """Return (C, T, Z, Y, X)."""
    if 0 in array.shape:
        raise InputError(f"'{name}' is empty: shape {tuple(array.shape)}. Open a scan with pixels in it.")
    roles = [axis.role for axis in axes]
    ordered = array.transpose([roles.index(role) for role in "ctzyx" if role in roles])
    return ordered[tuple(slice(None) if role in roles else None for role in "ctzyx")]


def _grid(
    axes: Sequence[_Axis], scale: Sequence[float], shift: Sequence[float]
) -> tuple[npt.NDArray[np.float64], Unit]:
    factors = [_MM.get(axis.unit) for axis in axes if axis.role in "zyx"]
    unit: Unit = "mm" if all(factor is not None for factor in factors) else "pixel"
    affine = np.eye(4)
    for index, axis in enumerate(axes):
        if axis.role in "zyx":
            row = "zyx".index(axis.role)
            factor = _MM[axis.unit] if unit == "mm" else 1.0
            affine[row, row], affine[row, 3] = scale[index] * factor, shift[index] * factor
    return affine, unit


def _classes(about: Mapping[str, Any]) -> tuple[tuple[int, str, str], ...]:
    """Return the (value, name, "#RRGGBB") of a label image, as far as it names them."""
    names = {int(item["label-value"]): _name_in(item) for item in about.get("properties") or ()}
    colours = {int(item["label-value"]): item.get("rgba") for item in about.get("colors") or ()}
    found = []
    for value in sorted({*names, *colours} - {0}):
        rgba = colours.get(value)
        colour = CLASS_COLOURS[(value - 1) % len(CLASS_COLOURS)]
        if rgba is not None and len(rgba) >= 3:
            colour = "#{:02X}{:02X}{:02X}".format(*(int(part) for part in rgba[:3]))
        found.append((value, names.get(value) or f"label {value}", colour))
    return tuple(found)


def _name_in(properties: Mapping[str, Any]) -> str:
    return next((str(properties[key]) for key in ("name", "class", "label") if properties.get(key)), "")


def _channels(omero: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Return name, colour ("#RRGGBB" or "") and display range (or None) of every channel."""
    given = [item if isinstance(item, Mapping) else {} for item in omero.get("channels") or ()]
    found = []
    for number in range(count):
        about = given[number] if number < len(given) else {}
        colour = str(about.get("color") or "").lstrip("#")
        window = about.get("window") or {}
        low, high = window.get("start"), window.get("end")
        shown = isinstance(low, (int, float)) and isinstance(high, (int, float)) and low < high
        found.append(
            {
                "name": str(about.get("label") or f"channel {number + 1}"),
                "colour": f"#{colour.upper()}" if len(colour) == 6 else "",
                "limits": [low, high] if shown else None,
            }
        )
    return found
