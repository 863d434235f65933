"""Coverage and power of the gate's intervals, compared with two that know of no steps.

Synthetic items with a known true drop, independent or in groups of four, half of which change
together. For each design: how often a drop of exactly the allowed size is called a regression
(nominally 2.5 %) by the gate, by Student's interval alone and by that of `analysis.statistics` for
values of any size (`engine`), and how often a drop of the size that the gate calls detectable is
caught (nominally 97.5 %). `-` marks designs whose items cannot show any possible drop.

    python benchmarks/gate.py [--simulations 1000]
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from lm_eval_trust.analysis.statistics import GroupTotals
from lm_eval_trust.gate.paired_test import Contrast
from lm_eval_trust.gate.power import Design

CONFIDENCE = 0.95
RIGHT = 0.6
#: Simulations of the engine, which resamples.
OF_ENGINE = 300


@dataclass(frozen=True)
class Items:
    """A design: how many items, how many together, and the share that changes without a loss."""

    number: int
    together: int
    churn: float

    def contrast(self, generator: np.random.Generator, drop: float) -> Contrast:
        """Draw both models' answers, the second worse by a true drop."""
        groups = np.arange(self.number) // self.together
        before = generator.random(self.number) < RIGHT
        shared = generator.random(groups.max() + 1)[groups]
        as_one = (generator.random(groups.max() + 1) < 0.5)[groups]
        moved = np.where(as_one, shared, generator.random(self.number))
        lost, won = (self.churn / 2 + drop) / RIGHT, self.churn / 2 / (1 - RIGHT)
        after = np.where(before, moved >= lost, moved < won)
        sums = np.bincount(groups, weights=after.astype(float) - before)
        paired = GroupTotals(sums, np.bincount(groups).astype(float))
        return Contrast(paired, step=1.0, reach=1.0)


def false_alarms(items: Items, allowed: float, simulations: int) -> tuple[float, float, float]:
    """Shares of simulations in which the allowed drop is called a regression."""
    generator = np.random.default_rng(0)
    drawn = [items.contrast(generator, allowed) for _ in range(simulations)]
    gate = [c.interval(CONFIDENCE).high < -allowed for c in drawn]
    student = [c.sums.interval(CONFIDENCE, skewed=False).high < -allowed for c in drawn]
    engine = [c.sums.interval(CONFIDENCE).high < -allowed for c in drawn[:OF_ENGINE]]
    return float(np.mean(gate)), float(np.mean(student)), float(np.mean(engine))


def caught(items: Items, allowed: float, simulations: int) -> tuple[float, float]:
    """Mean detectable drop, and the share of simulations in which it is caught."""
    generator = np.random.default_rng(1)
    sizes, found = [], []
    for _ in range(simulations):
        seen = items.contrast(generator, 0.0)
        smallest = Design.of(seen, CONFIDENCE).smallest_shown(allowed)
        if smallest + items.churn / 2 <= RIGHT:
            sizes.append(smallest)
            found.append(items.contrast(generator, smallest).interval(CONFIDENCE).high < -allowed)
    return (float(np.mean(sizes)), float(np.mean(found))) if sizes else (np.nan, np.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    simulations = parser.parse_args().simulations
    print("| items | together | differing | allowed | gate | Student | engine | drop | caught |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    designs = list(itertools.product((20, 100, 400), (1, 4), (0.0, 0.1, 0.3), (0.0, 0.05)))
    for number, together, churn, allowed in tqdm(designs):
        items = Items(number, together, churn)
        alarms = " | ".join(f"{share:.3f}" for share in false_alarms(items, allowed, simulations))
        drop, power = caught(items, allowed, simulations)
        shown = "- | -" if np.isnan(drop) else f"{drop:.3f} | {power:.3f}"
        print(f"| {number} | {together} | {churn} | {allowed} | {alarms} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
