from __future__ import annotations

import sys
import threading

from napari_llm4seg.lazy import ahead


def test_a_module_is_imported_beside_and_then_as_ever(tmp_path, monkeypatch):
    (tmp_path / "made_for_ahead.py").write_text("import threading\nwhere = threading.current_thread()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    ahead("made_for_ahead")
    import made_for_ahead

    assert made_for_ahead.where is not threading.main_thread()
    monkeypatch.delitem(sys.modules, "made_for_ahead")


def test_what_is_imported_already_starts_no_thread(monkeypatch):
    monkeypatch.setattr(threading, "Thread", None)
    ahead("sys")
