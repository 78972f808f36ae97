"""What kind of scan a header's code, a card or a name speaks of, and whether a model was trained on that kind. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MODALITIES = {
    "ultrasound": ("ultrasound", "sonography", "us", "ius"),
    "CT": ("ct", "tomography"),
    "MR": ("mr", "mri", "magnetic", "resonance"),
    "colonoscopy": ("colonoscopy", "endoscopy", "es"),
    "dermoscopy": ("dermoscopy", "skin"),
}


def modality(text: str) -> str:
    """Return the modality that ``text`` (a DICOM code or a card's words) speaks of, or an empty string."""
    words = text.lower().replace("-", " ").replace("_", " ").replace("/", " ").split()
    for name, marks in _MODALITIES.items():
        if any(word in marks for word in words):
            return name
    return ""


def stated(metadata: Mapping[str, Any]) -> str:
    """Return what a scan's metadata, which are its file's header, state as its modality; empty where nothing is."""
    header = metadata.get("dicom")
    code = header.get("Modality", "") if isinstance(header, Mapping) else ""
    return str(metadata.get("modality") or code or "")


def mismatch(scan: str, model: str) -> str:
    """Return a sentence where the modalities of scan and model are known and differ, or an empty string."""
    here, there = modality(scan), modality(model)
    if not here or not there or here == there:
        return ""
    return f"This model was trained on {there}; the scan is {here}. Expect a poor mask."
