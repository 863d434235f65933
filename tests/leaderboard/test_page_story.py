"""The page's first sentences follow from the board's comparisons, by rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.boards import ABILITY, COLUMNS, TOXIC, TRUTH, reported_row

from lm_eval_trust.analysis.comparison import Comparison
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.leaderboard.board import FURTHER, Beside, Board, Column, Pair, Row, Score
from lm_eval_trust.leaderboard.page.story import Name, Story, Text, story_of

STEERED = {"steering": [{"layer": 1}]}


def row(name: str, scores: Sequence[Column] = COLUMNS, **provenance: Any) -> Row:
    return Row(name, {c.key: Score(0.5, 0.1, 40) for c in scores}, (), provenance)


def pair(
    first: str, second: str, column: Column, change: tuple[float, ...], p: float, **more: Any
) -> Pair:
    """A pair whose own p and interval are far clearer than those after correction."""
    alone = Comparison(Interval(change[0], change[0], change[0]), p / 1e6, "McNemar", 40, 40)
    return Pair(first, second, column.key, alone, p, Interval(*change), **more)


def board(rows: Sequence[Row], pairs: Sequence[Pair], **more: Any) -> Board:
    return Board(COLUMNS, tuple(rows), tuple(pairs), **{"reference": "plain", **more})


def text(parts: Text) -> str:
    return "".join(part.name if isinstance(part, Name) else part for part in parts)


def said(story: Story) -> list[str]:
    return [f"{found.outcome}: {text(found.text)}" for found in story.findings]


def test_one_steered_row_gains_on_one_score_and_costs_on_another() -> None:
    rows = [row("plain"), row("plain + v", **STEERED)]
    pairs = [
        pair("plain", "plain + v", TRUTH, (0.08, -0.01, 0.56), 0.21),
        pair("plain", "plain + v", ABILITY, (-0.12, -0.2, -0.04), 0.003),
        pair("plain", "plain + v", TOXIC, (-0.25, -0.4, -0.1), 0.0004),
    ]
    story = story_of(board(rows, pairs))
    assert text(story.compared) == "plain + v was compared with plain on 3 scores, 40 items each."
    assert said(story) == [
        "better: Steering improves ToxiGen by −0.250 [−0.400, −0.100] over the unsteered model, "
        "where lower is better: shown (p < 0.001).",
        "worse: It costs −0.120 [−0.200, −0.040] on ARC: shown (p = 0.003).",
        "open: It gains +0.080 [−0.010, +0.560] on Truth*Info: not shown (p = 0.210).",
    ]
    assert text(story.remarks[0]) == (
        "“Shown” means p ≤ 0.05, corrected for all tests of the family; the intervals hold "
        "together at 95 %."
    )
    assert text(story.remarks[1]).startswith("Cannot be compared: Suite.")
    assert story.chart == ("row", "plain + v")


def test_a_pair_is_told_from_the_reference_whichever_comes_first() -> None:
    rows = [row("plain"), row("other")]
    story = story_of(board(rows, [pair("other", "plain", TRUTH, (0.2, 0.1, 0.4), 0.01)]))
    assert said(story) == [
        "worse: other loses −0.200 [−0.400, −0.100] on Truth*Info over plain: shown (p = 0.010)."
    ]
    assert story.chart == ("column", TRUTH.key)


def test_many_rows_are_told_by_their_clearest_gains_and_losses() -> None:
    rows = [row(name) for name in ("plain", "a", "b", "c")]
    pairs = [
        pair("plain", "a", TRUTH, (0.1, 0.01, 0.2), 0.02),
        pair("plain", "b", TRUTH, (0.3, 0.2, 0.4), 0.02),
        pair("plain", "c", TRUTH, (0.01, -0.1, 0.2), 0.9),
        pair("plain", "a", TOXIC, (0.2, 0.1, 0.3), 0.01),
        pair("plain", "b", TOXIC, (-0.1, -0.2, -0.01), 0.03),
        pair("plain", "c", ABILITY, (-0.3, -0.4, -0.2), 0.001),
    ]
    story = story_of(board(rows, pairs))
    assert text(story.compared) == "3 rows were compared with plain on 3 scores, 40 items each."
    assert [sentence.split(" on ")[0].split(" by ")[0] for sentence in said(story)] == [
        "better: b gains +0.300 [+0.200, +0.400]",
        "better: It improves ToxiGen",
        "worse: c loses −0.300 [−0.400, −0.200]",
        "worse: a worsens ToxiGen",
    ]
    assert text(story.remarks[0]) == "Of all 6 tests, 3 show a gain and 2 a loss."
    assert story.chart == ("column", TRUTH.key)


def test_controls_are_counted_apart_and_random_directions_judge_the_row() -> None:
    arm = {"control": {"of": "x", "arm": "random 1"}}
    rows = [row("plain"), row("v", **STEERED), row("r1", **arm), row("r2", **arm)]
    pairs = [
        pair("plain", "v", TRUTH, (0.2, 0.1, 0.3), 0.01),
        pair("plain", "r1", TRUTH, (0.9, 0.8, 1.0), 0.0001),
    ]
    beside = Beside(
        "v", TRUTH.key, "random", ("r1", "r2"), 1, Interval(0.1, -0.1, 0.3), 0.4, is_more=False
    )
    story = story_of(board(rows, pairs, beside=(beside,)))
    assert [found.outcome for found in story.findings] == ["better"]
    assert said(story)[0].startswith("better: Steering gains +0.200")
    assert text(story.remarks[1]) == (
        "v beats 1 of 2 random directions of the same length. That the direction itself matters "
        "is not shown (p = 0.400)."
    )


def test_tests_that_do_not_count_and_further_columns_are_left_out() -> None:
    rows = [row("plain"), row("other")]
    pairs = [
        pair("plain", "other", TRUTH, (0.0, 0.0, 0.0), 1.0, counted=False),
        pair("plain", "other", ABILITY, (0.5, 0.4, 0.6), 0.001, family=FURTHER),
        pair("plain", "other", TOXIC, (0.1, math.nan, math.nan), 1.0),
    ]
    assert said(story_of(board(rows, pairs))) == [
        "open: other worsens ToxiGen by +0.100 (no interval) over plain, where lower is better: "
        "not shown (p = 1.000)."
    ]
    # With nothing else, what did not move is told.
    assert said(story_of(board(rows, pairs[:1]))) == [
        "open: other does not move Truth*Info: 0.000 [0.000, 0.000]: not shown (p = 1.000)."
    ]


def test_one_row_is_told_by_its_scores() -> None:
    story = story_of(board([row("alone", (TRUTH, TOXIC)), reported_row("paper")], []))
    assert text(story.compared) == "alone was evaluated. There is no other row to compare it with."
    assert said(story) == [
        "open: It scores 0.500 [0.304, 0.696] on Truth*Info.",
        "open: It scores 0.500 [0.304, 0.696] on ToxiGen (lower is better).",
    ]
    assert story.chart == ("row", "alone")


def test_rows_without_samples_cannot_be_compared() -> None:
    best = replace(row("b"), scores={TRUTH.key: Score(0.75, None, None)})
    story = story_of(board([row("a", (TRUTH,)), best], [], reference=None))
    assert text(story.compared) == "2 rows were evaluated. Their differences cannot be tested."
    assert said(story) == [
        "open: b has the best Truth*Info, 0.750. Whether it is better than the others cannot be "
        "said."
    ]
    assert "--log_samples" in text(story.remarks[0])


def test_a_board_without_measured_rows_has_nothing_to_tell() -> None:
    story = story_of(board([reported_row("paper")], [], reference=None))
    assert (said(story), story.chart) == ([], ())


def test_rows_without_a_reference_are_compared_with_each_other() -> None:
    rows = [row(name) for name in "abc"]
    pairs = [
        pair("a", "b", TRUTH, (0.2, 0.1, 0.3), 0.01),
        pair("b", "c", TRUTH, (-0.4, -0.5, -0.3), 0.01),
    ]
    story = story_of(board(rows, pairs, reference=None))
    assert text(story.compared).startswith("3 rows were compared with each other on 1 score,")
    assert [sentence.split(" over ")[1][0] for sentence in said(story)] == ["a", "b"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([TRUTH, TOXIC, ABILITY]),
            st.integers(-1000, 1000).map(lambda thousandths: thousandths / 1000),
            st.floats(0, 1),
            st.sampled_from("abc"),
        ),
        min_size=1,
        max_size=9,
        unique_by=lambda each: (each[0].key, each[3]),
    )
)
def test_shown_is_said_where_p_is_small_and_nowhere_else(
    tests: list[tuple[Column, float, float, str]],
) -> None:
    rows = [row("plain"), *(row(name) for name in "abc")]
    pairs = [
        pair("plain", name, column, (mean, mean - 0.1, mean + 0.1), p)
        for column, mean, p, name in tests
    ]
    story = story_of(board(rows, pairs))
    expected: dict[tuple[str, str], set[str]] = {}
    for column, mean, p, _ in tests:
        gain = mean if column.higher_is_better else -mean
        outcome = "open" if p > 0.05 or gain == 0 else "better" if gain > 0 else "worse"
        expected.setdefault((column.title, f"{mean:+.3f}".replace("-", "−")), set()).add(outcome)
    for found in story.findings:
        sentence = text(found.text)
        of = [
            outcomes
            for (title, mean), outcomes in expected.items()
            if title in sentence and mean.strip("+") in sentence
        ]
        assert any(found.outcome in outcomes for outcomes in of), (sentence, expected)
        assert (": shown (" in sentence) == (found.outcome != "open")
    ways = set().union(*expected.values())
    assert {found.outcome for found in story.findings} >= ways - {"open"}
