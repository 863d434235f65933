"""The strength at which a steering costs what is asked: KL per token as a function of α.

KL is that of the next-token distributions, unsteered ‖ steered, on held-out passages: the first
half of a passage is the prompt, and the mean is taken over all tokens of the second halves. For
small α it grows as α², so interpolation on logarithmic axes needs few steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.evaluate.tasks import TaskSet
from lm_eval_trust.model_wrappers.swept_model import SweptModel
from lm_eval_trust.steering.plan import SteeringPlan

Key = TypeVar("Key", bound=Hashable)
#: The first strength that is tried, as a share of the largest.
_START = 1 / 32
#: A step never grows by more, nor by less while the cost is not reached.
_GROWTH = (1.25, 4.0)
#: Share of a bracket that an interpolated strength keeps from its ends.
_MARGIN = 0.05
#: Measurements of a curve after which brackets are halved instead of interpolated.
_INTERPOLATED = 10
_ROUNDS = 24


@dataclass(frozen=True)
class Dose:
    """What a strength costs.

    Attributes:
        kl: Mean KL(unsteered ‖ steered) per token, in nats.
        perplexity: Perplexity of the same tokens.
    """

    kl: float
    perplexity: float


@dataclass(frozen=True)
class Strength:
    """The strength at which a curve has a cost.

    Attributes:
        cost: What was asked for, in nats per token.
        alpha: The strength; the one that costs most of those tried where the cost is not reached.
        dose: What was measured there.
        reached: Whether KL there is the cost, within the tolerance.
        monotone: Whether KL never fell as α rose, beyond the tolerance. If it did, the first α
            that reaches the cost is meant.
    """

    cost: float
    alpha: float
    dose: Dose
    reached: bool
    monotone: bool


def passages_of(
    model: Any, tasks: TaskSet, *, number: int, tokens: int
) -> list[tuple[list[int], list[int]]]:
    """Return passages of a task's text as token ids, halved into prompt and the rest.

    Args:
        model: Whose tokenizer is used.
        tasks: One task; a passage is an item's prompt with its target.
        number: How many passages; fewer where the task has fewer.
        tokens: Most tokens of each.

    Raises:
        InputError: The task's items have no text of four tokens.
    """
    found = []
    (name,) = tasks.tasks
    task = tasks.tasks[name]
    for row in tasks.chosen[name]:
        doc = task.eval_docs[row]
        text = f"{task.doc_to_text(doc)}{task.doc_to_target(doc)}"
        encoded = list(model.tok_encode(text))[:tokens]
        if len(encoded) >= 4:
            found.append((encoded[: len(encoded) // 2], encoded[len(encoded) // 2 :]))
        if len(found) == number:
            break
    if not found:
        raise InputError(f"{name} has no passages of text to measure the cost on; name another.")
    return found


class DoseMeter:
    """Measures what plans cost, in shared passes; what was measured before is found again.

    Args:
        model: Answers for all plans at once.
        answers: Where its answers are kept.
        passages: See :func:`passages_of`.
    """

    def __init__(
        self,
        model: SweptModel,
        answers: KeyedStore,
        passages: Sequence[tuple[list[int], list[int]]],
    ) -> None:
        self._model, self._answers = model, answers
        self._requests = [(("", ""), prompt, rest) for prompt, rest in passages]
        self._tokens = sum(len(rest) for _, rest in passages)

    def measure(self, plans: Sequence[SteeringPlan]) -> list[Dose]:
        """Return the doses of plans, in order."""
        self._model.sweep(plans, self._answers)
        return [self._dose(plan) for plan in plans]

    def _dose(self, plan: SteeringPlan) -> Dose:
        self._model.steer_by(plan)
        kl, logprob = self._model.read_texts(self._requests)
        mean = logprob / self._tokens
        return Dose(kl, math.exp(-mean) if -mean < 700 else math.inf)


@dataclass(frozen=True)
class Curve:
    """A way to steer, at any strength.

    Attributes:
        plan: Returns the plan at a strength above 0.
        limit: The largest strength.
    """

    plan: Callable[[float], SteeringPlan]
    limit: float


def find_strengths(
    curves: Mapping[Key, Curve],
    measure: Callable[[Sequence[SteeringPlan]], Sequence[Dose]],
    *,
    costs: Sequence[float],
    tolerance: float,
    title: str = "Strengths",
) -> dict[Key, tuple[Strength, ...]]:
    """Find the strengths at which curves have some costs, all curves side by side.

    Each round measures one α for every cost that a curve has not reached yet: between the
    neighbours of the cost by interpolation on logarithmic axes, later by halving; beyond the
    largest α by at most four times, up to the limit.

    Args:
        curves: What is to be given strengths, by any key.
        measure: Returns what plans cost.
        costs: In nats per token, ascending.
        tolerance: Share of a cost by which KL may miss it.
        title: Title of the progress bar.

    Returns:
        A strength for each cost, in order.
    """
    known: dict[Key, dict[float, Dose]] = {key: {} for key in curves}
    with progress_bar(total=len(curves) * len(costs), title=title, unit="strength") as bar:
        for _ in range(_ROUNDS):
            wanted = [
                (key, alpha)
                for key, doses in known.items()
                for alpha in dict.fromkeys(_next(doses, costs, tolerance, curves[key].limit))
            ]
            if not wanted:
                break
            plans = [curves[key].plan(alpha) for key, alpha in wanted]
            for (key, alpha), dose in zip(wanted, measure(plans), strict=True):
                known[key][alpha] = dose
            left = sum(
                1
                for key, doses in known.items()
                for _ in _next(doses, costs, tolerance, curves[key].limit)
            )
            bar.update(len(curves) * len(costs) - left - bar.n)
    return {
        key: tuple(_strength(doses, cost, tolerance) for cost in costs)
        for key, doses in known.items()
    }


def first_strength(limit: float) -> float:
    """Return the strength that every search begins with."""
    return limit * _START


def _next(
    doses: Mapping[float, Dose], costs: Sequence[float], tolerance: float, limit: float
) -> Iterable[float]:
    points = [(alpha, dose.kl) for alpha, dose in sorted(doses.items())]
    for cost in costs:
        if any(abs(kl - cost) <= tolerance * cost for _, kl in points):
            continue
        alpha = next_strength(points, cost, limit=limit)
        if alpha is not None:
            yield alpha


def next_strength(
    points: Sequence[tuple[float, float]], cost: float, *, limit: float
) -> float | None:
    """Return the strength to try next, or ``None`` if none is left.

    Args:
        points: Strengths above 0, ascending, and the KL of each; one that is not finite counts as
            more than the cost.
        cost: The KL that is looked for.
        limit: The largest strength.
    """
    if not points:
        return first_strength(limit)
    above = next((i for i, (_, kl) in enumerate(points) if not kl < cost), None)
    if above is None:
        alpha, kl = points[-1]
        if alpha >= limit:
            return None
        least, most = _GROWTH
        grown = math.sqrt(cost / kl) if kl > 0 else most
        return min(limit, alpha * min(max(grown, least), most))
    high, at_high = points[above]
    low, at_low = points[above - 1] if above else (0.0, 0.0)
    if high - low <= 1e-6 * high:
        return None
    if len(points) > _INTERPOLATED or not math.isfinite(at_high):
        return (low + high) / 2
    if at_low > 0:
        guess = low * math.pow(high / low, math.log(cost / at_low) / math.log(at_high / at_low))
    else:
        guess = high * math.sqrt(cost / at_high)
    margin = _MARGIN * (high - low)
    return min(max(guess, low + margin), high - margin)


def _strength(doses: Mapping[float, Dose], cost: float, tolerance: float) -> Strength:
    ordered = sorted(doses.items())
    monotone = all(
        after.kl >= before.kl * (1 - tolerance)
        for (_, before), (_, after) in itertools.pairwise(ordered)
    )
    fitting = [(a, d) for a, d in ordered if abs(d.kl - cost) <= tolerance * cost]
    if fitting:
        # Of a curve that turns, what lies beyond its first crossing is not meant.
        alpha, dose = (
            min(fitting, key=lambda pair: abs(pair[1].kl - cost)) if monotone else (fitting[0])
        )
        return Strength(cost, alpha, dose, True, monotone)
    below = [(a, d) for a, d in ordered if d.kl < cost] or ordered[:1]
    alpha, dose = max(below, key=lambda pair: pair[1].kl)
    return Strength(cost, alpha, dose, False, monotone)
