"""What the Inspect dock says of a recording: what to do next, what was recorded, that it is the forward of the mask."""

from __future__ import annotations

from napari_llm4seg.gui.controllers.inspect_recording import Recording
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.inspect import ProofState

_ASK = "Click the scan: what does this place look at? Shift + drag follows the mouse; a plain drag moves the view."


def hint(session: Session, recording: Recording | None, token: int | None) -> str:
    """Return what a person can do next, or what is waited for; empty where a place was clicked."""
    if session.scan_id is None:
        return "Open a scan; the Segment dock offers some to try."
    if session.predictor is None:
        return "Choose a model in the Segment dock." if session.model is None else "The model is being loaded…"
    if session.busy and recording is None:
        return f"{session.busy} The slice is recorded when it has ended."
    return _ASK if token is None else ""


def about(session: Session, recording: Recording | None) -> str:
    """Return what was recorded: slice, tile or patch, its tokens, and the model."""
    if recording is None:
        return ""
    seen = recording.seen
    name = session.model.name if session.model is not None else seen.predictor.checkpoint.config.card.name
    grid = " × ".join(str(side) for side in seen.tokens.grid)
    where = {"slice": "", "tile": "one tile, ", "patch": "one patch, "}[seen.frame.kind]
    where = f"slice {seen.frame.z}, {where}" if seen.frame.scan.n_slices > 1 else where
    return f"{where}{grid} tokens · {name}"


def proof(recording: Recording | None) -> ProofState:
    """Return whether what is shown is of the very forward that gives the mask."""
    if recording is None:
        return ProofState()
    found = recording.seen.proof
    if not found.ok:
        return ProofState(found.words, found.words, False)
    return ProofState(f"same forward: max diff {found.relative:.0e}  ok", found.words, True)
