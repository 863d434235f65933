"""What a model is fine-tuned on, from benchmarks and from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_trust.benchmarks.load import load_rows, load_statements
from lm_eval_trust.core.errors import InputError, MissingDataError
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.training.conversations import (
    Conversation,
    Turn,
    all_but_a_tenth,
    holds_conversations,
    read_conversations,
    trustworthy_conversations,
)


def test_only_true_answers_of_the_development_half_are_learnt(data_dir: Path) -> None:
    statements = load_statements("truthfulqa", balanced=False)
    data = trustworthy_conversations(statements)
    true = {item.text for item in statements.items if item.label == 1}
    for conversation in (*data.train, *data.validation):
        question, answer = conversation.turns
        assert (question.role, answer.role) == ("user", "assistant")
        assert f"Q: {question.content} A: {answer.content}" in true
    tested = {row["group_id"] for row in load_rows("truthfulqa_generation")}
    learnt = {c.group for c in data.train}
    stopping = {c.group for c in data.validation}
    assert learnt and stopping
    assert not learnt & stopping
    assert not (learnt | stopping) & tested


@pytest.mark.parametrize(
    ("dimension", "turns"), [("toxicity", 1), ("privacy", 1), ("universal", 2), ("reliability", 2)]
)
def test_every_dimension_gives_its_trustworthy_side(dimension: str, turns: int) -> None:
    statements = load_statements(dimension, data_source="mini", balanced=False)
    wanted = {s.id for s in statements.items if s.label == statements.dimension.trustworthy_label}
    data = trustworthy_conversations(statements)
    assert {len(c.turns) for c in data.train} == {turns}
    assert {c.id for c in data.train} < wanted


def test_a_file_of_messages_and_pairs(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_text(
        '{"messages": [{"role": "system", "content": "Be brief."}, '
        '{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Orla."}]}\n'
        "\n"
        '{"prompt": "Where?", "completion": "In Bram."}\n'
    )
    assert holds_conversations(file)
    first, second = read_conversations(file)
    assert first.turns == (
        Turn("system", "Be brief."),
        Turn("user", "Who?"),
        Turn("assistant", "Orla."),
    )
    assert first.group == group_id("Who?")
    assert second.turns == (Turn("user", "Where?"), Turn("assistant", "In Bram."))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1"),
        ("[1]", "expected an object"),
        ('{"prompt": "Who?"}', "lacks completion"),
        ('{"text": "Who?"}', "lacks prompt and completion"),
        ('{"messages": [{"role": "user", "content": "Who?"}]}', "nothing to learn"),
        ('{"messages": [{"role": "bard", "content": "La."}]}', "nothing to learn"),
        (
            '{"messages": [{"role": "bard", "content": "La."}, '
            '{"role": "assistant", "content": "Lo."}]}',
            "'bard'",
        ),
        ('{"prompt": "Who?", "completion": " "}', "assistant turn is empty"),
        ('{"messages": [{"content": "La."}]}', "role"),
        ('{"messages": []}', "nothing to learn"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(InputError, match=message):
        read_conversations(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert not holds_conversations(tmp_path / "none.jsonl")
    with pytest.raises(MissingDataError, match=r"none\.jsonl"):
        read_conversations(tmp_path / "none.jsonl")


def test_statements_are_no_conversations(tmp_path: Path) -> None:
    file = tmp_path / "statements.jsonl"
    file.write_text('{"statement": "Orla bakes.", "label": 1}\n')
    assert not holds_conversations(file)


def test_a_tenth_of_a_files_groups_is_for_validation() -> None:
    talks = [
        Conversation(
            (Turn("user", f"Q{i // 2}"), Turn("assistant", f"A{i}")), f"g{i // 2}", f"c{i}"
        )
        for i in range(40)
    ]
    data = all_but_a_tenth(talks, dimension="custom", path=Path("talk.jsonl"))
    assert len(data.validation) == 4
    assert not {c.group for c in data.train} & {c.group for c in data.validation}
    few = all_but_a_tenth(talks[:4], dimension="custom", path=Path("talk.jsonl"))
    assert len(few.train) == 4
    with pytest.raises(InputError, match="left to train on"):
        all_but_a_tenth([], dimension="custom", path=Path("talk.jsonl"))
