"""A server on localhost that speaks the Hugging Face Hub's protocol, errors included."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """One repository.

    Attributes:
        revisions: Name of a branch or tag → its files.
    """

    revisions: dict[str, dict[str, bytes]]

    def commit(self, revision: str) -> str | None:
        """Return the commit of a revision's name or of a commit."""
        if revision in self.revisions:
            return hashlib.sha1(repr(sorted(self.revisions[revision].items())).encode()).hexdigest()
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
        asked: Method and path of every request.
        broken: Paths of files whose connection breaks off half way.
    """

    address: str
    datasets: dict[str, Repository] = field(default_factory=dict)
    models: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)


_API = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+))?/?(.*)$"
)
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Run a Hub."""

    class Handler(_Handler):
        hub: Hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Handler.hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if api := _API.match(path):
            kind, name, what, revision, folder = api.groups()
            repository = self._repository(kind, name, revision or "main")
            if repository is not None:
                self._answer_api(repository, name, what, revision or "main", folder, body)
        elif file := _FILE.match(path):
            prefix, name, revision, file_path = file.groups()
            self._answer_file("datasets" if prefix else "models", name, revision, file_path)
        else:
            self._refuse("EntryNotFound", "No such page")

    def _repository(self, kind: str, name: str, revision: str) -> Repository | None:
        held = self.hub.datasets if kind == "datasets" else self.hub.models
        if name not in held:
            self._refuse("RepoNotFound", "Repository not found")
            return None
        if held[name].commit(revision) is None:
            self._refuse("RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return held[name]

    def _answer_api(
        self,
        repository: Repository,
        name: str,
        what: str | None,
        revision: str,
        folder: str,
        body: bytes,
    ) -> None:
        files = repository.files(revision)
        if what == "tree":
            deep = "recursive=True" in urlsplit(self.path).query or "recursive=true" in self.path
            self._json(list(_tree(files, folder, recursive=deep)))
        elif what == "paths-info":
            wanted = _paths(body)
            self._json([_entry(path, files[path]) for path in wanted if path in files])
        else:
            siblings = [{"rfilename": path} for path in files]
            commit = repository.commit(revision)
            self._json(
                {"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": []}
            )

    def _answer_file(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = self._repository(kind, name, revision)
        if repository is None:
            return
        content = repository.files(revision).get(path)
        if content is None:
            self._refuse("EntryNotFound", f"{path} does not exist")
            return
        first, last = self._range(len(content))
        part = content[first : last + 1]
        partial = len(part) < len(content)
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", str(repository.commit(revision)))
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if path in self.hub.broken:
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            return
        self.wfile.write(part)

    def _range(self, size: int) -> tuple[int, int]:
        found = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not found:
            return 0, size - 1
        return int(found[1]), min(int(found[2] or size - 1), size - 1)

    def _json(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _entry(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "oid": oid, "size": len(content), "path": path}


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
            yield {"type": "directory", "oid": _entry(name, b"")["oid"], "size": 0, "path": name}
        if recursive or "/" not in below:
            yield _entry(path, content)


def _paths(body: bytes) -> list[str]:
    try:
        paths: list[str] = json.loads(body)["paths"]
    except (ValueError, KeyError):
        from urllib.parse import parse_qs

        paths = parse_qs(body.decode()).get("paths", [])
    return paths
