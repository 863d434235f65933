"""vLLM's real server with named configurations, and who may ask it for what."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from support.conformance import random_vector

from lm_eval_trust.cli import main
from lm_eval_trust.steering.vectors import SteeringVector

pytest.importorskip("vllm", reason="`make vllm` makes the environment with vLLM")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

#: Name → what is served under it, of one direction at two layers.
CONFIGURATIONS = {
    "right": {"layer": 12, "alpha": 1},
    "unsteered": {"layer": 12, "alpha": 0},
    "opposite": {"layer": 12, "alpha": -1},
    "deeper": {"layer": 14, "alpha": 1},
}
PROMPT = "The capital of France is"


@dataclass(frozen=True)
class Served:
    url: str
    model: str
    folder: Path

    def ask(self, path: str = "/completions", /, **body: Any) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=60)

    def text(self, **asked: Any) -> str:
        given = {"model": self.model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
        reply = self.ask(**{**given, **asked})
        assert reply.status_code == 200, reply.text
        found: str = reply.json()["choices"][0]["text"]
        return found


@pytest.fixture(scope="module")
def served(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    layer = random_vector(576, (12,), norm=40.0, seed=3).layer(12)
    SteeringVector({12: layer, 14: layer}, name="twice").save(folder / "v.safetensors")
    files = []
    for name, settings in CONFIGURATIONS.items():
        files.append(folder / f"{name}.yaml")
        entry = {"vector": "v.safetensors", "scale": "none", **settings}
        files[-1].write_text(yaml.safe_dump({"steering": [entry]}), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = "--dtype float32 --enforce-eager --max-model-len 512 --num-gpu-blocks-override 64"
    command = [
        *(sys.executable, "-m", "lm_eval_trust", "serve", str(smollm2), "--port", str(port)),
        *(part for file in files for part in ("--steering", str(file))),
        f"--vllm={arguments}",
    ]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    environment |= {"LM_EVAL_TRUST_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    found = Served(f"http://127.0.0.1:{port}/v1", str(smollm2), folder)
    try:
        _wait(found, process)
        yield found
        process.terminate()
        assert process.wait(60) in (0, -signal.SIGTERM), "what it started ends with it"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(served: Served, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            if requests.get(served.url.removesuffix("/v1") + "/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.5)
    log = (served.folder / "log").read_text(encoding="utf-8", errors="replace")
    pytest.fail(f"the server has not started:\n{log[-4000:]}")


@pytest.mark.model
def test_the_openai_client(served: Served) -> None:
    from openai import BadRequestError, OpenAI

    with OpenAI(base_url=served.url, api_key="none", max_retries=0) as client:
        assert {model.id for model in client.models.list()} == {served.model, *CONFIGURATIONS}

        def ask(model: str, **extra: Any) -> str:
            answer = client.completions.create(
                model=model, prompt=PROMPT, max_tokens=8, temperature=0, extra_body=extra
            )
            return answer.choices[0].text

        plain = ask(served.model)
        assert ask("right") == ask(served.model, steering="right") != plain
        assert ask("unsteered") == plain
        assert len({ask(name) for name in CONFIGURATIONS}) == len(CONFIGURATIONS)
        messages: Any = [{"role": "user", "content": PROMPT}]
        chats = [
            client.chat.completions.create(
                model=served.model, messages=messages, max_tokens=8, temperature=0, extra_body=extra
            )
            .choices[0]
            .message.content
            for extra in ({}, {"steering": "right"})
        ]
        assert chats[0] != chats[1]
        streamed = client.completions.create(
            model="right", prompt=PROMPT, max_tokens=8, temperature=0, stream=True
        )
        assert "".join(part.choices[0].text for part in streamed) == ask("right")
        with pytest.raises(BadRequestError, match="nonesuch"):
            ask(served.model, steering="nonesuch")


@pytest.mark.model
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/completions", b"{", 400),
        ("/completions", b"\x00\xff", 400),
        ("/completions", b"[" * 200_000, 400),
        ("/completions", b"[1]", 400),
        ("/completions", b'{"model": ["right"], "prompt": "a"}', 400),
        ("/completions", b'{"model": "nonesuch", "prompt": "a"}', 404),
        ("/completions", {"steering": "nonesuch"}, 400),
        ("/completions", {"steering": 7}, 400),
        ("/completions", {"steering": {"name": "right", "vector": [1, 2]}}, 400),
        ("/completions", {"steering": {"name": "right", "prompt_end": -9}}, 400),
        ("/completions", {"model": "right", "steering": "deeper"}, 400),
        ("/completions", {"model": "right", "vllm_xargs": "x"}, 400),
        ("/completions", {"vllm_xargs": 5}, 400),
        ("/completions", {"vllm_xargs": {"lm_eval_trust": '{"plan": "x"}'}}, 400),
        ("/completions", {"vllm_xargs": {"lm_eval_trust_divergence": "{}"}}, 400),
        ("/completions", {"model": "right", "echo": True, "logprobs": 1}, 400),
        ("/completions", {"model": "right", "prompt": []}, 400),
        ("/completions", {"model": "right", "prompt": [10**9]}, 400),
        ("/completions", {"model": "right", "prompt": "word " * 600}, 400),
        ("/responses", {"model": "right", "input": "a"}, 400),
        ("/responses", {"input": "a", "vllm_xargs": {"lm_eval_trust": "{}"}}, 400),
    ],
)
def test_rubbish_is_refused(served: Served, path: str, body: Any, status: int) -> None:
    if isinstance(body, dict):
        content = {"model": served.model, "prompt": "a", "max_tokens": 1, **body}
        body = json.dumps(content).encode()
    headers = {"content-type": "application/json"}
    reply = requests.post(served.url + path, data=body, headers=headers, timeout=60)
    assert reply.status_code == status, reply.text
    assert len(reply.json()["error"]["message"]) < 1500


@pytest.mark.model
def test_a_huge_body_is_refused_and_the_engine_goes_on(served: Served) -> None:
    before = served.text(model="right")
    try:
        reply = served.ask(model="right", prompt="a" * (65 * 2**20))
    except requests.ConnectionError:  # It hung up before all was sent.
        pass
    else:
        assert reply.status_code == 413
    served.ask(model="right", prompt="\ud800", prompt_end=10**30, max_tokens=1)
    served.text(steering={"name": "right", "prompt_end": 10**30})
    assert served.text(model="right") == before


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("right", 0, "applies the steering as asked"),
        ("unsteered", 1, "answers as if unsteered"),
        ("opposite", 1, "as if the sign were turned"),
        ("deeper", 1, "as if the layer were 2 higher"),
    ],
)
def test_verify_server(
    served: Served, capsys: pytest.CaptureFixture[str], name: str, code: int, words: str
) -> None:
    steering = served.folder / "right.yaml"
    command = ["verify-server", served.url, "--name", name, "--steering", str(steering)]
    assert main([*command, "--model", served.model, "--prompts", "4"]) == code
    assert words in capsys.readouterr().out


@pytest.mark.model
def test_lm_eval_s_own_command_gives_the_same_answers_everywhere(
    served: Served, tmp_path: Path
) -> None:
    steering, common = served.folder / "right.yaml", f"pretrained={served.model},dtype=float32"
    server = f"model=right,base_url={served.url}/completions,tokenizer={served.model}"
    runs = {
        "local-completions": f"{server},num_concurrent=4,max_length=512",
        "steered_amber": f"{common},steering={steering}",
        "steered_vllm": f"{common},steering={steering},enforce_eager=True,max_model_len=512",
    }
    answers = []
    for model, given in runs.items():
        out = tmp_path / model
        command = [
            *(sys.executable, "-m", "lm_eval", "--model", model, "--model_args", given),
            *("--tasks", "trust_truthfulqa_mini", "--limit", "8", "--batch_size", "4"),
            *("--output_path", str(out), "--log_samples"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        (file,) = out.rglob("samples_*.jsonl")
        lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        answers.append([row["resps"][0][0] for row in sorted(lines, key=lambda r: r["doc_id"])])
    assert answers[0] == answers[1] == answers[2]
    assert len(set(answers[0])) > 1
