"""YAML files are read by the core schema of YAML 1.2, and what is wrong in them has a line."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.yaml_file import Document, read_document


def _read(folder: Path, text: str) -> Document:
    (folder / "file.yaml").write_text(text, encoding="utf-8")
    return read_document(folder / "file.yaml", "check")


# The examples of https://yaml.org/spec/1.2.2/, 10.3.2, and what YAML 1.1 reads otherwise.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("1:1.5", "1:1.5"),
        ("010", 10),
        ("0o7", 7),
        ("0x3A", 58),
        ("-19", -19),
        ("+12e03", 12000.0),
        ("1e-3", 0.001),
        ("0.", 0.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        (".Inf", math.inf),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("false", False),
        ("tRUE", "tRUE"),
        ("", None),
        ("~", None),
        ("null", None),
        ("2026-01-01", "2026-01-01"),
        ("0b11", "0b11"),
        ("e5", "e5"),
        (".", "."),
        ("'1'", "1"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    found = _read(tmp_path, f"key: {text}").content["key"]
    assert (found, type(found)) == (value, type(value))


def test_not_a_number_is_read_as_such(tmp_path: Path) -> None:
    assert math.isnan(_read(tmp_path, "key: .nan").content["key"])


def test_aliases_and_merges_are_read(tmp_path: Path) -> None:
    text = "base: &base {alpha: 1}\nother: {<<: *base, layer: 2}\nagain: *base"
    assert _read(tmp_path, text).content == {
        "base": {"alpha": 1},
        "other": {"alpha": 1, "layer": 2},
        "again": {"alpha": 1},
    }


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha: 1\nalpha: 2", r"line 2: 'alpha' was given in line 1 already"),
        ("steering:\n  - alpha: 1\n    alpha: 2", r"line 3: 'alpha' was given in line 2"),
        ("a: &a [*a]", r"line 1: the value that begins here contains itself"),
        (BOMB, r"more than 100,000 values"),
        ("a: " + "[" * 5000 + "]" * 5000, r"line 1: nested deeper than 50 levels"),
        ("a: " + "{b: " * 5000 + "}" * 5000, r"line 1: nested deeper than 50 levels"),
        ("[a, b]: 1", r"line 1: a key has to be a word"),
        ("- a\n- b", r"holds no mapping; expected the keys of a check"),
        ("", r"holds no mapping"),
        ("a: [1", r"is not YAML"),
        ("a: !!python/object:os.system x", r"is not YAML"),
        ("a: !!int word", r"is not YAML"),
        ("a: \x07", r"is not YAML"),
        ("a: 1\n---\nb: 2", r"is not YAML"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(tmp_path: Path, text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError, match=rf"file\.yaml.*{message}"):
        _read(tmp_path, text)
    assert time.process_time() - start < 30, "the file was expanded before it was refused"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"name: \xe9")
    for name in ("absent", "latin", "."):
        with pytest.raises(InputError, match=r"Cannot read the check "):
            read_document(tmp_path / name, "check")


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    alpha: float = 1.0


class _Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    steering: _Inner
    seeds: list[int] = []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steering:\n  alpah: 1", r"line 2, steering\.alpah: unknown key; known here are alpha"),
        ("steering:\n  alpha: big", r"line 2, steering\.alpha: .*got 'big'"),
        ("seeds: []", r"line 1, steering: this key is missing"),
        ("steering: {}\nseeds:\n  - 1\n  - two", r"line 4, seeds\.1: .*got 'two'"),
        ("steering: {}\nseeds: [x]\nmore: 1", r"\(1 more like this\.\)"),
    ],
)
def test_a_wrong_value_has_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"file\.yaml, {message}|{message}"):
        _read(tmp_path, text).parse(_Outer)


def test_an_error_inside_gets_its_place(tmp_path: Path) -> None:
    document = _read(tmp_path, "rules:\n  task:\n    metric: 1")
    with (
        pytest.raises(InputError, match=r"file\.yaml, line 3, rules\.task\.metric: too small"),
        document.at("rules", "task", "metric"),
    ):
        raise InputError("too small")
