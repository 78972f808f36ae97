"""Where a scan's corrections go: a chosen project, one for the images of a folder, or one of the scan's own.

A volume has slices enough to learn from; a single image has not. So single images that lie in one folder share a
project, unless a person wants it otherwise.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from napari_llm4seg.corrections import SampleStore, ScanEntry
from napari_llm4seg.errors import InputError, one_line
from napari_llm4seg.gui.controllers.projects import projects_folder
from napari_llm4seg.modalities import stated
from napari_llm4seg.volume import Volume

# Files of one family are taken for images of one kind.
_FAMILIES = ((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"), (".dcm", ".dicom", ".ima"))
# What a mask beside its image is called, such as "a_mask.png", "a_mask_1.png" and "a_seg.png".
_MASK = re.compile(r"[ _.-](seg|mask|masks|label|labels|segmentation|superpixels)([ _-]?\d+)?$", re.IGNORECASE)


@dataclass(frozen=True)
class ProjectChoice:
    """What a person has chosen: the ``folder`` of a project for every scan, or one for each scan ``apart``."""

    folder: Path | None = None
    apart: bool = False


AUTOMATIC = ProjectChoice()


@dataclass(frozen=True)
class Home:
    """Where corrections go.

    Attributes
    ----------
    folder : Path
        Of the project.
    name : str
        What a new one is called.
    images : Path or None
        The folder whose single images share the project.
    """

    folder: Path
    name: str
    images: Path | None = None


def image_file(scan: Volume, axis: int = 0) -> Path | None:
    """Return the file that a single image was read from; None for a stack, and for what came from no file."""
    source = str(scan.metadata.get("source_path") or "")
    return None if axis or scan.n_slices > 1 or not source else Path(os.path.abspath(source))


def shared_home(scan: Volume, axis: int, choice: ProjectChoice) -> Home | None:
    """Return the project that a scan shares with others; None where it has one of its own."""
    if choice.folder is not None:
        return Home(choice.folder, choice.folder.name)
    file = image_file(scan, axis)
    if file is None or choice.apart:
        return None
    images = file.parent
    kind = stated(scan.metadata)  # a folder of test files may hold images of every kind
    title = folder_title(images) + (f", {kind}" if kind else "")
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-")
    digest = hashlib.sha256(f"{images}\n{kind}".encode()).hexdigest()[:12]
    return Home(projects_folder() / f"images-{slug}-{digest}", f"images of {title}", images)


def own_home(scan: Volume, digest: str) -> Home:
    """Return the project of a scan's own."""
    from napari_llm4seg.corrections.manifest import describe_scan

    folder = projects_folder()
    return Home(folder / describe_scan(scan, digest, folder).id, scan.name)


def folder_title(folder: Path) -> str:
    """Return a folder's last two names: "images" alone would say little."""
    return "/".join(part for part in folder.parts[-2:] if part != folder.anchor) or str(folder)


def siblings(source: Path) -> tuple[Path, ...]:
    """Return the image files of ``source``'s kind in its folder, itself among them, by name and number; no masks."""
    family = next((each for each in _FAMILIES if source.suffix.lower() in each), (source.suffix.lower(),))
    try:
        with os.scandir(source.parent) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    except OSError:
        names = []
    found = [
        source.parent / name
        for name in names
        if os.path.splitext(name)[1].lower() in family and not _MASK.search(os.path.splitext(name)[0])
    ]
    return tuple(sorted({source, *found}, key=lambda path: _numbered(path.name)))


def _numbered(name: str) -> list[tuple[int, int, str]]:
    """Return what sorts "image (2)" before "image (10)"."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part.lower()) for part in re.findall(r"\d+|\D+", name)]


def earlier_project(home: Home, scan: Volume, digest: str) -> Path | None:
    """Return the project that knows an image which the one of its folder does not know yet.

    That is one of its own, from when images did not share, or that of the folder it lay in before it was moved.
    """
    from napari_llm4seg.corrections.manifest import PROJECT, SCANS

    known = f"{SCANS}/*-{digest[:12]}"
    if home.images is None or any(home.folder.glob(known)):
        return None
    own = own_home(scan, digest).folder
    if (own / PROJECT).is_file():
        return own
    others = (path.parent.parent for path in sorted(projects_folder().glob(f"images-*/{known}")))
    return next((other for other in others if (other / PROJECT).is_file()), None)


def bring_in(store: SampleStore, scan: Volume, digest: str, earlier: Path, home: Home) -> str:
    """Bring what ``earlier`` holds of an image into the project of its folder; return what is to be said of it.

    Other images whose files are gone from where they were have moved as well, and come along.
    """
    from napari_llm4seg.corrections import Versions, merge

    try:
        with SampleStore.open(earlier, read_only=True) as other:
            wanted = {each.id for each in other.scans() if each.digest == digest or not _there(each)}
            merge(store, other, only=wanted)
            kept = len(Versions(other).list())
        store.keep_scan(store.scan_for(scan, digest=digest))  # under the name that it has there
        _moved(store, home)
    except InputError as error:
        return f"What the project '{earlier}' holds of this image was not brought in: {one_line(error)}"
    if not kept:
        return ""
    versions = "the version" if kept == 1 else f"the {kept} versions"
    return f"This image was in another project; {versions} trained there can be opened from '{earlier}'."


def _there(scan: ScanEntry) -> bool:
    return bool(scan.source) and Path(scan.source).is_file()


def _moved(store: SampleStore, home: Home) -> None:
    """Note where the files of images lie now that the folder was moved."""
    for scan in store.scans():
        here = home.images / Path(scan.source).name if home.images is not None else None
        if here is not None and not _there(scan) and here.is_file():
            store.keep_scan(scan.model_copy(update={"source": str(here), "source_relative": ""}))
