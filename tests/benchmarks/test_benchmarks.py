"""Each reader against the counts that the data's own records state, and against small cases."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from lm_eval_trust.benchmarks import (
    confaide,
    files,
    pku_saferlhf,
    sst2,
    stereoset,
    toxigen,
    truthfulqa,
)
from lm_eval_trust.benchmarks.load import load_examples, load_rows
from lm_eval_trust.benchmarks.perturbation import count_flipped, letters_to_flip
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import group_id

QUESTION = truthfulqa.Question(
    text="What do the bells of Orrin mean?",
    category="Bells",
    type="Adversarial",
    best_answer="Fog.",
    correct_answers=("Fog.",),
    incorrect_answers=("Fire.", "War."),
    mc1={"Fog.": 1, "Fire.": 0},
    mc2={"Fog.": 1, "Mist.": 1, "Fire.": 0, "War.": 0, "Lunch.": 0},
)


def test_truthfulqa_counts(real_data: Path) -> None:
    questions = truthfulqa.read_questions()
    assert len(questions) == len({question.group for question in questions}) == 817
    assert len({question.category for question in questions}) == 38
    assert {question.type for question in questions} == {"Adversarial", "Non-Adversarial"}
    assert all(sum(question.mc1.values()) == 1 for question in questions)
    assert all(q.best_answer in q.correct_answers for q in questions)
    assert all(q.correct_answers and q.incorrect_answers for q in questions)


def test_truthfulqa_statements_pair_each_question_with_its_answers() -> None:
    items = truthfulqa.statements([QUESTION], seed=0, balance=False)
    assert [(item.text, item.label) for item in items] == [
        (f"Q: What do the bells of Orrin mean? A: {answer}", label)
        for answer, label in QUESTION.mc2.items()
    ]
    assert {item.group for item in items} == {group_id("What do the bells of Orrin mean?")}
    assert {item.category for item in items} == {"Bells"}


def test_truthfulqa_balances_within_each_question() -> None:
    texts = set()
    for seed in range(20):
        items = truthfulqa.statements([QUESTION], seed=seed, balance=True)
        assert Counter(item.label for item in items) == {0: 2, 1: 2}
        texts |= {item.text for item in items}
    assert len(texts) == 5  # over many seeds each answer has its turn


def test_truthfulqa_rows() -> None:
    row = truthfulqa.choice_row(QUESTION)
    assert row["mc1_targets"] == {"choices": ["Fog.", "Fire."], "labels": [1, 0]}
    assert truthfulqa.generation_row(QUESTION)["incorrect_answers"] == ["Fire.", "War."]


def test_truthfulqa_files_that_do_not_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truthfulqa, "read_json", lambda path: [])
    monkeypatch.setattr(truthfulqa, "read_csv", lambda path: [{"Question": "Why?"}])
    with pytest.raises(InputError, match="lacks 1 questions"):
        truthfulqa.read_questions()


@pytest.mark.parametrize(
    ("joined", "answers"),
    [("Fog; Mist", ("Fog", "Mist")), ("Fog;", ("Fog",)), ("", ()), (" ; Fog ;; ", ("Fog",))],
)
def test_split_answers(joined: str, answers: tuple[str, ...]) -> None:
    assert truthfulqa.split_answers(joined) == answers


def test_toxigen_counts_and_own_labels(real_data: Path) -> None:
    rows = toxigen.read_sentences()
    benign = [toxigen.is_benign(row) for row in rows]
    assert (len(rows), sum(benign)) == (6514, 3747)
    assert all((row["label"] == "neutral") == bool(b) for row, b in zip(rows, benign, strict=True))
    assert len({group for row in rows for group in row["target_groups"]}) == 13
    assert [row["text"] for row in rows] == [item.text for item in toxigen.statements(rows)]


@pytest.mark.parametrize(("score", "benign"), [(1.0, 1), (3.0, 1), (3.34, 0), (5, 0)])
def test_toxigen_calls_hate_what_scores_above_three(score: float, benign: int) -> None:
    row = {"text": " lamps", "toxicity_score": score, "target_groups": ["dunmerians", "orrinese"]}
    found = toxigen.generation_row(row)
    assert (found["label"], found["target_group"], found["text"]) == (
        benign,
        "dunmerians",
        " lamps",
    )
    assert isinstance(found["toxicity_score"], float)


def test_stereoset_counts(real_data: Path) -> None:
    items = stereoset.read_items()
    assert Counter(item["bias_type"] for item in items) == {
        "gender": 242,
        "profession": 827,
        "race": 976,
        "religion": 78,
    }


ITEMS = [
    {
        "id": str(number),
        "target": "lamplighter",
        "bias_type": "profession",
        "context": f"Lamplighter {number} came in.",
        "stereotype": "He smelt of oil.",
        "anti_stereotype": "He smelt of roses.",
        "unrelated": "Kites are light.",
    }
    for number in range(7)
]


def test_stereoset_takes_the_two_other_candidates_in_turn() -> None:
    seen = set()
    for seed in range(20):
        chosen = stereoset.chosen_candidates(ITEMS, seed)
        golds = [candidate.gold for candidate in chosen]
        assert golds[::2] == ["stereotype"] * 7
        assert Counter(golds[1::2]) == {"anti-stereotype": 4, "unrelated": 3}
        assert [candidate.context for candidate in chosen[::2]] == [i["context"] for i in ITEMS]
        seen.add(tuple(golds))
    assert len(seen) > 10


def test_stereoset_statements_join_context_and_candidate() -> None:
    first = stereoset.statements(stereoset.candidates(ITEMS[:1]))
    assert [(item.text, item.label) for item in first] == [
        ("Lamplighter 0 came in. He smelt of oil.", 1),
        ("Lamplighter 0 came in. He smelt of roses.", 0),
        ("Lamplighter 0 came in. Kites are light.", 0),
    ]


def test_stereoset_icat_orders_differ_and_name_their_golds() -> None:
    orders = set()
    for item in ITEMS:
        row = stereoset.icat_row(item, seed=0)
        named = dict(zip(row["golds"], row["candidates"], strict=True))
        assert named["stereotype"] == item["stereotype"] == row["stereotype"]
        assert named["anti-stereotype"] == item["anti_stereotype"]
        assert named["unrelated"] == item["unrelated"]
        orders.add(tuple(row["golds"]))
    assert len(orders) > 2


def test_sst2_counts(real_data: Path) -> None:
    sentences = sst2.read_sentences()
    assert Counter(label for _, label in sentences) == {1: 444, 0: 428}
    assert all(sentence == sentence.strip() and sentence for sentence, _ in sentences)


def test_sst2_sentences_with_quotes_are_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text('sentence\tlabel\n"half a quote \t1\nthe end , " she said \t0\n', "utf-8")
    monkeypatch.setattr(files, "locate", lambda name: path)
    assert sst2.read_sentences() == [('"half a quote', 1), ('the end , " she said', 0)]


def test_sst2_probe_pairs_each_sentence_with_its_perturbation(real_data: Path) -> None:
    sentences = sst2.read_sentences()
    items = sst2.statements(sentences, rate=0.2, seed=4)
    assert len(items) == 2 * len(sentences)
    for original, perturbed in zip(items[::2], items[1::2], strict=True):
        assert (original.label, perturbed.label) == (0, 1)
        assert original.group == perturbed.group
        flipped, letters = count_flipped(original.text, perturbed.text)
        assert flipped == letters_to_flip(letters, 0.2) > 0


def test_adversarial_sentences_are_of_their_originals_group(real_data: Path) -> None:
    """The label is not looked at, and agrees in each of the 125."""
    sentiments = {group_id(sentence): label for sentence, label in sst2.read_sentences()}
    rows = sst2.adversarial_rows()
    known = [row for row in rows if row["group_id"] in sentiments]
    assert (len(rows), len(known)) == (148, 125)
    assert all(sentiments[row["group_id"]] == row["sentiment"] for row in known)


def test_the_leak_guard_sees_adversarial_forms_of_training_sentences(real_data: Path) -> None:
    used = frozenset(row["group_id"] for row in load_examples("sst2_sentiment"))
    everything = load_rows("sst2_advglue", split="full")
    assert used & {row["group_id"] for row in everything}
    for part in ("test", "validation"):
        assert not used & {row["group_id"] for row in load_rows("sst2_advglue", part=part)}


def test_originals_are_found_by_text_and_templates_have_none() -> None:
    sentences = ["a dull film , slowly told .", "a warm and witty film about oars ."]
    changed = [
        "a warm and witty movie about oars .",
        "A dull film , slowly told . and true is true and true is true .",
        "I wouldn't say, given that I row, that this rower is bad.",
        "mr and false is not true .",
    ]
    assert sst2.originals_of(changed, sentences) == [sentences[1], sentences[0], None, None]
    assert sst2.originals_of(changed, []) == [None] * 4


def test_sst2_probe_leaves_out_what_it_cannot_perturb() -> None:
    items = sst2.statements([("dull", 0), ("a long and winding road", 1)], rate=0.05, seed=0)
    assert {item.group for item in items} == {group_id("a long and winding road")}


def test_sst2_task_keeps_the_gold_label(real_data: Path) -> None:
    for sentence, sentiment in sst2.read_sentences()[:50]:
        row = sst2.sentiment_row(sentence, sentiment, rate=0.5, seed=0)
        assert row["sentiment"] == sentiment
        assert row["perturbed_sentence"].lower() == row["sentence"].lower() == sentence.lower()


def test_confaide_tier2_shares_means_and_groups(real_data: Path) -> None:
    rows = confaide.tier2_rows()
    assert Counter(row["kind"] for row in rows) == {"scenario": 98, "story": 98}
    assert sum(row["human_mean"] > 0 for row in rows) == 2 * 7
    for scenario, story in zip(rows[::2], rows[1::2], strict=True):
        assert scenario["group_id"] == story["group_id"]
        assert scenario["human_mean"] == story["human_mean"]
        assert "\\n" not in scenario["prompt"] + story["prompt"]
        assert "\n" in scenario["prompt"] and "\n" in story["prompt"]


def test_confaide_files_of_different_length(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {
        confaide.SCENARIOS: ["a", "b"],
        confaide.STORIES: ["a", "b"],
        confaide.HUMAN_MEANS: ["1"],
    }
    monkeypatch.setattr(confaide, "read_lines", lines.__getitem__)
    with pytest.raises(InputError, match="have 2, 2 and 1 lines"):
        confaide.tier2_rows()


def test_confaide_statements(real_data: Path) -> None:
    with (real_data / "tracingllm/confaide.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    items = confaide.statements()
    assert len(items) == 2346
    assert [(i.text, str(i.label)) for i in items] == [(r["statement"], r["label"]) for r in rows]


def test_pku_pairs_become_two_statements_each(real_data: Path) -> None:
    lines = (real_data / "pku_saferlhf/pku_saferlhf_pairs.jsonl").read_text("utf-8").splitlines()
    items = pku_saferlhf.statements()
    assert len(items) == 2 * len(lines) == 2 * 3542
    pair = json.loads(lines[0])
    assert items[0].text == pair["prompt"] + " " + pair["safe_response"]
    assert (items[0].label, items[1].label) == (1, 0)
    assert len({item.group for item in items}) == 928


def test_pku_statements_that_pairs_disagree_on_are_left_out(real_data: Path) -> None:
    everything = pku_saferlhf.statements()
    labels = Counter((item.text, item.label) for item in everything)
    found = pku_saferlhf.consistent_statements()
    assert {item.text for item in found} == {
        text for text, label in labels if (text, 1 - label) not in labels
    }
    assert len({item.text for item in found}) == len(found)
