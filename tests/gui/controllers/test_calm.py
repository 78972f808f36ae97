from __future__ import annotations

import gc
import sys

from napari_llm4seg.gui.controllers import calm


def test_python_s_habits_come_back_with_the_last_release():
    before = gc.get_threshold(), sys.getswitchinterval()
    one, two = object(), object()
    calm.hold(one)
    calm.hold(two)
    calm.hold(two)
    assert gc.get_threshold()[:2] == before[0][:2]
    assert gc.get_threshold()[2] > 1_000_000
    assert sys.getswitchinterval() < before[1]
    calm.release(two)
    assert gc.get_threshold()[2] > 1_000_000
    calm.release(one)
    assert (gc.get_threshold(), sys.getswitchinterval()) == before
    calm.release(one)
    assert (gc.get_threshold(), sys.getswitchinterval()) == before
