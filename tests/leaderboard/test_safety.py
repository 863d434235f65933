"""The other side of the ledger: refusals, answers and bias on a board, in all of its forms."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from support.browser import chromium, open_page
from support.saved_runs import save_run

from lm_eval_trust.core.saved_runs import find_runs
from lm_eval_trust.judges.calibration import CalibrationSpec, calibrate
from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.build import build_boards
from lm_eval_trust.leaderboard.formats import texts
from lm_eval_trust.leaderboard.page import write_page
from lm_eval_trust.leaderboard.page.payload import board_payload
from lm_eval_trust.leaderboard.page.samples import SampleSets
from lm_eval_trust.leaderboard.ranking import general_columns, ranks, trust_columns
from lm_eval_trust.mini.safety import DECLINING, HELPING

GROUP, XSTEST, BBQ = "trust_safety_mini", "trust_xstest_mini", "trust_bbq_mini"
REFUSED, ANSWERED = f"{XSTEST}/refusal_of_unsafe,none", f"{XSTEST}/answers_to_safe,none"
BIAS = f"{BBQ}/bias,none"


def answers(declines: int, biased: int) -> Any:
    """A model that declines so many of ten requests, and names the stereotyped so many times."""

    def answer(request: Instance) -> str:
        doc = request.doc
        if doc["label"] in ("safe", "unsafe"):
            refuses = request.doc_id % 10 < declines
            return f" {DECLINING[0] if refuses else HELPING[0]}."
        stereotyped = request.doc_id % 10 < biased
        return str(doc["answers"][doc["biased"] if stereotyped else doc["label"]])

    return answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a bold model and a timid one, by a calibrated judge."""
    place = tmp_path_factory.mktemp("safety")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_EVAL_TRUST_CACHE", str(place / "cache"))
        (found,) = calibrate(CalibrationSpec(refusal="world", source="mini")).judges
        assert found.quality.accuracy.value == 1 and len(found.by_category) == 3
        for name, declines, biased in (("bold", 1, 6), ("timid", 8, 3)):
            save_run(
                place / name, [GROUP], answers(declines, biased), limit=60, pretrained=f"o/{name}"
            )
    return place


@pytest.fixture(scope="module")
def board(folder: Path) -> Board:
    (found,) = build_boards(find_runs([folder / "bold", folder / "timid"]))
    return found


def results(folder: Path, name: str) -> dict[str, Any]:
    (found,) = find_runs([folder / name])
    return {**found.results["results"][XSTEST], **found.results["results"][BBQ]}


def test_the_columns_are_those_of_safety_and_count_in_no_mean(board: Board, folder: Path) -> None:
    titles = {column.key: column.title for column in board.columns}
    assert [titles[key] for key in (REFUSED, ANSWERED, BIAS)] == [
        "Unsafe refused",
        "Safe answered",
        "Bias",
    ]
    assert f"{GROUP}/trust_score,none" in titles
    assert all(column.dimension == "safety" for column in board.columns)
    assert not general_columns(board.columns) and not trust_columns(board.columns)
    assert not board.win_rates and not board.front
    for row, name in zip(
        sorted(board.rows, key=lambda r: r.scores[REFUSED].value), ("bold", "timid"), strict=True
    ):
        found = results(folder, name)
        for key in (REFUSED, ANSWERED, BIAS):
            assert row.scores[key].value == pytest.approx(found[key.split("/")[1]])
        for metric in ("refusal_of_unsafe", "answers_to_safe"):
            low, high = (found[f"{metric}_corrected_{end},none"] for end in ("low", "high"))
            assert low <= found[f"{metric},none"] <= high


def test_shares_of_some_items_are_compared_and_corrected_over_those(board: Board) -> None:
    """Half of the 56 prompts are unsafe; each column's pair is over its own."""
    pairs = {pair.column: pair for pair in board.pairs}
    for key in (REFUSED, ANSWERED):
        assert pairs[key].comparison.items == 28
        for row in board.rows:
            corrected = row.scores[key].corrected
            assert corrected and corrected.low <= row.scores[key].value <= corrected.high
            assert corrected.mean == pytest.approx(row.scores[key].value, abs=0.01)
    assert (
        pairs[REFUSED].comparison.difference.mean * pairs[ANSWERED].comparison.difference.mean < 0
    )
    assert pairs[f"{XSTEST}/trust_score,none"].comparison.items == 56


def test_types_of_prompts_are_shown_by_the_share_of_their_own_kind(
    board: Board, folder: Path
) -> None:
    """The mean of both shares weighs each prompt by its kind, so it has no categories."""
    assert f"{XSTEST}/trust_score,none" not in board.categories
    (pair,) = (pair for pair in board.pairs if pair.column == f"{XSTEST}/trust_score,none")
    assert len(pair.effects) <= 1
    refused = results(folder, "timid")
    (timid,) = (row.name for row in board.rows if "timid" in row.name)
    for category in board.categories[REFUSED]:
        share = refused[f"refusal_{category.name},none"]
        assert category.scores[timid].value == pytest.approx(share)


def test_of_biases_the_smaller_one_is_better_and_no_change_is_called_one(board: Board) -> None:
    (column,) = (column for column in board.columns if column.key == BIAS)
    assert column.higher_is_better is None and BIAS not in board.standings
    values = {row.name: row.scores[BIAS].value for row in board.rows}
    assert len(values) == 2 and all(math.isfinite(value) for value in values.values())
    best, _ = ranks(column, board.rows)
    assert best == {min(values, key=lambda name: abs(values[name]))}
    turned = [
        replace(row, scores={BIAS: replace(row.scores[BIAS], value=-v)})
        for row, v in zip(board.rows, values.values(), strict=True)
    ]
    assert ranks(column, turned)[0] == best
    (pair,) = (pair for pair in board.pairs if pair.column == BIAS)
    assert not pair.effects and math.isfinite(pair.comparison.difference.low)


def test_all_forms_of_a_board_say_which_way_a_bias_counts(board: Board) -> None:
    written = texts([board], ["md", "csv", "tex", "json"])
    assert "Bias (0 is best)" in "".join(written.values())
    payload = board_payload(board, SampleSets())
    ways = {
        column["key"]: column["higher_is_better"]
        for column in json.loads(json.dumps(payload))["columns"]
    }
    assert ways[BIAS] is None and ways[REFUSED] is True


@pytest.mark.slow
def test_the_page_shows_and_sorts_the_columns(board: Board, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page(path, [board])
    least = min(board.rows, key=lambda row: abs(row.scores[BIAS].value)).name
    with chromium() as browser:
        watched = open_page(browser, path)
        heads = watched.page.locator("table.board").first.locator("thead th button")
        shown = {head.split("\n")[0] for head in heads.all_inner_texts()}
        for title in ("Unsafe refused", "Safe answered", "Bias"):
            assert any(head.startswith(title) for head in shown)
        assert any(head.startswith("Bias") and "→0" in head for head in shown)
        bias = watched.page.locator(f'[data-sort="{BIAS}"]').first
        bias.click()
        rows = watched.page.locator("table.board").first.locator("tbody th button")
        assert set(rows.all_inner_texts()) == {row.name for row in board.rows}
        line = watched.page.locator("table.board").first.locator(
            "tr", has=watched.page.get_by_role("button", name=least, exact=True)
        )
        place = [column.key for column in board.columns].index(BIAS)
        assert line.locator("td").nth(place).locator("strong").count() == 1
        assert watched.errors == []
