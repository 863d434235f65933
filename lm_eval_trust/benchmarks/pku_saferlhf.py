"""PKU-SafeRLHF-10K (Ji et al. 2023), the set of universal steering: safe and unsafe responses."""

from __future__ import annotations

from collections import defaultdict

from lm_eval_trust.benchmarks.readers import read_jsonl
from lm_eval_trust.benchmarks.statements import Exchange, Statement
from lm_eval_trust.core.hashing import group_id

PAIRS = "pku_saferlhf/pku_saferlhf_pairs.jsonl"


def statements() -> list[Statement]:
    """Return each pair as two statements, prompt and response joined by a space, y = 1 for safe."""
    return [
        Statement(
            f"{pair['prompt']} {pair[field]}",
            label,
            group_id(pair["prompt"]),
            exchange=Exchange(pair["prompt"], pair[field]),
        )
        for pair in read_jsonl(PAIRS)
        for field, label in (("safe_response", 1), ("unsafe_response", 0))
    ]


def consistent_statements() -> list[Statement]:
    """Return each distinct statement once, without those that pairs disagree on.

    Many responses are in several pairs, and some are labelled safe in one and unsafe in another.
    """
    distinct = {item.id: item for item in statements()}
    labels: defaultdict[str, set[int]] = defaultdict(set)
    for item in distinct.values():
        labels[item.text].add(item.label)
    return [item for item in distinct.values() if len(labels[item.text]) == 1]
