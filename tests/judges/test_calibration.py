"""Measuring judges: the statistics against scikit-learn's, and on real labelled texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score
from support.harness import Scripted, evaluate
from support.openai_server import ALWAYS, Fault, OpenAI

from lm_eval_trust import cli
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.storage import read_kept
from lm_eval_trust.judges.agreement import (
    accuracy,
    auroc,
    between,
    kappa,
    quality,
    threshold_curve,
)
from lm_eval_trust.judges.calibration import (
    CalibrationSpec,
    calibrate,
    labelled_answers,
    summary,
)
from lm_eval_trust.judges.calibration_store import (
    in_words,
    store_calibration,
    stored_calibration,
)
from lm_eval_trust.judges.interface import Verdict
from lm_eval_trust.judges.reference import ReferenceJudge

DRAW = np.random.default_rng(0)
LABELS = DRAW.integers(0, 2, 60)
SCORES = np.round(0.4 * LABELS + DRAW.random(60), 1)  # rounded: with ties
SAID = (SCORES > 0.7).astype(float)
RESAMPLES = DRAW.integers(0, 60, (5, 60))
VERDICTS = [Verdict(bool(said), score) for said, score in zip(SAID, SCORES, strict=True)]
GROUPS = [str(i // 3) for i in range(60)]


def test_statistics_are_scikit_learns() -> None:
    for rows in RESAMPLES:
        labels, said, scores = LABELS[rows], SAID[rows], SCORES[rows]
        assert accuracy(labels, said) == pytest.approx(accuracy_score(labels, said))
        expected = cohen_kappa_score(labels, said.astype(int))
        assert kappa(labels, said) == pytest.approx(expected)
        assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_a_perfect_judge_and_its_contrary() -> None:
    perfect = [Verdict(bool(label), float(label)) for label in LABELS]
    contrary = [Verdict(not label, 1.0 - label) for label in LABELS]
    good, bad = quality(LABELS, perfect, GROUPS), quality(LABELS, contrary, GROUPS)
    assert good.auroc and bad.auroc
    assert (good.accuracy.value, good.kappa.value, good.auroc.value) == (1.0, 1.0, 1.0)
    # Sixty right answers do not show that all would be.
    assert 0.8 < good.accuracy.low < 1.0 and 0.8 < good.auroc.low < 1.0
    assert 0.5 < good.kappa.low < 1.0
    assert (bad.accuracy.value, bad.auroc.value) == (0.0, 0.0)


def test_intervals_are_wider_where_groups_are_fewer() -> None:
    """Copies of an item tell nothing new: as one group they leave the interval as it was."""
    single = quality(LABELS, VERDICTS, [str(i) for i in range(60)]).accuracy
    labels = np.repeat(LABELS, 4)
    copies = [verdict for verdict in VERDICTS for _ in range(4)]
    grouped = quality(labels, copies, [str(i // 4) for i in range(240)]).accuracy
    apart = quality(labels, copies, [str(i) for i in range(240)]).accuracy
    assert grouped.low == pytest.approx(single.low) and grouped.high == pytest.approx(single.high)
    assert apart.high - apart.low < 0.7 * (grouped.high - grouped.low)


def test_texts_without_a_verdict_are_counted_apart() -> None:
    silent = [Verdict(None, None) if i % 2 else verdict for i, verdict in enumerate(VERDICTS)]
    measured = quality(LABELS, silent, GROUPS)
    assert (measured.items, measured.judged) == (60, 30)
    assert measured.accuracy.value == pytest.approx(np.mean(LABELS[::2] == SAID[::2]))


def test_a_judge_of_words_has_no_curve_and_no_area() -> None:
    words = [Verdict(verdict.accepted, None) for verdict in VERDICTS]
    assert quality(LABELS, words, GROUPS).auroc is None
    assert threshold_curve(LABELS, words).empty


def test_the_curve_holds_each_thresholds_own_accuracy() -> None:
    curve = threshold_curve(LABELS, VERDICTS)
    assert len(curve) == len(set(SCORES))
    for row in curve.itertuples():
        assert row.accuracy == pytest.approx(np.mean((row.threshold <= SCORES) == LABELS))


def test_two_judges_are_compared_over_what_both_judged() -> None:
    other = [
        Verdict(None, None),
        *VERDICTS[1:30],
        *(Verdict(not v.accepted, 0) for v in VERDICTS[30:]),
    ]
    measured = between(VERDICTS, other, GROUPS)
    assert measured.judged == 59
    assert measured.accuracy.value == pytest.approx(29 / 59)


@pytest.mark.usefixtures("data_dir")
def test_no_answer_is_among_its_own_references() -> None:
    data = labelled_answers()
    assert len(data.items) > 5000 and 0.4 < data.labels.mean() < 0.5
    assert all(item.text not in (*item.correct, *item.incorrect) for item in data.items)
    assert len(set(data.groups)) == 817


def test_the_worlds_judge_knows_the_world() -> None:
    found = calibrate(CalibrationSpec(truth="world", source="mini", against="reference"))
    world, reference = found.judges
    assert world.quality.accuracy.value == 1.0 and world.quality.kappa.value == 1.0
    assert reference.quality.accuracy.value < 1.0
    assert found.agreement and found.agreement.accuracy.value == reference.quality.accuracy.value
    toxicity = calibrate(CalibrationSpec(toxicity="world", source="mini")).judges[0]
    assert toxicity.quality.accuracy.value == 1.0


def test_a_judge_of_refusal_is_measured_on_each_models_answers() -> None:
    found = calibrate(CalibrationSpec(refusal="world", source="mini"))
    models = found.judges[0].by_category
    assert len(models) > 1
    _, *lines = summary(found)
    assert [line.split(":")[0].strip() for line in lines] == list(models)
    for line, part in zip(lines, models.values(), strict=True):
        assert f"accuracy {part.accuracy}, kappa {part.kappa}" in line


def test_results_quote_the_figures(server: OpenAI) -> None:
    judge = {"mini_truth_judge": "openai:judge", "judge_base_url": server.address}
    task = CalibrationSpec(truth="openai:judge", source="mini", limit=30, settings=judge)
    measured = calibrate(task).judges[0].quality
    found = evaluate(Scripted(lambda _: "A: so."), ["trust_truthfulqa_mini"], limit=2, **judge)
    quoted = found["configs"]["trust_truthfulqa_mini"]["metadata"]["mini_truth_judge_calibration"]
    assert quoted["items"] == 30
    assert quoted["accuracy"]["value"] == pytest.approx(measured.accuracy.value, abs=1e-6)


def test_the_command_writes_tables_and_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path / "cache"))
    words = ["--truth-judge", "reference", "--against", "world", "--data", "mini", "--limit", "90"]
    assert cli.main(["judge", "calibrate", *words, "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    printed = [line for line in lines if not line.startswith("  ")]
    assert printed[0].startswith("reference on 90 of the world's answers")
    assert printed[2].startswith("reference against world: they agree on ")
    table = pd.read_csv(tmp_path / "out" / "calibration.csv", keep_default_na=False)
    assert {"", "labels"} < {*table["category"], *table["against"]}
    assert set(pd.read_csv(tmp_path / "out" / "thresholds.csv")["judge"]) == {"reference", "world"}
    assert (tmp_path / "out" / "thresholds.png").stat().st_size > 1000
    stored = sorted((tmp_path / "cache" / "judges" / "calibrations").iterdir())
    assert [read_kept(file)["items"] for file in stored] == [90, 90]


def test_the_figures_on_most_texts_are_quoted_and_damaged_ones_are_not() -> None:
    accuracy = {"value": 0.9, "low": 0.8, "high": 1.0}
    on_few, on_many = ({"data": "texts", "items": n, "accuracy": accuracy} for n in (10, 90))
    assert stored_calibration("truth_judge", "judge") is None
    store_calibration("truth_judge", "judge", "few", on_few)
    many = store_calibration("truth_judge", "judge", "many", on_many)
    store_calibration("truth_judge", "other", "more", {**on_many, "items": 99})
    assert stored_calibration("truth_judge", "judge") == on_many
    assert in_words(on_many) == "calibrated on 90 of texts: accuracy 0.900"
    many.write_text(many.read_text().replace("0.9", "0.7"))
    assert stored_calibration("truth_judge", "judge") == on_few


def test_figures_of_earlier_versions_are_quoted() -> None:
    """They were written as plain JSON, without a checksum."""
    figures = {"data": "texts", "items": 10, "accuracy": None}
    path = store_calibration("truth_judge", "judge", "few", figures)
    path.write_text(json.dumps(figures, indent=2))
    assert stored_calibration("truth_judge", "judge") == figures


def test_a_judge_without_a_verdict_is_not_measured(
    server: OpenAI, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults = [Fault(ALWAYS, says="Who knows?")]
    words = ["--truth-judge", "openai:judge", "--data", "mini", "--limit", "10"]
    assert cli.main(["judge", "calibrate", *words]) == 3
    told = capsys.readouterr().err
    assert "None of the 10 replies of judge can be read" in told and "'Who knows?'" in told
    silent = [Verdict(None, None)] * 10
    monkeypatch.setattr(ReferenceJudge, "truth", lambda self, answers: silent)
    with pytest.raises(ExternalError, match="reference gave no verdict on any of 10 texts"):
        calibrate(CalibrationSpec(truth="reference", source="mini", limit=10))


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ({}, "one of --truth-judge, --toxicity-judge and --refusal-judge"),
        ({"truth": "reference", "toxicity": "linear"}, "one of"),
        ({"truth": "reference", "limit": 1}, "at least 2"),
    ],
)
def test_what_cannot_be_measured_is_refused(task: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        CalibrationSpec(**task)  # type: ignore[arg-type]


def test_an_unknown_source_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="Did you mean 'mini'"):
        calibrate(CalibrationSpec(truth="reference", source="minni"))
