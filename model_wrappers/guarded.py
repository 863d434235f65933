"""What each of our harness models says of itself in results, keeps apart in caches and refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lm_eval.api.instance import Instance

from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.nonfinite import NONFINITE, has_nonfinite
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.model_wrappers.chat_turns import template_mismatch
from lm_eval_trust.model_wrappers.leak_guard import refuse_leaks
from lm_eval_trust.model_wrappers.lm_eval_internals import keep_responses_apart
from lm_eval_trust.model_wrappers.prompt_ends import rolling_prompt_ends
from lm_eval_trust.steering.plan import SteeringPlan

logger = logging.getLogger(__name__)


class GuardedLM:
    """Identity, results and leak guard of a steered model; goes before a model of the harness.

    The class next to it sets the attributes before its own ``__init__`` runs.

    Attributes:
        plan: The steering; an empty plan leaves the model as it is.
    """

    plan: SteeringPlan
    #: Evaluate also on items that the plan's vectors, or the model itself, were made from.
    _allow_leak: bool
    #: What the model and its parts were trained on, as far as it is recorded.
    _trained_on: tuple[Provenance, ...]
    #: Everything beside the steering that answers depend on.
    _arguments: Mapping[str, str]
    #: Number of requests whose log-likelihood was NaN or infinite.
    _nonfinite: int = 0
    #: Prompt ends of the windows that are still to be scored.
    _rolling_ends: Iterator[int] | None = None
    # Of the model beside it.
    max_length: int
    prefix_token_id: int
    tok_encode: Callable[..., list[int]]
    #: Warnings that were given already.
    _warned: frozenset[str] = frozenset()

    @property
    def trust_fingerprint(self) -> str:
        """Identity of everything that answers depend on: model, arguments, steering."""
        return fingerprint(
            {
                "arguments": self._arguments,
                "steering": self.plan.fingerprint,
                "allow_leak": self._allow_leak,
            }
        )

    def get_model_info(self) -> dict[str, Any]:
        """Return what the harness puts under ``config`` of a results file, and the steering.

        ``nonfinite`` is the number of requests whose log-likelihood was NaN or infinite.
        """
        ask = getattr(super(), "get_model_info", dict)
        info: dict[str, Any] = ask()
        return info | {
            "trust_fingerprint": self.trust_fingerprint,
            "steering": self.plan.summary(),
            "trained_on": [provenance.summary() for provenance in self._trained_on],
            "allow_leak": self._allow_leak,
            NONFINITE: self._nonfinite,
        }

    @contextmanager
    def allowing_leaks(self) -> Iterator[None]:
        """Evaluate inside also on items that the model or its steering was made from."""
        before, self._allow_leak = self._allow_leak, True
        try:
            yield
        finally:
            self._allow_leak = before

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Give this model and this steering their own answers in a ``--use_cache`` file."""
        keep_responses_apart(cache_hook, self.trust_fingerprint)
        super().set_cache_hook(cache_hook)  # type: ignore[misc]

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Score continuations; see the harness's model."""
        self._guard(requests)
        result: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm)  # type: ignore[misc]
        self._nonfinite += sum(map(has_nonfinite, result))
        return result

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Score whole texts; every position counts as generated, the prefix token as prompt."""
        self._guard(requests)
        ends = rolling_prompt_ends(
            [self.tok_encode(request.args[0]) for request in requests],
            prefix_token=self.prefix_token_id,
            max_length=self._rolling_length,
        )
        self._rolling_ends = iter(ends)
        try:
            result: list[float] = super().loglikelihood_rolling(requests, disable_tqdm)  # type: ignore[misc]
        finally:
            self._rolling_ends = None
        self._nonfinite += sum(map(has_nonfinite, result))
        return result

    @property
    def _rolling_length(self) -> int:
        """Most tokens of a window of a text that is scored as a whole."""
        length: int = self.max_length
        return length

    def _guard(self, requests: Sequence[Instance]) -> None:
        """Raise when requests belong to items that the model or its steering was made from.

        A vector from chats beside plain prompts, or the reverse, gives a warning.
        """
        steered_by = self.plan.built_from if self.plan.active_steps else ()
        # Rolling requests have a text and no prompt.
        prompts = (request.args[0] for request in requests if len(request.args) > 1)
        told = template_mismatch(steered_by, prompts, getattr(self, "tokenizer", None))
        if told and told not in self._warned:
            logger.warning(told)
            self._warned |= {told}
        made_from = (*self._trained_on, *steered_by)
        if self._allow_leak or not made_from:
            return
        docs: dict[str, dict[int, Mapping[str, Any]]] = {}
        for request in requests:
            if isinstance(request.doc, Mapping):
                docs.setdefault(str(request.task_name), {})[request.doc_id] = request.doc
        for task, found in docs.items():
            refuse_leaks(made_from, found.values(), task=task)
