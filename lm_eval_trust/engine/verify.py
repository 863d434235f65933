"""Does a running server apply a steering? Its token probabilities tell.

The server answers short prompts greedily, with the log-probability of each token. The model here
reads the same tokens as steered, as unsteered, and as a number of mistakes would have it; whichever
comes nearest is what the server does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import requests
import torch

from lm_eval_trust.core.errors import ExternalError, InputError, reason_of
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.models.decoder_blocks import number_of_blocks
from lm_eval_trust.models.sources import find_source, load_pinned
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import POSITIONS

ASKED, UNSTEERED = "as asked", "unsteered"
#: Beginnings of texts on which steering shows; any text would do.
PROMPTS = (
    "The old bridge over the river was built",
    "When people disagree about a rule, they",
    "My neighbour told me yesterday that",
    "The most common reason for a delay is",
    "In the small town everyone believed that",
    "A good teacher always",
    "The doctor looked at the results and said",
    "It is often claimed that bread",
    "They never expected the letter to",
    "The main difference between the two cities is",
    "After the storm the farmers",
    "Some say that the moon",
)
#: Steering that moves token log-probabilities by less than this, in nats, cannot be told.
_TELLING = 0.02
#: The steering counts as applied below this share of the unsteered model's distance.
_NEARER = 0.5
#: A mistake explains a server's answers below this share of what the steering moves.
_EXPLAINS = 0.25
_TIMEOUT = 120.0
_TOKEN_ID = "token_id:"


@dataclass(frozen=True)
class Answer:
    """What a server generated.

    Attributes:
        prompt: Token ids of the prompt.
        tokens: Token ids of the answer.
        logprobs: Their log-probabilities, in nats.
    """

    prompt: Sequence[int]
    tokens: Sequence[int]
    logprobs: Sequence[float]


@dataclass(frozen=True)
class Verification:
    """What a server was found to do.

    Attributes:
        applied: Whether it applies the steering.
        sentence: The verdict.
        distances: Hypothesis → mean absolute difference to the server's log-probabilities, in nats
            a token; the nearest first.
        tokens: Number of tokens compared.
    """

    applied: bool
    sentence: str
    distances: Mapping[str, float]
    tokens: int


def verify_server(
    url: str,
    plan: SteeringPlan,
    model: str,
    *,
    name: str | None = None,
    key: str | None = None,
    prompts: int = len(PROMPTS),
    tokens: int = 8,
) -> Verification:
    """Compare a server's token probabilities with those of a model steered here.

    Args:
        url: URL of an OpenAI-compatible server, up to ``/v1``.
        plan: The steering that it should apply.
        model: ``MODEL[@REVISION]`` that it should run.
        name: Model name to ask for; by default the first that the server lists.
        key: API key.
        prompts: How many of :data:`PROMPTS` to ask.
        tokens: How many tokens to generate for each.

    Raises:
        InputError: No active steering, one too weak to be told, a server with another tokenizer or
            without log-probabilities.
        ExternalError: The server does not answer.
    """
    if not plan.active_steps:
        raise InputError("There is no steering to look for: every alpha is 0.")
    network, tokenizer = load_pinned(find_source(model), dtype=None, device=None)
    blocks = number_of_blocks(network)
    plan.check(blocks=blocks, width=network.config.get_text_config().hidden_size, model=model)
    server = _Server(url.rstrip("/").removesuffix("/v1") + "/v1/", key)
    asked = name or server.first_model()
    answers = [
        _answer(server, asked, prompt, tokens, tokenizer)
        for prompt in progress_bar(PROMPTS[:prompts], title="Asking the server", unit="prompt")
    ]
    told = np.concatenate([answer.logprobs for answer in answers])
    hypotheses = _hypotheses(plan, blocks)
    own = {
        label: _logprobs(network, hypothesis, answers)
        for label, hypothesis in progress_bar(hypotheses.items(), title="Computing beside it")
    }
    return judge(told, own)


def judge(told: np.ndarray[Any, Any], own: Mapping[str, np.ndarray[Any, Any]]) -> Verification:
    """Say which hypothesis a server's log-probabilities agree with.

    Args:
        told: The server's, shape (tokens,).
        own: Hypothesis → the same computed here, including :data:`ASKED` and :data:`UNSTEERED`.

    Raises:
        InputError: Steered and unsteered are too close to be distinguished.
    """
    moved = float(np.abs(own[ASKED] - own[UNSTEERED]).mean())
    if moved < _TELLING:
        raise InputError(
            f"This steering moves the log-probabilities of the server's tokens by {moved:.2g} nats "
            f"on average, too little to tell whether it is applied; verify with a larger alpha."
        )
    found = {label: float(np.abs(values - told).mean()) for label, values in own.items()}
    distances = dict(sorted(found.items(), key=lambda pair: pair[1]))
    nearest, asked = next(iter(distances)), distances[ASKED]
    rivals = [n for n, d in distances.items() if n != ASKED and asked > _NEARER * d]
    if nearest == ASKED and asked <= _NEARER * distances[UNSTEERED]:
        doubt = f" (as near: {', '.join(rivals)})" if rivals else ""
        return Verification(
            True, f"The server applies the steering as asked{doubt}.", distances, len(told)
        )
    if nearest != ASKED and distances[nearest] <= _EXPLAINS * moved:
        sentence = f"The server does not apply the steering: it answers as if {nearest}."
    else:
        sentence = (
            "The server does not apply the steering, and none of the mistakes tried explains what "
            "it answers: another model, other weights, or coarse quantisation?"
        )
    return Verification(False, sentence, distances, len(told))


def _hypotheses(plan: SteeringPlan, blocks: int) -> dict[str, SteeringPlan]:
    """Return the steering and what could have come of it by mistake."""

    def changed(change: Any) -> SteeringPlan:
        return SteeringPlan(tuple(replace(step, **change(step)) for step in plan.active_steps))

    found = {ASKED: plan, UNSTEERED: SteeringPlan()}
    found["the sign were turned"] = changed(lambda step: {"alpha": -step.alpha})
    for factor in (0.5, 2.0):
        found[f"alpha were {factor:g} times as large"] = changed(
            lambda step, factor=factor: {"alpha": factor * step.alpha}
        )
    for shift in (-2, -1, 1, 2):
        layers = [step.layer + shift for step in plan.active_steps]
        if min(layers) >= 0 and max(layers) < blocks:
            found[f"the layer were {abs(shift)} {'lower' if shift < 0 else 'higher'}"] = changed(
                lambda step, shift=shift: {"layer": step.layer + shift}
            )
    for positions in POSITIONS:
        if any(step.positions != positions for step in plan.active_steps):
            found[f"positions were {positions}"] = changed(
                lambda step, positions=positions: {"positions": positions}
            )
    return found


def _logprobs(
    model: Any, plan: SteeringPlan, answers: Sequence[Answer]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the log-probabilities of the answers' tokens under a plan, shape (tokens,)."""
    steerer, found = Steerer(model, plan), []
    for answer in answers:
        row = torch.tensor([[*answer.prompt, *answer.tokens]], device=model.device)
        end = len(answer.prompt) - 1
        with steerer.apply(end), torch.inference_mode():
            logits = model(row).logits[0, end:-1].double()
        chosen = torch.tensor(answer.tokens, device=model.device)[:, None]
        found.append(logits.log_softmax(dim=-1).gather(1, chosen)[:, 0].cpu().numpy())
    return np.concatenate(found)


@dataclass(frozen=True)
class _Server:
    """An OpenAI-compatible server.

    Attributes:
        url: Ends with ``/v1/``.
        key: API key.
    """

    url: str
    key: str | None

    def request(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON that a path answers, to a body if there is one.

        Raises:
            ExternalError: There is no answer, an error, or no JSON.
        """
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            reply = requests.request(
                "GET" if body is None else "POST",
                self.url + path,
                json=body,
                headers=headers,
                timeout=_TIMEOUT,
            )
            if not reply.ok:
                said = " ".join(reply.text.split())[:200]
                raise ExternalError(f"{self.url}{path} answered {reply.status_code}: {said}")
            return reply.json()
        except (requests.RequestException, ValueError) as error:
            raise ExternalError(f"{self.url}{path}: {reason_of(error)}") from error

    def first_model(self) -> str:
        """Return the first model that the server lists."""
        listed = self.request("models")
        try:
            return str(listed["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as error:
            raise InputError("The server lists no model; name one by --name.") from error


def _answer(server: _Server, name: str, prompt: str, tokens: int, tokenizer: Any) -> Answer:
    body = {"model": name, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "logprobs": 1}
    reply = server.request("completions", {**body, "return_tokens_as_token_ids": True})
    ids = tokenizer(prompt)["input_ids"]
    read = (reply.get("usage") or {}).get("prompt_tokens")
    if read is not None and read != len(ids):
        raise InputError(
            f"The server reads {prompt!r} as {read} tokens and the model's tokenizer as "
            f"{len(ids)}: it runs another model, or adds other special tokens."
        )
    try:
        told = reply["choices"][0]["logprobs"]
        content = told.get("content")
        if content:  # llama.cpp answers in the form of chats.
            found = [(entry["id"], entry["logprob"]) for entry in content]
        else:
            found = [
                (_token_id(token, tokenizer), logprob)
                for token, logprob in zip(told["tokens"], told["token_logprobs"], strict=True)
            ]
        answer = Answer(ids, [int(i) for i, _ in found], [float(p) for _, p in found])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "The server's reply has no log-probabilities of its tokens (`logprobs`); start it so "
            "that it gives them."
        ) from error
    if not answer.tokens or not np.isfinite(answer.logprobs).all():
        raise InputError(f"The server gave no finite log-probabilities for {prompt!r}.")
    return answer


def _token_id(token: str, tokenizer: Any) -> int:
    if token.startswith(_TOKEN_ID):
        return int(token.removeprefix(_TOKEN_ID))
    ids = tokenizer.encode(token, add_special_tokens=False)
    if len(ids) != 1:
        raise InputError(
            f"The server's token {token!r} is none of the model's tokenizer: it runs another model."
        )
    return int(ids[0])
