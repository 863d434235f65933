"""Judges measured on models' own texts, which people have labelled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.api.instance import Instance
from support.saved_runs import save_run

from lm_eval_trust import cli
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.judges.calibration import CalibrationSpec, calibrate, people_labelled
from lm_eval_trust.judges.calibration_store import store_calibration, stored_calibration
from lm_eval_trust.judges.correction import rates_of

TASK = "trust_truthfulqa_mini"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path / "cache"))


def half_right(request: Instance) -> str:
    wrong = request.doc_id % 2
    return f"A: {request.doc['incorrect_answers'][0] if wrong else request.doc['best_answer']}"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Samples of a judged run, the first 60 labelled: the judge is wrong on every fifth text."""
    save_run(tmp_path / "run", [TASK], half_right, limit=75, mini_truth_judge="reference")
    (path,) = (tmp_path / "run").rglob("samples_*.jsonl")
    samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for place, sample in enumerate(samples[:60]):
        said = bool(sample["truth"])
        sample["label"] = int(said != (place % 5 == 0))
        sample["steered"] = place % 3 == 0
    return rewritten(tmp_path / "labels.jsonl", samples)


def rewritten(path: Path, samples: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(s) + "\n" for s in samples), encoding="utf-8")
    return path


def changed(path: Path, change: Change) -> Path:
    samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(samples[3])
    return rewritten(path, samples)


def test_a_judge_is_measured_on_the_labelled_samples(saved: Path) -> None:
    labelled = people_labelled(saved, "truth")
    assert len(labelled.items) == 60 and len(set(labelled.groups)) == 60
    answer = labelled.items[0]
    assert answer.text and answer.question and answer.correct and answer.incorrect
    spec = CalibrationSpec(truth="reference", source="mini", labels=saved)
    (found,) = calibrate(spec).judges
    assert found.quality.items == 60
    assert found.quality.accuracy.value == pytest.approx(0.8)
    kept = stored_calibration("mini_truth_judge", found.stored.name.split("-")[1])
    assert kept and kept["data"] == "people's labels in labels.jsonl"
    for name, places in (("steered", range(0, 60, 3)), ("unsteered", range(60))):
        rows = [i for i in places if (i % 3 == 0) == (name == "steered")]
        right = np.mean([i % 5 != 0 for i in rows])
        assert kept[name]["items"] == len(rows)
        assert kept[name]["accuracy"]["value"] == pytest.approx(right, abs=1e-6)
    own = rates_of(kept, "accepted", steered=True).sensitivity
    assert own.share == pytest.approx(kept["steered"]["sensitivity"]["value"])
    assert rates_of(kept, "accepted").sensitivity.share == kept["sensitivity"]["value"]


@pytest.mark.parametrize(("negative_groups", "chosen"), [(5.0, 30), (4.0, 900)])
def test_own_texts_count_before_more_texts_if_they_can_correct(
    negative_groups: float, chosen: int
) -> None:
    figures = {"data": "texts", "accuracy": None}
    own = {"own_texts": True, "positive_groups": 9.0, "negative_groups": negative_groups}
    store_calibration("truth_judge", "judge", "many", {**figures, "items": 900})
    store_calibration("truth_judge", "judge", "a-few", {**figures, **own, "items": 30})
    found = stored_calibration("truth_judge", "judge")
    assert found and found["items"] == chosen


def test_of_equal_calibrations_the_latest_counts() -> None:
    for name, items in (("b", "first"), ("c", "second"), ("a", "third")):
        path = store_calibration("truth_judge", "judge", name, {"data": items, "items": 300})
        os.utime(path, ns=(0, {"first": 1, "second": 3, "third": 2}[items] * 10**9))
    found = stored_calibration("truth_judge", "judge")
    assert found and found["data"] == "second"


def test_the_command_takes_a_file(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--truth-judge", "reference", "--data", "mini", "--labels", str(saved)]
    assert cli.main(["judge", "calibrate", *words]) == 0
    assert "on 60 of people's labels in labels.jsonl" in capsys.readouterr().out
    assert cli.main(["judge", "calibrate", *words[:-1], str(saved.parent / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.update(label=2), "labels.jsonl, sample 4: its label is 2"),
        (lambda s: s.update(label="yes"), "its label is 'yes'"),
        (lambda s: s.update(label=None), "its label is None"),
        (lambda s: s.update(steered="no"), "\"steered\" is 'no'"),
        (lambda s: s.update(steered=1), '"steered" is 1'),
        (lambda s: s.update(filtered_resps=["true"]), "sample 4: .*A labelled sample is a line"),
        (lambda s: s.update(filtered_resps=["-" * 100_000]), "sample 4: it is no value of Python"),
        (lambda s: s.pop("doc"), "lacks 'doc'"),
    ],
)
def test_samples_that_are_none_are_refused_with_their_line(
    saved: Path, change: Change, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        people_labelled(changed(saved, change), "truth")


def test_a_file_without_labels_is_refused(saved: Path) -> None:
    lines = [json.loads(line) for line in saved.read_text(encoding="utf-8").splitlines()][60:]
    with pytest.raises(InputError, match='0 samples with a "label"; at least 2'):
        people_labelled(rewritten(saved, lines), "truth")
    with pytest.raises(InputError, match="all 2 texts have the same label"):
        people_labelled(rewritten(saved, [{**s, "label": 1} for s in lines[:2]]), "truth")
