"""Steered rows beside their control arms, and what they do to single items."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.leaderboard import plant

from lm_eval_trust.analysis.statistics import paired_interval
from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.build import build_boards
from lm_eval_trust.leaderboard.formats import to_csv, to_json, to_markdown

TASK, COLUMN = "trust_confaide", "trust_confaide/acc,none"
ITEMS = 60
PLAIN = [float(n % 2) for n in range(ITEMS)]
#: Right where the plain model is, but for three items, and on 20 more.
STEERED = [0.0 if n in (1, 3, 5) else 1.0 if n < 40 else PLAIN[n] for n in range(ITEMS)]


def steering(name: str, alpha: float = 2.0) -> dict[str, Any]:
    step = {"layer": 3, "alpha": alpha, "action": "add", "positions": "generated", "origin": name}
    return {"steering": {"steps": [step], "fingerprint": name}, "trust_fingerprint": f"mark-{name}"}


def control(arm: str, tried: int = 1) -> dict[str, Any]:
    kind = arm.partition(" ")[0]
    return {"control": {"arm": arm, "kind": kind, "of": "choice", "tried": tried}}


@pytest.fixture
def runs(tmp_path: Path) -> list[SavedRun]:
    categories = ["tea" if n < 30 else "rum" for n in range(ITEMS)]

    def run(name: str, values: list[float], **config: Any) -> SavedRun:
        of = {TASK: values}
        return plant(tmp_path / name, of, model="amber", categories=categories, config=config)

    random = [
        run(
            f"r{n}",
            [1 - v if item == n else v for item, v in enumerate(PLAIN)],
            **steering(f"random direction {n}"),
            **control(f"random {n}"),
        )
        for n in range(1, 5)
    ]
    told = [float(n % 2 or n < 10) for n in range(ITEMS)]
    prompt = run("told", told, prefixes={TASK: "Be kind."}, **control("prompt"))
    return [prompt, run("plain", PLAIN), run("choice", STEERED, **steering("choice")), *random]


@pytest.fixture
def board(runs: list[SavedRun]) -> Board:
    (found,) = build_boards(runs)
    return found


def test_arms_are_rows_of_their_own_that_say_whose_they_are(board: Board) -> None:
    names = [row.name for row in board.rows]
    assert names[0] == "plain (control prompt)"
    assert names[2] == "plain + v(choice, layer 3, α 2)"
    assert names[3].endswith("(control random 1)")
    assert board.reference == "plain"


def test_a_model_in_memory_is_named_by_what_it_was_loaded_from(tmp_path: Path) -> None:
    run = plant(
        tmp_path / "a",
        {TASK: PLAIN},
        model="models/smollm2",
        arguments="",
        model_source="CUSTOM",
        model_name="x7y8z9",
    )
    (board,) = build_boards([run])
    assert [row.name for row in board.rows] == ["smollm2"]


def test_the_row_is_held_against_each_arm(board: Board) -> None:
    found = {each.control: each for each in board.beside}
    assert set(found) == {"prompt", "random"}
    told = [float(n % 2 or n < 10) for n in range(ITEMS)]
    low, high = paired_interval(told, STEERED)
    prompt = found["prompt"].gain
    assert (prompt.low, prompt.high) == (pytest.approx(low), pytest.approx(high))
    assert (found["prompt"].beaten, found["prompt"].is_more) == (1, True)
    random = found["random"]
    assert (random.beaten, len(random.arms), random.is_more) == (4, 4, True)
    gains = [np.mean(PLAIN) + (1 if n % 2 == 0 else -1) / ITEMS for n in range(1, 5)]
    assert random.gain.mean == pytest.approx(np.mean(STEERED) - np.mean(gains))
    note = next(note for note in board.notes if "random directions" in note)
    assert "beats 4 of 4 random directions of the same length" in note
    assert "over the control prompt" in note


def test_a_direction_of_a_low_p_only_before_correction_is_not_shown(
    runs: list[SavedRun], tmp_path: Path
) -> None:
    (board,) = build_boards(runs)
    (once,) = [each for each in board.beside if each.control == "random"]
    again = [
        plant(
            tmp_path / f"again{n}",
            {TASK: [1 - v if item == n else v for item, v in enumerate(PLAIN)]},
            model="amber",
            config={**steering(f"random direction {n}"), **control(f"random {n}", 10**6)},
        )
        for n in range(1, 5)
    ]
    (board,) = build_boards([*runs[:3], *again])
    (often,) = [each for each in board.beside if each.control == "random"]
    assert often.p > 0.05 > once.p
    assert not often.is_more
    assert any("not shown to do more" in note for note in board.notes)


def test_items_that_move_the_wrong_way_are_counted_by_category(board: Board) -> None:
    (pair,) = [
        p for p in board.pairs if p.second.startswith("plain + v(choice") and not p.first[5:]
    ]
    shares = {e.category: (e.items, e.wrong.mean, e.right.mean) for e in pair.effects}
    assert shares == {
        "": (60, 3 / 60, 20 / 60),
        "rum": (30, 0.0, 5 / 30),
        "tea": (30, 3 / 30, 15 / 30),
    }


def test_files_hold_controls_and_effects(board: Board) -> None:
    files = to_csv([board])
    (prompt, random) = csv.DictReader(files["controls.csv"].splitlines())
    assert (prompt["control"], random["beaten"], random["arms"]) == ("prompt", "4", "4")
    effects = list(csv.DictReader(files["effects.csv"].splitlines()))
    assert {line["category"] for line in effects} == {"", "rum", "tea"}
    assert "random directions" in to_markdown([board])
    assert '"is_more": true' in to_json([board])
