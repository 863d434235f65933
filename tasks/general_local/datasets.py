"""The general-ability sets on local files, in the columns that the harness's own tasks read.

Each function is a task's ``custom_dataset``: the harness calls it with ``--metadata`` and
``dataset_kwargs``, of which only MMLU's subject matters.
"""

from __future__ import annotations

from typing import Any

from datasets import Dataset, DatasetDict

from lm_eval_trust.benchmarks import general


def arc_challenge(**_: Any) -> DatasetDict:
    """Return ARC's challenge set."""
    return _test(general.arc_challenge())


def mathqa(**_: Any) -> DatasetDict:
    """Return MathQA."""
    return _test(general.mathqa())


def race(**_: Any) -> DatasetDict:
    """Return RACE's high-school part."""
    return _test(general.race_high())


def lambada(**_: Any) -> DatasetDict:
    """Return LAMBADA in OpenAI's form."""
    return _test(general.lambada())


def mmlu(mmlu_subject: str, **_: Any) -> DatasetDict:
    """Return one MMLU subject, with its five examples for few-shot prompts."""
    parts = ("test", "dev")
    return DatasetDict({p: Dataset.from_list(general.mmlu(mmlu_subject, p)) for p in parts})


def _test(rows: list[dict[str, Any]]) -> DatasetDict:
    return DatasetDict({"test": Dataset.from_list(rows)})
