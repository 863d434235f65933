"""Rates of false and true findings by simulation: what docs/statistics.md states.

Each subcommand simulates designs in which the truth is known, and prints a table of the rates
before (an inline statement of the former method) and now.

    python benchmarks/simulations.py nulls --runs 300
"""

from __future__ import annotations

import argparse
import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import simulated_boards
import simulated_bound
import simulated_changes
import simulated_judges
import simulated_nulls
import simulated_rankings
import simulated_scores
import simulated_series
import simulated_standings
from scipy import special, stats

from lm_eval_trust.analysis.probing import probe
from lm_eval_trust.analysis.statistics import GroupTotals, mean_interval
from lm_eval_trust.benchmarks.partition import partition
from lm_eval_trust.gate.paired_test import Contrast
from lm_eval_trust.gate.power import Design
from lm_eval_trust.judges import agreement
from lm_eval_trust.judges.interface import Verdict

Floats = npt.NDArray[np.float64]
LEVEL = 0.05


def print_table(header: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    """Print rows in Markdown as they come; rates with three digits."""
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header), flush=True)
    for row in rows:
        cells = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
        print("| " + " | ".join(cells) + " |", flush=True)


# Nulls -------------------------------------------------------------------------------------------


def nulls(runs: int) -> None:
    """Print how often p ≤ .05 where there is no dependence, and where labels lie apart."""
    print(f"\nP(p ≤ .05) without dependence, {runs} runs\n")
    print_table(simulated_nulls.LEVELS_HEADER, simulated_nulls.level_rates(runs))
    print(f"\nP(p ≤ .05) of I(T,Y) where labels lie apart, {runs} runs\n")
    print_table(simulated_nulls.POWERS_HEADER, simulated_nulls.power_rates(runs))


# Layers ------------------------------------------------------------------------------------------


def layers(runs: int, number: int = 32) -> None:
    """Print how often the reported layer clears one half where none knows the label."""

    def clears(random: np.random.Generator) -> tuple[bool, bool]:
        n, labels = 300, np.arange(300) % 2
        groups = [str(i // 2) for i in range(n)]
        parts = partition(groups, seed=int(random.integers(2**31)))
        found = [
            probe(
                random.normal(size=(n, 4)),
                labels,
                train=parts.train,
                test=parts.test,
                validation=parts.validation,
            )
            for _ in range(number)
        ]
        tested = max(found, key=lambda result: result.accuracy)
        validated = max(found, key=lambda result: (result.validation, result.validation_auroc))
        return tested.low > 0.5, validated.low > 0.5

    def rates() -> Iterator[Sequence[object]]:
        random = np.random.default_rng(0)
        yield tuple(np.array([clears(random) for _ in range(runs)]).mean(axis=0))

    print(f"\nP(interval of the reported layer above one half), {number} layers, {runs} runs\n")
    print_table(["best on the test part", "best on the validation part"], rates())


# Series over checkpoints -------------------------------------------------------------------------


def phases(runs: int) -> None:
    """Print which phases are found in noise, and in curves that have both."""
    print("\nVerdicts over checkpoints\n")
    print_table(simulated_series.PHASES_HEADER, simulated_series.phase_rates(runs))


def bound(runs: int) -> None:
    """Print the most true phases that any test can find, and how many are found."""
    print(
        f"\nTrue phases of 18 checkpoints, mean over turns and AR 0, .5, .8, {runs} runs of each\n"
    )
    print_table(simulated_bound.HEADER, simulated_bound.bound_rates(runs))


def correlation(runs: int) -> None:
    """Print how often p ≤ .05 for two curves over checkpoints, unrelated or with shared noise."""
    print(f"\nP(p ≤ .05) over checkpoints, {runs} runs\n")
    print_table(simulated_series.CORRELATIONS_HEADER, simulated_series.correlation_rates(runs))
    print(f"\nP(p ≤ .05) that dimensions differ, by loadings on a common factor, {runs} runs\n")
    print_table(simulated_series.FACTORS_HEADER, simulated_series.factor_rates(runs))


# Intervals ---------------------------------------------------------------------------------------

#: Differences of groups: what to call them, how they are drawn, and their mean.
SKEWED: dict[str, tuple[Callable[[np.random.Generator, int], Floats], float]] = {
    "exponential": (lambda random, n: random.exponential(size=n), 1.0),
    "log-normal, sd .75": (lambda random, n: random.lognormal(0, 0.75, n), float(np.exp(0.28125))),
    "one in five changes": (lambda random, n: (random.random(n) < 0.2).astype(np.float64), 0.2),
}
RESAMPLES = 2000


def percentiles(
    random: np.random.Generator, groups: int, statistic: Callable[[Floats], Floats]
) -> tuple[float, float]:
    """Return the ends of the percentile bootstrap over groups, whose weights are (r, groups)."""
    weights = random.multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES)
    low, high = np.nanpercentile(statistic(weights.astype(np.float64)), (2.5, 97.5))
    return float(low), float(high)


def covers(ends: tuple[float, float], truth: float) -> bool:
    """Return whether an interval holds the truth."""
    return ends[0] <= truth <= ends[1]


def intervals(runs: int) -> None:
    """Print how often 95 % intervals of means and of shares over groups hold the truth."""

    def before(random: np.random.Generator, values: Floats) -> tuple[float, float]:
        means = values.mean(axis=1)
        return percentiles(random, len(means), lambda weights: weights @ means / len(means))

    def now(values: Floats) -> tuple[float, float]:
        groups, size = values.shape
        return mean_interval(values.ravel(), np.arange(groups).repeat(size).tolist())

    def skewed() -> Iterator[Sequence[object]]:
        for (name, (draw, truth)), groups in itertools.product(SKEWED.items(), (8, 15, 30, 100)):
            random, rates = np.random.default_rng(groups), []
            for noise in (1.0, 0.0):
                drawn = (
                    draw(random, groups)[:, None] + noise * random.normal(size=(groups, 4))
                    for _ in range(simulated_series.MORE * runs)
                )
                held = [(covers(now(values), truth), values) for values in drawn]
                old = [covers(before(random, values), truth) for _, values in held[:runs]]
                rates += [np.mean(old), np.mean([holds for holds, _ in held])]
            yield name, groups, *rates

    def shares() -> Iterator[Sequence[object]]:
        for share, groups in itertools.product((0.5, 0.9, 0.963, 0.99), (8, 15, 30, 100)):
            random, rates = np.random.default_rng(groups), []
            # Items of one group resemble each other with a correlation of 0 or of .3 (beta).
            for strength in (np.inf, 7 / 3):
                held = []
                for _ in range(runs):
                    own = np.full(groups, share)
                    if strength < np.inf:
                        own = random.beta(share * strength, (1 - share) * strength, size=groups)
                    right = (random.random((groups, 4)) < own[:, None]).astype(np.float64)
                    held.append(
                        [covers(ends, share) for ends in (before(random, right), now(right))]
                    )
                rates += [*np.array(held).mean(axis=0)]
            yield share, groups, *rates

    print("\nCoverage of 95 % intervals of skewed differences, 4 items a group")
    print(f"{runs} runs before, {simulated_series.MORE * runs} now\n")
    sides = [
        "before, items of sd 1",
        "now, items of sd 1",
        "before, items alike",
        "now, items alike",
    ]
    print_table(["differences of groups", "groups", *sides], skewed())
    print(f"\nCoverage of 95 % intervals of shares, 4 items a group, {runs} runs\n")
    sides = ["before, independent", "now, independent", "before, correlated", "now, correlated"]
    print_table(["share", "groups", *sides], shares())
    designs = len(simulated_changes.CHANGES)
    print(f"\nLowest coverage of differences of yes-or-no items, {designs} designs, exact\n")
    print_table(simulated_changes.HEADER, simulated_changes.exact_coverage())


# Judges, scores ----------------------------------------------------------------------------------


def judges(runs: int, accurate: float = 0.963) -> None:
    """Print how often intervals of a judge's accuracy, kappa and AUROC hold the truth.

    Likewise intervals of shares and differences that are corrected for its errors.
    """
    distance = special.ndtri(accurate)
    truths = accurate, 2 * accurate - 1, float(special.ndtr(distance * np.sqrt(2)))

    def held(random: np.random.Generator, questions: int, size: int) -> list[bool]:
        labels, place = np.arange(questions * size) % 2, np.arange(questions).repeat(size)
        # A hard question is hard for all of its texts.
        hard, own = random.normal(size=questions)[place], random.normal(size=len(labels))
        shared = 0.3 if size > 1 else 0.0
        beyond = distance + np.sqrt(shared) * hard + np.sqrt(1 - shared) * own
        scores = (2 * labels - 1) * beyond
        said = (scores > 0).astype(np.float64)
        above = scores[labels == 1][:, None] > scores[labels == 0]

        def accuracy(weights: Floats) -> Floats:
            found: Floats = weights[:, place] @ (said == labels) / weights[:, place].sum(axis=1)
            return found

        def kappa(weights: Floats) -> Floats:
            drawn = weights[:, place] / weights[:, place].sum(axis=1, keepdims=True)
            ones, said_ones = drawn @ labels, drawn @ said
            chance = ones * said_ones + (1 - ones) * (1 - said_ones)
            found: Floats = (accuracy(weights) - chance) / (1 - chance)
            return found

        def auroc(weights: Floats) -> Floats:
            ones, zeros = (weights[:, place[labels == label]] for label in (1, 0))
            found: Floats = ((ones @ above) * zeros).sum(axis=1)
            return found / (ones.sum(axis=1) * zeros.sum(axis=1))

        before = [percentiles(random, questions, each) for each in (accuracy, kappa, auroc)]
        verdicts = [Verdict(bool(score > 0), float(score)) for score in scores]
        found = agreement.quality(labels, verdicts, [str(each) for each in place])
        estimates = (found.accuracy, found.kappa, found.auroc)
        now = [(each.low, each.high) for each in estimates if each is not None]
        ends = zip(before, now, truths, strict=True)
        return [covers(each, truth) for *both, truth in ends for each in both]

    def rates() -> Iterator[Sequence[object]]:
        for questions, size in itertools.product((30, 200), (1, 4)):
            random = np.random.default_rng([questions, size])
            yield questions, size, *np.mean([held(random, questions, size) for _ in range(runs)], 0)

    print(f"\nCoverage of 95 % intervals for a judge of accuracy {accurate}, {runs} runs\n")
    names = [f"{name}{when}" for name in ("accuracy", "κ", "AUROC") for when in (" before", "")]
    print_table(["questions", "texts of each", *names], rates())
    designs = len(simulated_judges.SHARES) * len(simulated_judges.JUDGES)
    print(
        f"\nCoverage of 95 % intervals without a judge's errors, {designs} designs of {runs} runs\n"
    )
    print_table(simulated_judges.HEADER, simulated_judges.rows(runs))


def scores(runs: int) -> None:
    """Print how often intervals of StereoSet's ICAT and of drop rates hold the truth."""
    for title, header, rates in simulated_scores.TABLES:
        print(f"\nCoverage of 95 % intervals of {title}, {runs} runs\n")
        print_table(header, rates(runs))


# Families of tests -------------------------------------------------------------------------------


def families(runs: int) -> None:
    """Print how often one real effect among 63 tests is found, and how often any other.

    Likewise how often rows that are alike are ranked, and intervals hold together.
    """
    for title, board in simulated_boards.BOARDS.items():
        print(f"\nOne real effect among 63 tests, {title}, {runs} runs\n")
        print_table(simulated_boards.HEADER, simulated_boards.rates(board, runs))
    print(f"\nAny row certainly above another though all are alike, {runs} runs\n")
    print_table(simulated_standings.RANKS_HEADER, simulated_standings.rank_rates(runs))
    print(f"\nIntervals of a family that all hold the truth, {runs} runs\n")
    print_table(simulated_standings.JOINT_HEADER, simulated_standings.joint_rates(runs))


# Non-inferiority ---------------------------------------------------------------------------------


def noninferiority(runs: int, items: int = 400, confidence: float = 0.95) -> None:
    """Print stated margins and groups, and how often a model that lost nothing passes with them."""

    def drawn_contrast(random: np.random.Generator, differing: float, groups: int) -> Contrast:
        chances = (differing / 2, 1 - differing, differing / 2)
        change = random.choice((-1.0, 0.0, 1.0), p=chances, size=groups)
        return Contrast(GroupTotals.of(change), 1.0, 1.0, differences=GroupTotals.of(change))

    def passing(differing: float, margin: float) -> float:
        """How often a model that loses the margin passes: the sum over all that may be observed."""
        lost, won = (differing + margin) / 2, (differing - margin) / 2
        numbers, total = np.arange(items + 1), 0.0
        for loss, chance in enumerate(stats.binom.pmf(numbers, items, lost)):
            # The more are won, the sooner it passes: the fewest with which it does.
            fewest = (
                0
                if chance < 1e-9
                else bisect.bisect_left(
                    range(items - loss + 1), True, key=lambda gain: passes(loss, gain, margin)
                )
            )
            total += chance * stats.binom.sf(fewest - 1, items - loss, won / (1 - lost))
        return float(total)

    def passes(loss: int, gain: int, margin: float) -> bool:
        change = np.repeat((-1.0, 1.0, 0.0), (loss, gain, items - loss - gain))
        contrast = Contrast(GroupTotals.of(change), 1.0, 1.0, differences=GroupTotals.of(change))
        return contrast.interval(confidence).low >= -margin

    def rates() -> Iterator[Sequence[object]]:
        for differing, margin in itertools.product((0.05, 0.1, 0.2), (0.05, 0.08)):
            random, found = np.random.default_rng(int(1000 * (differing + margin))), []
            for _ in range(runs):
                design = Design.of(drawn_contrast(random, differing, items), confidence)
                # Before: the variance under a loss as large as the margin.
                margins = design.smallest_shown(), design.margin_held()
                groups = design.groups_needed(margin), design.groups_to_hold(margin)
                passes = [
                    drawn_contrast(random, differing, n or 0).interval(confidence).low >= -margin
                    for n in groups
                ]
                again = drawn_contrast(random, differing, items).interval(confidence).low
                found.append((*margins, again >= -margins[1], *groups, *passes))
            old, new, held, *others = np.mean(np.array(found, dtype=np.float64), axis=0)
            before, now, *passed = others
            false = passing(max(differing, margin), margin)
            yield differing, margin, old, new, held, round(before), round(now), *passed, false

    print(f"\nNon-inferiority seen from {items} items, means over {runs} runs\n")
    sides = ["margin held before", "now", "passes with it", "groups for Δ before", "now"]
    ends = [
        "passes with those before",
        "with those now",
        f"passes at a loss of Δ, {items} items (exact)",
    ]
    print_table(["share that differs", "Δ", *sides, *ends], rates())


# Rankings ----------------------------------------------------------------------------------------


def rankings(runs: int) -> None:
    """Methods of a ranking at equal cost that are called more than random directions."""
    print_table(simulated_rankings.RANKINGS_HEADER, simulated_rankings.ranking_rates(runs))


# -------------------------------------------------------------------------------------------------


#: Subcommand → what it calls, and runs by default. The lowest of many rates that are all 0.95 is
#: 0.93 over 300 runs, so coverage takes more.
COMMANDS: dict[str, tuple[Callable[[int], None], int]] = {
    "nulls": (nulls, 300),
    "layers": (layers, 300),
    "phases": (phases, 300),
    "bound": (bound, 300),
    "correlation": (correlation, 300),
    "intervals": (intervals, 1000),
    "judges": (judges, 1000),
    "scores": (scores, 1000),
    "families": (families, 300),
    "noninferiority": (noninferiority, 300),
    "rankings": (rankings, 1000),
}


def main() -> None:
    """Run one simulation, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (call, runs) in COMMANDS.items():
        says = (call.__doc__ or "").splitlines()[0].replace("%", "%%")
        command = commands.add_parser(name, help=says)
        command.add_argument(
            "--runs", type=int, default=runs, help="runs of each design (%(default)s)"
        )
    options = parser.parse_args()
    COMMANDS[options.command][0](options.runs)


if __name__ == "__main__":
    main()
