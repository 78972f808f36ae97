"""napari layers <-> volumes, and the one place that knows how a layer's axes become (channel, z, y, x)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pint
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from vispy.visuals.line.dash_atlas import DashAtlas

from napari_llm4seg.errors import InputError
from napari_llm4seg.gui.grid import SliceGrid, frames_in_words, on_show
from napari_llm4seg.gui.grid import grid_shape as grid_shape
from napari_llm4seg.gui.grid import n_slices as n_slices
from napari_llm4seg.gui.state.look import Look
from napari_llm4seg.modalities import stated
from napari_llm4seg.volume import Unit, Volume

# Everything this plugin keeps in a layer's metadata lies under this key.
KEY = "napari_llm4seg"
# The role, in there, of layers that show what an inspection found.
INSPECTION = "inspection"
# What a layer has that shows how two masks differ.
CHANGE = "change"
_PLACEMENT = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
# What a volume's metadata say of the file it came from.
_OF_THE_FILE = ("source_path", "series", "series_choice", "time", "stack_axis", "nifti", "dicom")
# Painted with a label that the model does not have: visible, but none of the classes' colours.
_OTHER_COLOUR = "#BBBBBB"
# Mean difference between a pixel's strongest and weakest channel from which an image counts as colour, in [0, 1].
_COLOURED = 0.03
_MM = {
    "meter": 1e3,
    "metre": 1e3,
    "centimeter": 10.0,
    "millimeter": 1.0,
    "micrometer": 1e-3,
    "micron": 1e-3,
    "nanometer": 1e-6,
    "inch": 25.4,
}


def layer_id(layer: Layer) -> str:
    """Return what identifies ``layer`` even after it was renamed."""
    return str(layer.unique_id)


def own_metadata(layer: Layer) -> dict[str, Any]:
    """Return this plugin's part of the layer's metadata; changes to it are kept."""
    kept = layer.metadata.get(KEY)
    return kept if isinstance(kept, dict) else {}


def find_layer(viewer: Any, wanted: str, gone: str) -> Layer:
    """Return the layer whose identifier is ``wanted``.

    Raises
    ------
    InputError
        With the sentence ``gone`` where it is not in the viewer any more.
    """
    for layer in viewer.layers:
        if layer_id(layer) == wanted:
            return layer
    raise InputError(gone)


def slice_on_show(viewer: Any, layer: Layer) -> int:
    """Return the slice of ``layer`` at the viewer's position, whichever axes are on show; 0 of a 2-D layer."""
    return on_show(viewer, layer)[1]


def plane_on_show(viewer: Any, layer: Layer) -> tuple[int, int] | None:
    """Return (axis, index) of the slice of ``layer`` on the screen, of its own (z, y, x); None while all is in 3-D.

    Of a 2-D layer it is (0, 0).
    """
    if layer.ndim < 3:
        return 0, 0
    # the last three axes are space; what comes before them counts frames
    axes = [axis - viewer.dims.ndim + 3 for axis in viewer.dims.not_displayed if axis >= viewer.dims.ndim - 3]
    if not axes:
        return None
    return axes[0], on_show(viewer, layer, axes[0])[1]


def classes_of(layer: Layer) -> tuple[tuple[int, str, str], ...]:
    """Return the named classes of a labels layer as (value, name, "#RRGGBB"), none where nobody named them."""
    kept = own_metadata(layer).get("classes") or layer.metadata.get("classes") or ()
    return tuple((int(value), str(name), str(colour)) for value, name, colour in kept)


def set_classes(layer: Labels, classes: tuple[tuple[int, str, str], ...]) -> None:
    """Name and colour the classes of a labels layer; what other programs put into its metadata is kept in step."""
    layer.metadata.setdefault(KEY, {})["classes"] = classes
    if "classes" in layer.metadata:
        layer.metadata["classes"] = classes
    style = class_style(classes)
    layer.features, layer.colormap = style["features"], style["colormap"]


def is_scan(layer: Layer) -> bool:
    """Return whether ``layer`` is an image that a person opened, not a probability or a map of ours."""
    return isinstance(layer, Image) and own_metadata(layer).get("role") not in ("probability", INSPECTION)


def is_mask(layer: Layer) -> bool:
    """Return whether ``layer`` holds labels to measure and correct, not what an inspection or a comparison drew."""
    return isinstance(layer, Labels) and own_metadata(layer).get("role") not in (INSPECTION, CHANGE)


def modality_of(layer: Layer) -> str:
    """Return what is said about the modality: by the file's header, or at least by the layer's name."""
    return stated(layer.metadata) or layer.name


def notes_of(layer: Layer) -> tuple[str, ...]:
    """Return what reading the layer's file had to say, in sentences."""
    said = layer.metadata.get("messages") or ()
    return tuple(str(line) for line in said) if isinstance(said, (list, tuple)) else ()


def source_of(layer: Layer) -> str:
    """Return the file that a layer came from, whoever read it; empty where it came from none."""
    return str(layer.metadata.get("source_path") or layer.source.path or "")


def look_of(layer: Layer) -> Look | None:
    """Return what the layer looks like by a thumbnail of its middle slice; None for data that is not in memory."""
    data = layer.data[-1] if layer.multiscale else layer.data
    if problem_of(layer) or not isinstance(data, np.ndarray):
        return None
    rgb, slices = bool(getattr(layer, "rgb", False)), n_slices(layer)
    data = data[SliceGrid(grid_shape(layer)).frame(0)]
    middle = data[len(data) // 2] if slices > 1 else data.reshape(data.shape[-3:] if rgb else data.shape[-2:])
    step = max(1, min(middle.shape[:2]) // 64)
    thumb = np.nan_to_num(middle[::step, ::step].astype(np.float32), posinf=0, neginf=0)
    low, high = float(thumb.min()), float(thumb.max())
    top = 255.0 if data.dtype == np.uint8 else 1.0 if low >= 0 and high <= 1 else None
    thumb = thumb / top if top is not None else (thumb - low) / max(high - low, 1e-6)
    means = thumb[..., :3].reshape(-1, 3).mean(axis=0) if rgb else np.repeat(thumb.mean(), 3)
    # grey pictures are often saved as colour; compression leaves a little of it
    colour = rgb and float(np.ptp(thumb[..., :3], axis=-1).mean()) > _COLOURED
    red, green, blue = (float(mean) for mean in means)
    rows, columns = grid_shape(layer)[-2:]
    return Look(slices > 1, colour, low < 0, (red, green, blue), (slices, rows, columns))


def problem_of(layer: Layer) -> str:
    """Return why ``layer`` cannot be segmented, or an empty string."""
    shape = grid_shape(layer)
    if len(shape) < 2:
        return f"'{layer.name}' has {len(shape)} axes {shape}; needed are (y, x) or (z, y, x)."
    if 0 in shape:
        return f"'{layer.name}' is empty: shape {shape}."
    data = layer.data[0] if layer.multiscale else layer.data
    if np.dtype(data.dtype).kind not in "biuf":
        return f"'{layer.name}' holds {data.dtype} values; a scan has real numbers."
    return ""


def world_affine(layer: Layer) -> tuple[npt.NDArray[np.float64], Unit]:
    """Return the layer's (4, 4) voxel-to-world matrix in (z, y, x) and its unit.

    Lengths are turned into mm where the layer's units are lengths, and left in pixels where they are not.
    """
    ndim = min(layer.ndim, 3)  # what comes before space are frames, which share their place
    corner = np.zeros(layer.ndim)
    origin = np.asarray(layer.data_to_world(corner), dtype=float)[-ndim:]
    steps = np.eye(layer.ndim)[-ndim:]
    columns = [np.asarray(layer.data_to_world(step), dtype=float)[-ndim:] - origin for step in steps]
    factors = [_MM.get(str(unit)) for unit in layer.units[-ndim:]]
    known = all(factor is not None for factor in factors)
    affine = np.eye(4)
    affine[3 - ndim : 3, 3 - ndim : 3] = np.stack(columns, axis=1)
    affine[3 - ndim : 3, 3] = origin
    if known:
        scale = np.ones(3)
        scale[3 - ndim :] = [factor for factor in factors if factor is not None]
        affine[:3] = scale[:, None] * affine[:3]
    return affine, "mm" if known else "pixel"


def in_mm(layer: Layer) -> bool:
    """Return whether the layer's size is known in a unit of length."""
    return all(str(unit) in _MM for unit in layer.units[-min(layer.ndim, 3) :])


def volume_from_layer(layer: Layer, frame: int | None = None) -> Volume:
    """Return an Image or Labels layer as a volume, without copying and without computing lazy data.

    The first axis of a 3-D layer is z, whatever the viewer shows; rgb becomes the channel axis; of a multiscale layer
    the highest resolution is taken. Of a layer with frames, ``frame`` says which.

    Raises
    ------
    InputError
        If the layer is neither (y, x) nor (z, y, x), or has frames and none is chosen.
    """
    problem = problem_of(layer)
    grid = SliceGrid(grid_shape(layer))
    if not problem and frame is None and grid.frames > 1:
        problem = f"'{layer.name}' holds {frames_in_words(layer)}; choose one: right-click the layer, Split Stack."
    if problem:
        raise InputError(problem)
    data = layer.data[0] if layer.multiscale else layer.data
    if not hasattr(data, "transpose"):  # zarr and the like: dask slices them without reading the whole
        from importlib import import_module

        data = import_module("dask.array").from_array(data, chunks=getattr(data, "chunks", "auto"))
    data = data[grid.frame(frame or 0)]
    rgb = bool(getattr(layer, "rgb", False))
    data = data.transpose(-1, *range(data.ndim - 1)) if rgb else data[None]
    if data.ndim == 3:
        data = data[:, None]
    affine, unit = world_affine(layer)
    kind: Any = "intensity" if isinstance(layer, Image) else "label"
    metadata = {k: v for k, v in layer.metadata.items() if k != KEY}
    if n_slices(layer) == 1 and source_of(layer):
        metadata.setdefault("source_path", source_of(layer))
    if len(grid.lead) == 1 and "affine" in own_metadata(layer):
        metadata["time"] = (frame or 0) + 1
    return Volume(data, exact_affine(layer, affine), kind, unit, layer.name, metadata)


def exact_affine(layer: Layer, affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the affine that the layer's file gave, if ``affine``, its place in the viewer, still is where that is.

    The viewer's differs by rounding; that of a single slice is without the depth, and flat where the slice lies askew.
    """
    kept = own_metadata(layer).get("affine")
    if not isinstance(kept, np.ndarray) or kept.shape != (4, 4):
        return affine
    ndim = min(layer.ndim, 3)
    here, places = affine[3 - ndim : 3, 3 - ndim :], [kept[3 - ndim : 3, 3 - ndim :]]
    if ndim == 2:
        spacing = np.linalg.norm(kept[:3, 1:3], axis=0)
        places.append(np.column_stack([np.diag(spacing), np.zeros(2)]))
    far = np.append(grid_shape(layer)[-ndim:], 1)  # a step's error counts as often as it is taken
    step = float(np.linalg.norm(kept[:3, :3], axis=0).min())
    same = any(float((np.abs(here - place) @ far).max()) < 1e-6 * step for place in places)
    return kept.copy() if same else affine


def file_metadata(layer: Layer) -> dict[str, Any]:
    """Return what a mask of ``layer`` needs to be written on the grid of its file; nothing is copied."""
    kept = {name: layer.metadata[name] for name in _OF_THE_FILE if name in layer.metadata}
    return kept | ({KEY: {"affine": own_metadata(layer)["affine"]}} if "affine" in own_metadata(layer) else {})


def placement(layer: Layer) -> dict[str, Any]:
    """Return the keyword arguments that put a new layer exactly where ``layer`` lies."""
    return {name: getattr(layer, name) for name in _PLACEMENT}


def class_style(classes: tuple[tuple[int, str, str], ...]) -> dict[str, Any]:
    """Return colormap and features of a Labels layer for ``classes`` of (value, name, "#RRGGBB")."""
    colours: dict[int | None, Any] = {0: "transparent", None: _OTHER_COLOUR}
    colours.update({value: colour for value, _, colour in classes})
    features = {
        "index": [0, *(value for value, _, _ in classes)],
        "class": ["background", *(name for _, name, _ in classes)],
    }
    return {"colormap": DirectLabelColormap(color_dict=colours), "features": features}


def warm_up() -> None:
    """Pay for what the first Labels layer costs, which a click should not wait for: pandas, patterns of dashed lines.

    Touches neither viewer nor Qt, so a worker thread may do it.
    """
    Labels(np.zeros((2, 2), np.uint8), **class_style(((1, "any", _OTHER_COLOUR),)))
    DashAtlas()  # vispy keeps the patterns; a polygon's outline needs them


def ready_units() -> None:
    """Make pint's registry of units, which napari shares among all layers, in the thread that asks.

    pint makes it at the first use, with nothing to keep a second thread from the half-made one: a scan opened while
    ``warm_up`` runs would end in "'pixel' is not defined in the unit registry".
    """
    _ = pint.get_application_registry().pixel  # type: ignore[no-untyped-call]


def words_of(layer: Layer) -> str:
    """Return shape and spacing as a person reads them: "512 × 512 × 78, 0.8 × 0.8 × 3 mm"."""
    shape = grid_shape(layer)
    if len(shape) < 2:
        return " × ".join(str(n) for n in shape)
    space, frames = shape[-3:], frames_in_words(layer)
    affine, unit = world_affine(layer)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[3 - len(space) :]
    size = " × ".join(str(n) for n in reversed(space))
    size = f"{frames} of {size}" if frames else size
    colour = " colour" if getattr(layer, "rgb", False) else ""
    if unit == "pixel":
        extra = "" if np.allclose(spacing, 1) else ", " + " × ".join(f"{n:.3g}" for n in reversed(spacing))
        return f"{size}{colour}{extra}, no physical size"
    return f"{size}{colour}, " + " × ".join(f"{n:.3g}" for n in reversed(spacing)) + " mm"
