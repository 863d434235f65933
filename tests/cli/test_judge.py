"""``lm-eval-trust judge`` through the real parser: what is wrong with a command is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_trust import cli


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["calibrate"], "one of --truth-judge, --toxicity-judge and --refusal-judge"),
        (["calibrate", "--truth-judge", "linear"], "Unknown truth_judge 'linear'"),
        (["calibrate", "--truth-judge", "world", "--data", "mini", "--limit", "1"], "at least 2"),
        (["nowhere", "--truth-judge", "reference"], "nowhere does not exist"),
        (["calibrate", "--truth-judge", "world", "--metadata", "form"], "KEY=VALUE"),
        (
            ["calibrate", "--truth-judge", "openai:m", "--metadata", "jugde_base_url=http://x/v1"],
            "did you mean judge_base_url?",
        ),
        (
            ["nowhere", "--metadata", "judge_tries=2", "judge_tries=3"],
            "--metadata gives judge_tries twice",
        ),
        (
            ["calibrate", "--truth-judge", "openai:m", "--metadata", "judge_timeout=inf"],
            "judge_timeout is inf; it has to be above 0 and finite",
        ),
        (
            ["calibrate", "--truth-judge", "openai:m", "--metadata", "judge_structured=maybe"],
            "Unknown judge_structured 'maybe'",
        ),
        (
            ["calibrate", "--truth-judge", "openai:m", "--metadata", "judge_key=sk-1"],
            "OPENAI_API_KEY",
        ),
    ],
)
def test_wrong_input_is_told_and_leaves_with_two(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["judge", *words]) == 2
    printed = capsys.readouterr().err
    assert says in printed and "Traceback" not in printed and "sk-1" not in printed


def test_a_server_that_is_not_there_leaves_with_three(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--truth-judge", "openai:m", "--metadata", "judge_base_url=http://127.0.0.1:9/v1"]
    assert cli.main(["judge", "calibrate", "--data", "mini", *words]) == 3
    assert "http://127.0.0.1:9/v1 failed" in capsys.readouterr().err


def test_the_help_page_has_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["judge", "--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert "judge RESULTS..." in printed and "judge calibrate" in printed
