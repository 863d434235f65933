"""What is wrong in a file that a user brought, by file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lm_eval_trust.benchmarks import files
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.training.conversations import read_conversations
from lm_eval_trust.training.corpus import read_documents


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Write a file of the catalogue."""
    monkeypatch.setattr(files, "locate", lambda path: tmp_path / path)

    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write


@pytest.mark.parametrize(
    ("name", "text", "read", "words"),
    [
        ("a.jsonl", '{"a": 1}\n\n{"a": ', files.read_jsonl, r"a\.jsonl, line 3 is not JSON"),
        ("a.jsonl", '{"a": 1}\n7\n', files.read_jsonl, r"a\.jsonl, line 2 is no JSON object"),
        ("a.json", '[{"a": 1},\n{"a"', files.read_json, r"a\.json, line 2 is not JSON"),
        ("a.json", "[" * 100_000, files.read_json, r"a\.json is nested too deeply"),
        ("a.csv", "x,y\n1,2\n3\n", files.read_csv, r"a\.csv, line 3 has another number of cells"),
        ("a.csv", "x,y\n1,2,3\n", files.read_csv, r"a\.csv, line 2 has another number of cells"),
        ("a.tsv", "x\ty\n1\n", files.read_tsv, r"a\.tsv, line 2 has another number of cells"),
    ],
)
def test_a_cut_file_is_named_with_the_line(
    own: Callable[[str, str], str],
    name: str,
    text: str,
    read: Callable[[str], object],
    words: str,
) -> None:
    with pytest.raises(InputError, match=words):
        read(own(name, text))


def test_a_row_without_a_key_is_named(own: Callable[[str, str], str]) -> None:
    rows = files.read_jsonl(own("a.jsonl", '{"a": 1}\n{"b": 2}\n'))
    assert (rows[0]["a"], rows[0].get("b"), {**rows[1]}) == (1, None, {"b": 2})
    with pytest.raises(InputError, match=r"a\.jsonl, line 2 lacks 'a'; it has b\."):
        rows[1]["a"]
    with pytest.raises(InputError, match=r"b\.json, entry 1 lacks 'x'"):
        files.read_json(own("b.json", '[{"a": 1}]'))[0]["x"]


def test_training_files_name_the_line(tmp_path: Path) -> None:
    file = tmp_path / "talks.jsonl"
    file.write_text('{"messages": [{"role": "user"}]}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1: missing key 'content'"):
        read_conversations(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not UTF-8"):
        list(read_documents([file]))
