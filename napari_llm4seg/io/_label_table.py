"""Names and colours inside a NIfTI header: the label table of Caret and Connectome Workbench, as an extension.

TotalSegmentator writes the same table (under code 0), so that its masks are named when they are opened here. Sources:
nifti1.h (extension code 30), the label table of the GIFTI standard, and what TotalSegmentator's files hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from napari_llm4seg.errors import one_line
from napari_llm4seg.io._classes import Named, code_of, named_classes

CODE = 30  # NIFTI_ECODE_CARET
_CODES = (0, CODE)
_MOST_BYTES = 1 << 22


def to_xml(classes: Iterable[Named]) -> bytes:
    """Return the label table of ``classes`` as XML."""
    root = ElementTree.Element("CaretExtension")
    volume = ElementTree.SubElement(root, "VolumeInformation", Index="0")
    table = ElementTree.SubElement(volume, "LabelTable")
    for each in classes:
        red, green, blue = (f"{part:.6g}" for part in each.fractions)
        label = ElementTree.SubElement(table, "Label", Key=str(each.value), Red=red, Green=green, Blue=blue, Alpha="1")
        label.text = "".join(char for char in each.name if char.isprintable())
    ElementTree.SubElement(volume, "StudyMetaDataLinkSet")
    ElementTree.SubElement(volume, "VolumeType").text = "Label"
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def from_extensions(extensions: Iterable[Any]) -> tuple[list[Named], str]:
    """Return the classes of a header's label table, background left out, and a sentence if it is damaged.

    Parameters
    ----------
    extensions : iterable
        nibabel's; others than such a table are passed over.
    """
    for extension in extensions:
        # nibabel 5.3 turns the content of some codes into objects of its own under the older name
        content = extension.content if hasattr(extension, "content") else extension.get_content()
        if extension.get_code() not in _CODES or not isinstance(content, bytes) or b"<LabelTable" not in content:
            continue
        if len(content) > _MOST_BYTES:
            return [], "The header's table of label names is too long; the labels have no names."
        try:
            root = ElementTree.fromstring(content.rstrip(b"\0"))
            return named_classes(_label(label) for label in root.iter("Label") if int(label.get("Key", "0")) > 0), ""
        except (ElementTree.ParseError, ValueError) as error:
            return [], f"The header's table of label names cannot be read ({one_line(error, 80)})."
    return [], ""


def _label(label: ElementTree.Element) -> tuple[int, str, str]:
    red, green, blue = (float(label.get(part, "0")) for part in ("Red", "Green", "Blue"))
    return int(label.get("Key", "0")), label.text or "", code_of(red, green, blue)
