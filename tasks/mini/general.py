"""General ability in the embedded world: perplexity of held-out text, and multiple choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, DatasetDict

from lm_eval_trust.mini import general
from lm_eval_trust.mini.corpus import count_tokens, documents
from lm_eval_trust.mini.world import build_world, world_seed

#: Held-out documents, of the length that the models were trained on.
_DOCUMENTS, _LENGTH = 300, 32


def text(**_: Any) -> DatasetDict:
    """Return held-out documents of the world."""
    found = documents(build_world(world_seed()), part="test", number=_DOCUMENTS, tokens=_LENGTH)
    return DatasetDict({"test": Dataset.from_list([{"text": each} for each in found])})


def choice(**_: Any) -> DatasetDict:
    """Return the multiple-choice questions after what something is."""
    return DatasetDict({"test": Dataset.from_list(general.choice_rows(build_world(world_seed())))})


def text_scores(doc: Mapping[str, Any], results: Sequence[float]) -> dict[str, tuple[float, int]]:
    """Return log-likelihood and length of a document, in words and punctuation marks."""
    (log_likelihood,) = results
    return {"word_perplexity": (log_likelihood, count_tokens(doc["text"]))}
