"""A harness model that can be steered: ``HFLM`` whose requests run under a steering plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.model_wrappers.finite import FiniteLogits, check_logits
from lm_eval_trust.model_wrappers.guarded import GuardedLM
from lm_eval_trust.model_wrappers.identities import (
    identity_of,
    part_identities,
    parts_trained_on,
    source_of,
)
from lm_eval_trust.model_wrappers.lm_eval_internals import keep_responses_apart
from lm_eval_trust.model_wrappers.prompt_ends import (
    PromptEnds,
    TokenRequest,
    prompt_ends_of,
    unambiguous_batches,
)
from lm_eval_trust.models.adapters import attach_adapter, find_adapter
from lm_eval_trust.models.decoder_blocks import skipped_blocks
from lm_eval_trust.models.families import model_class
from lm_eval_trust.models.loading import WholeModels
from lm_eval_trust.models.reading import check_steering, reading_of
from lm_eval_trust.models.sources import Source, provenance_of_model
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan

#: Arguments that no answer depends on.
_EXECUTION_ARGUMENTS = frozenset(
    ("batch_size", "max_batch_size", "device", "parallelize", "max_memory_per_gpu", "device_map")
)


class SteerableLM(GuardedLM, HFLM):  # type: ignore[misc]
    """``HFLM`` around a model that is steered in every kind of request.

    Log-likelihood, rolling log-likelihood and generation share one meaning of a position: the
    steered model's own continuation scores exactly what generating it gave.

    Args:
        pretrained: Hub name, folder, or a ready model.
        plan: What to do; an empty plan leaves the model as it is.
        allow_leak: Also evaluate on items that the plan's vectors, or the model itself, were made
            from.
        identities: Name → identity of what else belongs to the model, such as an adapter.
        trained_on: What these were trained on, for the leak guard.
        **kwargs: All of ``HFLM``'s arguments.

    Raises:
        InputError: The model is not decoder-only, its weights are not whole, or the plan does not
            fit it; while requests run, logits that are NaN or infinite.
    """

    def __init__(
        self,
        pretrained: Any,
        *,
        plan: SteeringPlan | None = None,
        allow_leak: bool = False,
        identities: Mapping[str, str] | None = None,
        trained_on: Sequence[Provenance] = (),
        **kwargs: Any,
    ) -> None:
        self.plan = plan or SteeringPlan()
        self._allow_leak = allow_leak
        #: Which whole model is evaluated; ``None`` for one in memory or one file of many.
        self._source = source_of(pretrained, kwargs)
        own = provenance_of_model(self._source) if self._source else None
        self._trained_on = (*([own] if own else ()), *parts_trained_on(kwargs), *trained_on)
        self._arguments = {
            "model": identity_of(pretrained, self._source, kwargs),
            **(identities or {}),
            **{n: str(value) for n, value in kwargs.items() if n not in _EXECUTION_ARGUMENTS},
            # Their content takes the place of their paths.
            **part_identities(kwargs),
        }
        self._prompt_ends: PromptEnds | None = None
        super().__init__(pretrained, **kwargs)
        if self.plan.steps and self.backend != "causal":
            raise InputError(f"{pretrained} is not a decoder-only model and cannot be steered.")
        causal = self._reading_models if self.backend == "causal" else ()
        readings = [reading_of(model) for model in causal]
        self._cached = all(reading.cached for reading in readings)
        self._masks_padding = all(reading.masks_padding for reading in readings)
        self._steerer = Steerer(self._steered_model, self.plan)
        if self.plan.active_steps:
            check_steering(self.model, self._steering)

    @property
    def source(self) -> Source | None:
        """Which whole model it is; ``None`` for one in memory or one file of many."""
        return self._source

    @property
    def _stops_at_nonfinite(self) -> bool:
        """Whether a run ends at logits that are NaN or infinite, or counts them."""
        return True

    @property
    def _steered_model(self) -> nn.Module:
        """The model whose blocks a plan counts."""
        model: nn.Module = self.model
        return model

    @property
    def _reading_models(self) -> Sequence[nn.Module]:
        """The models that read prompts."""
        return (self.model,)

    def _steering(self, prompt_ends: int | torch.Tensor | None) -> AbstractContextManager[None]:
        """Return the context of one call of the model."""
        return self._steerer.apply(prompt_ends)

    def steer_by(self, plan: SteeringPlan) -> None:
        """Steer the loaded model by another plan from now on.

        Raises:
            InputError: The plan does not fit the model; the old plan stays.
        """
        steerer, self._steerer = self._steerer, Steerer(self._steered_model, plan)
        if plan.active_steps and not self.plan.active_steps:
            try:
                check_steering(self.model, self._steering)
            except InputError:
                self._steerer = steerer
                raise
        self.plan = plan
        keep_responses_apart(self.cache_hook, self.trust_fingerprint)

    def _get_config(self, pretrained: str, **kwargs: Any) -> None:
        super()._get_config(pretrained, **kwargs)
        text_config = self._config.get_text_config()
        # Before gigabytes of weights are loaded.
        self.plan.check(
            blocks=text_config.num_hidden_layers,
            width=text_config.hidden_size,
            model=pretrained,
            skipped=skipped_blocks(text_config),
        )

    def _get_backend(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super()._get_backend(config, *args, **kwargs)
        if self.backend == "causal":
            self.AUTO_MODEL_CLASS: Any = model_class(config)

    def _create_model(self, pretrained: str, *, peft: str | None = None, **kwargs: Any) -> None:
        plain = self.AUTO_MODEL_CLASS
        self.AUTO_MODEL_CLASS = WholeModels(plain)
        try:
            super()._create_model(pretrained, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = plain
        if peft:
            adapter = find_adapter(peft)
            self._model: Any = attach_adapter(self.model, adapter, tokenizer=self.tokenizer)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Generate continuations; see ``HFLM``."""
        if not self._cached:
            raise InputError(
                f"{type(self.model).__name__} generates other tokens with its cache than without "
                f"one, so that its answers would be wrong. Evaluate it on tasks by log-likelihood."
            )
        self._guard(requests)
        result: list[str] = super().generate_until(requests, disable_tqdm)
        return result

    def _loglikelihood_tokens(
        self, requests: list[TokenRequest], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        self._refuse_overlong(requests)
        if not self.plan.active_steps:
            plain: list[tuple[float, bool]] = super()._loglikelihood_tokens(requests, **kwargs)
            return plain
        if self._rolling_ends is None:
            ends = prompt_ends_of(requests, self.max_length)
        else:
            # Ranks with fewer windows repeat their first one, whose scores are thrown away.
            ends = [next(self._rolling_ends, 0) for _ in requests]
        scores: list[tuple[float, bool] | None] = [None] * len(requests)
        for positions, table in unambiguous_batches(requests, ends, self.max_length):
            with self._known_prompt_ends(table):
                part = super()._loglikelihood_tokens([requests[i] for i in positions], **kwargs)
            for i, score in zip(positions, part, strict=True):
                scores[i] = score
        return [score for score in scores if score is not None]

    def _refuse_overlong(self, requests: Sequence[TokenRequest]) -> None:
        if self.truncation:
            return
        for request in requests:
            _refuse_overlong(len(request[1]) + len(request[2]) - 1, self.max_length)

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokenize prompts; see ``HFLM``.

        Raises:
            InputError: A prompt is too long and ``truncation=true`` was not given.
        """
        limit = None if truncation else left_truncate_len
        tokens, mask = super().tok_batch_encode(
            strings, padding_side, None if limit else left_truncate_len, truncation
        )
        if limit:
            _refuse_overlong(tokens.shape[1], limit)
        return tokens, mask

    @contextmanager
    def _known_prompt_ends(self, table: PromptEnds | None) -> Iterator[None]:
        before, self._prompt_ends = self._prompt_ends, table
        try:
            yield
        finally:
            self._prompt_ends = before

    def _detect_batch_size(self, *args: Any, **kwargs: Any) -> int:
        # Its probes are made-up tokens, which no table of prompt ends knows.
        with self._known_prompt_ends(None):
            size: int = super()._detect_batch_size(*args, **kwargs)
        return size

    def _model_call(
        self,
        inps: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        ends = self._prompt_ends.of_rows(inps) if self._prompt_ends is not None else None
        with self._steering(ends):
            logits: torch.Tensor = super()._model_call(inps, attn_mask, labels)
        if self._stops_at_nonfinite:
            check_logits(logits, inps, self.tokenizer)
        return logits

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **generation_kwargs: Any
    ) -> torch.Tensor:
        mask = generation_kwargs.get("attention_mask")
        if not self._masks_padding and mask is not None and not mask.all():
            return self._generate_unpadded(context, max_length, stop, generation_kwargs)
        # Contexts are padded on the left, so that every row's prompt ends at the last column.
        finite, processors = FiniteLogits.beside(generation_kwargs.pop("logits_processor", None))
        with self._steering(context.shape[1] - 1):
            tokens: torch.Tensor = super()._model_generate(
                context, max_length, stop, logits_processor=processors, **generation_kwargs
            )
        self._check_generated(finite, context)
        return tokens

    def _check_generated(self, finite: FiniteLogits, context: torch.Tensor) -> None:
        """Refuse answers for which a logit was no number; a sweep counts them."""
        finite.check(context, self.tokenizer)

    def _generate_unpadded(
        self, context: torch.Tensor, max_length: int, stop: list[str], settings: dict[str, Any]
    ) -> torch.Tensor:
        """Generate for prompts of one length at a time, as padding would change the answers."""
        width, lengths = context.shape[1], settings["attention_mask"].sum(dim=1)
        new: dict[int, torch.Tensor] = {}
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            part = context[rows, width - length :]
            alone = settings | {"attention_mask": torch.ones_like(part)}
            tokens = self._model_generate(part, max_length - width + length, stop, **alone)
            new |= dict(zip(rows.tolist(), tokens[:, length:], strict=True))
        answers = torch.nn.utils.rnn.pad_sequence(
            [new[row] for row in range(len(context))],
            batch_first=True,
            padding_value=self.tokenizer.pad_token_id,
        )
        return torch.cat([context, answers.to(context)], dim=1)


def _refuse_overlong(tokens: int, limit: int) -> None:
    if tokens > limit:
        raise InputError(
            f"A prompt of {tokens} tokens does not fit: the model takes {limit} besides what is "
            f"to be generated. Choose tasks whose prompts fit, or pass truncation=true among the "
            f"model's arguments to cut prompts on the left, as hf does."
        )
