"""Real benchmark files, and a file server that can misbehave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from support.localhost import serve

from lm_eval_trust.benchmarks.files import BASE_VARIABLE, DATA_VARIABLE


@pytest.fixture
def real_data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of real files, set as the one in use whatever a test did to the environment."""
    monkeypatch.setenv(DATA_VARIABLE, str(data_dir))
    return data_dir


@dataclass
class FileServer:
    """What a GitHub-like server holds, and what it was asked for.

    Attributes:
        address: Base address.
        contents: Path → content.
        cut: Paths whose connection breaks off after half of the content.
        asked: Paths asked for, in order.
    """

    address: str
    contents: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A local server in GitHub's place, with the network allowed and no local folder."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            content = state.contents.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if self.path in state.cut else content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serve(Handler) as address:
        state = FileServer(address)
        monkeypatch.setenv(BASE_VARIABLE, address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.delenv(DATA_VARIABLE, raising=False)
        yield state
