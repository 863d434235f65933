"""``lm-eval-trust data`` as its users type it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from lm_eval_trust.benchmarks.released_file_errors import released_findings
from lm_eval_trust.cli import data
from lm_eval_trust.core.errors import InputError


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    data.add_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *words])
    code: int = args.func(args)
    return code


@pytest.fixture(autouse=True)
def real_data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(data_dir))


def test_audit_prints_sets_and_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "--dimension", "fairness", "privacy") == 0
    printed = capsys.readouterr().out
    for title in ("fairness from official", "fairness from tracingllm", "privacy from official"):
        assert title in printed
    assert printed.count(" agrees") == len(
        [*released_findings("fairness"), *released_findings("privacy")]
    )
    assert "DIFFERS" not in printed


def test_audit_of_one_source_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "--dimension", "universal", "--source", "official", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert [report["dimension"] for report in record["reports"]] == ["universal"]
    assert record["findings"] == []


def test_audit_of_a_set_that_was_not_released() -> None:
    with pytest.raises(InputError, match="data_source=official"):
        run("audit", "--dimension", "universal", "--source", "tracingllm")


def test_show_prints_statements_of_the_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "sst2", "--part", "test", "--n", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3
    assert lines[0].startswith("robustness from official, test: 8")


def test_unknown_dimension() -> None:
    with pytest.raises(InputError, match="Unknown dimension"):
        run("show", "honesty")


def test_fetch_says_where_files_are_and_which_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("fetch", "--dimension", "xstest") == 3
    assert capsys.readouterr().out.count("FAILED") == 4
    assert run("fetch", "--dimension", "toxicity") == 3
    printed = capsys.readouterr().out
    assert printed.count("FAILED") == 2
    assert "HF_HUB_OFFLINE" in printed
