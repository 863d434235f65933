from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from lm_eval_trust.benchmarks import general
from lm_eval_trust.core.errors import InputError


def test_arc(real_data: Path) -> None:
    rows = general.arc_challenge()
    assert len(rows) == 1172
    assert all(row["answerKey"] in row["choices"]["label"] for row in rows)
    assert all(len(row["choices"]["text"]) == len(row["choices"]["label"]) for row in rows)


def test_mmlu(real_data: Path) -> None:
    assert len(general.MMLU_SUBJECTS) == 18
    rows = {subject: general.mmlu(subject) for subject in general.MMLU_SUBJECTS}
    assert sum(map(len, rows.values())) == 2755
    assert len(rows["philosophy"]) == 311
    assert all(len(general.mmlu(subject, "dev")) == 5 for subject in general.MMLU_SUBJECTS)
    for row in (row for subject in rows.values() for row in subject):
        assert len(row["choices"]) == 4
        assert row["answer"] in range(4)
        assert all(isinstance(choice, str) for choice in row["choices"])


def test_mathqa(real_data: Path) -> None:
    rows = general.mathqa()
    assert len(rows) == 2985
    assert all(row["correct"] in "abcde" for row in rows)


def test_race(real_data: Path) -> None:
    rows = general.race_high()
    source = (real_data / "race/race_high_test.jsonl").read_text("utf-8").split("\n")
    assert len(rows) == 1045
    problems = [ast.literal_eval(row["problems"]) for row in rows]
    assert sum(map(len, problems)) == 3498
    first = json.loads(source[0])
    assert [problem["question"] for problem in problems[0]] == first["questions"]
    assert [problem["options"] for problem in problems[0]] == first["options"]


def test_lambada(real_data: Path) -> None:
    rows = general.lambada()
    assert len(rows) == 5153
    assert all(" " in row["text"].strip() for row in rows)


def test_unknown_subject_and_part() -> None:
    with pytest.raises(InputError, match="Did you mean 'philosophy'"):
        general.mmlu("philosphy")
    with pytest.raises(InputError, match="Unknown MMLU part"):
        general.mmlu("philosophy", "train")
