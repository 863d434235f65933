"""The command's frame: help, exit codes, errors in one or two lines, tracebacks on request."""

from __future__ import annotations

import argparse
import pkgutil
import platform
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from support.terminals import closed_pipe

from lm_eval_trust import __version__, cli
from lm_eval_trust.cli.parser import Parser
from lm_eval_trust.core.errors import ExternalError, InputError, LeakError

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("lm-eval-trust")
PAGES = ([], ["data"], ["data", "audit"], ["vector"], ["vector", "build"], ["doctor"])


def call(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, *python, "-m", "lm_eval_trust"] if python else [str(COMMAND)]
    return subprocess.run([*start, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """A command ``fail`` in the place of all others that raises what it is given."""

    def arrange(error: BaseException) -> None:
        def build() -> argparse.ArgumentParser:
            frame = Parser(prog="lm-eval-trust")
            commands = frame.add_subparsers(required=True)

            def fail(args: argparse.Namespace) -> int:
                raise error

            commands.add_parser("fail").set_defaults(func=fail)
            return frame

        monkeypatch.setattr(cli, "build_parser", build)

    return arrange


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_every_command_has_a_help_page(page: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*page, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: lm-eval-trust", *page]))


@pytest.mark.parametrize(
    ("page", "registry"),
    [
        (["sweep"], "lm_eval_trust.steering.actions:ACTIONS"),
        (["vector", "build"], "lm_eval_trust.steering.methods:METHODS"),
        (["vector", "build"], "lm_eval_trust.benchmarks.registry:DATA_SOURCES"),
        (["finetune"], "lm_eval_trust.benchmarks.registry:DATA_SOURCES"),
        (["activations"], "lm_eval_trust.benchmarks.registry:DATA_SOURCES"),
        (["analyze"], "lm_eval_trust.analysis.estimators:ESTIMATORS"),
        (["judge"], "lm_eval_trust.judges.registry:TRUTH_JUDGES"),
        (["judge"], "lm_eval_trust.judges.registry:TOXICITY_JUDGES"),
    ],
)
def test_help_pages_offer_what_the_registries_hold(
    page: list[str],
    registry: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = pkgutil.resolve_name(registry)
    monkeypatch.setitem(entries._entries, "added_by_another_package", next(iter(entries.values())))
    with pytest.raises(SystemExit):
        cli.main([*page, "--help"])
    assert "added_by_another_package" in "".join(capsys.readouterr().out.split())


def test_the_leaderboards_formats_are_those_that_it_writes() -> None:
    from lm_eval_trust.cli.leaderboard import FORMATS
    from lm_eval_trust.leaderboard import formats

    assert {*FORMATS} == {*formats.FORMATS, "html"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["completion", "bash", "--", "sweep", "--tasks", ""]]
)
def test_what_has_to_be_quick_loads_no_slow_library(arguments: list[str]) -> None:
    result = call(*arguments, python=("-X", "importtime"))
    assert result.returncode == 0 and result.stdout
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "lm_eval_trust.cli.vector" in loaded
    slow = {"torch", "transformers", "datasets", "sklearn", "scipy.stats", "pandas", "lm_eval"}
    assert loaded & slow == set()


def test_version_names_what_an_error_depends_on() -> None:
    lines = call("--version").stdout.splitlines()
    assert lines == [
        f"lm-eval-trust {__version__}",
        *(f"{name} {version(name)}" for name in ("lm_eval", "transformers", "torch")),
        f"Python {platform.python_version()}",
    ]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{__version__}"\n' in project
    assert version("lm-eval-trust") == __version__


def test_without_arguments_it_shows_what_to_do_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    printed = capsys.readouterr().out
    commands = re.findall(r"^  (\S.*(?:\n      --.*)*)", printed, re.MULTILINE)
    assert [shlex.split(c.replace("\\\n", ""))[0] for c in commands] == [
        "lm-eval-trust",
        "lm_eval",
        "lm-eval-trust",
    ]
    for command in commands:
        program, *arguments = shlex.split(command.replace("\\\n", ""))
        if program == "lm-eval-trust":
            cli.build_parser().parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["swep"], "sweep"),
        (["vector", "biuld"], "build"),
        (["sweep", "--taks", "trust_suite"], "--tasks"),  # Before others are said to be missing.
        (["--dbug", "doctor"], "--debug"),
        (["vector", "build", "--dimensoin=toxigen"], "--dimension"),
        (["data", "show", "toxigen", "--part", "tset"], "test"),
        (["leaderboard", "runs", "--format", "htlm"], "html"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_slip_gets_the_nearest_name(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"Did you mean {meant}?\n")


def test_what_resembles_nothing_gets_no_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--zzz"])
    assert "unknown option '--zzz'\n" in capsys.readouterr().err


def test_abbreviated_options_and_dashes_in_values_are_left_alone() -> None:
    parse = cli.build_parser().parse_args
    assert parse(["doctor", "--mod", "m"]).model == "m"
    assert parse(["judge", "--metadata", "x=1", "--", "--odd-name"]).results == ["--odd-name"]
    assert parse(["serve", "m", "--vllm=--dtype float32"]).vllm == "--dtype float32"
    assert parse(["run", "--anything", "--at-all"]).arguments == ["--anything", "--at-all"]


@pytest.mark.parametrize("arguments", [["no-such-command"], ["data"], ["doctor", "--nonsense"]])
def test_wrong_usage_exits_with_2_and_says_what_is_expected(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: lm-eval-trust" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("Layer 40 is out of range."), 2),
        (LeakError("Three items overlap."), 2),
        (ExternalError("The disk is full."), 3),
        (OSError("No route to host"), 3),
        (RuntimeError("something\nunforeseen"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_end_in_their_exit_code(failing, error: BaseException, code: int) -> None:
    failing(error)
    assert cli.main(["fail"]) == code


def test_our_own_error_is_one_line_that_is_its_message(failing, capsys) -> None:
    failing(InputError("Layer 40 is out of range: the model has 30 blocks."))
    cli.main(["fail"])
    expected = "lm-eval-trust: error: Layer 40 is out of range: the model has 30 blocks.\n"
    assert capsys.readouterr() == ("", expected)


def test_what_may_not_be_read_is_named_with_the_way_out(failing, capsys) -> None:
    failing(PermissionError(13, "Permission denied", "/home/ada/.cache"))
    assert cli.main(["fail"]) == 3
    told = capsys.readouterr().err
    assert "/home/ada/.cache may not be read or written (Permission denied)" in told
    assert "LM_EVAL_TRUST_CACHE" in told


def test_unforeseen_error_is_two_lines_with_its_type(failing, capsys) -> None:
    failing(RuntimeError("first line\n  second line"))
    cli.main(["fail"])
    first, second = capsys.readouterr().err.splitlines()
    assert first == "lm-eval-trust: error: RuntimeError: first line second line"
    assert "--debug" in second


@pytest.mark.parametrize("arguments", [["--debug", "fail"], ["fail", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(failing, capsys, arguments) -> None:
    failing(InputError("Layer 40 is out of range."))
    assert cli.main(arguments) == 2
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last)" in printed
    assert "in fail" in printed


def test_reader_that_goes_away_is_no_error() -> None:
    """As in ``lm-eval-trust data audit | head``: no traceback, whichever write hits the pipe."""
    code = "import sys; from lm_eval_trust import cli; sys.exit(cli.main(['doctor']))"
    patch = (
        "import lm_eval_trust.cli.doctor as d; "
        "d.run = lambda args: print('line\\n' * 200000) or 0; "
    )
    process = subprocess.Popen(
        [sys.executable, "-c", patch + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == cli.CLOSED_PIPE


@pytest.mark.slow
@pytest.mark.parametrize("python", [(), ("-s",)], ids=["command", "module"])
def test_command_and_module_return_the_code_to_the_shell(python: tuple[str, ...]) -> None:
    result = call("vector", "show", "no-such-file.safetensors", python=python)
    assert result.returncode == 2
    assert result.stderr.startswith("lm-eval-trust: error: ")
    assert "no-such-file.safetensors" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_pipe_gets_no_bars_of_other_libraries(tiny_llama, tmp_path: Path) -> None:
    texts, out = tmp_path / "texts.csv", tmp_path / "v.safetensors"
    lines = [f"Town {i} lies {('in hills', 'at sea')[i % 2]}.,{i % 2},{i}" for i in range(24)]
    texts.write_text("\n".join(["statement,label,group", *lines]) + "\n", encoding="utf-8")
    settings = {"model": tiny_llama(), "dimension": "reliability", "source": texts, "out": out}
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    done = call("vector", "build", "--layers", "0", "--device", "cpu", *options)
    assert done.returncode == 0, done.stderr
    assert "it/s" not in done.stderr


def test_a_message_has_a_bound(failing, capsys) -> None:
    for error in (InputError("x" * 90_000 + "end"), RuntimeError("x" * 90_000 + "end")):
        failing(error)
        cli.main(["fail"])
        printed = capsys.readouterr().err
        assert 100 < len(printed) < 1000


def test_a_help_page_into_a_closed_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_pipe(monkeypatch):
        assert cli.main(["--help"]) == 141


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "--limit", "0"],
        ["sweep", "--limit", "-1"],
        ["judge", "calibrate", "--limit", "0"],
        ["activations", "--samples", "-1"],
        ["data", "show", "--n", "0"],
        ["vector", "build", "--split-seed", "-1"],
        ["analyze", "--permutations", "many"],
        ["finetune", "--epochs", "1", "--max-steps", "0"],
        ["pretrain", "--micro-batch", "0"],
    ],
    ids=" ".join,
)
def test_numbers_out_of_range_are_refused_when_the_command_is_read(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "is no whole number of at least" in capsys.readouterr().err


@pytest.mark.parametrize("limit", [["--limit", "0"], ["-L", "-1"], ["--limit=-0.5"]])
def test_the_harness_gets_no_limit_below_an_item(
    limit: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--model", "hf", "--tasks", "trust_suite", *limit]) == 2
    assert "give a number of items from 1" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["rocket", "cuda:99", "meta:x"])
def test_a_device_that_is_not_there_is_told_before_anything_is_read(
    device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["analyze", "sets", "--out", "out", "--device", device]) == 2
    assert f"--device='{device}' is not a device of this machine" in capsys.readouterr().err
