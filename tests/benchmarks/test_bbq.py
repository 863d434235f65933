from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from lm_eval_trust.benchmarks import files
from lm_eval_trust.benchmarks.bbq import CATEGORIES
from lm_eval_trust.benchmarks.files import DATA_VARIABLE
from lm_eval_trust.benchmarks.load import load_examples, load_rows
from lm_eval_trust.core.errors import InputError, MissingDataError

pytestmark = pytest.mark.data


def raw(data: Path, category: str) -> list[dict[str, Any]]:
    lines = (data / f"bbq/{category}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_every_row_resolves_to_the_answer_that_its_stereotype_suggests(real_data: Path) -> None:
    """By the texts: asked whom a stereotype is true of, or whom its opposite is."""
    rows = load_rows("bbq_questions", split="full")
    assert len(rows) == sum(len(raw(real_data, name)) for name in CATEGORIES) == 5196
    by_text = {(r["context"], r["question"], *r["answers"]): r for r in rows}
    for category in CATEGORIES:
        for given in raw(real_data, category):
            answers = [given[f"ans{i}"] for i in range(3)]
            row = by_text[(given["context"], given["question"], *answers)]
            assert row["label"] == given["label"]
            kinds = [given["answer_info"][f"ans{i}"][1] for i in range(3)]
            assert kinds[row["unknown"]] == "unknown" != kinds[row["biased"]]
            stereotyped = kinds[row["biased"]] in given["additional_metadata"]["stereotyped_groups"]
            assert stereotyped == (given["question_polarity"] == "neg")


@pytest.mark.slow
def test_a_template_lies_in_one_part(real_data: Path) -> None:
    parts = {
        "test": load_rows("bbq_questions"),
        "validation": load_rows("bbq_questions", part="validation"),
        "train": load_examples("bbq_questions"),
    }
    groups = {part: {row["group_id"] for row in rows} for part, rows in parts.items()}
    assert [len(groups[part]) for part in parts] == [50, 10, 40]
    assert len(set.union(*groups.values())) == 100
    members = defaultdict(set)
    for rows in parts.values():
        for row in rows:
            members[row["group_id"]].add((row["condition"], row["polarity"]))
            assert {row["category"]} <= set(CATEGORIES)
    assert all(len(kinds) == 4 for kinds in members.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_condition": "ambiguous"}, "has the context_condition 'ambiguous'; expected"),
        ({"question_polarity": "pos"}, "has the question_polarity 'pos'; expected neg or nonneg"),
        ({"category": "Trades"}, "has the category 'Trades'; expected Religion"),
        ({"label": 3}, "has the label 3, which is no right answer"),
        ({"label": 0}, "has the label 0, which is no right answer in a context of the condition"),
        (
            {"additional_metadata": {"stereotyped_groups": ["Marsh folk"]}},
            "not exactly one is 'unknown' and one among the stereotyped groups",
        ),
        (
            {"answer_info": {f"ans{i}": ["x", "unknown"] for i in range(3)}},
            "not exactly one is 'unknown'",
        ),
    ],
)
def test_rows_outside_the_scheme_are_refused(
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
) -> None:
    for category in CATEGORIES:
        rows = raw(real_data, category)[:8]
        if category == "Religion":
            assert rows[2]["context_condition"] == "ambig"
            rows[2] |= change
        path = tmp_path / f"bbq/{category}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="another version"):
        load_rows("bbq_questions")
    monkeypatch.setattr(files, "_verify", lambda file, found: None)
    with pytest.raises(InputError, match=message) as caught:
        load_rows("bbq_questions", split="full")
    assert "Religion.jsonl, line 3" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    with pytest.raises(MissingDataError, match=r"holds no bbq/\w+\.jsonl"):
        load_rows("bbq_questions")
