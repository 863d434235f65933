"""Rates of false and true findings by simulation: what docs/statistics.md states.

Each subcommand simulates designs in which the truth is known, and prints a table of the rates
before (an inline statement of the former method) and now.

    python benchmarks/simulations.py nulls --runs 300
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simulated_series
import torch

from lm_eval_trust.analysis.hsic import smoother
from lm_eval_trust.analysis.information import InformationPlane, InformationSettings
from lm_eval_trust.analysis.kernels import gaussian_gram, standardise
from lm_eval_trust.analysis.nulls import permutation_null
from lm_eval_trust.analysis.probing import probe
from lm_eval_trust.benchmarks.partition import partition

Floats = npt.NDArray[np.float64]
LEVEL = 0.05


def print_table(header: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    """Print rows in Markdown as they come; rates with three digits."""
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header), flush=True)
    for row in rows:
        cells = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
        print("| " + " | ".join(cells) + " |", flush=True)


# Nulls -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """One data set: input, layer, labels and groups, each of n rows."""

    inputs: Floats
    layer: Floats
    labels: Floats
    groups: npt.NDArray[np.int64]


def drawn(
    random: np.random.Generator, *, sizes: Sequence[int], spread: float, mixed: float, signal: float
) -> Draw:
    """Draw groups whose rows lie ``spread`` around their group's mean, on either side by itself.

    Args:
        random: Source of the draw.
        sizes: Rows of each group.
        spread: Standard deviation inside a group; that between groups is 1.
        mixed: Share of the groups inside of which labels alternate; one is drawn for each other.
        signal: How far apart the labels lie along the layer's first axis, in units of ``spread``.
    """
    groups = np.repeat(np.arange(len(sizes)), sizes)

    def side() -> Floats:
        means, noise = random.normal(size=(len(sizes), 4)), random.normal(size=(len(groups), 4))
        found: Floats = means[groups] + spread * noise
        return found

    alternating = random.permutation(len(sizes)) < mixed * len(sizes)
    constant = random.permutation(np.arange(len(sizes)) % 2)
    labels = np.concatenate(
        [
            random.permutation(np.arange(size) % 2) if both else np.full(size, one)
            for size, both, one in zip(sizes, alternating, constant, strict=True)
        ]
    )
    layer = side()
    layer[:, 0] += signal * spread * (labels - 0.5)
    return Draw(side(), layer, labels.astype(np.float64), groups)


SETTINGS = InformationSettings(sigma=2.0)
#: Distance of the labels where there is dependence, in standard deviations inside a pair.
SIGNALS = (1.2, 1.2, 0.8)


def p_now(data: Draw) -> tuple[float, float]:
    """Return p of I(T, X) and of I(T, Y)."""
    plane = InformationPlane(data.inputs, data.labels, SETTINGS, groups=data.groups)
    found = plane.measure(data.layer)
    return found.input.p, found.label.p


def p_before(data: Draw) -> tuple[float, float]:
    """The same by shifts of all rows along one random order, whatever their groups."""
    sides = [torch.from_numpy(v) for v in (data.layer, data.inputs, data.labels[:, None])]
    layer, *others = (
        smoother(gaussian_gram(standardise(side), 2.0, by_dimension=True)) for side in sides
    )
    of_input, of_label = (permutation_null(layer, other).p for other in others)
    return of_input, of_label


def p_within(data: Draw) -> float:
    """Return p of I(T, Y) by a loop over permutations inside each pair."""
    random = np.random.default_rng(1)
    layer = standardise(torch.from_numpy(data.layer))
    matrix = smoother(gaussian_gram(layer, 2.0, by_dimension=True)).numpy()
    signs = data.labels - data.labels.mean()
    flips = random.choice((-1.0, 1.0), size=(199, len(signs) // 2)).repeat(2, axis=1)
    drawn_forms = [(signs * flip) @ matrix @ (signs * flip) for flip in flips]
    return float((1 + (np.array(drawn_forms) >= signs @ matrix @ signs - 1e-9).sum()) / 200)


DESIGNS: dict[str, dict[str, object]] = {
    "independent, n = 200": {"sizes": [1] * 200, "spread": 1.0, "mixed": 0.0},
    "100 pairs of both labels, sd .1": {"sizes": [2] * 100, "spread": 0.1, "mixed": 1.0},
    "100 pairs of both labels, sd .3": {"sizes": [2] * 100, "spread": 0.3, "mixed": 1.0},
    "100 pairs of both labels, sd 1": {"sizes": [2] * 100, "spread": 1.0, "mixed": 1.0},
    "40 groups of one label, sd .1": {"sizes": [5] * 40, "spread": 0.1, "mixed": 0.0},
    "60 groups of 2 to 4, one label": {"sizes": [2, 3, 4] * 20, "spread": 0.1, "mixed": 0.0},
    "60 groups of 2 to 4, both labels": {"sizes": [2, 3, 4] * 20, "spread": 0.3, "mixed": 1.0},
    "100 pairs, half of one label": {"sizes": [2] * 100, "spread": 0.1, "mixed": 0.5},
}


def nulls(runs: int) -> None:
    """Print how often p ≤ .05 where there is no dependence, and where labels lie apart."""

    def rates(design: dict[str, object], signal: float, call: Callable[[Draw], object]) -> Floats:
        # The same data for every method, other data for every design.
        random = np.random.default_rng(list(repr(design).encode()))
        found = [call(drawn(random, signal=signal, **design)) for _ in range(runs)]  # type: ignore[arg-type]
        rate: Floats = (np.array(found) <= LEVEL).mean(axis=0)
        return rate

    def levels() -> Iterator[Sequence[object]]:
        for name, design in DESIGNS.items():
            before, now = (rates(design, 0.0, call) for call in (p_before, p_now))
            yield name, *before, *now

    def powers() -> Iterator[Sequence[object]]:
        for (name, design), signal in zip(list(DESIGNS.items())[1:4], SIGNALS, strict=True):
            before, now = (rates(design, signal, call)[1] for call in (p_before, p_now))
            yield name, signal, before, now, float(rates(design, signal, p_within))

    print(f"\nP(p ≤ .05) without dependence, {runs} runs\n")
    sides = ["I(T,X) before", "I(T,Y) before", "I(T,X)", "I(T,Y)"]
    print_table(["design", *sides], levels())
    print(f"\nP(p ≤ .05) of I(T,Y) where labels lie apart, {runs} runs\n")
    print_table(["design", "distance in sd", "before", "now", "within pairs, by a loop"], powers())


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
    print(f"\nVerdicts over evenly spaced checkpoints, {runs} runs\n")
    print_table(simulated_series.PHASES_HEADER, simulated_series.phase_rates(runs))


def correlation(runs: int) -> None:
    """Print how often p ≤ .05 for two curves over checkpoints, unrelated or with shared noise."""
    print(f"\nP(p ≤ .05) over checkpoints, {runs} runs\n")
    print_table(simulated_series.CORRELATIONS_HEADER, simulated_series.correlation_rates(runs))


# -------------------------------------------------------------------------------------------------

COMMANDS: dict[str, Callable[[int], None]] = {
    "nulls": nulls,
    "layers": layers,
    "phases": phases,
    "correlation": correlation,
}


def main() -> None:
    """Run one simulation, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, call in COMMANDS.items():
        command = commands.add_parser(name, help=(call.__doc__ or "").splitlines()[0])
        command.add_argument("--runs", type=int, default=300, help="simulations of each design")
    options = parser.parse_args()
    COMMANDS[options.command](options.runs)


if __name__ == "__main__":
    main()
