from __future__ import annotations

import gc

from napari.components import ViewerModel

from napari_llm4seg.gui.state import session as module
from napari_llm4seg.gui.state.session import Session, session_for


def test_setting_something_new_emits_once():
    session, heard = Session(), []
    session.busy_changed.connect(heard.append)
    session.device_changed.connect(heard.append)
    session.busy = "x"
    session.busy = "x"
    session.device = "auto"
    session.device = "cpu"
    assert heard == ["x", "cpu"]


def test_one_session_per_viewer_as_long_as_it_lives():
    class Proxy:
        def __init__(self, wrapped):
            self.__wrapped__ = wrapped

    viewer, other = ViewerModel(), ViewerModel()
    session = session_for(viewer)
    assert session_for(viewer) is session
    assert session_for(Proxy(viewer)) is session
    assert session_for(other) is not session
    known = len(module._SESSIONS)
    del viewer
    gc.collect()
    assert len(module._SESSIONS) == known - 1
