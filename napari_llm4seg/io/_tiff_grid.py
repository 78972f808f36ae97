"""Spacing and time step of ImageJ and OME TIFF files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_llm4seg.volume import Unit

if TYPE_CHECKING:
    from tifffile import TiffFile

_MM = {
    "mm": 1.0,
    "millimeter": 1.0,
    "millimetre": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "inch": 25.4,
    "in": 25.4,
    "µm": 1e-3,
    "μm": 1e-3,
    "um": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "\\u00b5m": 1e-3,
    "nm": 1e-6,
}
_SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3, "µs": 1e-6, "min": 60.0, "h": 3600.0}


def spacing_of(tiff: TiffFile) -> tuple[tuple[float, float, float], Unit]:
    """Return the (z, y, x) spacing of ImageJ and OME files in mm; (1, 1, 1) in pixels for others."""
    sizes: tuple[float, float, float] | None = None
    if tiff.is_ome and tiff.ome_metadata:
        sizes = _ome_spacing(tiff.ome_metadata)
    elif tiff.is_imagej and tiff.imagej_metadata:
        sizes = _imagej_spacing(tiff)
    if sizes is None or not all(np.isfinite(size) and size > 0 for size in sizes):
        return (1.0, 1.0, 1.0), "pixel"
    return sizes, "mm"


def _imagej_spacing(tiff: TiffFile) -> tuple[float, float, float] | None:
    header: dict[str, Any] = dict(tiff.imagej_metadata or {})
    factor = _MM.get(str(header.get("unit", "")).strip().lower())
    tags = tiff.pages.first.tags
    if factor is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    (across, by_x), (down, by_y) = tags["XResolution"].value, tags["YResolution"].value
    if not (across and by_x and down and by_y):
        return None
    return abs(float(header.get("spacing", 1.0 / factor))) * factor, by_y / down * factor, by_x / across * factor


def _ome_spacing(xml: str) -> tuple[float, float, float] | None:
    from xml.etree import ElementTree

    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    if pixels is None or "PhysicalSizeX" not in pixels.attrib or "PhysicalSizeY" not in pixels.attrib:
        return None
    sizes = []
    for axis in "ZYX":
        factor = _MM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
        if factor is None:
            return None
        sizes.append(float(pixels.get(f"PhysicalSize{axis}", 1.0 / factor)) * factor)
    return sizes[0], sizes[1], sizes[2]


def seconds_of(tiff: TiffFile) -> float | None:
    """Return the time between time points, where the file says it."""
    step: Any = None
    factor: float | None = 1.0
    if tiff.is_ome and tiff.ome_metadata:
        from xml.etree import ElementTree

        pixels = ElementTree.fromstring(tiff.ome_metadata).find(".//{*}Pixels")
        if pixels is not None:
            step, factor = pixels.get("TimeIncrement"), _SECONDS.get(pixels.get("TimeIncrementUnit", "s"))
    elif tiff.is_imagej and tiff.imagej_metadata:
        step = tiff.imagej_metadata.get("finterval")
        factor = _SECONDS.get(str(tiff.imagej_metadata.get("tunit", "sec")).strip().lower())
    try:
        seconds = float(step) * factor if step is not None and factor is not None else 0.0
    except (TypeError, ValueError):
        return None
    return seconds if np.isfinite(seconds) and seconds > 0 else None
