"""SST-2 (Socher et al. 2013; GLUE validation, 872 sentences), as a probe set and as a task.

The *probe* set asks whether a sentence is perturbed; the *task* asks for the sentiment of the
perturbed sentence and knows the gold labels of GLUE. The two labels have nothing to do with each
other.
"""

from __future__ import annotations

from typing import Any

from lm_eval_trust.benchmarks.perturbation import perturb_case
from lm_eval_trust.benchmarks.readers import read_tsv
from lm_eval_trust.benchmarks.statements import Statement
from lm_eval_trust.core.hashing import group_id

SENTENCES = "sst2/dev.tsv"


def read_sentences() -> list[tuple[str, int]]:
    """Return the sentences without outer spaces, each with its sentiment (1 = positive)."""
    return [(row["sentence"].strip(), int(row["label"])) for row in read_tsv(SENTENCES)]


def statements(sentences: list[tuple[str, int]], *, rate: float, seed: int) -> list[Statement]:
    """Return each sentence as it is (y = 0) and perturbed (y = 1).

    A sentence too short for ``rate`` to flip a letter is left out on both sides: it would carry
    both labels.
    """
    found = []
    for sentence, _ in sentences:
        perturbed = perturb_case(sentence, rate=rate, seed=seed)
        if perturbed != sentence:
            group = group_id(sentence)
            found += [Statement(sentence, 0, group), Statement(perturbed, 1, group)]
    return found


def sentiment_row(sentence: str, sentiment: int, *, rate: float, seed: int) -> dict[str, Any]:
    """Return the row of the sentiment task; the perturbation never touches the label."""
    return {
        "group_id": group_id(sentence),
        "category": "",
        "sentence": sentence,
        "perturbed_sentence": perturb_case(sentence, rate=rate, seed=seed),
        "sentiment": sentiment,
    }
