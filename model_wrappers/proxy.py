"""``proxy_amber``: a checkpoint moved by the difference of a tuned model and an untuned one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from lm_eval.api.instance import Instance
from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.mini.world import BASE, CHAT, is_mini
from lm_eval_trust.model_wrappers.amber import Amber
from lm_eval_trust.model_wrappers.amber_arguments import AMBER, AMBER_CHAT
from lm_eval_trust.models.proxy import Candidates, Part, ProxyTunedModel, TokenShift, measure_shift
from lm_eval_trust.models.proxy_parts import (
    PartLoader,
    PartSource,
    common_vocabulary,
    find_part,
    tokenizers_of,
)
from lm_eval_trust.models.transformers_internals import require_joinable_cache

logger = logging.getLogger(__name__)

#: Rows that are measured at once for the record.
_RECORDED_ROWS = 8


class ProxyAmber(Amber):
    """Harness model ``proxy_amber``: base + α (expert − anti-expert), token by token.

    By default the paper's Figure 18: Amber's ``ckpt_179``, moved by AmberChat minus Amber; for a
    model of the embedded family, by ``mini-chat`` minus ``mini``. Parts that are the same model, or
    adapters of the same one, are loaded once.

    Args:
        pretrained: The base model.
        expert: ``MODEL[@REVISION]``, or the folder of a LoRA adapter, which means its own base with
            the adapter switched on.
        antiexpert: The same.
        proxy_alpha: α.
        proxy_top_k: Only choose among this many of the base model's likeliest tokens.
        proxy_top_p: Only choose among the base model's likeliest tokens that together have this
            probability.
        expert_device: Device of the expert; by default that of the base model.
        antiexpert_device: The same.
        proxy_record: JSONL file that records how far each generated answer was moved, token by
            token.
        **arguments: See :class:`lm_eval_trust.model_wrappers.amber.Amber`; steering acts on the
            base model, whose blocks its layers count.

    Raises:
        InputError: A part that does not exist, vocabularies that differ within the base model's
            (an expert's tokens past its end are dropped), settings out of range.
        ExternalError: A part is neither local nor reachable.
    """

    DEFAULT_REVISION: ClassVar[str | None] = "ckpt_179"
    OWN_ARGUMENTS: ClassVar[frozenset[str]] = Amber.OWN_ARGUMENTS | {
        "expert",
        "antiexpert",
        "proxy_alpha",
        "proxy_top_k",
        "proxy_top_p",
        "expert_device",
        "antiexpert_device",
        "proxy_record",
    }

    def __init__(
        self,
        pretrained: Any = None,
        *,
        expert: str | None = None,
        antiexpert: str | None = None,
        proxy_alpha: Any = 1.0,
        proxy_top_k: Any = None,
        proxy_top_p: Any = None,
        expert_device: str | None = None,
        antiexpert_device: str | None = None,
        proxy_record: str | None = None,
        **arguments: Any,
    ) -> None:
        defaults = (CHAT, BASE) if is_mini(pretrained) else (AMBER_CHAT, AMBER)
        self._experts = {
            "expert": find_part(expert or defaults[0]),
            "antiexpert": find_part(antiexpert or defaults[1]),
        }
        self._alpha = _number("proxy_alpha", proxy_alpha)
        self._candidates = Candidates(
            top_k=None if proxy_top_k is None else int(_number("proxy_top_k", proxy_top_k)),
            top_p=None if proxy_top_p is None else _number("proxy_top_p", proxy_top_p),
        )
        self._expert_devices = {"expert": expert_device, "antiexpert": antiexpert_device}
        self._record = Path(proxy_record) if proxy_record else None
        super().__init__(
            pretrained,
            identities={
                **{name: source.identity for name, source in self._experts.items()},
                "proxy_alpha": str(self._alpha),
                "candidates": str(self._candidates),
            },
            trained_on=[p for source in self._experts.values() for p in source.trained_on],
            **arguments,
        )

    @property
    def _steered_model(self) -> nn.Module:
        base: nn.Module = self.model.base
        return base

    @property
    def _reading_models(self) -> Sequence[nn.Module]:
        return tuple(self.model.cached_models)

    def _steering(self, prompt_ends: int | torch.Tensor | None) -> AbstractContextManager[None]:
        # The base model may lend its weights to the experts, which are not to be steered: hooks
        # are on in its own passes only.
        return self._steerer.request(prompt_ends)

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        shared = common_vocabulary(
            {"the base model": self.tokenizer, **tokenizers_of(self._experts)}
        )
        if shared.note:
            logger.warning("%s", shared.note)
        self._dropped = dict(shared.dropped)
        super()._create_model(pretrained, **kwargs)
        base, experts = self._load_parts(str(kwargs.get("dtype") or "auto"))
        self._model = ProxyTunedModel(
            self._steerable(base),
            *experts,
            alpha=self._alpha,
            candidates=self._candidates,
            vocabulary=shared.size if shared.dropped else None,
        )

    def get_model_info(self) -> dict[str, Any]:
        """Return what :class:`Amber` does, and the experts' tokens that the base model lacks."""
        return super().get_model_info() | {"dropped_tokens": self._dropped}

    def _load_parts(self, dtype: str) -> tuple[Part, list[Part]]:
        """Return the base model that is there already, and the experts beside it."""
        here = str(self.device)
        loader = PartLoader(dtype)
        devices = {name: device or here for name, device in self._expert_devices.items()}
        if self._source is None:
            return Part(self._model), loader.load(self._experts, devices)
        base = PartSource(self._source)
        loader.add(base, self._model, here)
        parts = loader.load({"base": base, **self._experts}, {"base": here, **devices})
        return parts[0], parts[1:]

    def _steerable(self, base: Part) -> Part:
        """Return the base model with its passes steered."""

        @contextmanager
        def scope() -> Iterator[None]:
            with ExitStack() as stack:
                stack.enter_context(base.scope())
                stack.enter_context(self._steerer.hooks())
                yield

        return replace(base, scope=scope)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Generate continuations; see ``HFLM``. Writes the record where one was asked for."""
        for model in self.model.cached_models:
            require_joinable_cache(model)
        answers = super().generate_until(requests, disable_tqdm)
        if self._record is not None:
            self._write_record(self._record, requests, answers, disable_tqdm)
        return answers

    def _write_record(
        self, file: Path, requests: list[Instance], answers: list[str], disable_tqdm: bool
    ) -> None:
        lines = []
        starts = range(0, len(requests), _RECORDED_ROWS)
        for start in progress_bar(starts, "Recording movement", shown=not disable_tqdm):
            part = slice(start, start + _RECORDED_ROWS)
            lines += self._movements(requests[part], answers[part])
        earlier = file.read_text(encoding="utf-8") if file.exists() else ""
        with atomic_path(file) as temporary:
            temporary.write_text(earlier + "".join(lines), encoding="utf-8")

    def _movements(self, requests: list[Instance], answers: list[str]) -> list[str]:
        encoded = [
            self._encode_pair(request.args[0], answer)
            for request, answer in zip(requests, answers, strict=True)
        ]
        pairs = [(prompt or [self.prefix_token_id], answer) for prompt, answer in encoded]
        ends = torch.tensor([len(prompt) - 1 for prompt, _ in pairs])
        with self._steering(ends):
            found = measure_shift(self.model, pairs)
        return [
            json.dumps(
                {
                    "task": request.task_name,
                    "doc_id": request.doc_id,
                    "answer": answer,
                    "tokens": [self._described(token) for token in tokens],
                },
                ensure_ascii=False,
            )
            + "\n"
            for request, answer, tokens in zip(requests, answers, found, strict=True)
        ]

    def _described(self, movement: TokenShift) -> Mapping[str, Any]:
        texts = {
            "text": self.tok_decode([movement.token]),
            "base_text": self.tok_decode([movement.base_choice]),
        }
        return texts | asdict(movement)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if number != number or abs(number) == float("inf"):
        raise InputError(f"{name}={value!r} is not a finite number.")
    return number
