"""Judged scores without the judge's errors, in every form of a board."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.leaderboard import plant

from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.judges.agreement import quality
from lm_eval_trust.judges.correction import corrected_difference, corrected_share, rates_of
from lm_eval_trust.judges.interface import Verdict
from lm_eval_trust.leaderboard.build import build_boards
from lm_eval_trust.leaderboard.formats import texts
from lm_eval_trust.leaderboard.page.payload import board_payload
from lm_eval_trust.leaderboard.page.samples import SampleSets

TOXIGEN = "trust_toxigen/toxic_ratio,none"
BEFORE, AFTER = [1.0] * 50 + [0.0] * 50, [1.0] * 30 + [0.0] * 70
GROUPS = [f"g{i // 2}" for i in range(100)]


def figures(wrong: int = 10, texts: int = 100) -> dict[str, Any]:
    """Figures of a judge that is wrong on so many texts of either label."""
    labels = np.arange(2 * texts) // texts
    said = [Verdict(bool(label) != (i % texts < wrong), None) for i, label in enumerate(labels)]
    measured = quality(labels, said, [str(i) for i in range(len(labels))])
    return {"data": "planted texts", **measured.as_dict()}


def run(folder: Path, name: str, values: list[float], **more: Any) -> SavedRun:
    calibration = more.pop("calibration", figures())
    metadata = {"toxicity_judge": "linear", "toxicity_judge_version": "1"}
    if calibration:
        metadata["toxicity_judge_calibration"] = calibration
    arguments = f"pretrained=o/{name}"
    tasks = {"trust_toxigen": values}
    return plant(
        folder / name, tasks, arguments=arguments, groups=GROUPS, metadata=metadata, **more
    )


def test_a_board_has_corrected_scores_and_differences(tmp_path: Path) -> None:
    (board,) = build_boards([run(tmp_path, "a", BEFORE), run(tmp_path, "b", AFTER)])
    rates = rates_of(figures(), "accepted")
    for row, values in zip(board.rows, (BEFORE, AFTER), strict=True):
        score = row.scores[TOXIGEN]
        assert score.corrected == corrected_share(values, rates, GROUPS)
        # 0.5 = 0.9 · 0.5 + 0.1 · 0.5 and 0.3 = 0.9 · 0.25 + 0.1 · 0.75.
        assert score.corrected and score.corrected.mean == pytest.approx((score.value - 0.1) / 0.8)
    (pair,) = board.pairs
    wanted = corrected_difference(BEFORE, AFTER, rates, GROUPS)
    assert pair.corrected and pair.corrected.mean == pytest.approx(-0.25)
    assert (pair.corrected.low, pair.corrected.high) == pytest.approx((wanted.low, wanted.high))
    (note,) = [note for note in board.notes if "corrected" in note]
    assert note.startswith("ToxiGen corrected: its judge is right on 0.900 [")
    assert "in 200 of planted texts" in note


def test_every_format_has_them(tmp_path: Path) -> None:
    boards = build_boards([run(tmp_path, "a", BEFORE), run(tmp_path, "b", AFTER)])
    found = texts(boards, ("md", "csv", "tex", "json"))
    assert "### Corrected for the judge's errors" in found["leaderboard.md"]
    line = next(t for t in found["leaderboard.md"].splitlines() if "0.2500 \\[" in t)
    assert line.startswith("| b (hf) | 0.3000") and "-0.2500 (" in line
    assert "Corrected for the judge's errors" in found["leaderboard.tex"]
    second = list(csv.DictReader(io.StringIO(found["leaderboard.csv"])))[1]
    assert float(second[f"{TOXIGEN} corrected"]) == pytest.approx(0.25)
    assert float(second[f"{TOXIGEN} corrected low"]) < 0.25
    (pair,) = csv.DictReader(io.StringIO(found["pairs.csv"]))
    assert float(pair["corrected high"]) < 0
    (board,) = json.loads(found["leaderboard.json"])["boards"]
    assert board["rows"][1]["scores"][TOXIGEN]["corrected"]["mean"] == pytest.approx(0.25)
    payload = board_payload(boards[0], SampleSets())
    assert payload["rows"][1]["scores"][TOXIGEN]["corrected"]["mean"] == pytest.approx(0.25)
    assert payload["pairs"][0]["corrected"]["mean"] == pytest.approx(-0.25)


def test_the_calibration_on_most_texts_serves_all_rows(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, "a", BEFORE, calibration=None),
        run(tmp_path, "b", BEFORE, calibration=figures(20, 40)),
        run(tmp_path, "c", AFTER, calibration=figures(15, 300)),
    ]
    (board,) = build_boards(runs)
    rates = rates_of(figures(15, 300), "accepted")
    for row, values in zip(board.rows, (BEFORE, BEFORE, AFTER), strict=True):
        assert row.scores[TOXIGEN].corrected == corrected_share(values, rates, GROUPS)


def test_steered_rows_have_the_rates_of_steered_texts(tmp_path: Path) -> None:
    kept = {**figures(), "steered": figures(25), "unsteered": figures(10), "own_texts": True}
    steps = [{"layer": 3, "alpha": 2.0, "action": "add", "positions": "generated", "origin": "v"}]
    config = {"steering": {"steps": steps}, "trust_fingerprint": "mark"}
    (board,) = build_boards(
        [
            run(tmp_path, "a", BEFORE, calibration=kept),
            run(tmp_path, "a", BEFORE, calibration=kept, model="steered_amber", config=config),
        ]
    )
    plain, steered = (row.scores[TOXIGEN].corrected for row in board.rows)
    sides = rates_of(figures(), "accepted"), rates_of(figures(25), "accepted")
    assert plain == corrected_share(BEFORE, sides[0], GROUPS)
    assert steered == corrected_share(BEFORE, sides[1], GROUPS)
    (pair,) = board.pairs
    wanted = corrected_difference(BEFORE, BEFORE, sides[0], GROUPS, rates_after=sides[1])
    assert pair.corrected == wanted and wanted.high > 0.2
    (note,) = [note for note in board.notes if "corrected" in note]
    assert "; of steered models' texts it is right on 0.750 [" in note


def test_what_is_not_corrected_is_told(tmp_path: Path) -> None:
    (board,) = build_boards([run(tmp_path, "a", BEFORE, calibration=None)])
    assert board.rows[0].scores[TOXIGEN].corrected is None
    assert "Corrected" not in texts([board], ("md",))["leaderboard.md"]
    blind = run(tmp_path, "blind", BEFORE, calibration=figures(50))
    (board,) = build_boards([blind])
    assert any("ToxiGen is not corrected" in n and "chance" in n for n in board.notes)
    none = run(tmp_path, "none", [0.0] * 100, calibration=figures(300, 1000))
    (board,) = build_boards([none])
    assert any(
        "ToxiGen of none (hf) is not corrected. A share or difference of 0.000" in n
        for n in board.notes
    )


def test_a_score_of_two_verdicts_is_not_corrected(tmp_path: Path) -> None:
    metadata = {"truth_judge_version": "1", "truth_judge_calibration": figures()}
    (board,) = build_boards([plant(tmp_path, {"trust_truthfulqa": BEFORE}, metadata=metadata)])
    scores = board.rows[0].scores
    assert scores["trust_truthfulqa/truth,none"].corrected
    assert scores["trust_truthfulqa/truth_info,none"].corrected is None
    assert any(
        note.startswith("Not corrected for judges' errors: Info, Truth*Info.")
        for note in board.notes
    )


def test_results_without_samples_give_their_own(tmp_path: Path) -> None:
    ends = {"toxic_ratio_corrected,none": 0.2, "toxic_ratio_corrected_low,none": 0.1}
    own = {
        "trust_toxigen": {"toxic_ratio,none": 0.3, **ends, "toxic_ratio_corrected_high,none": 0.4}
    }
    (board,) = build_boards([run(tmp_path, "a", AFTER, save_samples=False, results=own)])
    assert board.rows[0].scores[TOXIGEN].corrected == Interval(0.2, 0.1, 0.4)
