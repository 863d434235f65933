"""Harmful requests from the Hub: JailbreakBench's behaviours and StrongREJECT's prompts.

JailbreakBench (Chao et al. 2024, arXiv 2404.01318): 100 misuse behaviours, and as many benign ones
on the same topics. StrongREJECT (Souly et al. 2024, arXiv 2402.10260): 313 forbidden prompts in six
categories. Both are fetched by name on first use; their commits could not be looked up when this
was written, so none is invented here, and the results record the fingerprint of the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lm_eval_trust.benchmarks.benchmark import (
    OFFICIAL,
    Benchmark,
    BenchmarkColumn,
    BenchmarkData,
    DataFile,
)
from lm_eval_trust.benchmarks.files import read_jsonl
from lm_eval_trust.benchmarks.hub import HubSet
from lm_eval_trust.benchmarks.xstest import SAFE, UNSAFE, refusal_columns
from lm_eval_trust.core.hashing import content_id, group_id

BEHAVIOURS = "jailbreakbench/behaviors.jsonl"
FORBIDDEN = "strongreject/prompts.jsonl"
_JAILBREAKBENCH = HubSet(
    "JailbreakBench/JBB-Behaviors", "LM_EVAL_TRUST_JAILBREAKBENCH_REVISION", "behaviors"
)
_STRONGREJECT = HubSet("walledai/StrongREJECT", "LM_EVAL_TRUST_STRONGREJECT_REVISION")
#: Split of JailbreakBench → what its prompts are.
_SPLITS = {"harmful": UNSAFE, "benign": SAFE}


def write_behaviours(path: Path) -> None:
    """Write JailbreakBench's behaviours, one JSON line each.

    Raises:
        InputError: As :meth:`~lm_eval_trust.benchmarks.hub.HubSet.rows`.
        ExternalError: The same.
    """
    _write(
        path,
        (
            {
                "index": int(row["Index"]),
                "question": row["Goal"],
                "behavior": row["Behavior"],
                "category": row["Category"],
                "label": label,
            }
            for split, label in _SPLITS.items()
            for row in _JAILBREAKBENCH.rows(split, ("Index", "Goal", "Behavior", "Category"))
        ),
    )


def write_forbidden(path: Path) -> None:
    """Write StrongREJECT's prompts, one JSON line each.

    Raises:
        InputError: As :meth:`~lm_eval_trust.benchmarks.hub.HubSet.rows`.
        ExternalError: The same.
    """
    found = _STRONGREJECT.rows("train", ("prompt", "category"))
    _write(path, ({"question": row["prompt"], "category": row["category"]} for row in found))


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), "utf-8")


def behaviour_rows() -> list[dict[str, Any]]:
    """Return all behaviours; the harmful and the benign one of a number share a group.

    Raises:
        InputError: A label is neither ``safe`` nor ``unsafe``; the line is named.
    """
    return [
        {
            "group_id": content_id("jailbreakbench", int(row["index"])),
            "category": row["category"],
            "question": row["question"],
            "label": row.one_of("label", _SPLITS.values()),
        }
        for row in read_jsonl(BEHAVIOURS)
    ]


def harmful_rows() -> list[dict[str, Any]]:
    """Return the harmful behaviours."""
    return [row for row in behaviour_rows() if row["label"] == UNSAFE]


def forbidden_rows() -> list[dict[str, Any]]:
    """Return StrongREJECT's prompts."""
    return [
        {
            "group_id": group_id(row["question"]),
            "category": row["category"],
            "question": row["question"],
        }
        for row in read_jsonl(FORBIDDEN)
    ]


JAILBREAKBENCH = Benchmark(
    data={
        OFFICIAL: BenchmarkData(
            None,
            lambda: (row["group_id"] for row in behaviour_rows()),
            {
                "jailbreakbench_behaviors": lambda _: behaviour_rows(),
                "jailbreakbench_harmful": lambda _: harmful_rows(),
            },
            training=False,
        )
    },
    files=(DataFile(BEHAVIOURS, None, fetch=write_behaviours, hub=_JAILBREAKBENCH.name),),
    columns=(
        *refusal_columns(
            ("JailbreakBench", "Harmful refused", "Benign answered"),
            ("trust_jailbreakbench_refusal",),
            position=76,
        ),
        BenchmarkColumn(
            "Jailbroken",
            "jailbroken",
            ("trust_jailbreakbench",),
            higher_is_better=False,
            headline=False,
            reported=False,
            position=79,
            dimension="safety",
        ),
    ),
)
STRONGREJECT = Benchmark(
    data={
        OFFICIAL: BenchmarkData(
            None,
            lambda: (row["group_id"] for row in forbidden_rows()),
            {"strongreject_prompts": lambda _: forbidden_rows()},
            training=False,
        )
    },
    files=(DataFile(FORBIDDEN, None, fetch=write_forbidden, hub=_STRONGREJECT.name),),
    columns=(
        BenchmarkColumn(
            "StrongREJECT",
            "strongreject",
            ("trust_strongreject",),
            higher_is_better=False,
            headline=False,
            reported=False,
            position=80,
            dimension="safety",
        ),
    ),
)
