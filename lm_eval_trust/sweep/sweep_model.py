"""A harness model that answers for all configurations of a sweep at once.

The harness evaluates one configuration after the other, as ever. The first of them to need an
answer has it computed for all, in shared passes; the others find theirs. Tokenizing, batching,
stop sequences and post-processing stay the harness's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.model_wrappers.amber import Amber
from lm_eval_trust.model_wrappers.prompt_ends import TokenRequest, model_input, prompt_ends_of
from lm_eval_trust.model_wrappers.tuned import FinetunedAmber, LoraAmber
from lm_eval_trust.models.transformers_internals import CACHE
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.sweep.answers import AnswerStore, Key
from lm_eval_trust.sweep.batched_forward import SharedForward
from lm_eval_trust.sweep.generation import SharedCache, SharedCausalLM, decode_greedily
from lm_eval_trust.sweep.passes import (
    Scored,
    aligned_prompts,
    rows_at_once,
    score,
    scoring_batches,
)

#: Harness models that can be swept: those with one decoder.
MODELS = {"amber": Amber, "lora_amber": LoraAmber, "finetuned_amber": FinetunedAmber}
_UNSTEERED = SteeringPlan()
#: Rows, prompts times configurations, that fill a pass; more of them gain little.
_FULL_PASS = 384


class PrefilledLM(Amber):
    """A steerable model with the configurations of a sweep; see :func:`load_prefilled`."""

    _plans: Sequence[SteeringPlan] = ()
    _answers: AnswerStore
    #: Sum over scored tokens, and their number.
    _divergence: tuple[float, int] = (0.0, 0)

    def sweep(self, plans: Sequence[SteeringPlan], answers: AnswerStore) -> None:
        """Answer for these plans at once from now on.

        Args:
            plans: The configurations; :meth:`steer_by` then says whose answers are given.
            answers: Where they are kept.
        """
        self._plans, self._answers = plans, answers

    @property
    def batch_size(self) -> Any:
        """Prompts at once; in a sweep as many as fill a pass, if that is more."""
        own = super().batch_size
        if not self._plans or not isinstance(own, int):
            return own
        return max(own, _FULL_PASS // len(self._plans))

    @property
    def identity(self) -> Mapping[str, Any]:
        """What all answers depend on beside the steering."""
        return {"arguments": self._arguments}

    def take_divergence(self) -> float:
        """Return the mean KL(unsteered ‖ steered) per scored token, in nats, since last asked.

        It is measured with the log-likelihoods of the current plan; 0 where none was asked for.
        """
        total, tokens = self._divergence
        self._divergence = (0.0, 0)
        return total / tokens if tokens else 0.0

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **generation_kwargs: Any
    ) -> torch.Tensor:
        if not self._plans or not _is_greedy(generation_kwargs):
            plain: torch.Tensor = super()._model_generate(
                context, max_length, stop, **generation_kwargs
            )
            return plain
        mask = generation_kwargs.pop("attention_mask")
        settings = {"stop": stop, "new": max_length - context.shape[1], **generation_kwargs}
        keys = [
            fingerprint({"prompt": row[real != 0].tolist(), **settings})
            for row, real in zip(context, mask, strict=True)
        ]
        wanted = self._lacking(keys)
        if wanted:
            self._generate(context, mask, keys, wanted, max_length, stop, generation_kwargs)
        rows = [torch.tensor(self._kept(key, self.plan)) for key in keys]
        padding = self.tokenizer.pad_token_id
        new = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
        return torch.cat([context, new.to(context)], dim=1)

    def _generate(
        self,
        context: torch.Tensor,
        mask: torch.Tensor,
        keys: Sequence[str],
        plans: Sequence[SteeringPlan],
        max_length: int,
        stop: list[str],
        settings: Mapping[str, Any],
    ) -> None:
        prompts = aligned_prompts(context, mask)
        at_once = max(1, rows_at_once(self.model, max_length, kept=1) // len(context))
        for start in range(0, len(plans), at_once):
            part = plans[start : start + at_once]
            shared = SharedForward(
                self.model, part, prompts=len(context), prompt_end=prompts.prompt_end
            )
            with self._decoding_by(SharedCausalLM(self.model)), torch.inference_mode():
                tokens = HFLM._model_generate(
                    self,
                    context=prompts.tokens.repeat_interleave(len(part), dim=0),
                    max_length=max_length,
                    stop=stop,
                    attention_mask=prompts.mask.repeat_interleave(len(part), dim=0),
                    custom_generate=decode_greedily,
                    **{CACHE: SharedCache(shared)},
                    **settings,
                )
            new = tokens[:, context.shape[1] :].tolist()
            self._answers.put(
                (self._key(keys[row // len(part)], part[row % len(part)]), answer)
                for row, answer in enumerate(new)
            )

    @contextmanager
    def _decoding_by(self, model: SharedCausalLM) -> Iterator[None]:
        own: Any = self._model
        self._model: Any = model
        try:
            yield
        finally:
            self._model = own

    def _loglikelihood_tokens(
        self, requests: list[TokenRequest], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        if not self._plans:
            return super()._loglikelihood_tokens(requests, **kwargs)
        self._refuse_overlong(requests)
        ends = self._known_ends(requests)
        keys = [self._score_key(r, e) for r, e in zip(requests, ends, strict=True)]
        wanted = self._lacking(keys)
        if wanted:
            missing = {
                key: (request, end)
                for key, request, end in zip(keys, requests, ends, strict=True)
                if any(self._kept(key, plan) is None for plan in wanted)
            }
            self._score(missing, wanted)
        answers = [self._kept(key, self.plan) for key in keys]
        total, tokens = self._divergence
        total += sum(divergence for _, _, divergence in answers)
        self._divergence = (total, tokens + sum(len(request[2]) for request in requests))
        return [(float(logprob), bool(greedy)) for logprob, greedy, _ in answers]

    def _known_ends(self, requests: Sequence[TokenRequest]) -> list[int]:
        if self._rolling_ends is not None:
            return [next(self._rolling_ends, 0) for _ in requests]
        return [max(end, -1) for end in prompt_ends_of(requests, self.max_length)]

    def _score(
        self, missing: Mapping[str, tuple[TokenRequest, int]], plans: Sequence[SteeringPlan]
    ) -> None:
        """Score requests by plans, those without a prompt in their window apart from the others."""
        with tqdm(total=len(missing) * len(plans), desc="Scoring", unit="continuation") as bar:
            for without in (False, True):
                chosen = [(k, *found) for k, found in missing.items() if (found[1] < 0) == without]
                self._score_alike(chosen, plans, bar)

    def _score_alike(
        self,
        found: list[tuple[str, TokenRequest, int]],
        plans: Sequence[SteeringPlan],
        bar: tqdm[Any],
    ) -> None:
        found.sort(key=lambda entry: (-len(entry[1][1]) - len(entry[1][2]), entry[1][1]))
        inputs = {key: model_input(request, self.max_length) for key, request, _ in found}
        lengths = [len(inputs[key]) for key, _, _ in found]
        kept = [len(inputs[key]) - max(end, 0) for key, _, end in found]
        if not found:
            return
        at_once = max(1, rows_at_once(self.model, max(lengths), kept=max(kept)) - 1)
        for start in range(0, len(plans), at_once):
            part = [_UNSTEERED, *plans[start : start + at_once]]
            for batch in scoring_batches(found, lengths, kept, plans=len(part), model=self.model):
                scores = score(
                    self.model,
                    part,
                    [inputs[key] for key, _, _ in batch],
                    [request[2] for _, request, _ in batch],
                    [end for _, _, end in batch],
                    dtype=self.softmax_dtype,
                )
                self._answers.put(self._scored(batch, part, scores))
                bar.update(len(batch) * (len(part) - 1))

    def _scored(
        self,
        batch: Sequence[tuple[str, TokenRequest, int]],
        plans: Sequence[SteeringPlan],
        scores: Sequence[Sequence[Scored]],
    ) -> Iterator[tuple[Key, Any]]:
        for (key, _, _), of_row in zip(batch, scores, strict=True):
            for plan, found in zip(plans, of_row, strict=True):
                yield self._key(key, plan), [found.logprob, found.greedy, found.divergence]

    def _lacking(self, keys: Sequence[str]) -> list[SteeringPlan]:
        """Return the plans that have not answered all of these, each once."""
        plans = {plan.fingerprint: plan for plan in self._plans}
        return [p for p in plans.values() if any(self._kept(k, p) is None for k in keys)]

    def _kept(self, key: str, plan: SteeringPlan) -> Any:
        return self._answers.get(self._key(key, plan))

    def _key(self, key: str, plan: SteeringPlan) -> Key:
        return key, plan.fingerprint

    def _score_key(self, request: TokenRequest, end: int) -> str:
        return content_id(str(request[1]), str(request[2]), end)


def load_prefilled(model: str, arguments: Mapping[str, Any]) -> PrefilledLM:
    """Load a model to be swept.

    Args:
        model: ``amber``, ``lora_amber`` or ``finetuned_amber``.
        arguments: Its model arguments, without steering.

    Raises:
        InputError: Another model, arguments that steer, or what the model itself refuses.
    """
    if model not in MODELS:
        raise unknown_name("model to sweep", model, MODELS)
    kind = type(f"Prefilled{MODELS[model].__name__}", (PrefilledLM, MODELS[model]), {})
    loaded: PrefilledLM = kind(**arguments)
    if loaded.plan.steps:
        raise InputError("The sweep does the steering; leave it out of the model arguments.")
    return loaded


def _is_greedy(settings: Mapping[str, Any]) -> bool:
    beams, sampled = settings.get("num_beams", 1), settings.get("do_sample") or False
    return (
        beams == 1
        and not sampled
        and not settings.get("temperature")
        and (settings.get("num_return_sequences", 1) == 1)
    )
