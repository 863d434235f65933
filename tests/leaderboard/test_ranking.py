"""Ranks, win rates and fronts, by hand."""

from __future__ import annotations

import pytest

from lm_eval_trust.leaderboard.board import GENERAL, SUITE, Column, Row, Score
from lm_eval_trust.leaderboard.ranking import pareto_front, ranks, trust_columns, win_rates

TRUST = Column("t", "acc", "none", "Trust", True, "privacy")
TOXIC = Column("x", "toxic_ratio", "none", "Toxic", False, "toxicity")
ABLE = Column("g", "acc", "none", "Able", True, GENERAL)
PART = Column("p", "truth", "none", "Part", True, "reliability", headline=False)
COLUMNS = (TRUST, TOXIC, ABLE, PART)


def row(name: str, *values: float | None, reported: bool = False) -> Row:
    scores = {
        column.key: Score(value, None, None)
        for column, value in zip(COLUMNS, values, strict=False)
        if value is not None
    }
    return Row(name, scores, (), {}, reported)


def test_equal_rows_share_a_rank_and_reported_ones_have_none() -> None:
    rows = [
        row("a", 0.5),
        row("b", 0.7),
        row("c", 0.7),
        row("d", 0.1),
        row("e", 0.9, reported=True),
    ]
    assert ranks(TRUST, rows) == ({"b", "c"}, {"a"})


def test_lower_is_better_where_the_column_says_so() -> None:
    assert ranks(TOXIC, [row("a", 0, 0.2), row("b", 0, 0.1)]) == ({"b"}, {"a"})


def test_nobody_is_best_where_all_are_equal() -> None:
    assert ranks(TRUST, [row("a", 0.5), row("b", 0.5)]) == (frozenset(), frozenset())


def test_win_rates_by_hand() -> None:
    rows = [
        row("a", 0.9, 0.5, None, 0.0),
        row("b", 0.5, 0.1, None, 0.9),
        row("c", 0.5, 0.3, None, 0.9),
        row("paper", 1.0, 0.0, reported=True),
    ]
    # Trust: a beats both; b and c tie. Toxic: b beats both, c beats a. Parts do not count.
    assert win_rates(COLUMNS, rows) == pytest.approx(
        {"a": (1 + 0) / 2, "b": (0.25 + 1) / 2, "c": (0.25 + 0.5) / 2}
    )


def test_a_lone_row_has_no_win_rate() -> None:
    assert win_rates(COLUMNS, [row("a", 0.9, 0.1)]) == {}


def test_the_front_by_hand() -> None:
    rows = [
        row("trusty", 0.8, 0.2, 0.3),  # 0.8, 0.3
        row("able", 0.4, 0.4, 0.9),  # 0.5, 0.9
        row("between", 0.6, 0.4, 0.5),  # 0.6, 0.5
        row("beaten", 0.6, 0.6, 0.4),  # 0.5, 0.4
        row("paper", 1.0, 0.0, 1.0, reported=True),
    ]
    assert pareto_front(COLUMNS, rows) == ("trusty", "able", "between")


def test_equal_rows_are_both_on_the_front() -> None:
    assert pareto_front(COLUMNS, [row("a", 0.5, 0.5, 0.5), row("b", 0.5, 0.5, 0.5)]) == ("a", "b")


def test_a_row_gains_nothing_by_a_task_that_it_left_out() -> None:
    rows = [row("whole", 0.5, 0.9, 0.5), row("part", 0.4, None, 0.5)]
    # Toxicity is not shared, so trust is the first column alone.
    assert pareto_front(COLUMNS, rows) == ("whole",)


def test_without_general_ability_there_is_no_front() -> None:
    assert pareto_front(COLUMNS, [row("a", 0.5, 0.5), row("b", 0.6, 0.5)]) == ()


def test_every_dimension_but_ability_and_the_suite_is_one_of_trust() -> None:
    foreign = Column("h", "acc", "none", "Honesty", True, "honesty")
    suite = Column("s", "trust_score", "none", "Suite", True, SUITE)
    none = Column("n", "acc", "none", "Other", True)
    assert trust_columns((*COLUMNS, foreign, suite, none)) == [TRUST, TOXIC, foreign]
