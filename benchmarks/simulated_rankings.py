"""Simulated rankings at equal cost: how often methods are called more than random directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from lm_eval_trust.analysis.multiplicity import beyond_reference
from lm_eval_trust.evaluate.controls import LEVEL

Floats = npt.NDArray[np.float64]
RANKINGS_HEADER = (
    "effects of random directions",
    "methods",
    "layers",
    "random directions",
    "a null method called more",
    "any null method of a panel",
    "planted, 3 sd",
    "planted, 6 sd",
)
COSTS = 3
#: Panels that are drawn for a correction; fewer than a ranking draws, for the time it takes.
DRAWS = 1000
#: Standard deviations of a mean over items, on either part, of effects with deviation 1.
NOISE = 0.7


def normal(random: np.random.Generator, size: tuple[int, ...]) -> Floats:
    return random.standard_normal(size)


def heavy(random: np.random.Generator, size: tuple[int, ...]) -> Floats:
    """Student's t with 3 degrees of freedom, of variance 1."""
    return random.standard_t(3, size) / np.sqrt(3.0)


def skewed(random: np.random.Generator, size: tuple[int, ...]) -> Floats:
    """Exponential to the good side, of mean 0 and variance 1."""
    return random.exponential(size=size) - 1


EFFECTS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "normal": normal,
    "heavy tails": heavy,
    "skewed": skewed,
}


def gains(
    random: np.random.Generator, effects: str, arms: int, layers: int, planted: float = 0.0
) -> Floats:
    """Gains on the test half at each cost, with layers chosen on the validation part.

    A direction's effect at a layer grows with the cost, with deviations of its own; the first
    direction is moved by what is planted. Items are shared by all, which drops out.
    """
    base = EFFECTS[effects](random, (arms, layers))
    base[0] += planted
    growth = np.sqrt(np.arange(1, COSTS + 1) / COSTS)
    true = growth * (base[..., None] + 0.3 * random.standard_normal((arms, layers, COSTS)))
    looks = true + NOISE * random.standard_normal(true.shape)
    tested = true + NOISE * random.standard_normal(true.shape)
    best = looks.argmax(axis=1)[:, None, :]
    found: Floats = np.take_along_axis(tested, best, axis=1)[:, 0]
    return found


def called(found: Floats, methods: int) -> npt.NDArray[np.bool_]:
    """Whether each method at each cost is called more, of gains (methods and randoms, costs)."""
    values, randoms = found[:methods], found[methods:]
    beats = (values[:, None] > randoms).all(axis=1)
    return np.asarray(beats & (beyond_reference(values, randoms, draws=DRAWS) <= LEVEL))


def ranking_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield rates of false and true calls for each design."""
    for effects in EFFECTS:
        for methods, layers, arms in ((3, 1, 8), (3, 3, 8), (20, 3, 8), (3, 3, 20), (20, 3, 20)):
            single, panels = 0.0, 0
            power = {3.0: 0, 6.0: 0}
            for run in range(runs):
                random = np.random.default_rng([run, methods, layers, arms])
                alarms = called(gains(random, effects, methods + arms, layers), methods)
                single += alarms.any(axis=1).mean()
                panels += alarms.any()
                for planted in power:
                    moved = gains(random, effects, methods + arms, layers, planted)
                    power[planted] += called(moved, methods)[0].any()
            yield (
                effects,
                methods,
                layers,
                arms,
                single / runs,
                panels / runs,
                *(found / runs for found in power.values()),
            )
