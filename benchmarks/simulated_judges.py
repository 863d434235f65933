"""Planted judges and truths: how often a share that is corrected for errors holds the truth."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from lm_eval_trust.analysis.statistics import proportion_interval
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.judges.agreement import quality
from lm_eval_trust.judges.correction import ErrorRates, corrected_difference, corrected_share
from lm_eval_trust.judges.interface import Verdict

Ints = npt.NDArray[np.int64]
HEADER = (
    "texts of the calibration",
    "items",
    "groups",
    "refused",
    "raw share, lowest",
    "corrected, lowest",
    "mean",
    "difference, lowest",
    "mean",
)
#: True shares, and a judge's sensitivities with its specificities.
SHARES = (0.02, 0.5, 0.98)
JUDGES = ((0.7, 0.7), (0.7, 0.99), (0.9, 0.9), (0.99, 0.99))
#: What groups of texts are called → texts of each, and what makes the judge err alike on them: a
#: hard question hides true and false answers, an inviting one gets a yes for both.
GROUPS = {"of 1": (1, ""), "of 4, some hard": (4, "hard"), "of 4, some inviting": (4, "inviting")}
#: Correlation of a judge's errors inside a group, and strength of the truths' beta distribution.
_ALIKE, _STRENGTH = 0.3, 7 / 3


@dataclass(frozen=True)
class Judge:
    """A judge whose errors are planted.

    Attributes:
        right: Its sensitivity and specificity.
        size: Texts of each group.
        kind: What makes it err alike on them.
    """

    right: tuple[float, float]
    size: int
    kind: str

    def verdicts(self, random: np.random.Generator, labels: Ints) -> Ints:
        """Return what it says of texts with these labels, which come group by group."""
        place = np.arange(len(labels)) // self.size
        shared = random.normal(size=place.max() + 1)[place]
        if self.kind == "inviting":
            shared = np.where(labels == 1, -shared, shared)
        alike = _ALIKE if self.kind else 0.0
        wrong = np.sqrt(alike) * shared + np.sqrt(1 - alike) * random.normal(size=len(labels))
        limits = np.where(labels == 1, *(special.ndtri(share) for share in self.right))
        return np.where(wrong < limits, labels, 1 - labels)

    def truths(self, random: np.random.Generator, share: float, items: int) -> Ints:
        """Return labels of which a share is 1, those of a group alike."""
        own = np.full(items // self.size, share)
        if self.kind:
            own = random.beta(share * _STRENGTH, (1 - share) * _STRENGTH, size=len(own))
        return (random.random(len(own) * self.size) < own.repeat(self.size)).astype(np.int64)

    def calibration(self, random: np.random.Generator, texts: int) -> ErrorRates:
        """Return the error rates as measured on so many texts, half of them true."""
        labels = np.arange(texts // self.size * self.size) % 2
        said = [Verdict(bool(one), None) for one in self.verdicts(random, labels)]
        return ErrorRates.of(quality(labels, said, list(map(str, self.groups(labels)))).as_dict())

    def groups(self, labels: Ints) -> list[int]:
        """Return the group of each text."""
        return (np.arange(len(labels)) // self.size).tolist()


def held(
    random: np.random.Generator, judge: Judge, share: float, texts: int, items: int
) -> tuple[bool, ...] | None:
    """Return whether raw, corrected and difference hold the truth; ``None`` for a refusal."""
    try:
        rates = judge.calibration(random, texts)
    except InputError:
        return None
    before = judge.truths(random, share, items)
    # The other model answers half of the items anew, and is right on half of those.
    again = random.random(len(before)) < 0.5
    after = np.where(again, judge.truths(random, 0.5, items), before)
    groups = judge.groups(before)
    first, second = (judge.verdicts(random, labels) for labels in (before, after))
    low, high = proportion_interval(first, groups)
    found = [low <= share <= high]
    for call, truth in (
        (lambda: corrected_share(first, rates, groups), share),
        (lambda: corrected_difference(first, second, rates, groups), (0.5 - share) / 2),
    ):
        try:
            interval = call()
        except InputError:  # The calibration is said not to fit, though it does.
            found.append(False)
        else:
            found.append(interval.low <= truth <= interval.high)
    return tuple(found)


def rows(runs: int) -> Iterator[Sequence[object]]:
    """Yield coverage for each size of calibration and test: lowest and mean over the designs."""
    for texts, items, (name, (size, kind)) in itertools.product(
        (30, 500), (30, 800), GROUPS.items()
    ):
        rates, refused = [], 0
        for number, (share, right) in enumerate(itertools.product(SHARES, JUDGES)):
            random = np.random.default_rng([texts, items, size, len(kind), number])
            judge = Judge(right, size, kind)
            found = [held(random, judge, share, texts, items) for _ in range(runs)]
            rates.append(np.mean([each for each in found if each is not None], axis=0))
            refused += found.count(None)
        raw, one, two = np.array(rates).T
        ends = (float(raw.min()), float(one.min()), float(one.mean()))
        share_refused = refused / (runs * len(rates))
        yield texts, items, name, share_refused, *ends, float(two.min()), float(two.mean())
