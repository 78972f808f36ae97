"""A small Hugging Face Hub on loopback: its real routes, and a storage host beside it that it redirects to.

The Hub listens on 127.0.0.1 and the storage on localhost at another port, so that they are two origins.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

LFS_SUFFIXES = (".safetensors", ".gguf")


def git_digest(data: bytes) -> str:
    """The etag of a file that the Hub holds itself."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """A repository: its commits' files, branches, and who may read it."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    gated: bool = False
    private: bool = False
    licence: str = "mit"

    @classmethod
    def of(cls, files: dict[str, bytes], **options: Any) -> Repo:
        commit = hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(files.items()))).hexdigest()
        return cls({commit: files}, {"main": commit}, **options)

    def push(self, files: dict[str, bytes]) -> str:
        """Add a commit to the main branch and return it."""
        commit = Repo.of(files).branches["main"]
        self.commits[commit] = files
        self.branches["main"] = commit
        return commit


@dataclass
class Asked:
    """One request as it came."""

    host: str
    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Hub:
    """Repositories and behaviour of the server, and what it saw.

    Attributes
    ----------
    accepted : tokens that may read gated and private repositories
    known : tokens that are valid but have not accepted a licence
    cuts : the storage closes its next answers after so many bytes of body each
    busy : statuses that the next requests to the Hub are answered with
    ranges : whether the storage honours byte ranges
    spoil : whether the storage flips a bit of what it sends
    pause : seconds between the storage's pieces of 64 KiB
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)
    ranges: bool = True
    spoil: bool = False
    pause: float = 0.0
    log: list[Asked] = field(default_factory=list)
    sent: int = 0
    endpoint: str = ""
    storage: str = ""

    def asked(self, host: str, method: str = "GET") -> list[Asked]:
        return [asked for asked in self.log if asked.host == host and asked.method == method]

    def forget(self) -> None:
        """Empty the log and the count of bytes sent, once what a stopped client left in the pipe has drained."""
        before = -1
        while before != self.sent:
            before = self.sent
            time.sleep(0.05 + self.pause)
        self.log.clear()
        self.sent = 0

    def blob(self, digest: str) -> bytes | None:
        for repo in self.repos.values():
            for files in repo.commits.values():
                for data in files.values():
                    if hashlib.sha256(data).hexdigest() == digest:
                        return data
        return None

    def __enter__(self) -> Hub:
        self._servers = []
        for host, handler in (("127.0.0.1", _HubHandler), ("localhost", _StorageHandler)):
            bound = type("Bound", (handler,), {"hub": self, "name": "hub" if host == "127.0.0.1" else "storage"})
            server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            self._servers.append(server)
            address = f"http://{host}:{server.server_port}"
            self.endpoint, self.storage = (address, self.storage) if host == "127.0.0.1" else (self.endpoint, address)
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    name: str

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client was stopped
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

    def note(self) -> None:
        headers = self.headers
        self.hub.log.append(
            Asked(self.name, self.command, self.path, headers.get("Range"), headers.get("Authorization"))
        )

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        step = 1 << 16 if self.hub.pause else max(len(body), 1)
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            self.hub.sent += len(body[start : start + step])
            time.sleep(self.hub.pause)

    def part(self, data: bytes, headers: dict[str, str]) -> None:
        """Answer with the range that was asked for."""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if found is None or not self.hub.ranges:
            self.body(200, data, headers)
            return
        start, stop = int(found[1]), min(int(found[2]) + 1, len(data))
        if start >= len(data):
            self.answer(416, {"Content-Range": f"bytes */{len(data)}"})
            return
        self.body(206, data[start:stop], headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"})

    def body(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        if self.command == "GET" and self.hub.cuts and self.name == "storage":
            cut = self.hub.cuts.pop(0)
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(key, value)
            self.end_headers()
            self.hub.sent += len(data[:cut])
            self.wfile.write(data[:cut])
            self.wfile.flush()
            self.close_connection = True
            return
        self.answer(status, headers, data)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        raise NotImplementedError


class _StorageHandler(_Handler):
    """Where large files lie; it knows no tokens, as signed addresses need none."""

    def do_GET(self) -> None:
        self.note()
        data = self.hub.blob(urlparse(self.path).path.rsplit("/", 1)[-1])
        if data is None:
            self.answer(404)
            return
        if self.hub.spoil:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.part(data, {"ETag": '"storage-has-its-own"', "Accept-Ranges": "bytes"})


class _HubHandler(_Handler):
    def do_GET(self) -> None:
        self.note()
        if self.hub.busy:
            self.answer(self.hub.busy.pop(0))
            return
        path = unquote(urlparse(self.path).path)
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
        tree = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if tree:
            self.tree(tree[1], tree[2])
        elif api:
            self.about(api[1], api[2] or "main")
        elif file:
            self.file(file[1], file[2], file[3])
        else:
            self.answer(404)

    def refuse(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer(status, headers, json.dumps({"error": message}).encode())

    def repo(self, name: str, files: bool) -> Repo | None:
        """Return the repository where the token may see it; else answer as the Hub does."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.accepted | self.hub.known:
            self.refuse(401, None, "Invalid credentials in Authorization header")
            return None
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and token not in self.hub.accepted):
            self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
            return None
        if files and repo.gated and token not in self.hub.accepted:
            self.refuse(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted.")
            return None
        return repo

    def commit(self, repo: Repo, revision: str) -> str | None:
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit

    def about(self, name: str, revision: str) -> None:
        repo = self.repo(name, files=False)
        commit = self.commit(repo, revision) if repo else None
        if repo is None or commit is None:
            return
        about = {
            "id": name,
            "sha": commit,
            "gated": "manual" if repo.gated else False,
            "tags": ["safetensors", f"license:{repo.licence}"],
            "siblings": [{"rfilename": file} for file in repo.commits[commit]],
        }
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(about).encode())

    def tree(self, name: str, revision: str) -> None:
        repo = self.repo(name, files=False)
        commit = self.commit(repo, revision) if repo else None
        if repo is None or commit is None:
            return
        rows = []
        for file, data in repo.commits[commit].items():
            row: dict[str, Any] = {"type": "file", "path": file, "size": len(data), "oid": git_digest(data)}
            if file.endswith(LFS_SUFFIXES):
                row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            rows.append(row)
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(rows).encode())

    def file(self, name: str, revision: str, file: str) -> None:
        repo = self.repo(name, files=True)
        commit = self.commit(repo, revision) if repo else None
        if repo is None or commit is None:
            return
        data = repo.commits[commit].get(file)
        if data is None:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": commit}
        if not file.endswith(LFS_SUFFIXES):
            self.part(data, headers | {"ETag": f'"{git_digest(data)}"'})
            return
        digest = hashlib.sha256(data).hexdigest()
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data)), "ETag": f'"{digest}"'}
        place = f"{self.hub.storage}/repos/{digest}?X-Signature=abc"
        self.answer(302, headers | linked | {"Location": place}, b"redirect")


def use_real_client(hub: Hub, monkeypatch: Any, home: Any) -> None:
    """Point huggingface_hub, which reads its environment once, at ``hub``, with no token and an own home."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    from napari_llm4seg.models import partial

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(partial, "WAIT", 0.0)
    close_session()
