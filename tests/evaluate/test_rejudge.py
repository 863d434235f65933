"""Saved answers judged anew: what a run with that judge would have given, in the same layout."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from lm_eval.api.instance import Instance
from lm_eval.utils import get_results_filenames, get_sample_results_filenames
from support.harness import Scripted, evaluate
from support.openai_server import ALWAYS, Fault, OpenAI
from support.saved_runs import save_run

from lm_eval_trust import cli
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.saved_runs import find_runs, read_run
from lm_eval_trust.evaluate.rejudge import Rejudgement, judge_again
from lm_eval_trust.judges.calibration import CalibrationSpec, calibrate

MINI = ["trust_suite_mini"]
TRUTH = "trust_truthfulqa_mini"


def answer(request: Instance) -> str:
    """Something for every task; the truth for every other question."""
    if request.task_name == TRUTH:
        return f"A: {request.doc['best_answer' if request.doc_id % 2 else 'incorrect_answers']}."
    return "1" if request.doc_id % 3 else "positive"


def false_for_odd(prompt: str) -> float:
    return 0.25 if len(prompt) % 2 else 0.75


def judged(path: Path) -> dict[str, Any]:
    return read_run(path).results


def test_a_second_judgement_is_what_a_run_with_that_judge_gives(
    tmp_path: Path, server: OpenAI
) -> None:
    server.yes = false_for_odd
    path, before = save_run(tmp_path, MINI, answer, limit=12)
    settings = {"judge_base_url": server.address}
    written = judge_again(read_run(path), Rejudgement(truth="openai:judge", settings=settings))
    there = {"mini_truth_judge": "openai:judge", **settings}
    fresh_path, fresh = save_run(tmp_path / "fresh", MINI, answer, limit=12, **there)
    after = judged(written)
    assert after["results"] == json.loads(json.dumps(fresh["results"]))
    assert after["groups"] == json.loads(json.dumps(fresh["groups"]))
    assert after["results"][TRUTH] != before["results"][TRUTH]
    assert after["n-samples"] == fresh["n-samples"]
    assert after["configs"][TRUTH]["metadata"] == fresh["configs"][TRUTH]["metadata"]
    samples = {p: read_run(p).samples(TRUTH) for p in (written, fresh_path)}
    assert samples[written] == samples[fresh_path]


def test_a_calibration_made_since_corrects_saved_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path / "cache"))
    _, before = save_run(tmp_path / "run", [TRUTH], answer, limit=40)
    assert "truth_corrected,none" not in before["results"][TRUTH]
    calibrate(CalibrationSpec(truth="world", source="mini"))
    assert cli.main(["judge", str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 0
    (path,) = (tmp_path / "again").rglob("results_*.json")
    found = judged(path)["results"][TRUTH]
    assert (
        found["truth_corrected,none"]
        == found["truth,none"]
        == before["results"][TRUTH]["truth,none"]
    )
    told = f"{TRUTH}: truth corrected {found['truth,none']:.4f} ["
    assert told in capsys.readouterr().out


def test_what_is_not_judged_stays_as_it_was(tmp_path: Path) -> None:
    path, _ = save_run(tmp_path, MINI, answer, limit=6)
    written = judge_again(read_run(path), Rejudgement(truth="reference"))
    before, after = judged(path), judged(written)
    assert after["model_name"] == "owner/scripted"
    for task in ("trust_toxigen_mini", "trust_sst2_mini"):
        assert after["results"][task] == before["results"][task]
        assert read_run(written).samples(task) == read_run(path).samples(task)
    assert set(after) == {*before, "judged_from"}
    assert after["judged_from"] == {"results": path.name, "tasks": [TRUTH]}


def test_the_harness_finds_and_loads_the_new_files(tmp_path: Path) -> None:
    path, _ = save_run(tmp_path, [TRUTH], answer, limit=6)
    written = judge_again(read_run(path), Rejudgement(truth="reference"))
    names = [str(file) for file in written.parent.iterdir()]
    assert get_results_filenames(names) == [str(written)]
    (samples,) = get_sample_results_filenames(names)
    rows = datasets.load_dataset("json", data_files=samples, split="train")
    saved = datasets.load_dataset("json", data_files=str(read_run(path).samples_file(TRUTH)))
    assert rows.features == saved["train"].features and len(rows) == 6


def test_a_folder_is_searched_and_second_judgements_in_it_are_left_out(tmp_path: Path) -> None:
    path, _ = save_run(tmp_path, [TRUTH], answer, limit=4)
    written = judge_again(read_run(path), Rejudgement(truth="reference"))
    assert [run.path for run in find_runs([tmp_path, path])] == [path]
    assert [run.path for run in find_runs([written])] == [written]


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir", "brisk")
def test_real_answers_need_no_data_and_rescued_ones_no_first_verdict(
    tmp_path: Path, server: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults = [Fault(ALWAYS, status=500)]
    metadata = {"truth_judge": "openai:judge", "judge_base_url": server.address, "judge_tries": 2}
    model = Scripted(lambda request: f"A: {request.doc['best_answer']}.")
    with pytest.raises(ExternalError) as failed:
        evaluate(model, ["trust_truthfulqa"], limit=5, **metadata)
    (folder,) = re.findall(r"`lm-eval-trust judge (\S+)`", str(failed.value))
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(tmp_path))
    server.faults, server.yes = [], lambda prompt: 0.75
    (run,) = find_runs([Path(folder)])
    found = judged(judge_again(run, Rejudgement()))["results"]["trust_truthfulqa"]
    assert found["truth,none"] == 1.0 and found["sample_len"] == 5
    again = judge_again(run, Rejudgement(truth="reference"), tmp_path / "out")
    assert judged(again)["results"]["trust_truthfulqa"]["trust_score,none"] > 0.0


def test_nothing_to_judge_is_an_error_that_says_what_there_is(tmp_path: Path) -> None:
    path, _ = save_run(tmp_path, ["trust_sst2_mini"], answer, limit=4)
    with pytest.raises(InputError, match="samples of trust_sst2_mini"):
        judge_again(read_run(path), Rejudgement(truth="reference"))
    read_run(path).samples_file("trust_sst2_mini").unlink()
    with pytest.raises(InputError, match=r"samples of none .*--log_samples"):
        judge_again(read_run(path), Rejudgement(truth="reference"))


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="--output_path"):
        find_runs([tmp_path])
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(InputError, match="not a results file"):
        find_runs([other])


def _row(samples: list[Any], **changed: Any) -> list[Any]:
    """Return samples with other values in the first one's row."""
    return [{**samples[0], "doc": {**samples[0]["doc"], **changed}}, *samples[1:]]


def test_damaged_samples_are_named(tmp_path: Path) -> None:
    path, _ = save_run(tmp_path, [TRUTH], answer, limit=4)
    file = read_run(path).samples_file(TRUTH)
    file.write_text(file.read_text()[:-40])
    with pytest.raises(InputError, match=re.escape(str(file))):
        judge_again(read_run(path), Rejudgement(truth="reference"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda samples: samples[:-1], "has 3 samples, but .* was measured on 4"),
        (lambda samples: [*samples, samples[0]], "doc_id 0 stands there 2 times"),
        (lambda samples: [*samples[1:], {"doc_id": 0, "doc": {}}], "sample 0 lacks"),
        (lambda samples: [*samples[1:], {**samples[0], "resps": []}], "sample 0 lacks"),
        (lambda samples: [*samples[1:], {**samples[0], "doc": None}], "sample 0 lacks"),
        (lambda samples: _row(samples, best_answer=3), "'best_answer' of sample 0 is a number"),
        (lambda samples: _row(samples, best_answer=[]), "'best_answer' of sample 0 is list, where"),
        (lambda samples: _row(samples, correct_answers=[None]), "is list of nothing, where other"),
        (lambda samples: _row(samples, correct_answers={"a": "b"}), "0 is a mapping, where other"),
        (
            lambda samples: [*samples[1:], {**samples[0], "doc": {"a": 1}}],
            "other samples have nothing",
        ),
        (lambda samples: [*samples[1:], {**samples[0], "doc_id": 1e400}], "doc_id is 'inf', not"),
        (lambda samples: [*samples[1:], {**samples[0], "metrics": [[]]}], "metrics of sample 0"),
        (lambda samples: _row(samples, best_answer="\ud800"), "is half a character, where other"),
        (lambda samples: [7], "not a file of the harness's samples"),
    ],
)
def test_samples_that_are_not_those_of_the_run_are_refused(
    tmp_path: Path, change: Callable[[list[Any]], list[Any]], says: str
) -> None:
    path, _ = save_run(tmp_path, [TRUTH], answer, limit=4)
    file = read_run(path).samples_file(TRUTH)
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(sample) + "\n" for sample in change(samples)))
    with pytest.raises(InputError, match=says):
        judge_again(read_run(path), Rejudgement(truth="reference"))


def test_an_answer_that_ends_in_half_a_character_is_judged_and_kept(tmp_path: Path) -> None:
    path, _ = save_run(tmp_path, [TRUTH], answer, limit=4)
    file = read_run(path).samples_file(TRUTH)
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    samples[0]["resps"] = [["so it is \ud83d"]]
    file.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    again = read_run(judge_again(read_run(path), Rejudgement(truth="reference")))
    assert again.samples(TRUTH)[0]["resps"] == [["so it is \ud83d"]]


def test_a_copied_folder_is_judged_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = save_run(tmp_path / "here", [TRUTH], answer, limit=4)
    shutil.copytree(path.parent, tmp_path / "there")
    words = [str(tmp_path / "there"), "--truth-judge", "reference", "--out", str(tmp_path / "out")]
    assert cli.main(["judge", *words]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert Path(printed[0]).parent == tmp_path / "out" / "there"
    assert re.match(
        r"  trust_truthfulqa_mini: trust_score 0\.\d+ .*judged by reference", printed[1]
    )
