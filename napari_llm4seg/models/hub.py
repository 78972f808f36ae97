"""The Hugging Face Hub through its own client: what a repository holds, and what went wrong in one line.

URLs, metadata, headers, token, ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` are the client's (huggingface_hub 0.25 and
later). The token is only ever in its headers: it enters no message, and no file of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from napari_llm4seg.errors import CheckpointError, LLM4SegError

LIBRARY = "napari-llm4seg"
PAGE = "https://huggingface.co/"
_AGAIN = "the same command goes on from what was fetched"


class OutOfReach(CheckpointError):
    """The Hub could not be asked: no network, or ``HF_HUB_OFFLINE``."""


@dataclass(frozen=True)
class Repository:
    """A model repository at one commit.

    Attributes
    ----------
    name : ORG/REPO
    commit : 40 hex digits
    files : paths inside it
    licence : as its card states it, "" where it does not
    """

    name: str
    commit: str
    files: tuple[str, ...]
    licence: str


def open_repository(name: str, revision: str | None = None) -> Repository:
    """Ask the Hub for a repository's commit and files.

    Parameters
    ----------
    name : ORG/REPO
    revision : str, optional
        Branch, tag or commit; default: the main branch.

    Raises
    ------
    CheckpointError
        One line where it is missing, gated, offline or out of reach.
    """
    from huggingface_hub import HfApi

    with hub_errors(name, name):
        info = HfApi(library_name=LIBRARY).model_info(name, revision=revision, timeout=timeout())
    if not info.sha:
        raise CheckpointError(f"'{name}' could not be fetched: the Hub names no commit of it.")
    licence = next((str(tag)[8:] for tag in info.tags or () if str(tag).startswith("license:")), "")
    return Repository(name, info.sha, tuple(str(file.rfilename) for file in info.siblings or ()), licence)


def timeout() -> float:
    """Return the seconds after which the client gives a silent server up (``HF_HUB_DOWNLOAD_TIMEOUT``)."""
    from huggingface_hub import constants

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)


def headers() -> dict[str, str]:
    """Return the client's headers, the token among them where there is one."""
    from huggingface_hub.utils import build_hf_headers

    return dict(build_hf_headers(library_name=LIBRARY))


def url_of(repository: Repository, file: str) -> str:
    """Return the address of a file at the repository's commit."""
    from huggingface_hub import hf_hub_url

    return str(hf_hub_url(repository.name, file, revision=repository.commit))


@contextmanager
def open_stream(url: str, more: dict[str, str]) -> Iterator[tuple[int, Any, Iterator[bytes]]]:
    """Open a file for reading piece by piece, redirects followed; the token goes to the Hub's own origin alone.

    Parameters
    ----------
    url : str
    more : headers beside the client's

    Yields
    ------
    status, headers, pieces of the body

    Notes
    -----
    The client spoke through requests up to 0.36 and speaks through httpx since. Both leave the authorisation out
    where a redirect goes to another host or port.
    """
    from huggingface_hub.utils import get_session, hf_raise_for_status

    session: Any = get_session()
    # no compression, so that bytes asked for are bytes received
    sent = headers() | {"Accept-Encoding": "identity"} | more
    if callable(getattr(session, "stream", None)):  # requests has a flag of that name
        with session.stream("GET", url, headers=sent, timeout=timeout(), follow_redirects=True) as response:
            hf_raise_for_status(response)
            yield response.status_code, response.headers, response.iter_raw()
    else:
        with session.get(url, headers=sent, timeout=timeout(), stream=True) as response:
            hf_raise_for_status(response)
            yield response.status_code, response.headers, response.iter_content(1 << 16)


def failures() -> tuple[type[Exception], ...]:
    """Return the exceptions by which the client and its transport report trouble."""
    from huggingface_hub.errors import HfHubHTTPError

    # the transport's own base class: httpx.HTTPError, or requests.HTTPError, which is an OSError like its kin
    return OSError, ValueError, HfHubHTTPError.__mro__[1]


def is_passing(error: BaseException) -> bool:
    """Return whether trying again may help: a broken connection or a busy server, no refusal."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, (OfflineModeIsEnabled, ValueError)):
        return False
    if isinstance(error, HfHubHTTPError):
        return status_of(error) in (408, 425, 429) or (status_of(error) or 0) >= 500
    return True


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of the client's error."""
    return getattr(getattr(error, "response", None), "status_code", None)


@contextmanager
def hub_errors(what: str, repository: str) -> Iterator[None]:
    """Turn the client's exceptions into one CheckpointError.

    Parameters
    ----------
    what : str
        What is fetched, as a person named it.
    repository : ORG/REPO
    """
    try:
        check_token()
        yield
    except LLM4SegError:
        raise
    except failures() as error:
        message = f"'{what[:200]}' could not be fetched: {reason(error, repository)}."
        # what has an answer of the Hub in it came through; all else is a matter of the way there
        answered = any(status_of(cause) for cause in (error, error.__cause__) if cause is not None)
        raise (CheckpointError if answered or isinstance(error, ValueError) else OutOfReach)(message) from error


def check_token() -> None:
    """Raise CheckpointError where the token cannot be sent, before a library quotes it in its complaint."""
    from huggingface_hub import get_token

    token = get_token()
    if token is not None and not (token.isascii() and token.isprintable()):
        raise CheckpointError(
            "The Hub's token holds a character that no request may carry; set HF_TOKEN anew or log in again."
        )


def reason(error: BaseException, repository: str) -> str:
    """Return why the Hub gave nothing, and what to do; built from what is known, so no token can be in it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = PAGE + repository
    # whole-repository downloads report every trouble as a file that is not in the cache, with the trouble as its cause
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, failures()):
        return reason(error.__cause__, repository)
    if isinstance(error, HFValidationError):
        return "that is no repository's name, which has the form ORG/REPO"
    if isinstance(error, OfflineModeIsEnabled) or (
        isinstance(error, LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE
    ):
        return "it is not at hand and HF_HUB_OFFLINE is set; unset it, or fetch where there is a network"
    if isinstance(error, GatedRepoError):
        return _gated(page)
    if isinstance(error, RevisionNotFoundError):
        return "the Hub has no such revision of it; give a branch, tag or commit of " + page
    if isinstance(error, RepositoryNotFoundError):
        return f"the Hub has no such repository, or it is private and no token for it was sent; see {page}"
    if isinstance(error, LocalEntryNotFoundError):
        return f"{constants.ENDPOINT} cannot be reached and it is not in the Hub's cache; check the network"
    if isinstance(error, EntryNotFoundError):
        return "a file of it is missing on the Hub"
    if isinstance(error, HfHubHTTPError):
        status = status_of(error)
        if status in (401, 403):
            return (
                f"the Hub refused the token (status {status}); renew it at {PAGE}settings/tokens, and if the "
                f"repository is gated accept its licence at {page}"
            )
        return f"the Hub answered with status {status}; try again later, {_AGAIN}"
    if isinstance(error, ValueError):
        return f"the Hub's client gave up ({type(error).__name__}); check HF_ENDPOINT and the token's spelling"
    return (
        f"the connection to {constants.ENDPOINT} failed ({type(error).__name__}); check the network and HF_ENDPOINT, "
        f"then {_AGAIN}"
    )


def _gated(page: str) -> str:
    from huggingface_hub import get_token

    if get_token() is None:
        return f"it is gated; accept its licence at {page}, then log in with `hf auth login` or set HF_TOKEN"
    return f"it is gated and your token has no access; accept its licence at {page} with the token's account"
