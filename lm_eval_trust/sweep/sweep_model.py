"""A harness model that answers for all configurations of a sweep at once.

The harness evaluates one configuration after the other, as ever. The first of them to need an
answer has it computed for all, in shared passes; the others find theirs. Tokenizing, batching,
stop sequences and post-processing stay the harness's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from lm_eval.models.huggingface import HFLM
from torch import nn
from tqdm import tqdm

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.model_wrappers.amber import Amber
from lm_eval_trust.model_wrappers.prompt_ends import TokenRequest, model_input, prompt_ends_of
from lm_eval_trust.model_wrappers.tuned import FinetunedAmber, LoraAmber
from lm_eval_trust.models.decoder_blocks import text_config
from lm_eval_trust.models.transformers_internals import CACHE, keeps_state
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.sweep.batched_forward import BatchedForward
from lm_eval_trust.sweep.generation import BatchedCache, BatchedCausalLM, decode_greedily

#: Harness models that can be swept: those with one decoder.
MODELS = {"amber": Amber, "lora_amber": LoraAmber, "finetuned_amber": FinetunedAmber}
_UNSTEERED = SteeringPlan()
#: Rows, prompts times configurations, that fill a pass; more of them gain little.
_FULL_PASS = 384
#: Share of the free memory that keys and values of one pass may take.
_CACHE_SHARE = 0.4
#: Values of the vocabulary at once, in a pass that scores.
_LOGITS = 1 << 27


class SweepLM(Amber):
    """A steerable model with the configurations of a sweep; see :func:`load_sweep_model`."""

    _plans: Sequence[SteeringPlan] = ()
    _answers: KeyedStore
    #: Sum over scored tokens, and their number.
    _divergence: tuple[float, int] = (0.0, 0)

    def sweep(self, plans: Sequence[SteeringPlan], answers: KeyedStore) -> None:
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
            self._generate(context, mask, keys, list(wanted), max_length, stop, generation_kwargs)
        rows = [torch.tensor(answer) for answer in self._own_answers(keys)]
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
            shared = BatchedForward(
                self.model, part, prompts=len(context), prompt_end=prompts.prompt_end
            )
            with self._decoding_by(BatchedCausalLM(self.model)), torch.inference_mode():
                tokens = HFLM._model_generate(
                    self,
                    context=prompts.tokens.repeat_interleave(len(part), dim=0),
                    max_length=max_length,
                    stop=stop,
                    attention_mask=prompts.mask.repeat_interleave(len(part), dim=0),
                    custom_generate=decode_greedily,
                    **{CACHE: BatchedCache(shared)},
                    **settings,
                )
            new = tokens[:, context.shape[1] :].tolist()
            self._answers.put_many(
                (_key(keys[row // len(part)], part[row % len(part)]), answer)
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
        keys = [self._score_key(r, e) for r, e in zip(requests, ends, strict=True)]
        wanted = self._lacking(keys)
        if wanted:
            lacking = set().union(*wanted.values())
            missing = {
                key: (request, end)
                for key, request, end in zip(keys, requests, ends, strict=True)
                if key in lacking
            }
            self._score(missing, list(wanted))
        answers = self._own_answers(keys)
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
                self._answers.put_many(self._scored(batch, part, scores))
                bar.update(len(batch) * (len(part) - 1))

    def _scored(
        self,
        batch: Sequence[tuple[str, TokenRequest, int]],
        plans: Sequence[SteeringPlan],
        scores: Sequence[Sequence[Scored]],
    ) -> Iterator[tuple[str, Any]]:
        for (key, _, _), of_row in zip(batch, scores, strict=True):
            for plan, found in zip(plans, of_row, strict=True):
                yield _key(key, plan), [found.logprob, found.greedy, found.divergence]

    def _lacking(self, keys: Sequence[str]) -> dict[SteeringPlan, set[str]]:
        """Return the plans that have not answered all of these, each once, with what they lack."""
        plans = {plan.fingerprint: plan for plan in self._plans}
        distinct = list(dict.fromkeys(keys))
        kept = self._answers.get_many([_key(k, p) for p in plans.values() for k in distinct])
        lacking = {
            plan: {key for key in distinct if _key(key, plan) not in kept}
            for plan in plans.values()
        }
        return {plan: missing for plan, missing in lacking.items() if missing}

    def _own_answers(self, keys: Sequence[str]) -> list[Any]:
        """Return the answers of the current plan, in order."""
        kept = self._answers.get_many([_key(key, self.plan) for key in dict.fromkeys(keys)])
        return [kept[_key(key, self.plan)] for key in keys]

    def _score_key(self, request: TokenRequest, end: int) -> str:
        return content_id(str(request[1]), str(request[2]), end)


def _key(request: str, plan: SteeringPlan) -> str:
    return f"{request}/{plan.fingerprint}"


def load_sweep_model(model: str, arguments: Mapping[str, Any]) -> SweepLM:
    """Load a model to be swept.

    Args:
        model: ``amber``, ``lora_amber`` or ``finetuned_amber``.
        arguments: Its model arguments, without steering.

    Raises:
        InputError: Another model, arguments that steer, or what the model itself refuses.
    """
    if model not in MODELS:
        raise unknown_name("model to sweep", model, MODELS)
    kind = type(f"Sweep{MODELS[model].__name__}", (SweepLM, MODELS[model]), {})
    loaded: SweepLM = kind(**arguments)
    if keeps_state(loaded.model):
        raise InputError(
            f"{type(loaded.model).__name__} keeps a state instead of keys and values, which the "
            f"configurations of a sweep cannot share. Evaluate them one by one: lm_eval --model "
            f"steered_amber with vector, layer and alpha."
        )
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


@dataclass(frozen=True)
class Scored:
    """What one configuration says to one continuation.

    Attributes:
        logprob: Sum of the log-probabilities of its tokens, in nats.
        greedy: Whether greedy decoding would give it.
        divergence: Sum over its positions of KL(unsteered ‖ steered), in nats.
    """

    logprob: float
    greedy: bool
    divergence: float


@dataclass(frozen=True)
class Sequences:
    """Token rows whose prompts end at one column.

    Attributes:
        tokens: int64, shape (rows, columns).
        mask: 1 for real tokens, of the same shape.
        prompt_end: The column.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    prompt_end: int


def rows_at_once(model: nn.Module, columns: int, *, kept: int) -> int:
    """Return how many rows a pass may have by the memory of their keys and logits.

    Args:
        model: Whose rows they are.
        columns: Of each row.
        kept: Columns of each row whose logits are needed.
    """
    config = text_config(model)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    parameter = next(model.parameters())
    a_column = 2 * config.num_hidden_layers * heads * width * parameter.element_size()
    budget = _CACHE_SHARE * _free_memory(parameter.device)
    vocabulary = int(config.vocab_size)
    return max(1, min(int(budget / a_column / columns), _LOGITS // (vocabulary * kept)))


def _free_memory(device: torch.device) -> float:
    """Return bytes that can be had on a device."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def aligned_prompts(tokens: torch.Tensor, mask: torch.Tensor) -> Sequences:
    """Lay out prompts padded on the left so that what all begin with stands in the same columns.

    The padding goes behind the common beginning; the width stays.

    Args:
        tokens: int64, shape (prompts, columns).
        mask: 1 for real tokens, of the same shape.
    """
    rows = [row[real != 0] for row, real in zip(tokens, mask, strict=True)]
    common = _common_beginning([row.tolist() for row in rows])
    laid, real = torch.zeros_like(tokens), torch.zeros_like(mask)
    for i, row in enumerate(rows):
        laid[i, :common], real[i, :common] = row[:common], 1
        rest = row[common:]
        laid[i, -len(rest) :], real[i, -len(rest) :] = rest, 1
    return Sequences(laid, real, tokens.shape[1] - 1)


def aligned_continuations(inputs: Sequence[Sequence[int]], prompt_ends: Sequence[int]) -> Sequences:
    """Lay out whole inputs so that all prompts end at the same column.

    Args:
        inputs: Token ids of each row.
        prompt_ends: Index of the last prompt token in each; −1 for none, in all or in none.
    """
    before = max(prompt_ends)
    after = max(len(row) - end for row, end in zip(inputs, prompt_ends, strict=True))
    tokens = torch.zeros((len(inputs), before + after), dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    prompts = [list(row[:end]) for row, end in zip(inputs, prompt_ends, strict=True) if end > 0]
    common = _common_beginning(prompts) if len(prompts) == len(inputs) else 0
    for i, (row, end) in enumerate(zip(inputs, prompt_ends, strict=True)):
        places = [*range(common), *range(before - end + common, before - end + len(row))]
        tokens[i, places], mask[i, places] = torch.tensor(row), 1
    return Sequences(tokens, mask, before)


def score(
    model: nn.Module,
    plans: Sequence[SteeringPlan],
    inputs: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    prompt_ends: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
) -> list[list[Scored]]:
    """Score continuations by every plan, in one pass.

    Args:
        model: A causal model of transformers.
        plans: The first one is what the others' divergence is measured from.
        inputs: Tokens that each row is fed, the continuation's last one left out.
        continuations: Tokens whose log-probabilities are summed: what the last positions predict.
        prompt_ends: See :func:`aligned_continuations`.
        dtype: Of the log-probabilities; by default that of the logits, as in the harness.

    Returns:
        A list for each row, of an entry for each plan.
    """
    rows = aligned_continuations(inputs, prompt_ends)
    shared = BatchedForward(model, plans, prompts=len(inputs), prompt_end=rows.prompt_end)
    device = next(model.parameters()).device
    tokens, mask = (
        part.to(device).repeat_interleave(len(plans), dim=0) for part in (rows.tokens, rows.mask)
    )
    after = tokens.shape[1] - max(rows.prompt_end, 0)
    with torch.inference_mode():
        output = shared.read(tokens, mask, keep=after)
    first = tokens.shape[1] - output.logits.shape[1]
    found = []
    for i, wanted in enumerate(continuations):
        # The row's last token stands as far after its prompt's end as it does in its input.
        last = rows.prompt_end + len(inputs[i]) - prompt_ends[i] - first
        mine = output.row_of[i * len(plans) : (i + 1) * len(plans)]
        logits = output.logits[mine, last - len(wanted) : last]
        found.append(_scored(logits, torch.tensor(wanted, device=logits.device), dtype))
    return found


def scoring_batches(
    requests: Sequence[Any], lengths: Sequence[int], kept: Sequence[int], *, plans: int, model: Any
) -> Iterator[list[Any]]:
    """Divide requests, which are sorted, into passes that fit into memory.

    Args:
        requests: Anything.
        lengths: Columns of each.
        kept: Columns of each whose logits are needed.
        plans: Configurations of a pass.
        model: Whose keys and logits they are.
    """
    batch: list[Any] = []
    longest = widest = 0
    for request, length, keep in zip(requests, lengths, kept, strict=True):
        longest, widest = max(longest, length), max(widest, keep)
        if batch and (len(batch) + 1) * plans > rows_at_once(model, longest, kept=widest):
            yield batch
            batch, longest, widest = [], length, keep
        batch.append(request)
    if batch:
        yield batch


def _scored(logits: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype | None) -> list[Scored]:
    """Return an entry for each plan from logits (plans, continuation, vocabulary)."""
    logprobs = logits.log_softmax(dim=-1, dtype=dtype)
    of_wanted = logprobs.gather(2, wanted.expand(len(logits), -1)[..., None])[..., 0].sum(dim=1)
    greedy = (logits.argmax(dim=-1) == wanted).all(dim=1)
    reference = logprobs[:1]
    divergence = (reference.exp() * (reference - logprobs)).sum(dim=(1, 2))
    return [
        Scored(*values)
        for values in zip(
            of_wanted.tolist(), greedy.tolist(), divergence.clamp(min=0).tolist(), strict=True
        )
    ]


def _common_beginning(rows: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all rows begin with, less than the shortest has."""
    shortest = min(map(len, rows))
    first = rows[0]
    for place in range(shortest - 1):
        if any(row[place] != first[place] for row in rows):
            return place
    return max(shortest - 1, 0)
