"""Frames sorted into series that one volume can hold: localisers, time points and echoes each on their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from napari_llm4seg.errors import InputError
from napari_llm4seg.io._dicom_headers import Frame, load
from napari_llm4seg.io._dicom_pixels import functional_groups
from napari_llm4seg.io._geometry import levels, parallel
from napari_llm4seg.io._series_info import SeriesInfo

_LETTERS = 280

# What may tell images at one position apart: element, the functional group it lies in in enhanced files, and words.
_MOMENTS = (
    ("TemporalPositionIdentifier", "", "time point {}"),
    ("TemporalPositionIndex", "FrameContentSequence", "time point {}"),
    ("EchoNumbers", "", "echo {}"),
    ("EffectiveEchoTime", "MREchoSequence", "echo time {} ms"),
    ("EchoTime", "", "echo time {} ms"),
    ("DiffusionBValue", "MRDiffusionSequence", "b-value {} s/mm²"),
    ("NominalPercentageOfCardiacPhase", "CardiacSynchronizationSequence", "{} % of the cardiac cycle"),
    ("NominalCardiacTriggerDelayTime", "CardiacSynchronizationSequence", "trigger delay {} ms"),
    ("TriggerTime", "", "trigger time {} ms"),
    ("InversionTime", "", "inversion time {} ms"),
    ("ImageType", "", "image type {}"),
    ("FrameType", "MRImageFrameTypeSequence", "image type {}"),
    ("FrameType", "CTImageFrameTypeSequence", "image type {}"),
    ("StackID", "FrameContentSequence", "stack {}"),
    ("AcquisitionNumber", "", "acquisition {}"),
    ("FrameAcquisitionNumber", "FrameContentSequence", "acquisition {}"),
    ("AcquisitionTime", "", "acquired at {}"),
    ("ContentTime", "", "made at {}"),
)
_FILE = "file {}"


@dataclass(frozen=True)
class Series:
    """Frames that make one volume."""

    frames: list[Frame]
    part: str = ""
    messages: list[str] = field(default_factory=list)

    def info(self, number: int) -> SeriesInfo:
        first = self.frames[0]
        return SeriesInfo(
            number, first.series, first.description, first.modality, self.part, len(self.frames), first.size
        )


def sort_out(frames: Sequence[Frame]) -> list[Series]:
    """Return the series that ``frames`` make, in the order of their names in words."""
    by_uid: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_uid[frame.series].append(frame)
    found = []
    for members in by_uid.values():
        unique, messages = _without_copies(members)
        kinds = _kinds(unique)
        for number, kind in enumerate(kinds, start=1):
            whole = Series(kind, _direction(kind, number) if len(kinds) > 1 else "", messages)
            found.extend(_moments(whole))
    return sorted(found, key=lambda one: (one.frames[0].modality, one.frames[0].description, one.frames[0].series))


def chosen(found: Sequence[Series], choice: str | int | None, name: str) -> Series:
    """Return the series of ``found`` that ``choice`` names: the only one if it is None.

    Raises
    ------
    InputError
        If there are several and none was chosen, or the choice names none or several.
    """
    how = "Choose one by its number or UID: --series N on the command line, read(path, series=N) in Python"
    if choice is None or choice == "":
        if len(found) == 1:
            return found[0]
        raise InputError(f"'{name}' holds {len(found)} series. {how}. {_listed(found)}.")
    text = str(choice).strip()
    if text.isdecimal() and 1 <= int(text) <= len(found):
        return found[int(text) - 1]
    fitting = [one for one in found if one.frames[0].series == text]
    if len(fitting) == 1:
        return fitting[0]
    said = "names several parts of one series" if fitting else "is none of them"
    raise InputError(f"'{name}' holds {len(found)} series, and '{text}' {said}. {how}. {_listed(found)}.")


def _listed(found: Sequence[Series]) -> str:
    """Return as many of ``found`` in words as one line on the screen holds."""
    words, length = [], 0
    for number, one in enumerate(found, start=1):
        words.append(str(one.info(number)))
        length += len(words[-1])
        if length > _LETTERS and number < len(found):
            words.append(f"and {len(found) - number} more")
            break
    return "; ".join(words)


def _without_copies(frames: list[Frame]) -> tuple[list[Frame], list[str]]:
    """Drop what was exported twice, as told by the instance UID."""
    seen: dict[tuple[str, int], Frame] = {}
    for frame in frames:
        seen.setdefault((frame.uid or str(frame.path), frame.index), frame)
    copies = len(frames) - len(seen)
    messages = [f"{copies} files are copies of others and were passed over."] if copies else []
    return list(seen.values()), messages


def _kinds(frames: list[Frame]) -> list[list[Frame]]:
    """Split by size, colour, direction and pixel spacing; files whose frames give no position stay alone."""
    kinds: list[list[Frame]] = []
    for frame in frames:
        for kind in reversed(kinds):  # neighbours mostly belong together
            if _same_kind(kind[0], frame):
                kind.append(frame)
                break
        else:
            kinds.append([frame])
    return kinds


def _same_kind(a: Frame, b: Frame) -> bool:
    if a.size != b.size or a.samples != b.samples:
        return False
    if a.slice is None or b.slice is None:
        alone = a.count > 1 or b.count > 1
        return a.slice is b.slice and (not alone or a.path == b.path)
    return parallel(a.slice, b.slice)


def _direction(kind: list[Frame], number: int) -> str:
    plane = kind[0].slice
    if plane is None:
        return f"part {number}"
    normal = abs(plane.normal)
    if normal.max() < 0.85:
        return f"part {number}, oblique"
    return f"part {number}, {('sagittal', 'coronal', 'axial')[int(normal.argmax())]}"


def _moments(whole: Series) -> list[Series]:
    """Split slices that lie at one position by what their headers say of time, echo and the like."""
    frames = whole.frames
    planes = [frame.slice for frame in frames if frame.slice is not None]
    if len(frames) < 2 or len(planes) < len(frames):
        return [whole]
    places = levels(planes)
    most = max(places.count(place) for place in set(places))
    if most == 1:
        return [whole]
    values = _values(frames)
    best: dict[Any, list[int]] = {}
    for words in (*((one,) for one in values), *combinations(values, 2)):
        groups: dict[Any, list[int]] = defaultdict(list)
        for index in range(len(frames)):
            groups[tuple((word, values[word][index]) for word in words)].append(index)
        clear = all(len({places[index] for index in group}) == len(group) for group in groups.values())
        if clear and (not best or len(groups) < len(best)):
            best = groups
        if len(best) == most:
            break
    if not best or len(best) > max(2 * most, most + 2):
        best = _by_turn(frames, places)
    split = []
    for key in sorted(best, key=lambda key: [_sortable(value) for _, value in key]):
        part = " ".join(word.format(value) for word, value in key)
        members = [frames[index] for index in best[key]]
        split.append(replace(whole, frames=members, part=", ".join(filter(None, (whole.part, part)))))
    return split


def _sortable(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value


def _by_turn(frames: list[Frame], places: list[int]) -> dict[Any, list[int]]:
    """Where no element tells the images at one position apart, take them in the order of their numbers."""
    turns: dict[int, int] = defaultdict(int)
    groups: dict[Any, list[int]] = defaultdict(list)
    for index in sorted(range(len(frames)), key=lambda i: (frames[i].number, str(frames[i].path), frames[i].index)):
        turns[places[index]] += 1
        groups[(("pass {} by instance number", str(turns[places[index]])),)].append(index)
    return groups


def _values(frames: list[Frame]) -> dict[str, list[str]]:
    """Return for each wording the value of every frame, where all have one and they differ."""
    headers: dict[Any, Any] = {}
    found: dict[str, list[str]] = {}
    several = {frame.path for frame in frames if frame.count > 1}
    for element, group, words in _MOMENTS:
        values = []
        for frame in frames:
            header = headers.get(frame.path)
            if header is None:
                header = headers[frame.path] = load(frame.path, _NEEDED)
            values.append(_value(header, frame.index, element, group))
        if all(values) and len(set(values)) > 1:
            found.setdefault(words, values)
    if len(several) > 1:
        names = sorted({str(frame.path) for frame in frames})
        found[_FILE] = [str(names.index(str(frame.path)) + 1) for frame in frames]
    return found


_NEEDED = (
    *(element for element, _, _ in _MOMENTS),
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


def _value(header: Any, frame: int, element: str, group: str) -> str:
    for source in (*(functional_groups(header, frame, group) if group else ()), header):
        value = source.get(element)
        if value is None:
            continue
        if not isinstance(value, (str, int, float)) and hasattr(value, "__iter__"):
            value = "\\".join(map(str, value))
        return f"{value:g}" if isinstance(value, float) else str(value)
    return ""
