"""Files written whole, then renamed: a reader never meets half a file, a kill never leaves one."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_llm4seg.errors import InputError, one_line

# How libraries that write in their own language report what Python raises as an OSError.
_FOREIGN = {"SafetensorError": "os error", "RuntimeError": "PytorchStreamWriter"}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the disk's refusals into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or one_line(error, 120)
        raise InputError(f"'{path}' cannot be written: {reason}. Choose another place.") from error
    except Exception as error:
        sign = _FOREIGN.get(type(error).__name__)
        if sign is None or sign not in str(error):
            raise
        reason = one_line(error, 120).rstrip(".")
        raise InputError(f"'{path}' cannot be written: {reason}. Is the disk full? Choose another place.") from error


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` when the block ends without an error.

    The temporary keeps ``path``'s suffixes, because many writers choose their format by them. ``durable`` waits until
    the disk has the file, for what must outlive a loss of power a moment later: without it the new name may be on the
    disk before the bytes are.

    Raises
    ------
    InputError
        If ``path`` is a folder, or the disk refuses: full, read-only, not permitted.
    """
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; give a file name in it.")
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name[-60:]}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # made here rather than by tempfile, whose files are private: results are for the group, as the umask says
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        usual = temporary.stat().st_mode
        try:
            yield temporary
            temporary.chmod(stat.S_IMODE(usual))  # safetensors makes its files private
            if durable:
                _sync(temporary)
            os.replace(temporary, path)
            if durable:
                sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the disk has the names in folder ``path``; Windows keeps them safe by itself."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing_folder(path: Path, marker: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that becomes ``path`` when the block ends without an error.

    Parameters
    ----------
    path : Path
    marker : str, optional
        Name of the file by which a folder of this kind is known. What is at ``path`` without it is somebody's
        work and is not replaced, unless it is an empty folder.

    Raises
    ------
    InputError
        Where ``path`` holds something else, or the disk refuses: full, read-only, not permitted.
    """
    path = Path(os.path.abspath(path))  # "." has no name to put a temporary beside
    if marker is not None and path.exists() and not (path / marker).exists() and not _is_empty_folder(path):
        raise InputError(f"'{path}' already holds something else; choose a new or empty folder.")
    temporary = path.with_name(f".{path.name[-60:]}-{secrets.token_hex(4)}")
    aside = temporary.with_name(temporary.name + "-old")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        usual = stat.S_IMODE(temporary.stat().st_mode)
        try:
            yield temporary
            for entry in temporary.rglob("*"):
                _open_up(entry, usual)
            if path.exists():
                os.replace(path, aside)
            os.replace(temporary, path)
        except BaseException:
            if aside.exists() and not path.exists():
                os.replace(aside, path)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if path.exists():  # else the old one could not be put back and must not be lost
                shutil.rmtree(aside, ignore_errors=True)


def check_place(path: Path) -> None:
    """Say now that ``path`` could not be written, rather than after the work whose result it is to hold.

    Nothing is left behind: a folder is made and removed where the first missing one would come to lie.

    Raises
    ------
    InputError
        If the disk refuses: read-only, not permitted, a file where a folder is needed.
    """
    there = next(parent for parent in Path(os.path.abspath(path)).parents if parent.exists())
    probe = there / f".{secrets.token_hex(8)}"
    with writing(path):
        probe.mkdir()
        probe.rmdir()


def _open_up(path: Path, usual: int) -> None:
    """Give ``path`` the access of a new folder's content; what is linked also belongs to another folder."""
    if path.is_dir():
        path.chmod(usual)
    elif path.stat().st_nlink == 1:
        path.chmod(usual & 0o666)


def sync_tree(folder: Path) -> None:
    """Wait until the disk has everything in ``folder``."""
    for path in folder.rglob("*"):
        if path.is_file() and os.access(path, os.W_OK):
            _sync(path)
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Write ``text`` as UTF-8, whole or not at all; ``durable`` as in ``replacing``."""
    with replacing(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, what: str, limit: int = 1 << 20) -> dict[str, Any]:
    """Read a JSON object of at most ``limit`` bytes.

    Raises
    ------
    InputError
        One line naming ``what`` and the file, where it is missing, too large or not a JSON object.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{what} '{path}' is no file.")
        if status.st_size > limit:
            raise InputError(f"{what} '{path}' is over {limit >> 10} KiB; that is no {what}.")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{what} '{path}' is missing.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{what} '{path}' is no text file; a JSON file is needed.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{what} '{path}' cannot be read: {type(error).__name__}.") from error
    if not isinstance(value, dict):
        raise InputError(f"{what} '{path}' holds a {type(value).__name__}; it needs a JSON object.")
    return value


def cache_folder() -> Path:
    """Return the user's cache of fetched layers and checkpoints; ``LLM4SEG_CACHE`` overrides it."""
    override = os.environ.get("LLM4SEG_CACHE")
    if override:
        return Path(override)
    from platformdirs import user_cache_path

    return user_cache_path("napari-llm4seg", appauthor=False)


def sha256(path: Path) -> str:
    """Return the file's sha256 as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
