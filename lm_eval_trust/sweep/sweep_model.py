"""A harness model that answers for all configurations of a sweep at once.

The harness evaluates one configuration after the other, as always. The first of them to need an
answer has it computed for all, in shared passes; the others find theirs. Tokenizing, batching,
stop sequences and post-processing stay the harness's own. A model whose passes cannot be shared
answers for one configuration after the other, as in single runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.nonfinite import NONFINITE
from lm_eval_trust.core.progress import ProgressBar, progress_bar
from lm_eval_trust.engine import ENGINES, TRANSFORMERS, VLLM
from lm_eval_trust.model_wrappers.amber import Amber
from lm_eval_trust.model_wrappers.finite import FiniteLogits
from lm_eval_trust.model_wrappers.prompt_ends import TokenRequest, model_input, prompt_ends_of
from lm_eval_trust.model_wrappers.swept_model import Answers, SweptModel, answer_key, score_key
from lm_eval_trust.model_wrappers.tuned import FinetunedAmber, LoraAmber
from lm_eval_trust.models.transformers_internals import CACHE
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.sweep.batched_forward import BatchedForward
from lm_eval_trust.sweep.generation import BatchedCache, BatchedCausalLM, decode_greedily
from lm_eval_trust.sweep.scoring import (
    Continuations,
    Scored,
    aligned_prompts,
    may_pad_within,
    rows_at_once,
    score,
    score_apart,
    scoring_batches,
)
from lm_eval_trust.sweep.sharing import why_apart

#: Harness models that can be swept: those with one decoder.
MODELS = {"amber": Amber, "lora_amber": LoraAmber, "finetuned_amber": FinetunedAmber}
_UNSTEERED = SteeringPlan()
#: Rows, prompts times configurations, that fill a pass; more of them gain little.
_FULL_PASS = 384
#: Rows of a pass of configurations that run one after the other, where the harness's batch size is
#: to be found out.
_ROWS_APART = 8
HEADS_APART = "attention heads are steered within a block, which is shared as a whole"
#: A request to score: its key, the request, the index of its last prompt token.
_Found = tuple[str, TokenRequest, int]
logger = logging.getLogger(__name__)


class SweepLM(SweptModel, Amber):
    """A steerable model with the configurations of a sweep; see :func:`load_sweep_model`."""

    #: Why configurations run one after the other; empty where they share passes.
    apart: str = ""
    #: The same, of the model itself.
    own_reason: str = ""
    #: Rows of the last passes of one configuration whose logits were no numbers.
    _broken_rows: Sequence[int] = ()

    @property
    def _stops_at_nonfinite(self) -> bool:
        # A broken configuration is one of many: what it gives is counted, and it is not chosen.
        return not self._plans

    @property
    def note(self) -> str:
        """What there is to say about how the sweep runs; empty if it is the usual way."""
        if not self.apart:
            return ""
        return f"Configurations run one after the other, without shared passes: {self.apart}."

    def sweep(self, plans: Sequence[SteeringPlan], answers: Answers) -> None:
        """Answer for these plans at once from now on; see ``SweptModel``."""
        super().sweep(plans, answers)
        steps = [step for plan in plans for step in plan.active_steps]
        heads = any(step.site == "heads" for step in steps)
        self.apart = self.own_reason or (heads and HEADS_APART) or ""

    @property
    def batch_size(self) -> Any:
        """Prompts at once; in a sweep as many as fill a pass, if that is more."""
        own = super().batch_size
        if not self._plans or self.apart or not isinstance(own, int):
            return own
        return max(own, _FULL_PASS // len(self._plans))

    def _check_generated(self, finite: FiniteLogits, context: torch.Tensor) -> None:
        if not self._plans:
            super()._check_generated(finite, context)
        self._broken_rows = finite.broken(len(context))

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **generation_kwargs: Any
    ) -> torch.Tensor:
        if not self._plans or not _is_greedy(generation_kwargs):
            plain: torch.Tensor = super()._model_generate(
                context, max_length, stop, **generation_kwargs
            )
            self._broken_answers += len(self._broken_rows)
            self._broken_rows = ()
            return plain
        mask = generation_kwargs.pop("attention_mask")
        settings = {"stop": stop, "new": max_length - context.shape[1], **generation_kwargs}
        keys = [
            fingerprint({"prompt": row[real != 0].tolist(), **settings})
            for row, real in zip(context, mask, strict=True)
        ]
        if self.apart:
            if self.plan in self._lacking(keys, [self.plan]):
                tokens = super()._model_generate(
                    context, max_length, stop, attention_mask=mask, **generation_kwargs
                )
                self._keep(keys, tokens[:, context.shape[1] :].tolist())
        elif wanted := self._lacking(keys):
            self._generate(context, mask, keys, list(wanted), max_length, stop, generation_kwargs)
        answers = self._own_texts(keys)
        rows = [torch.tensor([] if a == NONFINITE else a, dtype=torch.int64) for a in answers]
        padding = self.tokenizer.pad_token_id
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
        return torch.cat([context, padded.to(context)], dim=1)

    def _keep(self, keys: Sequence[str], answers: Sequence[list[int]]) -> None:
        """Keep what the current plan has generated, unless it was kept prompt by prompt."""
        unknown = self._lacking(keys, [self.plan]).get(self.plan, ())
        self._answers.put_many(
            (answer_key(key, self.plan), NONFINITE if row in self._broken_rows else answer)
            for row, (key, answer) in enumerate(zip(keys, answers, strict=True))
            if key in unknown
        )

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
        prompts = aligned_prompts(context, mask, padded_within=may_pad_within(self.model))
        at_once = max(1, rows_at_once(self.model, max_length, kept=1) // len(context))
        for start in range(0, len(plans), at_once):
            part = plans[start : start + at_once]
            shared = BatchedForward(
                self.model, part, prompts=len(context), prompt_end=prompts.prompt_end
            )
            cache = BatchedCache(shared)
            with self._decoding_by(BatchedCausalLM(self.model)), torch.inference_mode():
                tokens = HFLM._model_generate(
                    self,
                    context=prompts.tokens.repeat_interleave(len(part), dim=0),
                    max_length=max_length,
                    stop=stop,
                    attention_mask=prompts.mask.repeat_interleave(len(part), dim=0),
                    custom_generate=decode_greedily,
                    **{CACHE: cache},
                    **settings,
                )
            new, broken = tokens[:, context.shape[1] :].tolist(), cache.broken.tolist()
            self._answers.put_many(
                (
                    answer_key(keys[row // len(part)], part[row % len(part)]),
                    NONFINITE if broken[row] else answer,
                )
                for row, answer in enumerate(new)
            )

    @contextmanager
    def _decoding_by(self, model: BatchedCausalLM) -> Iterator[None]:
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
        keys = [score_key(r[1], r[2], e) for r, e in zip(requests, ends, strict=True)]
        wanted = self._lacking(keys, [self.plan] if self.apart else self._plans)
        if wanted:
            lacking = set().union(*wanted.values())
            missing = {
                key: (request, end)
                for key, request, end in zip(keys, requests, ends, strict=True)
                if key in lacking
            }
            self._score(missing, list(wanted))
        return self._own_scores(keys, requests)

    def _known_ends(self, requests: Sequence[TokenRequest]) -> list[int]:
        if self._rolling_ends is not None:
            return [next(self._rolling_ends, 0) for _ in requests]
        return [max(end, -1) for end in prompt_ends_of(requests, self.max_length)]

    def _score(
        self, missing: Mapping[str, tuple[TokenRequest, int]], plans: Sequence[SteeringPlan]
    ) -> None:
        """Score requests by plans, those without a prompt in their window apart from the others."""
        with progress_bar(
            total=len(missing) * len(plans), title="Scoring", unit="continuation"
        ) as bar:
            for without in (False, True):
                chosen = [(k, *found) for k, found in missing.items() if (found[1] < 0) == without]
                self._score_alike(chosen, plans, bar)

    def _score_alike(
        self,
        found: list[_Found],
        plans: Sequence[SteeringPlan],
        bar: ProgressBar,
    ) -> None:
        found.sort(key=lambda entry: (-len(entry[1][1]) - len(entry[1][2]), entry[1][1]))
        inputs = {key: model_input(request, self.max_length) for key, request, _ in found}
        compute = score_apart if self.apart else score
        for part, batch in self._passes(found, plans, inputs):
            asked = Continuations(
                [inputs[key] for key, _, _ in batch],
                [request[2] for _, request, _ in batch],
                [end for _, _, end in batch],
            )
            tried = [_UNSTEERED, *part]
            scores = compute(self.model, tried, asked, dtype=self.softmax_dtype)
            self._answers.put_many(self._scored(batch, tried, scores))
            bar.update(len(batch) * len(part))

    def _passes(
        self,
        found: Sequence[_Found],
        plans: Sequence[SteeringPlan],
        inputs: Mapping[str, Sequence[int]],
    ) -> Iterator[tuple[Sequence[SteeringPlan], Sequence[_Found]]]:
        """Yield which plans and which of the sorted requests are scored together."""
        if self.apart:
            rows = self.batch_size if isinstance(self.batch_size, int) else _ROWS_APART
            yield from ((plans, found[i : i + rows]) for i in range(0, len(found), rows))
        elif found:
            lengths = [len(inputs[key]) for key, _, _ in found]
            kept = [len(inputs[key]) - max(end, 0) for key, _, end in found]
            at_once = max(1, rows_at_once(self.model, max(lengths), kept=max(kept)) - 1)
            for start in range(0, len(plans), at_once):
                part = plans[start : start + at_once]
                for batch in scoring_batches(
                    found, lengths, kept, plans=len(part) + 1, model=self.model
                ):
                    yield part, batch

    def _scored(
        self,
        batch: Sequence[_Found],
        plans: Sequence[SteeringPlan],
        scores: Sequence[Sequence[Scored]],
    ) -> Iterator[tuple[str, Any]]:
        for (key, _, _), of_row in zip(batch, scores, strict=True):
            for plan, found in zip(plans, of_row, strict=True):
                yield answer_key(key, plan), [found.logprob, found.greedy, found.divergence]


def load_sweep_model(
    model: str,
    arguments: Mapping[str, Any],
    *,
    engine: str = TRANSFORMERS,
    plans: Sequence[SteeringPlan] = (),
) -> Any:
    """Load a model to be swept: a :class:`SweepLM`, or its counterpart inside vLLM.

    Args:
        model: ``amber``, ``lora_amber`` or ``finetuned_amber``.
        arguments: Its model arguments, without steering.
        engine: One of :data:`ENGINES`.
        plans: What it will be steered by, as far as that is known; what the engine cannot run is
            refused before the model is loaded.

    Raises:
        InputError: Another model or engine, arguments that steer, or what the model itself refuses.
    """
    if model not in MODELS:
        raise unknown_name("model to sweep", model, MODELS)
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if engine == VLLM:
        from lm_eval_trust.model_wrappers.vllm_stream import load_stream

        return load_stream(model, arguments, plans)
    kind = type(f"Sweep{MODELS[model].__name__}", (SweepLM, MODELS[model]), {})
    loaded: SweepLM = kind(**arguments)
    if loaded.plan.steps:
        raise InputError("The sweep does the steering; leave it out of the model arguments.")
    loaded.apart = loaded.own_reason = why_apart(loaded.model)
    if loaded.apart:
        logger.warning("%s", loaded.note)
    return loaded


def loading_arguments(
    engine: str, given: Mapping[str, Any], *, batch_size: int, device: str | None
) -> dict[str, Any]:
    """Return the arguments with which a model is loaded.

    Args:
        engine: One of :data:`lm_eval_trust.engine.ENGINES`.
        given: Model arguments; they win.
        batch_size: Prompts at once; vLLM fills its batches itself.
        device: By default CUDA if there is one.

    Raises:
        InputError: A device for vLLM.
    """
    if engine != VLLM:
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return {"device": chosen, "batch_size": batch_size, **given}
    if device is not None or "device" in given:
        raise InputError(
            "vLLM takes no device: leave it out, and choose among several GPUs by "
            "CUDA_VISIBLE_DEVICES."
        )
    return dict(given)


def _is_greedy(settings: Mapping[str, Any]) -> bool:
    beams, sampled = settings.get("num_beams", 1), settings.get("do_sample") or False
    return (
        beams == 1
        and not sampled
        and not settings.get("temperature")
        and (settings.get("num_return_sequences", 1) == 1)
    )
