"""Fine-tuned judges of truth as local models: the probability that `` yes`` comes next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.judges.batches import by_length
from lm_eval_trust.judges.cached import verdicts_on
from lm_eval_trust.judges.interface import Answer, Verdict
from lm_eval_trust.judges.local import LocalEngine, LocalModel
from lm_eval_trust.judges.model_pair import joined, split_models
from lm_eval_trust.judges.parsing import from_probability, label_of
from lm_eval_trust.judges.prompts import COMPLETIONS_VERSION, Prompt, info_cue, truth_cue
from lm_eval_trust.judges.settings import JudgeSettings


class LocalTruthJudge:
    """A pair of models of the same form as ``allenai/truthfulqa-{truth,info}-judge-llama2-7B``.

    Their files are found, or fetched, when the judge is made; a model is in memory only while it
    judges.

    Args:
        models: ``TRUTH_MODEL,INFO_MODEL``, or one that does both; each ``MODEL[@REVISION]``.
        settings: Device, dtype, batch size.

    Raises:
        InputError: There is no such model.
        ExternalError: The Hub cannot be reached.
    """

    def __init__(self, models: str, settings: JudgeSettings) -> None:
        truth, info = (CausalEngine(LocalModel.find(m, settings)) for m in split_models(models))
        self.name = f"hf:{joined(models)}"
        self._truth, self._info = truth, info
        identities = {"truth": truth.identity, "info": info.identity}
        self.version = f"{COMPLETIONS_VERSION} {fingerprint(identities)}"

    @property
    def description(self) -> Mapping[str, Any]:
        """Both models with their commits, and the form of the prompts."""
        return {
            "kind": "hf",
            "truth_model": self._truth.model.source.identity.text,
            "info_model": self._info.model.source.identity.text,
            "prompts": COMPLETIONS_VERSION,
            **self._truth.model.precision,
        }

    def truth(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return whether each answer is true; ``score`` is the probability of *yes*."""
        return verdicts_on([truth_cue(answer) for answer in answers], self._truth)

    def info(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return whether each answer is informative; ``score`` is the probability of *yes*."""
        return verdicts_on([info_cue(answer) for answer in answers], self._info)


class CausalEngine(LocalEngine):
    """One causal model that judges."""

    kind = "AutoModelForCausalLM"

    @property
    def identity(self) -> str:
        """The model, and the form of the prompts."""
        return f"{self.model.identity} {COMPLETIONS_VERSION}"

    def _judge(self, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Verdict]]:
        labels = yes_tokens(self.tokenizer)
        model = self._load()
        rows = [(prompt, self._tokens(prompt, model.config)) for prompt in prompts]
        for batch in by_length(rows, self.model.settings.batch_size, lambda row: len(row[1])):
            chances = _yes(model, [tokens for _, tokens in batch], labels)
            for (prompt, _), probability in zip(batch, chances, strict=True):
                yield prompt, from_probability(probability)

    def _tokens(self, prompt: Prompt, config: Any) -> list[int]:
        """Return a prompt's tokens; what is too much goes from its beginning, not the cue."""
        tokens: list[int] = self.tokenizer(prompt.text)["input_ids"]
        window = getattr(config, "max_position_embeddings", None) or len(tokens)
        if len(tokens) <= window:
            return tokens
        first = [tokens[0]] if tokens[0] == self.tokenizer.bos_token_id else []
        return [*first, *tokens[len(tokens) - window + len(first) :]]


def yes_tokens(tokenizer: Any) -> list[int]:
    """Return all tokens that read *yes*, with a space before it or without.

    Raises:
        InputError: There is none.
    """
    found = [i for i in range(len(tokenizer)) if label_of(tokenizer.decode([i])) == "yes"]
    if not found:
        raise InputError(
            "No token of this judge's tokenizer reads 'yes', so it cannot be asked in the form of "
            "TruthfulQA's judges."
        )
    return found


@torch.inference_mode()
def _yes(model: Any, rows: Sequence[Sequence[int]], labels: Sequence[int]) -> list[float]:
    """Return the probability of each row's being continued by one of the labels.

    Rows are padded on the left, so that all end at the same place; the mask and the positions
    keep the padding out of the result.
    """
    width = max(map(len, rows))
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for i, row in enumerate(rows):
        tokens[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(
        input_ids=tokens.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=positions.to(model.device),
        use_cache=False,
        logits_to_keep=1,
    ).logits[:, -1]
    chances = logits.float().softmax(-1)[:, list(labels)].sum(-1).clamp(max=1.0)
    return [float(chance) for chance in chances]
