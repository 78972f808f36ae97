"""Volumes and series of them as napari layer tuples: axes named, in mm, where they lie in the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_llm4seg.gui.layers import KEY, class_style
from napari_llm4seg.io import TimeStack
from napari_llm4seg.volume import Volume
from napari_llm4seg.windows import CT_WINDOWS, DEFAULT_CT, is_ct

LayerTuple = tuple[Any, dict[str, Any], str]


def layer_tuples(found: Volume | TimeStack) -> list[LayerTuple]:
    """Return layers: colour as one rgb layer, other channels as one layer each, time points as one layer of all.

    A volume has the axes (z, y, x) or (y, x), a film (t, y, x), a time stack (t, z, y, x) or (t, y, x).
    """
    if isinstance(found, TimeStack):
        data, place = _without_depth(found.data), _place_in_time(found)
    else:
        data, place = (found.data[:, 0] if found.n_slices == 1 else found.data), _place(found)
    # napari's own numbers round, and a single slice has no depth there: the exact grid stays with the layer
    metadata = {**found.metadata, KEY: {"affine": found.affine}}
    base = {"name": found.name, "metadata": metadata, **place}
    if found.kind == "label":
        style = class_style(tuple(found.metadata["classes"])) if found.metadata.get("classes") else {}
        return [(data[0], {**base, **style}, "labels")]
    channels = found.metadata.get("channels")
    if not channels and len(data) in (3, 4) and np.dtype(data.dtype) == np.uint8:
        stacked = np.moveaxis(data, 0, -1) if isinstance(data, np.ndarray) else data.transpose(*range(1, data.ndim), 0)
        return [(stacked, {**base, "rgb": True}, "image")]
    if len(data) == 1:
        if _is_ct(found):  # napari would show everything from air to metal, all organs alike
            metadata[KEY]["ct"] = True
            base["contrast_limits"] = CT_WINDOWS[DEFAULT_CT].limits
        return [(data[0], base, "image")]
    return [(part, {**base, **_channel(found.name, number, channels)}, "image") for number, part in enumerate(data)]


def _is_ct(found: Volume | TimeStack) -> bool:
    """Return whether a grey scan holds CT numbers, by its header or, where it is in memory, one of its slices."""
    data, header = found.data, found.metadata.get("dicom")
    if np.dtype(data.dtype).kind not in "if" or np.dtype(data.dtype).itemsize < 2:
        return False
    code = header.get("Modality", "") if isinstance(header, Mapping) else ""
    said, lowest = str(found.metadata.get("modality") or code), None
    if not said and isinstance(data, np.ndarray):
        stack = data.reshape(-1, *data.shape[-2:])
        lowest = float(np.nan_to_num(stack[len(stack) // 2, ::4, ::4]).min())
    return is_ct(said, lowest)


def layers_of(volumes: Sequence[Volume | TimeStack]) -> list[LayerTuple]:
    """Return the layer tuples of several volumes; masks that come with an image are there, but hidden at first."""
    tuples = [item for volume in volumes for item in layer_tuples(volume)]
    if any(kind == "image" for _, _, kind in tuples):
        for _, options, kind in tuples:
            options["visible"] = kind == "image"
    return tuples


def _channel(name: str, number: int, channels: Any) -> dict[str, Any]:
    """Return what sets one channel's layer apart: its name, and colour and display range where the file gives them."""
    about = channels[number] if channels else {}
    options: dict[str, Any] = {"name": f"{name} · {about.get('name') or f'channel {number + 1}'}"}
    if about.get("colour"):
        options |= {"colormap": about["colour"], "blending": "additive"}
    if about.get("limits"):
        options["contrast_limits"] = tuple(about["limits"])
    return options


def _place(volume: Volume) -> dict[str, Any]:
    film = volume.metadata.get("stack_axis") == "t"
    ndim = 2 if volume.n_slices == 1 else 3
    part = volume.affine[3 - ndim :, 3 - ndim :]
    matrix, origin = part[:ndim, :ndim], part[:ndim, ndim]
    unit = "mm" if volume.unit == "mm" else "pixel"
    named: dict[str, Any] = {
        "units": (("pixel", unit, unit) if film else (unit,) * 3)[3 - ndim :],
        "axis_labels": ("t" if film else "z", "y", "x")[3 - ndim :],
    }
    diagonal = np.diag(matrix)
    if np.allclose(matrix, np.diag(diagonal)) and (diagonal > 0).all():
        return {"scale": tuple(diagonal), "translate": tuple(origin), **named}
    if ndim == 2:
        # One slice that lies askew in the patient: shown flat, with its own pixel size.
        return {"scale": volume.spacing[1:], **named}
    return {"affine": part, **named}


def _without_depth(data: Any) -> Any:
    return data[:, :, 0] if data.shape[2] == 1 else data


def _place_in_time(stack: TimeStack) -> dict[str, Any]:
    """Return where a time stack lies: its steps in time before the place of each time point."""
    space = _place(stack.at(1))
    step = stack.seconds or 1.0
    named = {
        "units": ("s" if stack.seconds else "pixel", *space["units"]),
        "axis_labels": ("t", *space["axis_labels"]),
    }
    if "affine" in space:
        affine = np.eye(len(space["affine"]) + 1)
        affine[1:, 1:] = space["affine"]
        affine[0, 0] = step
        return {"affine": affine, **named}
    ndim = len(space["axis_labels"])
    return {"scale": (step, *space["scale"]), "translate": (0.0, *space.get("translate", (0.0,) * ndim)), **named}
