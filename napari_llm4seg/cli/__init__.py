"""The command line ``llm4seg``; importing this costs nothing."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a case failed, 2 wrong use, 130 stopped by Ctrl-C.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; those of the process if not given.
    """
    # A Ctrl-C while Python still imports must end as calmly as any other.
    try:
        from napari_llm4seg.cli.app import run

        status = run(arguments)
    except KeyboardInterrupt:
        import sys

        print("Stopped.", file=sys.stderr)
        status = 130
    raise SystemExit(status)
