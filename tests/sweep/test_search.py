from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from support.measured import measurement

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.sweep.grid import Keep, Limits, SweepSettings
from lm_eval_trust.sweep.report import pareto_front
from lm_eval_trust.sweep.search import (
    Search,
    Trial,
    _ranked,
    check_kept,
    check_unsteered,
    kept_score,
    perplexity_of,
    score_of,
)


def trial(alpha: float, score: float | None, perplexity: float, allowed: bool = True) -> Trial:
    return Trial(
        SteeringSpec(vector="v", layer=1, alpha=alpha), perplexity, 0.0, allowed, None, score
    )


def outcome(scores: Mapping[str, float]) -> Outcome:
    return Outcome({"task": dict(scores)}, {}, {}, {}, {})


def test_the_best_allowed_trial_comes_first_and_of_equals_the_gentler() -> None:
    trials = [
        trial(1, 0.5, 6.0),
        trial(2, 0.7, 9.0),
        trial(3, 0.7, 8.0),
        trial(4, 0.9, 20.0, False),
    ]
    assert [t.configuration.alpha for t in _ranked(trials) if t.configuration] == [3, 2, 1]


def test_the_front_holds_what_nothing_beats() -> None:
    trials = [trial(1, 0.5, 5.0), trial(2, 0.4, 6.0), trial(3, 0.8, 7.0), trial(4, None, 3.0)]
    assert [t.perplexity for t in pareto_front(trials)] == [5.0, 7.0]


def test_limits_are_a_ratio_or_a_perplexity() -> None:
    assert Limits(perplexity_ratio=1.5).highest_perplexity(4.0) == 6.0
    assert Limits(perplexity=5.0).highest_perplexity(4.0) == 5.0
    with pytest.raises(InputError, match="divergence is -1"):
        Limits(divergence=-1)


def test_scores_are_means_of_the_metric() -> None:
    assert score_of(outcome({"acc,none": 0.25}), ["task"], "acc") == 0.25
    with pytest.raises(InputError, match="no metric 'trust'; it has acc"):
        score_of(outcome({"acc,none": 0.25, "acc_stderr,none": 0.1}), ["task"], "trust")


def test_a_configuration_without_an_answer_that_can_be_read_has_no_score() -> None:
    """The harness leaves a metric out of its results that no item has a value of."""
    nothing = replace(outcome({"answered,none": 0.0}), measurements={"task": measurement([None])})
    nothing.measurements["task"].scores["acc"] = math.nan
    score = score_of(nothing, ["task"], "acc")
    assert math.isnan(score)
    tried = trial(1, None, 6.0).scored(nothing, score)
    assert (tried.score, tried.allowed) == (None, False)


def test_a_task_without_perplexity_is_refused() -> None:
    assert perplexity_of(outcome({"word_perplexity,none": 7.0}), "task") == 7.0
    with pytest.raises(InputError, match="measures no perplexity"):
        perplexity_of(outcome({"acc,none": 0.25}), "task")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": "random"}, "Unknown search 'random'"),
        ({"tasks": ()}, "no tasks"),
        ({"kept": 0}, "kept is 0"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    settings = {"tasks": ("t",), "perplexity_task": "p"} | changes
    with pytest.raises(InputError, match=message):
        SweepSettings(**settings)  # type: ignore[arg-type]


def test_a_trial_that_ties_with_the_unsteered_model_is_not_chosen() -> None:
    search = Search(None, None, SweepSettings(("t",), "p"))  # type: ignore[arg-type]
    unsteered = Trial(None, 5.0, 0.0, True, None, 0.5)
    assert search._choose([trial(1, 0.5, 5.0)], unsteered)[1] is None
    better = trial(1, 0.5000001, 5.0)
    assert search._choose([better], unsteered)[1] == better


def test_a_trial_with_items_that_are_not_finite_is_neither_scored_nor_allowed() -> None:
    whole, broken = measurement([1.0]), measurement([1.0], nonfinite=1)
    for measured, score, allowed in ((whole, 0.9, True), (broken, None, False)):
        found = Outcome({}, {}, {"made_up": measured}, {}, {})
        scored = trial(1.0, None, 3.0).scored(found, 0.9)
        assert (scored.score, scored.allowed) == (score, allowed)
        assert scored.nonfinite == measured.nonfinite
    assert trial(1.0, None, 3.0).scored(Outcome({}, {}, {}, {}, {}), math.nan).score is None


@pytest.mark.parametrize(
    ("unsteered", "message"),
    [
        (Trial(None, 5.0, 0.0, True, nonfinite=2), "not finite .2 items, perplexity 5"),
        (Trial(None, math.inf, 0.0, True, score=0.5), "not finite .0 items, perplexity inf"),
        (Trial(None, 5.0, 0.0, True), "has no trust_score on the validation items of t: no answer"),
    ],
)
def test_nothing_is_compared_with_an_unsteered_model_without_a_score(
    unsteered: Trial, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_unsteered(unsteered, SweepSettings(("t",), "p"))


LOSSES = {("xs", "refusal_of_unsafe"): 0.02, ("bbq", "acc"): 0.0}


def searched(losses: Mapping[tuple[str, str], float], **settings: object) -> Search:
    """A search that measures scores of 0.5 less the losses, whatever it is asked."""
    search = Search(None, None, SweepSettings(("t",), "p", **settings))  # type: ignore[arg-type]
    search._limits = dict(LOSSES)
    search._with_side_effects = lambda t: replace(  # type: ignore[method-assign]
        t, kept={metric: 0.5 - loss * (t.score or 0.0) for metric, loss in losses.items()}
    )
    return search


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ({("xs", "refusal_of_unsafe"): 0.02, ("bbq", "acc"): 0.0}, 3.0),
        ({("xs", "refusal_of_unsafe"): 0.03, ("bbq", "acc"): -0.1}, 1.0),
        ({("xs", "refusal_of_unsafe"): -1.0, ("bbq", "acc"): 0.0}, 3.0),
        ({("xs", "refusal_of_unsafe"): 0.0, ("bbq", "acc"): 0.001}, None),
        ({("xs", "refusal_of_unsafe"): math.nan, ("bbq", "acc"): 0.0}, None),
    ],
)
def test_the_best_trial_whose_losses_are_within_the_limits_is_chosen(
    losses: Mapping[tuple[str, str], float], chosen: float | None
) -> None:
    """The best has a score of 1 and so the whole losses, the other 0.6 of them."""
    unsteered = Trial(None, 5.0, 0.0, True, None, 0.4, kept=dict.fromkeys(LOSSES, 0.5))
    trials, found = searched(losses)._choose([trial(1, 0.6, 5), trial(3, 1.0, 6)], unsteered)
    assert (found and found.configuration and found.configuration.alpha) == chosen
    assert trials[1].loss(("bbq", "acc"), unsteered) == pytest.approx(losses["bbq", "acc"])


def test_losses_of_unsteered_models_without_a_score_are_refused() -> None:
    unsteered = Trial(None, 5.0, 0.0, True, None, 0.4, kept={("xs", "trust_score"): math.nan})
    with pytest.raises(InputError, match="trust_score on the validation items of xs is nan"):
        check_kept(unsteered)


def test_less_is_better_where_the_task_says_so() -> None:
    scores = {"made_up": measurement([0.25], score=0.25, higher_is_better=False)}
    found = Outcome({}, {}, scores, {}, {})
    assert kept_score(found, "made_up", "acc") == -0.25


def test_limits_of_losses_are_read() -> None:
    assert Keep.parse("trust_safety:0.02") == Keep("trust_safety", 0.02)
    assert Keep.parse("trust_xstest:answers_to_safe:0") == Keep(
        "trust_xstest", 0, "answers_to_safe"
    )
    for text in ("trust_safety", "trust_safety:", ":0.1", "a:b:c:0.1", "a:much", "a:nan", "a::0.1"):
        with pytest.raises(InputError, match="TASK:LOSS"):
            Keep.parse(text)
    for text in ("a:-0.1", "a:inf"):
        with pytest.raises(InputError, match="from 0 on"):
            Keep.parse(text)
