"""Writing what was looked at, with the functions of ``llm4seg inspect``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_llm4seg.gui.controllers.inspect_recording import Recording

if TYPE_CHECKING:
    from napari_llm4seg.activations.faithfulness import Faithfulness
    from napari_llm4seg.activations.interventions import Effect, HeadRow


@dataclass(frozen=True, eq=False)
class Found:
    """What was tried on a recorded slice: effects, the table of all heads, and maps held to random ones."""

    effects: Sequence[Effect] = ()
    table: Sequence[HeadRow] = ()
    faithfulness: Mapping[str, Faithfulness] = field(default_factory=dict)


def export(
    recording: Recording,
    folder: Path,
    token: int,
    head: Any,
    layer: int,
    found: Found,
    stack: Sequence[Mapping[str, Any]],
    ctx: Any,
) -> Path:
    """Write everything into ``folder``; return the path of the JSON that sums up."""
    from napari_llm4seg.activations.export import Export

    made = Export(recording.seen, folder)
    steps: list[tuple[str, Any]] = [
        ("features", lambda: made.features(token)),
        ("spectrum", made.spectrum),
    ]
    if recording.seen.layers:
        steps.insert(0, ("attention", lambda: made.attention(token, head, layer)))
    if found.effects:
        steps.append(("what if", lambda: made.effects(found.effects)))
    if found.table:
        steps.append(("all heads", lambda: made.heads_table(found.table)))
    for name, each in found.faithfulness.items():
        steps.append(("faithfulness", lambda name=name, each=each: made.faithfulness(name, each)))
    if stack:
        steps.append(("stack", lambda: made.spectrum(stack, "spectrum_stack")))
    for number, (name, step) in enumerate(steps):
        ctx.check()
        ctx.progress(number, len(steps), name)
        step()
    return made.finish()
