"""DICOM-SEG through highdicom: results that refer to the series they were made from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError, one_line
from napari_llm4seg.files import replacing
from napari_llm4seg.io._classes import Named, classes_of
from napari_llm4seg.io._dicom_codes import VALUE_PREFIX, concepts_for
from napari_llm4seg.io._dicom_headers import plane_in, plane_of
from napari_llm4seg.io._files import PathLike
from napari_llm4seg.io._geometry import Slice
from napari_llm4seg.volume import Volume

Array = npt.NDArray[Any]

_MAKER = "napari-llm4seg"
# How far from their source, in pixels, labels may lie by rounding.
_OFF = 0.1
_LONG_STRING = 64  # characters of DICOM's value representation LO
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


def write(path: PathLike, volume: Volume) -> Path:
    """Write labels as a binary DICOM segmentation, one segment per class, beside the series they were made from.

    Patient, study and frame of reference are the source's; every segment has its class's name, a coded concept and the
    recommended display colour. Slices without labels are left out, as usual.

    Parameters
    ----------
    path : str or path
        Ends in ``.dcm``.
    volume : Volume of labels
        ``metadata["dicom"]["slices"]`` names for each slice the source's file, instance UID and frame (from 1).

    Raises
    ------
    InputError
        If the scan did not come from DICOM, its files are gone or changed, or the place cannot be written to.
    """
    path = Path(path)
    if volume.kind != "label":
        raise InputError(f"'{path.name}': DICOM-SEG holds labels, '{volume.name}' is a scan. Use .nii.gz.")
    sources, labels = _sources_and_labels(volume, path.name)
    classes = classes_of(volume)
    if not classes:
        raise InputError(f"'{path.name}': '{volume.name}' has neither classes nor labels, so no segment to write.")
    segmentation = _segmentation(sources, labels, classes, volume, path.name)
    with replacing(path) as temporary:
        segmentation.save_as(temporary, enforce_file_format=True)
    return path


def source_slices(volume: Volume, name: str) -> Sequence[Mapping[str, Any]]:
    """Return what ``volume`` knows of its DICOM source's slices; ask before the run that is to be written as ``name``.

    Raises
    ------
    InputError
        If the scan did not come from DICOM.
    """
    about = volume.metadata.get("dicom")
    slices: Sequence[Mapping[str, Any]] = about.get("slices") or () if isinstance(about, Mapping) else ()
    if not slices:
        raise InputError(
            f"'{name}': DICOM-SEG refers to the DICOM series it was made from, and '{volume.name}' did not come from "
            "one. Use .nii.gz or .seg.nrrd, or segment the DICOM files themselves (in Python: write(..., like=scan))."
        )
    return slices


def _sources_and_labels(volume: Volume, name: str) -> tuple[list[Any], Array]:
    """Return the source's headers and the labels in their order, a multi-frame source's in that of its frames."""
    slices = source_slices(volume, name)
    if len(slices) != volume.n_slices:
        raise InputError(
            f"'{name}': '{volume.name}' has {volume.n_slices} slices, its DICOM source {len(slices)}. Use .nii.gz."
        )
    labels = np.asarray(volume.data[0])
    files = list(dict.fromkeys(str(each["file"]) for each in slices))
    if len(files) == len(slices):
        headers = [_header(Path(str(each["file"])), str(each["uid"]), volume, name) for each in slices]
        _check_place(volume, [plane_in(headers[0]), plane_in(headers[-1])], name)
        return headers, labels
    if len(files) > 1:
        raise InputError(
            f"'{name}': '{volume.name}' lies in {len(files)} files of several frames, and DICOM-SEG refers to one. "
            "Use .nii.gz."
        )
    header = _header(Path(files[0]), str(slices[0]["uid"]), volume, name)
    if not header.get("FrameOfReferenceUID"):
        raise InputError(
            f"'{name}': the frames of '{volume.name}' have no place in the patient (a film?), which DICOM-SEG needs "
            "for more than one. Use .nii.gz."
        )
    _check_place(volume, [plane_of(header, int(slices[at]["frame"]) - 1) for at in (0, -1)], name)
    frames = np.zeros((int(header.get("NumberOfFrames") or 1), *labels.shape[1:]), labels.dtype)
    frames[[int(each["frame"]) - 1 for each in slices]] = labels
    return [header], frames


def _check_place(volume: Volume, planes: Sequence[Slice | None], name: str) -> None:
    """Refuse labels that do not lie on the first and the last slice of their source, by one corner and the other."""
    _, rows, columns = volume.grid
    for z, plane in zip((0, volume.n_slices - 1), planes, strict=True):
        if plane is None:
            continue
        down, across = plane.spacing
        opposite = plane.origin + plane.along_y * down * (rows - 1) + plane.along_x * across * (columns - 1)
        for index, place in (((z, 0, 0, 1), plane.origin), ((z, rows - 1, columns - 1, 1), opposite)):
            if np.abs((volume.affine @ index)[2::-1] - place).max() > _OFF * min(down, across):
                raise InputError(
                    f"'{name}': '{volume.name}' does not lie on the slices of its DICOM source (it was moved, or comes "
                    "from another scan), which DICOM-SEG would hide. Use .nii.gz, which keeps its place."
                )


def _header(path: Path, uid: str, volume: Volume, name: str) -> Any:
    import pydicom

    try:
        header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"'{name}': the source '{path.name}' of '{volume.name}' cannot be read any more ({one_line(error, 100)}). "
            "Put the DICOM files back, or use .nii.gz."
        ) from error
    identify(header)
    if uid not in ("", str(header.SOPInstanceUID)) or (header.get("Rows"), header.get("Columns")) != volume.grid[1:]:
        raise InputError(
            f"'{name}': the source '{path.name}' is no longer the file that '{volume.name}' was read from. "
            "Open the series again, or use .nii.gz."
        )
    return header


def identify(header: Any) -> None:
    """Put in what careless anonymisation took out of a source's header and a reference to it needs.

    Class and instance are also in the file's own preamble; study and series, where they are empty, are made from what
    all files of a scan share, so that they stay the same whenever they are made. What may be empty is added empty.
    """
    from pydicom.uid import generate_uid

    meta = getattr(header, "file_meta", {})
    for name, stored in (("SOPClassUID", "MediaStorageSOPClassUID"), ("SOPInstanceUID", "MediaStorageSOPInstanceUID")):
        if not header.get(name):
            setattr(header, name, str(meta.get(stored, "")))
    shared = str(header.get("FrameOfReferenceUID", "") or header.SOPInstanceUID)
    for name in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not header.get(name):
            setattr(header, name, generate_uid(entropy_srcs=[name, shared]))
    for name in _MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, "")


def _segmentation(sources: list[Any], labels: Array, classes: list[Named], volume: Volume, name: str) -> Any:
    import highdicom

    provenance = volume.metadata.get("provenance") or {}
    checkpoint = provenance.get("checkpoint") or {}
    model = str(checkpoint.get("name", "")) or "manual"
    lut = np.zeros(1 + max(each.value for each in classes), np.uint16 if len(classes) > 255 else np.uint8)
    lut[[each.value for each in classes]] = np.arange(1, len(classes) + 1)
    digest = str(checkpoint.get("sha256", "")) or "none"
    versions = provenance.get("versions") or {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that consist of one part, and the like
            made = highdicom.seg.Segmentation(
                source_images=sources,
                pixel_array=lut[labels],
                segmentation_type="BINARY",
                segment_descriptions=[_description(i, each, checkpoint) for i, each in enumerate(classes, start=1)],
                series_instance_uid=highdicom.UID(),
                series_number=_series_number(sources[0]),
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer=_MAKER,
                manufacturer_model_name=model[:_LONG_STRING],
                software_versions=str(versions.get(_MAKER, "unknown"))[:_LONG_STRING],
                device_serial_number=digest[:_LONG_STRING],
                content_label="SEGMENTATION",
                content_description=f"Segmentation by {model}"[:_LONG_STRING],
                series_description=f"Segmentation by {model}"[:_LONG_STRING],
            )
    except Exception as error:
        reason = one_line(error, 160).rstrip(".")
        raise InputError(
            f"'{name}': the DICOM source of '{volume.name}' cannot carry a segmentation ({reason}). Use .nii.gz."
        ) from error
    if not all(each.name.isascii() for each in classes) or not model.isascii():
        made.SpecificCharacterSet = "ISO_IR 192"  # Unicode; the source's may have no such letters
    if "FrameOfReferenceUID" not in made:
        made.PatientOrientation = sources[0].get("PatientOrientation") or ""
    return made


def _series_number(source: Any) -> int:
    """Return a number that sorts a result behind its source."""
    return min(int(source.get("SeriesNumber") or 0), 10**6) * 100 + 99


def _description(number: int, each: Named, checkpoint: Mapping[str, Any]) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    category, kind, side = concepts_for(each.name)
    algorithm = None
    if checkpoint:
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name=str(checkpoint.get("name", "model"))[:_LONG_STRING],
            family=codes.DCM.ArtificialIntelligence,
            version=str(checkpoint.get("sha256", "unknown"))[:16],
            source=_MAKER,
        )
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=each.name[:_LONG_STRING],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type="AUTOMATIC" if algorithm is not None else "MANUAL",
        algorithm_identification=algorithm,
        display_color=highdicom.color.CIELabColor.from_rgb(*each.rgb),
    )
    description.SegmentDescription = f"{VALUE_PREFIX}{each.value}"
    if side is not None:
        modifier = highdicom.sr.CodedConcept.from_code(side)
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return description
