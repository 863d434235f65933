"""Simulated ICAT and drop rates, for simulations.py."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from lm_eval_trust.analysis.derived import (
    SmallerProducts,
    drop_rate_interval,
    icat_interval,
    icat_products,
)
from lm_eval_trust.analysis.statistics import paired_interval

#: Items of each target term: as --limit leaves them, and as StereoSet has them.
ITEMS = ((1, 3), (20, 33))
ICAT_HEADER = ("lms", "ss", "terms", "1 to 3 items a term", "20 to 33 items")
#: How alike the items of a term are: the concentration of the beta distribution of its shares.
ALIKE = 8.0
#: Language and stereotype scores of two models; the correlation of their terms, and share of the
#: items that they answer alike.
DIFFERENCES = (
    ((90, 50), (90, 50), 0.6),
    ((80, 52), (80, 48), 0.6),
    ((90, 55), (85, 60), 0.6),
    ((70, 65), (90, 50), 0.6),
    ((80, 52), (80, 48), 0.95),
    ((80, 51), (80, 49), 0.95),
    ((80, 52), (80, 51), 0.95),
)
_SIDES = ("before", "now", "width")
DIFFERENCE_HEADER = (
    "lms and ss",
    "of the other",
    "alike",
    "terms",
    *(f"{items}: {side}" for items in ICAT_HEADER[3:] for side in _SIDES),
)
DROP_HEADER = ("accuracy", "drop rate", "40 sentences", "100", "400")


def icat_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often the interval of ICAT contains the truth."""
    for language, stereotype, terms in itertools.product((70, 90), (50, 55, 65), (8, 15, 30, 80)):
        truth = language * min(stereotype, 100 - stereotype) / 50
        rates = []
        for fewest, most in ITEMS:
            random, held = np.random.default_rng([language, stereotype, terms, most]), 0
            for _ in range(runs):
                term = np.repeat(np.arange(terms), random.integers(fewest, most + 1, size=terms))
                shares = [
                    random.beta(ALIKE * mean / 100, ALIKE * (1 - mean / 100), size=terms)[term]
                    for mean in (language, stereotype)
                ]
                lms = 50.0 * (random.random((2, len(term))) < shares[0]).sum(axis=0)
                ss = 100.0 * (random.random(len(term)) < shares[1])
                found = icat_interval(lms, ss, term.tolist())
                held += found.low <= truth <= found.high
            rates.append(held / runs)
        yield language, stereotype, terms, *rates


def difference_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often the interval of the difference of two models' ICAT contains the truth.

    Before, it was that of the products that are the smaller ones on the items. The width is the
    mean of today's by that of those.
    """
    for before, after, alike in DIFFERENCES:
        first, second = (lms * min(ss, 100 - ss) / 50 for lms, ss in (before, after))
        for terms in (8, 15, 30, 80):
            rates: list[float] = []
            for fewest, most in ITEMS:
                random = np.random.default_rng([*before, *after, terms, most, int(100 * alike)])
                ends = np.empty((runs, 2, 2))
                for run in range(runs):
                    size = random.integers(fewest, most + 1, size=terms)
                    term = np.repeat(np.arange(terms), size)
                    lms, ss = zip(before, after, strict=True)
                    answers = [_paired(random, term, means, alike) for means in (lms, lms, ss)]
                    products = [
                        np.array(list(icat_products(50.0 * (x + y), 100.0 * z, term).values())).T
                        for x, y, z in zip(
                            *(np.array(each, float) for each in answers), strict=True
                        )
                    ]
                    ends[run, 0] = paired_interval(*(min(p, key=np.mean) for p in products))
                    now = SmallerProducts.between(*products, np.ones(terms)).interval()
                    ends[run, 1] = now.low, now.high
                held = (ends[..., 0] <= second - first) & (second - first <= ends[..., 1])
                widths = (ends[..., 1] - ends[..., 0]).mean(axis=0)
                rates += [*held.mean(axis=0).tolist(), widths[1] / widths[0]]
            yield before, after, alike, terms, *rates


def _paired(
    random: np.random.Generator,
    term: npt.NDArray[np.int64],
    means: Sequence[float],
    alike: float,
) -> list[npt.NDArray[np.bool_]]:
    """Draw yes-or-no answers of two models.

    Args:
        random: Source of the draws.
        term: Term of each item, counted from 0.
        means: Of each model, in per cent.
        alike: Correlation of their terms, and share of the items that they answer alike.
    """
    terms, found = int(term.max()) + 1, []
    hard, draw = random.normal(size=terms), random.random(len(term))
    for mean in means:
        level = special.ndtr(alike**0.5 * hard + (1 - alike) ** 0.5 * random.normal(size=terms))
        share = special.betaincinv(ALIKE * mean / 100, ALIKE * (1 - mean / 100), level)
        own = random.random(len(term)) > alike
        found.append(np.where(own, random.random(len(term)), draw) < share[term])
    return found


def drop_rates(runs: int) -> Iterator[Sequence[object]]:
    """Yield how often the interval of a drop rate contains the truth.

    Of the sentences answered correctly, some are lost; of the others, one in twenty is gained.
    """
    for accuracy, rate in itertools.product((0.9, 0.6), (0.0, 0.1, 0.3)):
        gained = 0.05
        lost = rate + (1 - accuracy) * gained / accuracy
        rates = []
        for sentences in (40, 100, 400):
            random, held = np.random.default_rng([int(10 * accuracy), int(10 * rate), sentences]), 0
            for _ in range(runs):
                before = random.random(sentences) < accuracy
                moved = random.random(sentences) < np.where(before, lost, gained)
                found = drop_rate_interval(before.astype(float), (before ^ moved).astype(float))
                held += found.low <= rate <= found.high
            rates.append(held / runs)
        yield accuracy, rate, *rates


#: What is simulated, the table's header, and its lines.
TABLES = (
    ("ICAT", ICAT_HEADER, icat_rates),
    ("differences of ICAT", DIFFERENCE_HEADER, difference_rates),
    ("drop rates", DROP_HEADER, drop_rates),
)
