"""The commands put together, and wrong use said in one line."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from napari_llm4seg.cli import bench, evaluate, finetune, inspect, measure, models, segment, train
from napari_llm4seg.cli.console import STOPPED, WRONG_USE, debugging, line

app = typer.Typer(
    name="llm4seg",
    help="Segment medical images with CNNs that carry one frozen language-model layer.",
    epilog="Research software, not a medical device. LLM4SEG_DEBUG=1 shows tracebacks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment.segment)
app.command("evaluate")(evaluate.evaluate)
app.command("measure")(measure.measure)
app.add_typer(models.app, name="models")
app.command("train")(train.train)
app.command("finetune")(finetune.finetune)
app.command("inspect")(inspect.inspect)
app.command("bench")(bench.bench)


def _version(wanted: bool) -> None:
    if wanted:
        from napari_llm4seg import __version__

        print(f"llm4seg {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = (
        False
    ),
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not sys.warnoptions and not debugging():
        # libraries warn their programmers; what a person must know comes as a message of ours
        warnings.simplefilter("ignore")
    try:
        status = app(given, prog_name="llm4seg", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        line("Stopped.")
        return STOPPED
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        # typer brings its own copy of click in some versions, so wrong use is known by what it offers.
        if not hasattr(error, "format_message"):
            raise
        return _wrong_use(error)
    return status if isinstance(status, int) else 0


def _wrong_use(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "llm4seg"
    text: str = error.format_message()  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":  # a group called without a command: the message is its help
        print(text, end="", file=sys.stderr)
    else:
        line(f"{command}: {' '.join(text.split())} See {command} --help.")
    return WRONG_USE
