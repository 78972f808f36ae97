"""Two processes never write into one folder; one that died leaves nothing locked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from napari_llm4seg.engine.lock import only_run
from napari_llm4seg.errors import InputError

HOLDER = """
import sys, time
from pathlib import Path
from napari_llm4seg.engine.lock import only_run
with only_run(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


def test_another_process_is_refused_by_name_and_a_dead_one_taken_over(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mine\n"
        with pytest.raises(InputError, match=f"process {holder.pid} on .*another output folder"), only_run(tmp_path):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    with only_run(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / ".lock").read_text()


def test_the_same_process_may_enter_again(tmp_path: Path) -> None:
    with only_run(tmp_path / "new"):
        with only_run(tmp_path / "new"):
            pass
        assert (tmp_path / "new" / ".lock").exists()
    with only_run(tmp_path / "new"):
        pass
