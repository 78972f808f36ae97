"""Coded concepts for DICOM-SEG segments, found by a class's name.

Source: DICOM PS3.16, context groups 7191, 7192 and 7194 (property types of tissue, anatomical structures and
morphologically abnormal structures), as pydicom carries them.
"""

from __future__ import annotations

import functools
import re
from typing import Any

# A segment's own description keeps the label value, as segments are numbered from 1 without gaps.
VALUE_PREFIX = "label value "
# What models call structures that the context groups name otherwise.
_OTHER_NAMES = {
    "tumor": "neoplasm",
    "tumour": "neoplasm",
    "cancer": "neoplasm",
    "polyp": "lesion",
    "metastasis": "neoplasm secondary",
    "oedema": "edema",
    "bleeding": "hemorrhage",
    "vessel": "blood vessel",
    "fat": "adipose tissue",
    "muscle": "muscle tissue",
    "urinary bladder": "bladder",
    "brainstem": "brain stem",
    "thyroid": "thyroid gland",
}
_SIDES = {"left": "Left", "right": "Right"}
_SMALL = frozenset({"of", "the", "and"})
_GROUPS = {
    "cid7194": "MorphologicallyAbnormalStructure",
    "cid7192": "AnatomicalStructure",
    "cid7191": "Tissue",
}


def concepts_for(name: str) -> tuple[Any, Any, Any]:
    """Return a class's (category, type, side or None) as pydicom codes.

    Names match by their words in any order, in singular and without numbers of their own, first with their side, then
    without it; what matches nothing is "Tissue", the most general type there is, and known by its label.

    Parameters
    ----------
    name : str
        For instance "left kidney", "Liver", "lung_upper_lobe_left", "tumour 2".
    """
    from pydicom.sr.codedict import codes

    words = [_singular(word) for word in re.findall(r"[a-z]+\d*", name.lower())]
    sides = [word for word in words if word in _SIDES]
    bare = [word for word in words if word not in _SIDES]
    for tried, side in ((words, None), (bare, _SIDES[sides[0]] if len(sides) == 1 else None)):
        other = _OTHER_NAMES.get(" ".join(tried), " ".join(tried)).split()
        found = _types().get(frozenset(other) - _SMALL)
        if found is not None:
            group, keyword = found
            kind = getattr(getattr(codes, group), keyword)
            return getattr(codes.SCT, _GROUPS[group]), kind, getattr(codes.SCT, side) if side else None
    return codes.SCT.Tissue, codes.SCT.Tissue, None


@functools.cache
def _types() -> dict[frozenset[str], tuple[str, str]]:
    """Return (context group, keyword) of every property type by the words of its keyword."""
    from pydicom.sr.codedict import codes

    found: dict[frozenset[str], tuple[str, str]] = {}
    for group in _GROUPS:
        for keyword in sorted(getattr(codes, group).dir()):
            words = frozenset(_singular(word.lower()) for word in re.findall(r"[A-Z][a-z]*\d*", keyword)) - _SMALL
            if words and not keyword.startswith("_"):
                found.setdefault(words, (group, keyword))
    return found


def _singular(word: str) -> str:
    if word == "vertebrae":
        return "vertebra"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
