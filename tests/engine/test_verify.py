"""A running server is told from one that is unsteered, or steered otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import torch
from support.localhost import serve
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.engine.verify import verify_server
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

_VECTOR = torch.randn(32, generator=torch.Generator().manual_seed(5))
_STEP = SteeringStep(1, _VECTOR, 0.5)
PLAN = SteeringPlan((_STEP,))


@contextmanager
def _server(folder: Path, plan: SteeringPlan, form: str = "ids") -> Iterator[str]:
    """An OpenAI-compatible server: a model that really runs under a plan."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    steerer = Steerer(model, plan)

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        tokens = tokenizer(body["prompt"])["input_ids"]
        read, entries = len(tokens), []
        for _ in range(body["max_tokens"]):
            with steerer.apply(read - 1), torch.inference_mode():
                logprobs = model(torch.tensor([tokens])).logits[0, -1].log_softmax(-1)
            tokens.append(int(logprobs.argmax()))
            entries.append((tokens[-1], float(logprobs.max())))
        if form == "chat":
            told: Any = {"content": [{"id": i, "token": "", "logprob": p} for i, p in entries]}
        elif form == "none":
            told = None
        else:
            told = {
                "tokens": [f"token_id:{i}" for i, _ in entries],
                "token_logprobs": [p for _, p in entries],
            }
        usage = {"prompt_tokens": read + (form == "other tokenizer")}
        return {"choices": [{"logprobs": told}], "usage": usage}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({"data": [{"id": "served"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._reply(answer(body))

        def _reply(self, content: Any) -> None:
            text = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: object) -> None:
            pass

    with serve(Handler) as url:
        yield url


def _changed(**settings: Any) -> SteeringPlan:
    return SteeringPlan((replace(_STEP, **settings),))


@pytest.mark.parametrize("form", ["ids", "chat"])
def test_a_server_that_steers_is_told(tiny_llama: Callable[..., Path], form: str) -> None:
    with _server(tiny_llama(), PLAN, form) as url:
        found = verify_server(f"{url}/v1", PLAN, str(tiny_llama()), prompts=4)
    assert found.applied
    assert found.distances["as asked"] < 1e-4 < found.distances["unsteered"]
    assert found.tokens == 4 * 8


@pytest.mark.parametrize(
    ("plan", "cause"),
    [
        (SteeringPlan(), "as if unsteered"),
        (_changed(alpha=-0.5), "as if the sign were turned"),
        (_changed(layer=0), "as if the layer were 1 lower"),
        (_changed(alpha=1.0), "as if alpha were 2 times as large"),
        (_changed(positions="all"), "as if positions were all"),
        (_changed(vector=_VECTOR.flip(0)), "none of the mistakes tried explains"),
    ],
)
def test_a_server_that_does_otherwise_is_told_with_the_cause(
    tiny_llama: Callable[..., Path], plan: SteeringPlan, cause: str
) -> None:
    with _server(tiny_llama(), plan) as url:
        found = verify_server(url, PLAN, str(tiny_llama()), prompts=4)
    assert not found.applied
    assert cause in found.sentence


def test_the_command_has_exit_codes(
    tiny_llama: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(_VECTOR, tmp_path / "v_layer1.pt")
    file = tmp_path / "steering.yaml"
    file.write_text(
        f"steering:\n  - vector: {tmp_path / 'v_layer1.pt'}\n    layer: 1\n    alpha: 0.5\n"
        f"    scale: none\n"
    )
    ask = ["--steering", str(file), "--model", str(tiny_llama()), "--prompts", "3"]
    out = tmp_path / "verdict.json"
    with _server(tiny_llama(), PLAN) as url:
        assert main(["verify-server", url, *ask, "--out", str(out)]) == 0
    assert json.loads(out.read_text())["applied"] is True
    with _server(tiny_llama(), SteeringPlan()) as url:
        assert main(["verify-server", url, *ask]) == 1
    assert "as if unsteered" in capsys.readouterr().out
    assert main(["verify-server", url, *ask]) == 3


@pytest.mark.parametrize(
    ("form", "words"),
    [("none", "no log-probabilities of its tokens"), ("other tokenizer", "runs another model")],
)
def test_a_server_that_cannot_be_compared_is_refused(
    tiny_llama: Callable[..., Path], form: str, words: str
) -> None:
    with _server(tiny_llama(), PLAN, form) as url, pytest.raises(InputError, match=words):
        verify_server(url, PLAN, str(tiny_llama()), prompts=1)


def test_a_steering_too_weak_to_be_told_is_refused(tiny_llama: Callable[..., Path]) -> None:
    weak = _changed(alpha=1e-4)
    with _server(tiny_llama(), weak) as url, pytest.raises(InputError, match="too little to tell"):
        verify_server(url, weak, str(tiny_llama()), prompts=2)


def test_a_server_that_is_not_there_is_said(tiny_llama: Callable[..., Path]) -> None:
    with pytest.raises(ExternalError, match=r"127\.0\.0\.1:9"):
        verify_server("http://127.0.0.1:9", PLAN, str(tiny_llama()))
