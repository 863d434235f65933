"""Whole checks of the quick family, by the command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.storage import cache_dir, read_kept
from lm_eval_trust.evaluate.evaluator import Outcome, evaluate
from lm_eval_trust.gate import run
from lm_eval_trust.judges.interface import Answer, Verdict
from lm_eval_trust.judges.registry import TRUTH_JUDGES, JudgeEntry

WriteCheck = Callable[..., Path]
TRUTH, TEXT = "trust_truthfulqa_mini", "trust_world_text_mini"


def no_evaluation(*arguments: object, **settings: object) -> None:
    raise AssertionError("a measurement that is kept was made again")


def test_a_good_vector_passes_and_is_measured_once(
    naming: Path,
    write_check: WriteCheck,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check = str(write_check())
    assert main(["check", check, "--json", str(tmp_path / "first.json")]) == 0
    assert "check.yaml: passed" in capsys.readouterr().out
    assert list((cache_dir() / "checks").rglob("samples_*.jsonl"))
    monkeypatch.setattr(run, "evaluate", no_evaluation)
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert main(["check", check, "--json", str(tmp_path / "again.json"), "--markdown"]) == 0
    first, again = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("first", "again"))
    assert first == again
    rules = {verdict["rule"]["kind"] for verdict in first["checks"][0]["verdicts"]}
    assert rules == {"min", "max", "min_gain", "max_ratio"}
    assert "| passed | trust_truthfulqa_mini | info | min_gain 0.05 |" in summary.read_text()


def test_a_vector_of_the_wrong_sign_fails_with_metric_difference_and_interval(
    naming: Path, write_check: WriteCheck, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, good = write_check(alpha=-1, name="wrong.yaml"), write_check()
    missing = tmp_path / "missing.yaml"
    junit = tmp_path / "report.xml"
    assert main(["check", str(wrong), str(good), "--junit", str(junit)]) == 1
    printed = capsys.readouterr()
    assert "wrong.yaml: FAILED" in printed.out and "check.yaml: passed" in printed.out
    assert f"Exit code 1 comes from {wrong}." in printed.err
    root = Xml.parse(junit).getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("8", "2", "0")
    messages = {
        str(case.get("name")): str(failure.get("message"))
        for case in root.iter("testcase")
        for failure in case.iter("failure")
    }
    found = messages[f"{TRUTH} info min_gain 0.05"]
    assert "info is 0, 0 unsteered; difference +0 [-0." in found
    assert main(["check", str(missing), str(good), "--junit", str(junit)]) == 2
    root = Xml.parse(junit).getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("5", "0", "1")


def test_a_baseline_is_kept_and_compared_with(
    naming: Path, write_check: WriteCheck, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = f"{{{TRUTH}: {{info: {{max_drop: 0.2, against: baseline}}}}}}"
    check = write_check(rules)
    assert main(["check", str(check)]) == 2
    assert "There is no baseline" in capsys.readouterr().err
    assert main(["check", str(check), "--update-baseline"]) == 0
    file = check.with_suffix(".baseline.json")
    written = file.read_bytes()
    assert main(["check", str(check), "--update-baseline"]) == 0
    assert file.read_bytes() == written
    assert "says the same already" in capsys.readouterr().out
    assert main(["check", str(check)]) == 0
    assert "0.275 in the baseline; difference +0 [" in capsys.readouterr().out
    write_check(rules, alpha=-1)
    assert main(["check", str(check)]) == 0  # 40 items show no drop of 0.275 beyond 0.2 …
    assert "inconclusive (warning)" in capsys.readouterr().out
    write_check(rules, alpha=-1, inconclusive="fail")
    assert main(["check", str(check)]) == 1  # … which fails where that is asked for
    write_check(rules, limit="30")
    assert main(["check", str(check)]) == 2
    told = capsys.readouterr().err
    assert "has other items: 10 of 40 are gone" in told and "--update-baseline" in told


def test_a_damaged_baseline_is_written_anew(naming: Path, write_check: WriteCheck) -> None:
    check = write_check(f"{{{TRUTH}: {{info: {{max_drop: 0.2, against: baseline}}}}}}")
    file = check.with_suffix(".baseline.json")
    for damaged in ("[]", "{", "3"):
        file.write_text(damaged)
        assert main(["check", str(check), "--update-baseline"]) == 0
        assert main(["check", str(check)]) == 0


def test_an_error_that_nobody_foresaw_keeps_no_other_check_from_being_run(
    naming: Path,
    write_check: WriteCheck,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules = f"{{{TRUTH}: {{info: {{min: 0.05}}}}}}"
    broken, good = write_check(rules, alpha=2, name="broken.yaml"), write_check(rules)
    junit = tmp_path / "report.xml"

    def out_of_memory(model: Any, *arguments: Any, **settings: Any) -> Outcome:
        if model.plan.steps[0].alpha == 2:
            raise RuntimeError("out of memory")
        return evaluate(model, *arguments, **settings)

    monkeypatch.setattr(run, "evaluate", out_of_memory)
    assert main(["check", str(broken), str(good), "--junit", str(junit)]) == 3
    printed = capsys.readouterr()
    assert "RuntimeError: out of memory" in printed.err
    assert "Traceback" not in printed.err
    assert "check.yaml: passed" in printed.out
    root = Xml.parse(junit).getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "0", "1")


def test_the_worst_code_counts_where_a_check_is_named_twice(
    naming: Path, write_check: WriteCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, failed = str(write_check(f"{{{TRUTH}: {{info: {{min: 0.05}}}}}}")), []

    def fail_once(*arguments: Any, **settings: Any) -> Outcome:
        if not failed:
            failed.append(arguments)
            raise ExternalError("no network")
        return evaluate(*arguments, **settings)

    monkeypatch.setattr(run, "evaluate", fail_once)
    assert main(["check", check, check]) == 3


def test_an_interrupted_check_goes_on_where_it_stopped(
    naming: Path, write_check: WriteCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, done = write_check(), []

    def stop_at_the_second(*arguments: Any, **settings: Any) -> Outcome:
        if done:
            raise KeyboardInterrupt
        done.append(arguments)
        return evaluate(*arguments, **settings)

    monkeypatch.setattr(run, "evaluate", stop_at_the_second)
    assert main(["check", str(check)]) == 130
    (kept,) = (cache_dir() / "checks" / "measurements").iterdir()
    assert list(read_kept(kept)["measurements"]) == [TRUTH]
    done.clear()

    def count(*arguments: Any, **settings: Any) -> Outcome:
        done.append(arguments)
        return evaluate(*arguments, **settings)

    monkeypatch.setattr(run, "evaluate", count)
    kept.with_name(f"half-{kept.name}").write_text(kept.read_text()[:100])
    assert main(["check", str(check)]) == 0
    assert len(done) == 3


def test_a_measurement_that_was_changed_is_made_again(
    naming: Path, write_check: WriteCheck, caplog: pytest.LogCaptureFixture
) -> None:
    rules = f"{{{TRUTH}: {{info: {{min: 0.9}}}}}}"
    check = str(write_check(rules))
    assert main(["check", check]) == 1
    (kept,) = (cache_dir() / "checks" / "measurements").iterdir()
    text = kept.read_text()
    assert "0.275" in text
    kept.write_text(text.replace("0.275", "0.975"))
    assert main(["check", check]) == 1
    assert "was changed since it was written" in caplog.text
    assert kept.read_text() == text
    # Earlier releases wrote the content alone.
    kept.write_text(json.dumps(read_kept(kept)["measurements"][TRUTH]))
    assert main(["check", check]) == 1


@dataclass(frozen=True)
class Saying:
    """A truth judge that says the same of every answer."""

    accepted: bool
    version: str = "1"

    @property
    def name(self) -> str:
        return "yes" if self.accepted else "no"

    def truth(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [Verdict(self.accepted, None) for _ in answers]

    info = truth


@pytest.mark.slow
def test_another_judge_data_or_perturbation_is_another_measurement(
    tiny_llama: Callable[..., Path],
    data_dir: Path,
    write_check: WriteCheck,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a folder of other measurements, each variant gives what it gives in a fresh one."""
    for accepted in (True, False):
        judge = Saying(accepted)
        entry: JudgeEntry[Any] = JudgeEntry("", lambda request, judge=judge: judge)
        monkeypatch.setitem(TRUTH_JUDGES._entries, judge.name, entry)  # type: ignore[attr-defined]
    arguments = f"{{pretrained: {tiny_llama()}, dtype: float32, device: cpu, truncation: true}}"
    judged = "{trust_truthfulqa: {info: {min: 0}}}"
    world = f"{{{TEXT}: {{word_perplexity: {{min: 0}}}}}}"
    perturbed = "{trust_sst2: {unparsed: {min: 0}}}"
    variants = [
        (judged, "{truth_judge: yes}", "0"),
        (judged, "{truth_judge: no}", "0"),
        (world, "{}", "0"),
        (world, "{}", "1"),
        (perturbed, "{perturbation_rate: 0.05}", "0"),
        (perturbed, "{perturbation_rate: 0.5}", "0"),
    ]

    def measured(folder: str, rules: str, metadata: str, seed: str) -> list[Any]:
        monkeypatch.setenv("LM_EVAL_TRUST_MINI_SEED", seed)
        keys = {"steering": "", "model_args": arguments, "metadata": metadata, "limit": "3"}
        report = tmp_path / "report.json"
        options = ["--cache", str(tmp_path / folder), "--json", str(report)]
        assert main(["check", str(write_check(rules, **keys)), *options]) == 0
        samples = (tmp_path / folder).rglob("samples_*.jsonl")
        newest = max(samples, key=lambda path: path.stat().st_mtime_ns)
        hashes = [json.loads(line)["doc_hash"] for line in newest.read_text().splitlines()]
        return [json.loads(report.read_text()), sorted(hashes)]

    shared = [measured("shared", *variant) for variant in variants]
    fresh = [measured(f"fresh{n}", *variant) for n, variant in enumerate(variants)]
    assert shared == fresh
    assert all(shared[n] != shared[n + 1] for n in (0, 2, 4))


@pytest.mark.slow
def test_another_judge_by_the_environment_is_another_measurement(
    tiny_llama: Callable[..., Path],
    write_check: WriteCheck,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = f"{{pretrained: {tiny_llama()}, dtype: float32, device: cpu, truncation: true}}"
    keys = {"steering": "", "model_args": arguments, "limit": "3"}
    check, report = write_check(f"{{{TRUTH}: {{truth: {{min: 0}}}}}}", **keys), tmp_path / "r.json"
    found = []
    for judge in (Saying(True), Saying(False)):
        entry: JudgeEntry[Any] = JudgeEntry("", lambda request, judge=judge: judge)
        monkeypatch.setitem(TRUTH_JUDGES._entries, judge.name, entry)  # type: ignore[attr-defined]
        monkeypatch.setenv("LM_EVAL_TRUST_MINI_TRUTH_JUDGE", judge.name)
        assert main(["check", str(check), "--json", str(report)]) == 0
        found.append(json.loads(report.read_text())["checks"][0]["verdicts"][0]["value"])
    assert found == [1, 0]


@pytest.mark.slow
def test_another_data_folder_is_another_measurement(
    tiny_llama: Callable[..., Path],
    data_dir: Path,
    write_check: WriteCheck,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ARC's file has no checksum on record, so that users may bring another one."""
    other = tmp_path / "other"
    shutil.copytree(data_dir / "arc", other / "arc")
    file = other / "arc" / "arc_challenge_test.jsonl"
    file.chmod(0o644)
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(reversed(lines)), encoding="utf-8")
    arguments = f"{{pretrained: {tiny_llama()}, dtype: float32, device: cpu, truncation: true}}"
    keys = {"steering": "", "model_args": arguments, "limit": "12"}
    check = write_check("{trust_arc_challenge_local: {acc_norm: {min: 0}}}", **keys)

    def measured(folder: str) -> Any:
        report = tmp_path / "report.json"
        options = ["--cache", str(tmp_path / folder), "--json", str(report)]
        assert main(["check", str(check), *options]) == 0
        return json.loads(report.read_text(encoding="utf-8"))

    first = measured("shared")
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(other))
    again = measured("shared")
    assert again == measured("fresh") != first


def test_a_dry_run_tells_items_and_what_they_could_show(
    naming: Path,
    write_check: WriteCheck,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "evaluate", no_evaluation)
    rules = f"{{{TRUTH}: {{info: {{max_drop: 0, min_gain: 0.9}}}}}}"
    assert main(["check", str(write_check(rules)), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert f"{TRUTH}: 40 items, to be run steered and unsteered" in printed
    assert "info max_drop 0: with 10% of the answers differing, a drop of 0." in printed
    assert "info min_gain 0.9: with 10% of the answers differing, no gain could be shown" in printed


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (f"{{{TEXT}: {{word_perplexity: {{max_drop: 1}}}}}}", "use max_ratio, or max"),
        (f"{{{TRUTH}: {{info: {{max_ratio: 1.1}}}}}}", "its ratio is held by min_ratio"),
        ("{trust_truthfulqa_classify_mini: {f1: {min_gain: 0}}}", "f1 .* is not a mean over items"),
    ],
)
@pytest.mark.parametrize("option", [[], ["--dry-run"]])
def test_rules_that_a_metric_cannot_be_held_to_are_told_before_anything_is_run(
    option: list[str],
    rules: str,
    message: str,
    naming: Path,
    write_check: WriteCheck,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "evaluate", no_evaluation)
    assert main(["check", str(write_check(rules)), *option]) == 2
    assert re.search(rf"line 5, rules\..*{message}", capsys.readouterr().err)


def test_steering_in_a_file_of_its_own(
    naming: Path, write_check: WriteCheck, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "steering.yaml").write_text(
        "steering: [{vector: naming_layer1.pt, layer: 1, alpha: 1, scale: none}]"
    )
    check = write_check(f"{{{TRUTH}: {{info: {{min: 0.05}}}}}}", steering="steering.yaml")
    assert main(["check", str(check)]) == 0
    assert "info is 0.275 [" in capsys.readouterr().out


def test_the_fixture_asserts_what_the_command_finds(
    naming: Path,
    write_check: WriteCheck,
    assert_steering: Callable[..., None],
    request: pytest.FixtureRequest,
) -> None:
    rules = f"{{{TRUTH}: {{info: {{min: 0.05}}}}}}"
    assert_steering(write_check(rules))
    assert "steering check" in [title for _, title, _ in request.node._report_sections]
    with pytest.raises(AssertionError, match=r"FAILED\n.*info min 0.05: info is 0 \[0, 0.09"):
        assert_steering(write_check(rules, alpha=-1))


@pytest.mark.parametrize("module", ["gate.pytest_plugin", "cli.check"])
def test_nothing_heavy_is_loaded_before_it_is_needed(module: str) -> None:
    heavy = "{'torch', 'lm_eval', 'numpy', 'transformers'}"
    code = f"import sys, lm_eval_trust.{module}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
