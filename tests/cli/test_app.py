"""Help, wrong use, exit statuses and errors in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_llm4seg import __version__
from napari_llm4seg.cli import main
from napari_llm4seg.cli import segment as segment_module
from napari_llm4seg.cli.console import duration
from napari_llm4seg.errors import CheckpointError

COMMANDS = [
    [],
    ["segment"],
    ["evaluate"],
    ["measure"],
    ["models"],
    ["models", "list"],
    ["models", "info"],
    ["models", "fetch"],
    ["models", "import"],
    ["train"],
    ["bench"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(llm4seg, command) -> None:
    answer = llm4seg(*command, "--help")
    assert answer.status == 0
    assert "Usage: llm4seg " + " ".join(command) in answer.out
    assert not answer.err


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom napari_llm4seg.cli import main\n"
        "try: main(['train', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'numpy', 'torch', 'yaml', 'qtpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["segment"],
        ["segment", "a.png"],
        ["segment", "a.png", "-o", "x.png", "--nope"],
        ["models", "info"],
        ["train", "recipe.yaml"],
        ["bench", "--only", "nope"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_one_line_and_status_2(llm4seg, arguments) -> None:
    answer = llm4seg(*arguments)
    assert answer.status == 2
    assert not answer.out
    assert len(answer.err.strip().splitlines()) == 1
    assert "--help" in answer.err


def test_no_command_shows_the_commands(llm4seg) -> None:
    answer = llm4seg()
    assert answer.status == 2
    assert "segment" in answer.out + answer.err


def test_version(llm4seg) -> None:
    assert llm4seg("--version").out == f"llm4seg {__version__}\n"


def failing(error: BaseException):
    def open_model(*_):
        raise error

    return open_model


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CheckpointError("It is damaged."), "llm4seg: It is damaged."),
        (ValueError("two\nlines"), "llm4seg: Unexpected problem, ValueError: two lines (LLM4SEG_DEBUG=1 shows"),
        (MemoryError(), "llm4seg: There is not enough memory."),
        (PermissionError(13, "Permission denied", "x"), "llm4seg: [Errno 13] Permission denied: 'x'."),
    ],
)
def test_any_error_is_one_line(llm4seg, monkeypatch, scan, error, expected) -> None:
    monkeypatch.setattr(segment_module, "open_model", failing(error))
    answer = llm4seg("segment", scan, "-o", scan.parent / "out", "--json")
    assert answer.status == 1
    assert answer.err.startswith(expected)
    assert len(answer.err.strip().splitlines()) == 1
    assert answer.json == {"error": answer.err.removeprefix("llm4seg: ").strip()}


def test_debug_shows_the_traceback(monkeypatch, capsys, scan) -> None:
    monkeypatch.setenv("LLM4SEG_DEBUG", "1")
    monkeypatch.setattr(segment_module, "open_model", failing(ValueError("odd")))
    with pytest.raises(SystemExit) as end:
        main(["segment", str(scan), "-o", str(scan.parent / "out")])
    assert end.value.code == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_one_line_and_status_130(llm4seg, monkeypatch, scan) -> None:
    monkeypatch.setattr(segment_module, "open_model", failing(KeyboardInterrupt()))
    answer = llm4seg("segment", scan, "-o", scan.parent / "out")
    assert (answer.status, answer.err) == (130, "Stopped.\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_in_words(seconds, words) -> None:
    assert duration(seconds) == words
