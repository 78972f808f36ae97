"""One line about every view, and where the page says how to read it. Neither torch nor files are touched here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_llm4seg.assets import asset


@dataclass(frozen=True)
class View:
    """What stands above a view.

    Attributes
    ----------
    line : one sentence
    section : heading in the page
    """

    line: str
    section: str

    @property
    def anchor(self) -> str:
        """The heading as links know it: "What if" is "what-if"."""
        return "".join(c for c in self.section.lower() if c.isalnum() or c in " -").replace(" ", "-")


VIEWS: dict[str, View] = {
    "proof": View("The forward computed again from what is shown, and the largest difference.", "The proof"),
    "attention": View("Where the layer takes information from for the clicked place, or where it goes.", "Attention"),
    "out of sight": View("Hatched: the layer's mask does not let this token look there.", "Out of sight"),
    "heads": View("Each head looks in its own way; entropy says how spread its look is.", "Heads"),
    "rollout": View("What reaches a token through all layers, if residuals count half.", "Rollout"),
    "features": View("The same place before and after the language-model layer.", "Features"),
    "activation": View("How strong features are, and how that meets the mask, before and after.", "Activation map"),
    "spectrum": View("How many directions the features use, before and after.", "Spectrum"),
    "what if": View("The mask with one thing changed in the layer.", "What if"),
    "all heads": View("Every head knocked out in turn: which one this mask misses most.", "All heads"),
    "faithfulness": View("Whether a map names what matters better than random maps do.", "Faithfulness"),
    "grad-cam": View("Which cells would raise the class if their features grew: the familiar reference.", "Grad-CAM"),
    "words": View("Vocabulary entries nearest to the token after the layer; read the warning.", "Words"),
    "parts": View("A tile or patch was recorded, or a mirror image averaged.", "Tiles, volumes, mirror images"),
}  # fmt: skip


def page() -> Path:
    """Return the page, in Markdown."""
    return asset("help", "reading-the-maps.md")


def section_of(view: str) -> str:
    """Return the page's section about a view, with its heading, in Markdown."""
    text = page().read_text(encoding="utf-8")
    heading = f"## {VIEWS[view].section}\n"
    start = text.index(heading)
    end = text.find("\n## ", start + 1)
    return text[start:] if end < 0 else text[start : end + 1]
