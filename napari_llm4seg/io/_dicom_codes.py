"""Coded concepts for DICOM-SEG segments, found by a class's name.

Source: DICOM PS3.16, context groups 7191, 7192 and 7194 (property types of tissue, anatomical structures and
morphologically abnormal structures), as pydicom carries them.
"""

from __future__ import annotations

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
_GROUPS = {
    "cid7194": "MorphologicallyAbnormalStructure",
    "cid7192": "AnatomicalStructure",
    "cid7191": "Tissue",
}


def concepts_for(name: str) -> tuple[Any, Any, Any]:
    """Return a class's (category, type, side or None) as pydicom codes.

    Names are matched word by word, in singular and without side and number; what matches nothing is "Tissue", the most
    general type there is, and known by its label.

    Parameters
    ----------
    name : str
        For instance "left kidney", "Liver", "tumour 2".
    """
    from pydicom.sr.codedict import codes

    words = re.findall(r"[a-z]+", name.lower())
    sides = [_SIDES[word] for word in words if word in _SIDES]
    bare = " ".join(word for word in words if word not in _SIDES)
    side = getattr(codes.SCT, sides[0]) if len(sides) == 1 else None
    for candidate in (bare, _singular(bare)):
        keyword = "".join(word.capitalize() for word in _OTHER_NAMES.get(candidate, candidate).split())
        for group, category in _GROUPS.items():
            if keyword and keyword in dir(getattr(codes, group)):
                return getattr(codes.SCT, category), getattr(getattr(codes, group), keyword), side
    return codes.SCT.Tissue, codes.SCT.Tissue, None


def _singular(name: str) -> str:
    if name.endswith("vertebrae"):
        return name[:-1]
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name
