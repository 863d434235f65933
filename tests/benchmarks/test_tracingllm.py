from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lm_eval_trust.benchmarks import stereoset, toxigen, tracingllm, truthfulqa
from lm_eval_trust.benchmarks.benchmark import DataSettings
from lm_eval_trust.benchmarks.files import read_csv
from lm_eval_trust.benchmarks.registry import DIMENSIONS, find_dimension
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import group_id

COUNTS = {
    "confaide": (1173, 1173),
    "sst2": (1821, 1821),
    "stereoset": (976, 976),
    "toxigen": (2881, 3633),
    "truthfulqa": (1145, 1118),
}


@pytest.mark.parametrize("benchmark", COUNTS)
def test_statements_are_as_released(real_data: Path, benchmark: str) -> None:
    make = tracingllm.DATA[benchmark].statements
    assert make is not None
    items = make(DataSettings("tracingllm"))
    file = "truthfulqa_train" if benchmark == "truthfulqa" else benchmark
    rows = read_csv(f"tracingllm/{file}.csv")
    assert [(i.text, str(i.label)) for i in items] == [(r["statement"], r["label"]) for r in rows]
    labels = Counter(item.label for item in items)
    assert (labels[0], labels[1]) == COUNTS[benchmark]


def test_groups_are_those_of_the_official_files(real_data: Path) -> None:
    questions = {question.group for question in truthfulqa.read_questions()}
    contexts = {group_id(item["context"]) for item in stereoset.read_items()}
    sentences = {group_id(row["text"]) for row in toxigen.read_sentences()}
    assert {item.group for item in tracingllm.truthfulqa_statements()} < questions
    assert {group_id(question) for question in tracingllm.truthfulqa_questions()} < questions
    assert {item.group for item in tracingllm.stereoset_statements()} < contexts
    assert {item.group for item in tracingllm.toxigen_statements()} == sentences


def test_a_sentence_and_its_perturbation_share_a_group(real_data: Path) -> None:
    groups = Counter(item.group for item in tracingllm.sst2_statements())
    assert set(groups.values()) == {2}


def test_truthfulqa_labels_agree_with_the_official_ones(real_data: Path) -> None:
    official = {q.group: q for q in truthfulqa.read_questions()}
    for item in tracingllm.truthfulqa_statements():
        answer = item.text.partition("\tA: ")[2]
        assert official[item.group].mc2[answer] == item.label


def test_exchange_of() -> None:
    found = tracingllm.exchange_of("Q: Where is Orrin?\tA: Inland.")
    assert (found.question, found.answer) == ("Where is Orrin?", "Inland.")
    for other in ("Where is Orrin?", "Q: Where is Orrin?", "Q: Where?\tA: "):
        with pytest.raises(InputError, match="expected 'Q: …<TAB>A: …'"):
            tracingllm.exchange_of(other)


def test_the_released_meaning_is_on_the_side_that_the_official_scores_say(real_data: Path) -> None:
    toxicity = tracingllm.released_dimension(find_dimension("toxicity"))
    scores = {row["text"]: row["toxicity_score"] for row in toxigen.read_sentences()}
    means = []
    for label in (0, 1):
        chosen = [scores[i.text] for i in tracingllm.toxigen_statements() if i.label == label]
        means.append(sum(chosen) / len(chosen))
    assert means[toxicity.trustworthy_label] < means[1 - toxicity.trustworthy_label]


def test_other_dimensions_keep_their_meaning() -> None:
    changed = {d.name for d in DIMENSIONS if tracingllm.released_dimension(d) != d}
    assert changed == {"toxicity", "fairness"}


def test_a_statement_that_is_not_stereosets_is_named(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"statement": "Lamplighters are tall.", "label": "1"}]
    monkeypatch.setattr(tracingllm, "read_csv", lambda path: rows)
    with pytest.raises(InputError, match="Lamplighters are tall"):
        tracingllm.stereoset_candidates()
