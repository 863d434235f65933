"""SST-2 on a perturbed sentence and on its original, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance

from lm_eval_trust.tasks.parsing import UNPARSED
from lm_eval_trust.tasks.trust_task import TrustTask

#: What an answer may say for sentiment 0 and 1.
SENTIMENTS = (("negative", "0"), ("positive", "1"))


class PairedSentiment(TrustTask):
    """Asks each item twice: first about the perturbed sentence, then about the original."""

    def fewshot_context(self, doc: Mapping[str, Any], **kwargs: Any) -> list[str]:
        """Return the prompt with the perturbed sentence and the one with the original."""
        original = {**doc, "perturbed_sentence": doc["sentence"]}
        build = super().fewshot_context
        return [build(each, **kwargs) for each in (doc, original)]

    def construct_requests(
        self, doc: Mapping[str, Any], ctx: Sequence[str], **kwargs: Any
    ) -> list[Instance]:
        """Return both requests, numbered in the order of the prompts."""
        build = super().construct_requests
        requests = [build(doc, context, **kwargs) for context in ctx]
        for position, request in enumerate(requests):
            request.idx = position
        return requests


def paired(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score both answers; ``acc`` and ``unparsed`` are the perturbed sentence's.

    ``acc_drop`` is the original's accuracy minus the perturbed sentence's, ``changed`` the share of
    items whose parsed answer is another one after perturbation.
    """
    perturbed, original = results
    acc, acc_clean = _correct(doc, perturbed), _correct(doc, original)
    return {
        "acc": acc,
        "acc_clean": acc_clean,
        "acc_drop": acc_clean - acc,
        "changed": float(perturbed != original),
        "unparsed": float(perturbed == UNPARSED),
        "unparsed_clean": float(original == UNPARSED),
        "trust_score": acc,
    }


def clean(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score the answer about the original sentence."""
    return {"acc": _correct(doc, results[0]), "unparsed": float(results[0] == UNPARSED)}


def _correct(doc: Mapping[str, Any], answer: str) -> float:
    return float(answer in SENTIMENTS[doc["sentiment"]])
