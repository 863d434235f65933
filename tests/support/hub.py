"""A server on localhost that speaks the Hugging Face Hub's protocol, errors included.

It serves other processes too: they find it by ``HF_ENDPOINT``. Large files are answered as the
Hub does: a redirect to another path, with the checksum and size of the file in its headers.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from support.hub_uploads import Uploads, answer_upload
from support.localhost import serve

#: Bytes from which on a file is kept as a large one.
LARGE = 1 << 14
#: For :attr:`Fault.times`.
ALWAYS = 1 << 62
_BLOCK = 1 << 12


@dataclass
class Fault:
    """How some requests go wrong.

    Attributes:
        path: Pattern of their paths, e.g. ``*/model.safetensors``.
        times: So many of them; the others are answered.
        status: Answer with this status and no content; 200 gets a page that is not the Hub's.
        retry_after: Value of the header of this name beside ``status``.
        rate_limit: Likewise.
        cut_at: Break the connection off after so many bytes of the content.
        wrong: Change a byte of the content.
        silence: Seconds of silence before the content.
        bytes_per_second: How fast the content is sent.
        command: Only requests of this kind.
    """

    path: str
    times: int = 1
    status: int | None = None
    retry_after: str | None = None
    rate_limit: str | None = None
    cut_at: int | None = None
    wrong: bool = False
    silence: float = 0
    bytes_per_second: float | None = None
    command: str = "GET"


@dataclass
class Repository:
    """One repository.

    Attributes:
        revisions: Name of a branch or tag → its files. Take one out, and it is missing.
    """

    revisions: dict[str, dict[str, bytes]]

    def commit(self, revision: str) -> str | None:
        """Return the commit of a revision's name or of a commit."""
        if revision in self.revisions:
            files = sorted(self.revisions[revision].items())
            return hashlib.sha1(repr([(p, _blob_id(c)) for p, c in files]).encode()).hexdigest()
        return revision if revision in map(self.commit, self.revisions) else None

    def files(self, revision: str) -> dict[str, bytes]:
        """Return the files of a revision that exists."""
        commit = self.commit(revision)
        return next(f for name, f in self.revisions.items() if self.commit(name) == commit)


@dataclass
class Hub:
    """What the server holds, and how it misbehaves.

    Attributes:
        address: For ``HF_ENDPOINT``.
        datasets: ``owner/name`` → repository.
        models: ``owner/name`` → repository.
        faults: The first that fits a request and is not used up applies to it.
        closed: Names of repositories that are answered with 403.
        asked: Method and path of every request.
        ranges: Path and first byte of every request for a part of a file.
        sent: Bytes of files that were sent.
        uploads: Who may write, and what was uploaded.
    """

    address: str
    datasets: dict[str, Repository] = field(default_factory=dict)
    models: dict[str, Repository] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    ranges: list[tuple[str, int]] = field(default_factory=list)
    sent: int = 0
    uploads: Uploads = field(default_factory=Uploads)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, command: str, path: str) -> Fault:
        """Return what goes wrong with a request, and count it off."""
        with self._lock:
            for fault in self.faults:
                if fault.times and fault.command == command and fnmatchcase(path, fault.path):
                    fault.times -= 1
                    return fault
        return Fault(path)


@dataclass(frozen=True)
class _Wanted:
    """A file that is asked for, and where its content is answered, if elsewhere."""

    content: bytes
    commit: str
    redirect: str | None


def files_of(folder: Path) -> dict[str, bytes]:
    """Return a model's files, for a revision."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def stand_in_model(seed: int, size: int) -> dict[str, bytes]:
    """Return files with the names of a model's, its weights ``size`` random bytes."""
    weights = random.Random(seed).randbytes(size)
    return {"config.json": b'{"seed": %d}' % seed, "model.safetensors": weights, "README.md": b"#"}


_API = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs)(?:/([^/]+))?)?/?(.*)$"
)
_FILE = re.compile(r"/(?:(cdn)/)?(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Run a Hub."""

    class Handler(_Handler):
        hub: Hub

    with serve(Handler) as address:
        Handler.hub = Hub(address)
        yield Handler.hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    @property
    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _sees(self, name: str) -> bool:
        owners = self.hub.uploads.owners.get(self._token, set())
        return name not in self.hub.uploads.private or name.partition("/")[0] in owners

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # A slash within a revision's name stays encoded until the path is taken apart.
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{self.command} {unquote(path)}")
        file = _FILE.match(path)
        wanted = self._wanted(*map(_unquoted, file.groups())) if file else None
        if wanted and wanted.redirect:
            self._redirect(wanted)
            return
        fault = self.hub.fault(self.command, unquote(path))
        time.sleep(fault.silence)
        if fault.status is not None:
            headers = {"Retry-After": fault.retry_after, "RateLimit": fault.rate_limit}
            self._refuse("", "", status=fault.status, headers=headers)
        elif upload := answer_upload(
            self.hub, self.command, self.path, self._token, body, Repository
        ):
            status, content, code = upload
            self._json(content, status=status, headers={"X-Error-Code": code} if code else {})
        elif wanted:
            self._send_file(wanted, fault)
        elif file:
            self._refuse_file(*map(_unquoted, file.groups()))
        elif api := _API.match(path):
            self._answer_api(*map(_unquoted, api.groups()), body)
        else:
            self._refuse("EntryNotFound", "No such page")

    def _wanted(
        self, cdn: str | None, prefix: str | None, name: str, revision: str, path: str
    ) -> _Wanted | None:
        """Return the file that is asked for, if it is there for all to see."""
        repository = (self.hub.datasets if prefix else self.hub.models).get(name)
        commit = repository and repository.commit(revision)
        if name in self.hub.closed or not self._sees(name) or not repository or not commit:
            return None
        content = repository.files(revision).get(path)
        if content is None:
            return None
        large = len(content) >= LARGE and not cdn
        return _Wanted(
            content, commit, f"/cdn/{prefix or ''}{name}/resolve/{commit}/{path}" if large else None
        )

    def _refuse_file(
        self, cdn: str | None, prefix: str | None, name: str, revision: str, path: str
    ) -> None:
        if self._repository("datasets" if prefix else "models", name, revision):
            self._refuse("EntryNotFound", f"{path} does not exist")

    def _repository(self, kind: str, name: str, revision: str | None) -> Repository | None:
        """Return a repository that has a revision; refuse the request otherwise."""
        held = self.hub.datasets if kind == "datasets" else self.hub.models
        if name in self.hub.closed:
            self._refuse("", "Not for you", status=403)
        elif name not in held or not self._sees(name):
            self._refuse("RepoNotFound", "Repository not found")
        elif revision is not None and held[name].commit(revision) is None:
            self._refuse("RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return held[name]
        return None

    def _answer_api(
        self,
        kind: str,
        name: str,
        what: str | None,
        revision: str | None,
        folder: str,
        body: bytes,
    ) -> None:
        revision = revision or "main"
        repository = self._repository(kind, name, None if what == "refs" else revision)
        if repository is None:
            return
        if what == "refs":
            self._json(_refs(repository))
            return
        files = repository.files(revision)
        if what == "tree":
            deep = "recursive=True" in urlsplit(self.path).query or "recursive=true" in self.path
            self._json(list(_tree(files, folder, recursive=deep)))
        elif what == "paths-info":
            wanted = _paths(body)
            self._json([_entry(path, files[path]) for path in wanted if path in files])
        else:
            siblings = [_sibling(path, content) for path, content in files.items()]
            commit = repository.commit(revision)
            self._json(
                {
                    "id": name,
                    "sha": commit,
                    "siblings": siblings,
                    "private": name in self.hub.uploads.private,
                    "tags": [],
                }
            )

    def _redirect(self, wanted: _Wanted) -> None:
        self.send_response(302)
        self.send_header("Location", self.hub.address + quote(str(wanted.redirect)))
        self.send_header("X-Linked-Etag", f'"{_sha256(wanted.content)}"')
        self.send_header("X-Linked-Size", str(len(wanted.content)))
        self.send_header("X-Repo-Commit", wanted.commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, wanted: _Wanted, fault: Fault) -> None:
        size = len(wanted.content)
        first, last = self._range(size)
        partial = first > 0 or last < size - 1
        self.send_response(206 if partial else 200)
        if partial:
            self.hub.ranges.append((unquote(urlsplit(self.path).path), first))
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        etag = _sha256(wanted.content) if size >= LARGE else _blob_id(wanted.content)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", wanted.commit)
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if self.command != "HEAD":
            self._send(wanted.content[first : last + 1], fault)

    def _send(self, part: bytes, fault: Fault) -> None:
        if fault.wrong and part:
            part = part[:-1] + bytes([part[-1] ^ 1])
        if fault.cut_at is not None:
            part = part[: fault.cut_at]
            self.close_connection = True
        rate = fault.bytes_per_second
        block = min(_BLOCK, int(rate / 20)) if rate else max(1, len(part))
        for start in range(0, len(part), block):
            try:
                self.wfile.write(part[start : start + block])
            except OSError:
                self.close_connection = True
                return
            self.hub.sent += len(part[start : start + block])
            if rate:
                time.sleep(block / rate)

    def _range(self, size: int) -> tuple[int, int]:
        found = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not found:
            return 0, size - 1
        return int(found[1]), min(int(found[2] or size - 1), size - 1)

    def _json(
        self,
        content: Any,
        *,
        status: int = 200,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(
        self,
        code: str,
        message: str,
        *,
        status: int = 404,
        headers: Mapping[str, str | None] = MappingProxyType({}),
    ) -> None:
        body = json.dumps({"error": message}).encode() if status != 200 else b"<html></html>"
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _unquoted(text: str | None) -> str | None:
    return None if text is None else unquote(text)


@cache
def _blob_id(content: bytes) -> str:
    """Return the name that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@cache
def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _refs(repository: Repository) -> dict[str, list[dict[str, str | None]]]:
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": repository.commit(name)}
        for name in repository.revisions
    ]
    return {"branches": branches, "tags": [], "converts": []}


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    described = {"rfilename": path, "size": len(content), "blobId": _blob_id(content)}
    if len(content) < LARGE:
        return described
    large = {"sha256": _sha256(content), "size": len(content), "pointerSize": 130}
    return {**described, "lfs": large}


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "oid": _blob_id(content), "size": len(content), "path": path}
    if len(content) < LARGE:
        return entry
    large = {"oid": _sha256(content), "size": len(content), "pointerSize": 130}
    return {**entry, "lfs": large}


def _tree(files: dict[str, bytes], folder: str, *, recursive: bool) -> Iterator[dict[str, Any]]:
    """Yield the entries of a folder; folders themselves as well."""
    prefix = f"{folder}/" if folder else ""
    folders = set()
    for path, content in files.items():
        if not path.startswith(prefix):
            continue
        below = path.removeprefix(prefix)
        if "/" in below and below.split("/")[0] not in folders:
            folders.add(below.split("/")[0])
            name = prefix + below.split("/")[0]
            yield {"type": "directory", "oid": _blob_id(name.encode()), "size": 0, "path": name}
        if recursive or "/" not in below:
            yield _entry(path, content)


def _paths(body: bytes) -> list[str]:
    try:
        paths: Iterable[str] = json.loads(body)["paths"]
    except (ValueError, KeyError):
        paths = parse_qs(body.decode()).get("paths", [])
    return list(paths)
