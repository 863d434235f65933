"""A harness model that answers for many plans at once, and whose answers are kept.

The harness evaluates one configuration after the other, as always. The first of them to need an
answer has it computed for all; the others find theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from lm_eval_trust.core.hashing import content_id
from lm_eval_trust.core.nonfinite import NONFINITE
from lm_eval_trust.model_wrappers.prompt_ends import TokenRequest
from lm_eval_trust.steering.plan import SteeringPlan


class Answers(Protocol):
    """Where answers are kept, by key; JSON-like."""

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return those that are there."""

    def put_many(self, items: Iterable[tuple[str, Any]]) -> None:
        """Keep some."""


class AnswersInMemory:
    """Answers that last as long as the process."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return those that are there."""
        return {key: self._kept[key] for key in keys if key in self._kept}

    def put_many(self, items: Iterable[tuple[str, Any]]) -> None:
        """Keep some."""
        self._kept.update(items)


class SweptModel:
    """What models share that answer for many plans; goes before one of our models."""

    plan: SteeringPlan
    # Of the model beside it.
    steer_by: Callable[[SteeringPlan], None]
    get_model_info: Callable[[], dict[str, Any]]
    _arguments: Mapping[str, str]
    _plans: Sequence[SteeringPlan] = ()
    _answers: Answers
    #: Sum over scored tokens, and their number.
    _divergence: tuple[float, int] = (0.0, 0)
    #: How many answers were asked for that are not finite.
    _broken_answers: int = 0

    @property
    def note(self) -> str:
        """What there is to say about how plans run together; empty if it is the usual way."""
        return ""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What all answers depend on, apart from the steering."""
        return {"arguments": self._arguments}

    def sweep(self, plans: Sequence[SteeringPlan], answers: Answers) -> None:
        """Answer for these plans at once from now on.

        Args:
            plans: The configurations; ``steer_by`` then says whose answers are given.
            answers: Where they are kept.
        """
        self._plans, self._answers = plans, answers

    @contextmanager
    def lent_to_sweep(self) -> Iterator[None]:
        """Sweep inside; afterwards the model answers as before, with its own steering."""
        before = self.plan
        try:
            yield
        finally:
            self.sweep((), AnswersInMemory())
            self.steer_by(before)

    def take_divergence(self) -> float:
        """Return the mean KL(unsteered ‖ steered) per scored token, in nats, since last asked.

        It is measured with the log-likelihoods of the current plan; 0 where none was asked for.
        """
        total, tokens = self._divergence
        self._divergence = (0.0, 0)
        return total / tokens if tokens else 0.0

    def read_texts(self, requests: Sequence[TokenRequest]) -> tuple[float, float]:
        """Return what the current plan makes of texts.

        Args:
            requests: Texts, token ids of a prompt, and token ids of what is scored after it.

        Returns:
            Mean KL(unsteered ‖ steered) per scored token, in nats, and the sum of the scored
            tokens' log-probabilities.
        """
        self.take_divergence()
        scored = self._loglikelihood_tokens(list(requests), disable_tqdm=True)  # type: ignore[attr-defined]
        return self.take_divergence(), sum(logprob for logprob, _ in scored)

    def take_broken(self) -> int:
        """Return how many answers were asked for, since last asked, whose logits are no numbers.

        They are given as empty ones.
        """
        number, self._broken_answers = self._broken_answers, 0
        return number

    def _lacking(
        self, keys: Sequence[str], among: Sequence[SteeringPlan] | None = None
    ) -> dict[SteeringPlan, set[str]]:
        """Return the plans that have not answered all of these, each once, with what they lack."""
        plans = {plan.fingerprint: plan for plan in (self._plans if among is None else among)}
        distinct = list(dict.fromkeys(keys))
        kept = self._answers.get_many([answer_key(k, p) for p in plans.values() for k in distinct])
        lacking = {
            plan: {key for key in distinct if answer_key(key, plan) not in kept}
            for plan in plans.values()
        }
        return {plan: missing for plan, missing in lacking.items() if missing}

    def _own_answers(self, keys: Sequence[str]) -> list[Any]:
        """Return the answers of the current plan, in order."""
        kept = self._answers.get_many([answer_key(key, self.plan) for key in dict.fromkeys(keys)])
        return [kept[answer_key(key, self.plan)] for key in keys]

    def _own_texts(self, keys: Sequence[str]) -> list[Any]:
        """Return what the current plan generated, in order, and count what is not finite."""
        answers = self._own_answers(keys)
        self._broken_answers += answers.count(NONFINITE)
        return answers

    def _own_scores(
        self, keys: Sequence[str], requests: Sequence[TokenRequest]
    ) -> list[tuple[float, bool]]:
        """Return the current plan's scores, in order, and count their divergence."""
        answers = self._own_answers(keys)
        total, tokens = self._divergence
        total += sum(divergence for _, _, divergence in answers)
        self._divergence = (total, tokens + sum(len(request[2]) for request in requests))
        return [(float(logprob), bool(greedy)) for logprob, greedy, _ in answers]


def answer_key(request: str, plan: SteeringPlan) -> str:
    """Return the key of a plan's answer to a request."""
    return f"{request}/{plan.fingerprint}"


def score_key(context: Sequence[int], continuation: Sequence[int], end: int) -> str:
    """Return the key of a request to score; ``end`` is the index of its last prompt token."""
    return content_id(str(context), str(continuation), end)
