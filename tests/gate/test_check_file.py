"""Wrong files are told with line and key, before anything is run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lm_eval_trust.cli import main
from lm_eval_trust.gate.check_file import read_check

BASE = """model: amber
model_args: {pretrained: mini-chat}
steering: [{vector: v_layer1.pt, layer: 1, alpha: 2, scale: none}]
limit: 40
rules:
  trust_sst2_mini:
    acc: {min: 0.5, max_drop: 0.1}
"""

VECTOR = "[{vector: v_layer1.pt, layer: 1, alpha: 2, scale: none}]"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        torch.save(torch.ones(16), tmp_path / "v_layer1.pt")
        path = tmp_path / "check.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_what_is_right_is_read(write: Callable[[str], Path]) -> None:
    extra = (
        "  trust_suite_mini:\n    trust_score: {non_inferiority: {margin: 0.1, confidence: 0.9}}\n"
    )
    check = read_check(write(BASE + extra + "inconclusive: fail\nagainst: baseline\n"))
    first, second, third = check.rules
    assert (first.kind, first.bound, first.compares) == ("min", 0.5, False)
    assert (second.kind, second.against, second.confidence, second.strict) == (
        "max_drop",
        "baseline",
        0.95,
        True,
    )
    assert (third.bound, third.confidence) == (0.1, 0.9)
    assert check.baseline.name == "check.baseline.json"


def test_what_has_to_be_shown_fails_unless_it_is(write: Callable[[str], Path]) -> None:
    given = "{max_drop: 0.1, min_gain: 0.1, non_inferiority: {margin: 0.1}, min_ratio: 0.9}"
    text = BASE.replace("{min: 0.5, max_drop: 0.1}", given)
    strict = {rule.kind: rule.strict for rule in read_check(write(text)).rules}
    assert strict == {
        "max_drop": False,
        "min_gain": True,
        "non_inferiority": True,
        "min_ratio": False,
    }
    warned = read_check(write(text + "inconclusive: warn\n")).rules
    assert not any(rule.strict for rule in warned)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("limit: 40", "limt: 40", "line 4, limt: unknown key"),
        ("limit: 40", "limit: 0", "line 4, limit: Input should be greater than 0"),
        ("limit: 40", "limit: yes", "line 4, limit: expected a number"),
        ("limit: 40", "limits: {other: 3}", "limits: other has no rules"),
        ("limit: 40", "confidence: 95", "line 4, confidence: Input should be less than 1"),
        ("limit: 40", "inconclusive: maybe", "line 4, inconclusive"),
        ("model: amber", "model: hf", "line 1, model: Unknown model 'hf'; known are amber"),
        ("max_drop: 0.1", "max_drop: -0.1", "line 7, rules.trust_sst2_mini.acc.max_drop"),
        ("max_drop: 0.1", "max_dorp: 0.1", "acc.max_dorp: unknown key.*'max_drop'"),
        ("max_drop: 0.1", "min_ratio: 1.1", "acc.min_ratio: Input should be less than"),
        ("min: 0.5, max_drop: 0.1", "against: unsteered", "there is no rule; give one or more of"),
        ("max_drop: 0.1", "detect: 0.1", "`detect` belongs to one of max_drop"),
        ("max_drop: 0.1", "max_drop: 0.1, detect: 0.1", "`detect` has to lie beyond max_drop, 0.1"),
        ("max_drop: 0.1", "max_ratio: 1.2, detect: 0.3", "`detect` has to lie beyond max_ratio"),
        ("max_drop: 0.1", "min_ratio: 0.9, detect: 0.95", "`detect` has to lie beyond min_ratio"),
        ("min: 0.5", "min: .nan", "acc.min: Input should be a finite number; got nan"),
        ("max_drop: 0.1", "max_drop: .inf", "acc.max_drop: Input should be a finite number"),
        (
            "max_drop: 0.1",
            "max_drop: yes",
            "expected a number; got .yes.",
        ),
        ("acc: {min: 0.5, max_drop: 0.1}", "{}", "trust_sst2_mini names no metric"),
        ("acc:", "ack:", "line 7, .*Unknown metric of trust_sst2_mini 'ack'"),
        ("trust_sst2_mini", "trust_sst3_mini", "Unknown task 'trust_sst3_mini'.*trust_sst2_mini"),
        ("v_layer1", "w_layer1", r"line 3, steering\.0: There is no vector file"),
        (
            "layer: 1",
            "layr: 1",
            r"line 3, steering\.0\.layr: Unknown key in entry 1 of steering 'layr'",
        ),
        ("alpha: 2", "alpha: null", r"line 3, steering\.0\.alpha: alpha has no value"),
        ("alpha: 2", "alpha: .nan", r"line 3, steering\.0\.alpha: alpha=nan is not a number"),
        ("alpha: 2", "alpha: true", r"line 3, steering\.0\.alpha: alpha=True is not a number"),
        ("alpha: 2", "split_seed: -1", r"line 3, steering\.0\.split_seed: split_seed=-1 is not"),
        ("layer: 1,", "layer: 2,", r"line 3, steering\.0: .*layer"),
        (VECTOR, "[]", "line 3, steering: the list 'steering' is empty"),
        (VECTOR, "", "line 3, steering: there is no value; give one, or leave the key out"),
        ("limit: 40", "limit: null", "line 4, limit: there is no value"),
        ("limit: 40", "disagreement: true", "line 4, disagreement: expected a number"),
        ("min: 0.5", "min: null", "acc.min: there is no value"),
        (VECTOR, "s.yaml", "Cannot read the steering file"),
        ("limit: 40", "against: baseline", "There is no baseline"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    old: str,
    new: str,
    message: str,
    write: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert old in BASE
    assert main(["check", "--validate", str(write(BASE.replace(old, new)))]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_validation_tells_that_nothing_is_wrong(
    write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--validate", str(write(BASE))]) == 0
    assert "2 rules, nothing is wrong" in capsys.readouterr().out


@pytest.mark.parametrize("instead", ["--validate", "--dry-run", "--update-baseline"])
def test_reports_of_what_is_not_run_are_refused(
    instead: str, write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", instead, str(write(BASE)), "--json", "report.json"]) == 2
    assert "report a check that is run" in capsys.readouterr().err


def test_validation_finds_layers_that_a_model_on_this_machine_lacks(
    tiny_llama: Callable[..., Path],
    write: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    built = "[{dimension: reliability, layer: 99, alpha: 2}]"
    text = BASE.replace("mini-chat", str(tiny_llama())).replace(VECTOR, built)
    assert main(["check", "--validate", str(write(text))]) == 2
    assert re.search(r"line 3, steering\.0: layer 99 does not exist", capsys.readouterr().err)
    assert main(["check", "--validate", str(write(text.replace("layer: 99", "layer: 1")))]) == 0


@pytest.mark.slow
def test_validation_without_steering_loads_no_torch(write: Callable[[str], Path]) -> None:
    plain = write(BASE.replace("steering:", "# steering:").replace(", max_drop: 0.1", ""))
    code = (
        "import sys; from lm_eval_trust.cli import main; "
        f"code = main(['check', '--validate', {str(plain)!r}]); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{pretrained: mini-chat}", "{pretrained: mini-chat, alpha: 1}", "model_args hold alpha"),
        ("{pretrained: mini-chat}", "{pretraind: mini-chat}", "line 3, steering: .*'pretraind'"),
        ("{pretrained: mini-chat}", "{pretrained: ./nowhere}", "no model folder './nowhere'"),
        ("model: amber", "model: lora_amber", "lora_amber needs adapter"),
        (f"steering: {VECTOR}", "", "the model is not steered"),
        ("model: amber", "model: finetuned_amber", "base of finetuned_amber is not known"),
    ],
)
def test_models_that_do_not_fit_are_told_before_anything_is_run(
    old: str,
    new: str,
    message: str,
    quick: None,
    write: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write(BASE.replace(old, new))
    assert main(["check", str(path)]) == 2
    assert re.search(message, capsys.readouterr().err)


def kept(value: object, score: object = 0.5) -> str:
    """A baseline of two items, the first right."""
    metric = {"score": score, "higher_is_better": True, "aggregation": "mean"}
    task = {
        "version": "1",
        "meaning": {},
        "metrics": {"acc": metric},
        "items": {"a": {"acc": 1.0}, "b": {"acc": value}},
    }
    return json.dumps({"format": 1, "tasks": {"trust_sst2_mini": task}})


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "is not a baseline"),
        (json.dumps({"format": 9, "tasks": {}}), "has format 9; this release reads 1"),
        (json.dumps({"format": 1}), "is not a baseline: KeyError"),
        (json.dumps({"format": 1, "tasks": {"trust_sst2_mini": {}}}), "is not a baseline"),
        (kept("high"), "values of acc are neither numbers nor pairs of numbers"),
        (kept([1, 2, 3]), "values of acc are neither numbers nor pairs of numbers"),
        (kept([-3.0, 2]), "values of acc are neither numbers nor pairs of numbers"),
        (kept(1.0, score="x"), "is not a baseline: ValueError"),
    ],
)
def test_damaged_baselines(
    record: str, message: str, write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(BASE + "against: baseline\n")
    path.with_suffix(".baseline.json").write_text(record)
    assert main(["check", "--validate", str(path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("value", [0.0, None, True])
def test_whole_baselines(value: object, write: Callable[[str], Path]) -> None:
    path = write(BASE + "against: baseline\n")
    path.with_suffix(".baseline.json").write_text(kept(value))
    assert main(["check", "--validate", str(path)]) == 0


def test_a_summary_needs_a_place(
    write: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert main(["check", str(write(BASE)), "--markdown"]) == 2
    assert "--markdown needs a FILE here" in capsys.readouterr().err
