from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Any

import datasets
import pytest

from lm_eval_trust.benchmarks.benchmark import Benchmark, BenchmarkData
from lm_eval_trust.benchmarks.load import data_of, load_rows, load_statements
from lm_eval_trust.benchmarks.registry import (
    BENCHMARKS,
    DATA_SOURCES,
    DIMENSIONS,
    benchmarks_by_form,
)
from lm_eval_trust.core.errors import InputError

FULL = {
    ("truthfulqa_generation", "official"): 817,
    ("truthfulqa_generation", "tracingllm"): 407,
    ("truthfulqa_mc", "official"): 817,
    ("truthfulqa_mc", "tracingllm"): 407,
    ("truthfulqa_classify", "tracingllm"): 2263,
    ("toxigen_generation", "official"): 6514,
    ("toxigen_generation", "tracingllm"): 6514,
    ("confaide_binary", "tracingllm"): 2346,
    ("confaide_tier2", "official"): 196,
    ("stereoset_recognition", "official"): 2 * 2123,
    ("stereoset_recognition", "tracingllm"): 1952,
    ("stereoset_icat", "official"): 2123,
    ("sst2_sentiment", "official"): 872,
    ("truthfulqa_binary", "official"): 790,
    ("confaide_tier1", "official"): 10,
    ("stereoset_intrasentence", "official"): 2106,
    ("sst2_advglue", "official"): 148,
    ("xstest_prompts", "official"): 450,
    ("xstest_completions", "official"): 1350,
    ("bbq_questions", "official"): 5196,
}
REAL_SOURCES = ("official", "tracingllm")
FORMS = benchmarks_by_form()


def sources(benchmark: str) -> list[str]:
    entry = BENCHMARKS[benchmark]
    return [name for name in REAL_SOURCES if DATA_SOURCES[name].find(benchmark, entry)]


#: Benchmarks whose data only the Hub has.
OF_THE_HUB = ("jailbreakbench", "strongreject")
MADE = [
    (name, source)
    for name, benchmark in FORMS.items()
    if benchmark not in OF_THE_HUB
    for source in REAL_SOURCES
    if source in sources(benchmark) and name in data_of(benchmark, source).forms
]
#: Those whose development half statements are taken from.
TRAINED = [(form, source) for form, source in MADE if BENCHMARKS[FORMS[form]].dimension]
PREFERENCE = {
    "target": str,
    "context": str,
    "stereotype": str,
    "anti_stereotype": str,
    "unrelated": str,
    "candidates": list,
    "golds": list,
}
FIELDS = {
    "truthfulqa_generation": {
        "question": str,
        "best_answer": str,
        "correct_answers": list,
        "incorrect_answers": list,
        "type": str,
    },
    "truthfulqa_references": {
        "question": str,
        "best_answer": str,
        "correct_answers": list,
        "incorrect_answers": list,
        "type": str,
    },
    "truthfulqa_mc": {"question": str, "mc1_targets": dict, "mc2_targets": dict},
    "truthfulqa_classify": {"statement": str, "label": int},
    "toxigen_generation": {
        "text": str,
        "toxicity_score": float,
        "target_groups": list,
        "target_group": str,
        "label": int,
    },
    "confaide_binary": {"statement": str, "label": int},
    "confaide_tier1": {"prompt": str, "human_mean": float},
    "confaide_tier2": {"prompt": str, "human_mean": float, "kind": str},
    "stereoset_recognition": {
        "context": str,
        "sentence": str,
        "statement": str,
        "gold": str,
        "label": int,
    },
    "stereoset_icat": PREFERENCE,
    "stereoset_intrasentence": PREFERENCE,
    "sst2_advglue": {"sentence": str, "sentiment": int},
    "truthfulqa_binary": {
        "question": str,
        "best_answer": str,
        "best_incorrect_answer": str,
        "type": str,
    },
    "sst2_sentiment": {"sentence": str, "perturbed_sentence": str, "sentiment": int},
    "bbq_questions": {
        **dict.fromkeys(("condition", "polarity", "context", "question"), str),
        **dict.fromkeys(("label", "unknown", "biased"), int),
        "answers": list,
    },
    "xstest_prompts": {"family": str, "question": str, "label": str},
    "xstest_completions": dict.fromkeys(
        ("family", "model", "question", "completion", "label", "verdict"), str
    ),
}


@functools.cache
def rows_of(form: str, source: str, split: str, split_seed: int = 0) -> list[dict[str, Any]]:
    return load_rows(form, data_source=source, split=split, split_seed=split_seed)


@functools.cache
def development_groups(dimension: str, source: str, seed: int) -> frozenset[str]:
    statements = load_statements(dimension, data_source=source)
    groups = statements.groups
    return frozenset(groups[i] for i in statements.partition(seed=seed).development)


@pytest.mark.parametrize(("form", "source"), MADE)
def test_rows_have_the_forms_fields(real_data: Path, form: str, source: str) -> None:
    common = {"item_id": str, "group_id": str, "category": str}
    rows = rows_of(form, source, "full")
    for row in rows:
        assert {name: type(value) for name, value in row.items()} == common | FIELDS[form]
    assert datasets.Dataset.from_list(rows)[0] == rows[0]


def test_the_first_revision_of_truthfulqa_by_name(real_data: Path) -> None:
    """Its CSV read here by itself: other answers in about a quarter of the questions."""
    with (real_data / "truthfulqa/TruthfulQA_v1.csv").open(encoding="utf-8-sig", newline="") as f:
        answers = {r["Question"].strip(): r for r in csv.DictReader(f)}
    rows = {
        name: load_rows("truthfulqa_mc", split="full", truthfulqa_revision=name)
        for name in ("v1", "later")
    }
    assert len(rows["v1"]) == len(answers) == 817
    for row in rows["v1"]:
        given = answers[row["question"]]
        true, false = (
            {a.strip().removesuffix(".") for a in given[f"{side} Answers"].split(";")} - {""}
            for side in ("Correct", "Incorrect")
        )
        targets = row["mc2_targets"]
        labelled = list(zip(targets["choices"], targets["labels"], strict=True))
        # Two questions list "Unknown" on both sides; the authors' choices have it as false.
        assert {a.removesuffix(".") for a, label in labelled if label} == true - false
        assert {a.removesuffix(".") for a, label in labelled if not label} == false
        assert sum(row["mc1_targets"]["labels"]) == 1
        assert row["mc1_targets"]["choices"][0].removesuffix(".") == given["Best Answer"].strip(
            " ."
        )
    later = {row["question"]: row["mc2_targets"] for row in rows["later"]}
    differing = sum(
        set(later[row["question"]]["choices"]) != set(row["mc2_targets"]["choices"])
        for row in rows["v1"]
        if row["question"] in later
    )
    assert differing == 206


def test_another_revision_is_refused(real_data: Path) -> None:
    with pytest.raises(InputError, match="truthfulqa_revision 'v3'"):
        load_rows("truthfulqa_mc", truthfulqa_revision="v3")


@pytest.mark.parametrize(("form", "source"), FULL)
def test_full_is_the_whole_benchmark(real_data: Path, form: str, source: str) -> None:
    rows = rows_of(form, source, "full")
    assert len(rows) == len({row["item_id"] for row in rows}) == FULL[form, source]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("statements_source", REAL_SOURCES)
@pytest.mark.parametrize(("form", "source"), TRAINED)
def test_no_row_shares_a_group_with_any_development_half(
    real_data: Path, form: str, source: str, statements_source: str, seed: int
) -> None:
    benchmark = FORMS[form]
    groups = {row["group_id"] for row in rows_of(form, source, "grouped", seed)}
    assert groups
    assert groups.isdisjoint(development_groups(benchmark, statements_source, seed))


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_rows_of_another_seed_do_share_groups(real_data: Path, dimension) -> None:
    form = next(name for name, of in FORMS.items() if of == dimension.benchmark)
    groups = {row["group_id"] for row in rows_of(form, "official", "grouped", 1)}
    assert groups & development_groups(dimension.benchmark, "official", 0)


# Ten items are never halved: confaide_tier1 takes them all. AdvGLUE's 148 items were made from few
# sentences of SST-2, which are on one side or the other with all of their items.
UNEVEN = ("confaide_tier1", "sst2_advglue")


@pytest.mark.slow
@pytest.mark.parametrize(("form", "source"), [made for made in MADE if made[0] not in UNEVEN])
def test_the_test_half_is_a_half_of_the_whole(real_data: Path, form: str, source: str) -> None:
    whole = {row["item_id"]: row for row in rows_of(form, source, "full")}
    for split in ("grouped", "random"):
        half = rows_of(form, source, split)
        assert all(whole[row["item_id"]] == row for row in half)
        assert len(half) / len(whole) == pytest.approx(0.5, abs=0.04)


def test_a_prefix_is_a_sample(real_data: Path) -> None:
    rows = rows_of("sst2_sentiment", "official", "full")
    head = [row["sentiment"] for row in rows[:200]]
    assert sum(head) / 200 == pytest.approx(444 / 872, abs=3 * (0.25 / 200) ** 0.5)
    assert rows != rows_of("sst2_sentiment", "official", "grouped")


def test_the_released_questions_carry_official_references(real_data: Path) -> None:
    official = {
        row["question"]: row for row in rows_of("truthfulqa_generation", "official", "full")
    }
    for row in rows_of("truthfulqa_generation", "tracingllm", "full"):
        assert row == official[row["question"]]


def test_released_labels_differ_from_official_ones_where_they_are_known_to(real_data: Path) -> None:
    official = {r["text"]: r for r in rows_of("toxigen_generation", "official", "full")}
    released = rows_of("toxigen_generation", "tracingllm", "full")
    assert sum(r["label"] == 1 and r["toxicity_score"] <= 3 for r in released) == 866
    assert all(r["target_groups"] == official[r["text"]]["target_groups"] for r in released[:500])
    recognition = rows_of("stereoset_recognition", "tracingllm", "full")
    assert {(r["label"], r["gold"]) for r in recognition} == {
        (1, "anti-stereotype"),
        (0, "unrelated"),
    }


def test_the_two_recognition_candidates_are_those_of_the_statements(real_data: Path) -> None:
    statements = load_statements("fairness", data_seed=3)
    rows = load_rows("stereoset_recognition", split="full", data_seed=3)
    assert sorted(zip(statements.texts, statements.labels.tolist(), strict=True)) == sorted(
        (row["statement"], row["label"]) for row in rows
    )


def test_privacy_rows_hold_each_sentence_once_with_one_label(real_data: Path) -> None:
    rows = rows_of("confaide_binary", "official", "full")
    released = rows_of("confaide_binary", "tracingllm", "full")
    assert len({row["group_id"] for row in rows}) == len(rows)
    labels: dict[str, set[int]] = {}
    for row in released:
        labels.setdefault(row["group_id"], set()).add(row["label"])
    assert {row["group_id"] for row in rows} == {g for g, seen in labels.items() if len(seen) == 1}


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("sst2_sentiment", "no public sentiment"),
        ("stereoset_icat", "no stereotype"),
        ("confaide_tier2", "no human means"),
    ],
)
def test_forms_that_the_release_cannot_make_say_why(form: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_rows(form, data_source="tracingllm")


def test_bad_names() -> None:
    with pytest.raises(InputError, match="Did you mean 'sst2_sentiment'"):
        load_rows("sst2_sentiments")
    with pytest.raises(InputError, match="Unknown split 'group'"):
        load_rows("sst2_sentiment", split="group")
    with pytest.raises(InputError, match="Unknown data_source"):
        load_rows("sst2_sentiment", data_source="glue")
    with pytest.raises(InputError, match="perturbation_rate"):
        load_rows("sst2_sentiment", perturbation_rate=-1)


def _add(form: str, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    data = BenchmarkData(None, forms={form: lambda settings: rows})
    monkeypatch.setitem(BENCHMARKS._entries, form, Benchmark(data={"official": data}))


def test_no_rows_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _add("nothing", [], monkeypatch)
    with pytest.raises(InputError, match="No rows are left for nothing"):
        load_rows("nothing", split="full")


def test_equal_rows_keep_ids_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"group_id": "g", "category": "", "text": "twice"}
    _add("twice", [dict(row), dict(row)], monkeypatch)
    rows = load_rows("twice", split="full")
    assert len({row["item_id"] for row in rows}) == 2


@pytest.mark.parametrize("form", ["truthfulqa_generation", "stereoset_recognition"])
def test_the_validation_part_meets_neither_test_nor_training(data_dir: Path, form: str) -> None:
    validation = {str(row["group_id"]) for row in load_rows(form, part="validation")}
    test = {str(row["group_id"]) for row in load_rows(form)}
    statements = load_statements(FORMS[form])
    training = {statements.groups[i] for i in statements.partition().train}
    assert validation
    assert not validation & (test | training)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": "train"}, "Unknown part to evaluate 'train'"),
        ({"part": "validation", "split": "full"}, "split=full has no validation part"),
    ],
)
def test_parts_that_are_not_evaluated_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_rows("truthfulqa_generation", **settings)
