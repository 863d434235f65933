from __future__ import annotations

import json
from pathlib import Path

import pytest

from lm_eval_trust.benchmarks.load import read_statements_file
from lm_eval_trust.core.errors import InputError, MissingDataError
from lm_eval_trust.core.hashing import group_id

ROWS = [
    {"statement": "Mirel read her neighbour's letters.", "label": 1, "category": "intrusion"},
    {"statement": "Mirel, “étourdie”, watered the plants 🌱.", "label": 0, "group": "Mirel"},
]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def csv_file(folder: Path, *lines: str) -> Path:
    return write(folder / "own.csv", "\n".join(lines) + "\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_and_jsonl_give_the_same_statements(tmp_path: Path, encoding: str) -> None:
    jsonl = write(tmp_path / "own.jsonl", "\n".join(map(json.dumps, ROWS)), encoding)
    table = "statement,label,category,group\n" + "".join(
        f'"{row["statement"]}",{row["label"]},{row.get("category", "")},{row.get("group", "")}\n'
        for row in ROWS
    )
    csv = write(tmp_path / "own.csv", table, encoding)
    one, other = (read_statements_file(path, dimension="privacy") for path in (jsonl, csv))
    assert one.items == other.items
    assert one.texts == [row["statement"] for row in ROWS]
    assert one.labels.tolist() == [1, 0]
    assert one.groups == [group_id(str(ROWS[0]["statement"])), group_id("Mirel")]
    assert [item.category for item in one.items] == ["intrusion", None]
    assert one.data_source == str(jsonl)


def test_a_statement_with_line_breaks_and_odd_separators(tmp_path: Path) -> None:
    text = "One.\nTwo.\u2028Three.\x0bFour."
    path = write(tmp_path / "own.jsonl", json.dumps({"statement": text, "label": 0}))
    assert read_statements_file(path, "privacy").texts == [text]
    path = write(tmp_path / "own.csv", f'statement,label\n"{text}",0\n')
    assert read_statements_file(path, "privacy").texts == [text]


def test_statements_of_a_file_can_be_split(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "statement,label", *(f"Sentence {i}.,{i % 2}" for i in range(10)))
    parts = read_statements_file(path, "privacy").partition()
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (4, 1, 5)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("text,label", "A.,1"), "lacks statement; its columns are text, label"),
        (("statement,y", "A.,1"), "row 1 lacks label"),
        (("statement,label", "A.,1", "B."), "row 2 lacks label"),
        (("statement,label", "A.,2"), "label '2'; expected 0 or 1"),
        (("statement,label", "A.,true"), "label 'true'"),
        (("statement,label", "A.,"), "label ''"),
        (("statement,label", "  ,1"), "empty statement"),
        (("statement,label",), "No statements are left"),
        (("statement,label", '"A,1'), "not a well-formed CSV"),
    ],
)
def test_bad_csv(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_statements_file(csv_file(tmp_path, *lines), "privacy")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not JSON"),
        ("[1]", "line 1 is not an object"),
        ('{"statement": null, "label": 1}', "lacks statement"),
        ('{"statement": "A.", "label": 1.5}', "label 1.5"),
        ("", "No statements are left"),
    ],
)
def test_bad_jsonl(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_statements_file(write(tmp_path / "own.jsonl", line), "privacy")


def test_no_file_wrong_kind_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="There is no file"):
        read_statements_file(tmp_path / "none.csv", "privacy")
    with pytest.raises(InputError, match=r"known are \.csv, \.jsonl"):
        read_statements_file(write(tmp_path / "own.txt", "A."), "privacy")
    with pytest.raises(InputError, match="not UTF-8"):
        read_statements_file(
            write(tmp_path / "own.csv", "statement,label\né,1\n", "latin-1"), "privacy"
        )
    with pytest.raises(InputError, match="Unknown dimension"):
        read_statements_file(csv_file(tmp_path, "statement,label", "A.,1"), "honesty")
