"""Corrections of masks: which slices were looked at, kept on disk, and which to look at next.

``SampleStore`` is a project folder with one file per corrected slice, ``Writer`` the thread that fills it. No torch
and no Qt here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_llm4seg.lazy import from_home

if TYPE_CHECKING:
    from napari_llm4seg.corrections.manifest import ScanEntry
    from napari_llm4seg.corrections.records import Record, unannotated
    from napari_llm4seg.corrections.review import ModelMask, Review
    from napari_llm4seg.corrections.store import Restored, SampleStore
    from napari_llm4seg.corrections.suggest import Suggester, Suggestion
    from napari_llm4seg.corrections.transfer import export_zip, import_zip, merge
    from napari_llm4seg.corrections.versions import Version, Versions
    from napari_llm4seg.corrections.writer import Writer

__all__ = [
    "ModelMask",
    "Record",
    "Restored",
    "Review",
    "SampleStore",
    "ScanEntry",
    "Suggester",
    "Suggestion",
    "Version",
    "Versions",
    "Writer",
    "export_zip",
    "import_zip",
    "merge",
    "unannotated",
]

_HOME = {
    "ModelMask": "review",
    "Record": "records",
    "Restored": "store",
    "Review": "review",
    "SampleStore": "store",
    "ScanEntry": "manifest",
    "Suggester": "suggest",
    "Suggestion": "suggest",
    "Version": "versions",
    "Versions": "versions",
    "Writer": "writer",
    "export_zip": "transfer",
    "import_zip": "transfer",
    "merge": "transfer",
    "unannotated": "records",
}


__getattr__ = from_home(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
