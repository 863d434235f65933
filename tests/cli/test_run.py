"""``lm-eval-trust run`` passes everything on to the harness's own command line."""

from __future__ import annotations

import sys

import pytest

from lm_eval_trust import cli


def test_help_page_is_the_harness_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: lm-eval run --model")


def test_arguments_reach_the_harness_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    import lm_eval.__main__

    seen: list[list[str]] = []
    monkeypatch.setattr(lm_eval.__main__, "cli_evaluate", lambda: seen.append(sys.argv[:]))
    monkeypatch.setattr(sys, "argv", ["lm-eval-trust"])
    given = ["--debug", "--version", "--model=hf", "--", "-h", "--tasks", "a", "b"]
    assert cli.main(["run", *given]) == 0
    assert seen == [["lm_eval", "run", *given]]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        pytest.param(
            ValueError("Tasks not found: xyzzy_42"),
            2,
            "Tasks not found: xyzzy_42",
            marks=pytest.mark.slow,
        ),
        (OSError("the Hub is away"), 3, "OSError: the Hub is away"),
    ],
)
def test_harness_s_refusal_is_our_kind_of_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    line: str,
) -> None:
    import lm_eval.__main__

    def refuse() -> None:
        raise error

    monkeypatch.setattr(lm_eval.__main__, "cli_evaluate", refuse)
    monkeypatch.setattr(sys, "argv", ["lm-eval-trust"])
    assert cli.main(["run", "--tasks", "nonsense"]) == code
    first = capsys.readouterr().err.splitlines()[0]
    assert first == f"lm-eval-trust: error: {line}"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        pytest.param(
            ["--tasks", "trust_truthfulqa_mimi"],
            "trust_truthfulqa_mini",
            marks=pytest.mark.slow,
            id="task",
        ),
        pytest.param(
            ["--model", "stered_amber", "--tasks", "trust_truthfulqa_mini"],
            "steered_amber",
            id="model",
        ),
        pytest.param(["--tasks", "trust_truthfulqa_mini", "--limitt", "3"], "--limit", id="option"),
    ],
)
def test_a_slip_gets_the_nearest_name(
    arguments: list[str],
    meant: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["lm-eval-trust"])
    try:
        code = cli.main(["run", "--model_args", "pretrained=mini", *arguments])
    except SystemExit as ended:  # The harness's own parser.
        code = ended.code
    assert code == 2
    assert "Did you mean " in (last := capsys.readouterr().err.splitlines()[-1])
    assert last.startswith("lm-eval-trust: error: ")
    assert last.rpartition("Did you mean ")[2].strip("'?") == meant


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [(["--output_path", "runs"], "runs"), (["-o", "my runs"], "'my runs'"), ([], "OUTPUT_PATH")],
    ids=["long", "short", "nowhere"],
)
def test_the_next_step_reads_what_was_saved(
    arguments: list[str],
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import lm_eval.__main__

    monkeypatch.setattr(lm_eval.__main__, "cli_evaluate", lambda: None)
    monkeypatch.setattr(sys, "argv", ["lm-eval-trust"])
    assert cli.main(["run", *arguments]) == 0
    assert capsys.readouterr() == ("", f"Next: lm-eval-trust leaderboard {folder}\n")
