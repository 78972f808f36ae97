"""Which model is proposed for a scan whose header tells no modality."""

from __future__ import annotations

from pathlib import Path

from napari_llm4seg.gui.controllers.choices import _alike
from napari_llm4seg.gui.state.look import Look
from napari_llm4seg.gui.state.session import ModelEntry

ULTRASOUND, CT_STACK = Look(False, False, False, (0.3, 0.3, 0.3)), Look(True, False, True)
STARTER = ModelEntry("us", "us", Path("us"), starter=True, look=Look(False, False, False, (0.33, 0.33, 0.33)))
LIVER = ModelEntry("/liver", "liver v1", Path("/liver"), look=Look(False, False, True, (0.3, 0.3, 0.3)))


def test_a_ct_model_of_ones_own_stays_for_ct_and_is_not_proposed_for_an_ultrasound():
    assert _alike([LIVER], [STARTER, LIVER], CT_STACK) == LIVER
    assert _alike([LIVER], [STARTER, LIVER], ULTRASOUND) == STARTER
    assert _alike([], [STARTER, LIVER], ULTRASOUND) == STARTER
