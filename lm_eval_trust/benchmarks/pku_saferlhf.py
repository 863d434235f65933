"""PKU-SafeRLHF-10K (Ji et al. 2023), the set of universal steering: safe and unsafe responses.

It is the one set without a copy on GitHub whose bytes could be pinned (non-commercial licence). Its
commit on the Hub could not be looked up when this was written, so none is invented here: ``main``
is asked for unless ``LM_EVAL_TRUST_PKU_REVISION`` names a commit, and the statements' settings
record the SHA-256 of what was read.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lm_eval_trust.benchmarks.benchmark import (
    OFFICIAL,
    Benchmark,
    BenchmarkData,
    DataFile,
    DataSettings,
    Dimension,
)
from lm_eval_trust.benchmarks.files import read_jsonl
from lm_eval_trust.benchmarks.hub import HubSet
from lm_eval_trust.benchmarks.statements import Exchange, Statement, balanced
from lm_eval_trust.core.hashing import group_id

_SET = HubSet("PKU-Alignment/PKU-SafeRLHF-10K", "LM_EVAL_TRUST_PKU_REVISION")
_COLUMNS = ("prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe")
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


def write_pairs(path: Path) -> None:
    """Write the pairs in which exactly one response is safe, one JSON line each.

    Raises:
        InputError: The revision does not exist.
        ExternalError: The Hub cannot be reached, or holds another layout.
    """
    pairs = list(safe_unsafe_pairs(_SET.rows("train", _COLUMNS)))
    path.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), "utf-8")


def safe_unsafe_pairs(rows: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, str]]:
    """Yield ``prompt``, ``safe_response``, ``unsafe_response`` of rows with one safe response."""
    for row in rows:
        safe = [bool(row["is_response_0_safe"]), bool(row["is_response_1_safe"])]
        responses = [row["response_0"], row["response_1"]]
        if sum(safe) == 1:
            yield {
                "prompt": row["prompt"],
                "safe_response": responses[safe.index(True)],
                "unsafe_response": responses[safe.index(False)],
            }


def _statements(settings: DataSettings) -> list[Statement]:
    found = consistent_statements()
    return balanced(found, settings.data_seed) if settings.balanced else found


DIMENSION = Dimension(
    "universal",
    "pku_saferlhf",
    None,
    ("prompt with an unsafe response", "prompt with a safe response"),
    trustworthy_label=1,
)
BENCHMARK = Benchmark(
    dimension=DIMENSION,
    data={
        OFFICIAL: BenchmarkData(
            _statements,
            lambda: (item.group for item in statements()),
            files=(PAIRS,),
            settings=("data_seed", "balanced"),
            statement_size=(82.7, 4212),
        )
    },
    files=(DataFile(PAIRS, None, fetch=write_pairs, hub=_SET.name),),
)
