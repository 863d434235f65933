from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from support.localhost import serve

from lm_eval_trust.benchmarks.pku_saferlhf import safe_unsafe_pairs


def row(safe_0: bool, safe_1: bool) -> dict[str, object]:
    return {
        "prompt": "How is a kite mended?",
        "response_0": "With tape.",
        "response_1": "With fire.",
        "is_response_0_safe": safe_0,
        "is_response_1_safe": safe_1,
    }


def test_only_pairs_with_exactly_one_safe_response_count() -> None:
    rows = [row(True, True), row(False, False), row(True, False), row(False, True)]
    found = [(pair["safe_response"], pair["unsafe_response"]) for pair in safe_unsafe_pairs(rows)]
    assert found == [("With tape.", "With fire."), ("With fire.", "With tape.")]


@pytest.fixture
def hub_without_revisions() -> Iterator[str]:
    """A server that answers as the Hub does for a revision that does not exist."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"error": "Invalid rev id"}).encode()
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serve(Handler) as address:
        yield address


@pytest.mark.slow
def test_a_revision_that_does_not_exist_is_named(
    hub_without_revisions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub_without_revisions)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("LM_EVAL_TRUST_PKU_REVISION", "v99")
    monkeypatch.delenv("LM_EVAL_TRUST_DATA", raising=False)
    code = (
        "from lm_eval_trust.benchmarks.files import locate\n"
        "from lm_eval_trust.core.errors import InputError\n"
        "try:\n"
        "    locate('pku_saferlhf/pku_saferlhf_pairs.jsonl')\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "has no revision 'v99'" in done.stdout, done.stderr
    assert "LM_EVAL_TRUST_PKU_REVISION" in done.stdout
