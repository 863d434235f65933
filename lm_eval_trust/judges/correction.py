"""Shares that a judge counted, corrected for its errors with the calibration's own uncertainty.

A judge that accepts a share Se of the texts labelled 1 and rejects a share Sp of those labelled 0
accepts q = Se·π + (1 − Sp)·(1 − π) of texts of which a share π is labelled 1. Rogan and Gladen
(1978) solve this for π. The interval holds every π that the three shares allow: those for which
zero is in the interval of

    L(π) = q − Se·π − (1 − Sp)·(1 − π),

which combines the intervals of q, Se and Sp (Zou and Donner 2008). That is Fieller's way (1954) to
the interval of a ratio; it needs no division by the uncertain Se + Sp − 1, so it is honest for
judges near chance, and it takes skewness and the bounds of shares over. A paired difference of two
models with the same error rates follows from the same formula with the difference of the accepted
shares in place of q and 0 in place of 1.

It assumes that the judge errs on the texts that are judged as on those that it was calibrated on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from lm_eval_trust.analysis.score_tests import wilson_ends
from lm_eval_trust.analysis.statistics import (
    Floats,
    Interval,
    paired,
    paired_interval,
    proportion_interval,
    summed,
)
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.judges.calibration_store import FEWEST_GROUPS, STEERED
from lm_eval_trust.judges.registry import REJECTED

logger = logging.getLogger(__name__)

#: Endings of the names under which results hold a corrected score and its 95 % interval.
_ENDINGS = ("_corrected", "_corrected_low", "_corrected_high")
#: Metric that is 1 for items on which the judge may err.
JUDGED = "judged"
#: Level of the interval that results hold.
RECORDED_LEVEL = 0.95
#: What a calibration's figures have to hold.
_NEEDED = (
    "sensitivity",
    "specificity",
    "positive_items",
    "negative_items",
    "positive_groups",
    "negative_groups",
    "correlation",
)
_AGAIN = "Calibrate it with `lm-eval-trust judge calibrate`"


@dataclass(frozen=True)
class Rate:
    """A share of labelled texts, with what it rests on.

    Attributes:
        share: From 0 to 1.
        items: Effective number of independent texts.
        groups: Effective number of groups that they are in.
    """

    share: float
    items: float
    groups: float

    def interval(self, level: float) -> Interval:
        """Return the share with the union of Wilson's interval and Student's over groups."""
        quantile = float(special.stdtrit(max(self.groups - 1, 1.0), (1 + level) / 2))
        low, high = wilson_ends(self.share, self.items, quantile)
        half = quantile * math.sqrt(self.share * (1 - self.share) / max(self.items - 1, 1.0))
        return Interval(
            self.share,
            max(0.0, min(low, self.share - half)),
            min(1.0, max(high, self.share + half)),
        )


@dataclass(frozen=True)
class JudgedShares:
    """Which texts a judge may err on; for a weighted sum of two shares, the sums.

    Attributes:
        judged: Share of the texts on which it may err.
        certain: Share of the texts that count as accepted although it can't err on them: an empty
            one is not toxic. The rest of those count as not accepted.
    """

    judged: float = 1.0
    certain: float = 0.0

    @classmethod
    def of(cls, accepted: Floats, judged: Floats) -> JudgedShares:
        """Take them from each text: whether it counts as accepted, and whether it is judged."""
        return cls(float(judged.mean()), float((accepted * (1 - judged)).mean()))

    def less(self, before: JudgedShares, ratio: float = 1.0) -> JudgedShares:
        """Return those of the difference from others, times a ratio."""
        return JudgedShares(
            self.judged - ratio * before.judged, self.certain - ratio * before.certain
        )


#: All texts are judged.
ALL = JudgedShares()


@dataclass(frozen=True)
class ErrorRates:
    """How a judge errs, measured on labelled texts.

    Attributes:
        sensitivity: Sensitivity of the texts labelled 1, those that it accepts.
        specificity: Specificity of the texts labelled 0, those that it does not accept.
        correlation: Correlation of the errors of both over groups, −1 to 1.

    Raises:
        InputError: The judge is no better than chance, or the texts are too few to tell.
    """

    sensitivity: Rate
    specificity: Rate
    correlation: float = 0.0

    def __post_init__(self) -> None:
        rates = {"1": self.sensitivity, "0": self.specificity}
        for label, rate in rates.items():
            if not rate.groups >= FEWEST_GROUPS:
                raise InputError(
                    f"The calibration has texts labelled {label} in {rate.groups:.3g} groups; at "
                    f"least {FEWEST_GROUPS} are needed to correct for a judge's errors. {_AGAIN} "
                    f"on more texts."
                )
        if not self.informedness > 0:
            raise InputError(
                f"The judge is no better than chance: its sensitivity is "
                f"{self.sensitivity.share:.3f} and its specificity {self.specificity.share:.3f}, "
                f"together not above 1, so nothing can be corrected. Choose another judge."
            )

    @classmethod
    def of(cls, calibration: Mapping[str, Any] | None) -> ErrorRates:
        """Read a calibration's figures, as they are kept and as results quote them.

        Raises:
            InputError: There are none, they are of a release that did not keep what is needed, or
                as the class.
        """
        if calibration is None:
            raise InputError(f"The judge is not calibrated. {_AGAIN}.")
        for name in _NEEDED:
            if calibration.get(name) is None:
                raise InputError(
                    f"The judge's calibration lacks {name}, as those of earlier releases do. "
                    f"{_AGAIN} again."
                )
        first, second = (
            Rate(
                math.nan if (share := calibration[name]["value"]) is None else share,
                calibration[f"{label}_items"],
                calibration[f"{label}_groups"],
            )
            for name, label in (("sensitivity", "positive"), ("specificity", "negative"))
        )
        return cls(first, second, calibration["correlation"])

    @property
    def informedness(self) -> float:
        """Sensitivity + specificity − 1: by how much a judge shrinks a difference (Youden 1950)."""
        return self.sensitivity.share + self.specificity.share - 1

    @property
    def reversed(self) -> ErrorRates:
        """The rates for the share of texts that the judge does not accept."""
        return ErrorRates(self.specificity, self.sensitivity, self.correlation)

    def informedness_interval(self, level: float) -> Interval:
        """Return the informedness with its interval."""
        found = self._weighed(1.0, 1.0, level)
        return Interval(found.mean - 1, found.low - 1, found.high - 1)

    def corrected(
        self,
        counted: Interval,
        level: float,
        *,
        texts: JudgedShares = ALL,
        within: tuple[float, float] | None = None,
    ) -> Interval:
        """Return what a counted share is without the errors, or a weighted sum of two of them.

        Estimate and interval are clipped to what is possible.

        Args:
            counted: Share of the texts that the judge accepts, or the sum, with its interval at
                the level.
            level: Confidence, between 0 and 1.
            texts: On which of them the judge may err.
            within: Smallest and largest possible value; by default of one share.

        Raises:
            InputError: No share could have given what was counted, so the judge errs on
                these texts otherwise than on those of the calibration.
        """
        least, most = within or (texts.certain, texts.certain + texts.judged)
        estimate = min(max(self.estimate(counted.mean, texts), least), most)
        if math.isnan(counted.low):
            return Interval(estimate, math.nan, math.nan)

        def beyond(share: float) -> Interval:
            return self.unexplained(counted, share, level, texts)

        if beyond(least).high < 0 or beyond(most).low > 0:
            raise InputError(self._misfit(counted))
        low, high = least, most
        # Both ends' distances are convex in the share, so that each is crossed once.
        if beyond(least).low > 0:
            low = float(optimize.brentq(lambda share: beyond(share).low, least, estimate))
        if beyond(most).high < 0:
            high = float(optimize.brentq(lambda share: beyond(share).high, estimate, most))
        return Interval(estimate, min(low, estimate), max(high, estimate))

    def unexplained(
        self, counted: Interval, share: float, level: float, texts: JudgedShares = ALL
    ) -> Interval:
        """Return what was counted minus what a true share gives, with its interval.

        Args:
            counted: As for :meth:`corrected`.
            share: The true share, or weighted sum.
            level: Confidence.
            texts: As for :meth:`corrected`.
        """
        uncertain = share - texts.certain
        weighed = self._weighed(-uncertain, texts.judged - uncertain, level)
        whole = summed([(1.0, counted), (1.0, weighed)])
        explained = texts.judged - uncertain + texts.certain
        return Interval(*(end - explained for end in (whole.mean, whole.low, whole.high)))

    def estimate(self, counted: float, texts: JudgedShares = ALL) -> float:
        """Return what a counted share is without the errors, which may lie beyond 0 and 1.

        Args:
            counted: As for :meth:`corrected`.
            texts: The same.
        """
        alarms = texts.judged * (1 - self.specificity.share)
        return texts.certain + (counted - texts.certain - alarms) / self.informedness

    def _weighed(self, positive: float, negative: float, level: float) -> Interval:
        """Return the interval of a weighted sum of sensitivity and specificity.

        Their correlation counts where it makes the interval wider.
        """
        parts = (positive, self.sensitivity), (negative, self.specificity)
        mean = sum(weight * rate.share for weight, rate in parts)
        ends = []
        for up in (False, True):
            first, second = (
                abs(weight * ((r.high if up == (weight > 0) else r.low) - r.mean))
                for weight, r in ((w, rate.interval(level)) for w, rate in parts)
            )
            shared = self.correlation * math.copysign(1, positive) * math.copysign(1, negative)
            ends.append(math.sqrt(first**2 + second**2 + 2 * max(0.0, shared) * first * second))
        return Interval(mean, mean - ends[0], mean + ends[1])

    def __str__(self) -> str:
        first, second = (rate.interval(0.95) for rate in (self.sensitivity, self.specificity))
        return (
            f"right on {first.mean:.3f} [{first.low:.3f}, {first.high:.3f}] of the texts that "
            f"should count and on {second.mean:.3f} [{second.low:.3f}, {second.high:.3f}] of others"
        )

    def _misfit(self, counted: Interval) -> str:
        return (
            f"A share or difference of {counted.mean:.3f} [{counted.low:.3f}, {counted.high:.3f}] "
            f"is more extreme than a judge gives that is {self}, whatever the texts: it errs here "
            f"otherwise than on the texts of its calibration. Take the raw score."
        )


def corrected_share(
    accepted: npt.ArrayLike,
    rates: ErrorRates,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    *,
    judged: npt.ArrayLike | None = None,
) -> Interval:
    """Return the share of texts labelled 1, from a judge's verdicts on them.

    Args:
        accepted: 1 for each text that the judge accepts, 0 for others, shape (n,); values between
            are means of several verdicts.
        rates: How the judge errs.
        groups: Group of each text, which stands or falls as a whole; by default none.
        level: Confidence, between 0 and 1.
        judged: 1 for each text on which the judge may err, shape (n,); by default all. Others,
            such as empty ones, count as what they are said to be.

    Raises:
        InputError: As :func:`proportion_interval`, or as :meth:`ErrorRates.corrected`.
    """
    found, has = paired(accepted, np.ones(np.shape(accepted)) if judged is None else judged)
    counted = Interval(float(found.mean()), *proportion_interval(found, groups, level))
    return rates.corrected(counted, level, texts=JudgedShares.of(found, has))


def corrected_difference(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    rates: ErrorRates,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    *,
    rates_after: ErrorRates | None = None,
    judged_before: npt.ArrayLike | None = None,
    judged_after: npt.ArrayLike | None = None,
) -> Interval:
    """Return the difference ``after − before`` of the shares labelled 1, on the same items.

    With separate error rates for either side, the intervals of both shares are combined as if they
    were independent, which ignores what the pairing would gain.

    Args:
        before: Verdicts on the one model's texts, shape (n,), as for :func:`corrected_share`.
        after: On the other's, in the same order.
        rates: How the judge errs, on both unless ``rates_after`` is given.
        groups: As for :func:`corrected_share`.
        level: The same.
        rates_after: How it errs on the other model's texts, such as steered ones.
        judged_before: The one model's texts on which it may err, as for :func:`corrected_share`.
        judged_after: The other's.

    Raises:
        InputError: As :func:`corrected_share`.
    """
    first, second = paired(before, after)
    has, had = (
        paired(values, np.ones(len(values)) if judged is None else judged)[1]
        for values, judged in ((first, judged_before), (second, judged_after))
    )
    if rates_after is not None:
        one = corrected_share(first, rates, groups, level, judged=has)
        other = corrected_share(second, rates_after, groups, level, judged=had)
        return difference_apart(one, other)
    counted = Interval(
        float((second - first).mean()), *paired_interval(first, second, groups, level)
    )
    texts = JudgedShares.of(second, had).less(JudgedShares.of(first, has))
    return rates.corrected(counted, level, texts=texts, within=(-1.0, 1.0))


def difference_apart(before: Interval, after: Interval, *, ratio: float = 1.0) -> Interval:
    """Return ``after − ratio · before`` of corrected shares as if they were independent.

    Args:
        before: Corrected with its own error rates.
        after: The same.
        ratio: Weight of the first.
    """
    found = summed([(-ratio, before), (1.0, after)])
    return Interval(found.mean, max(-ratio, found.low), min(1.0, found.high))


def rates_of(
    calibration: Mapping[str, Any] | None, share: str, *, steered: bool | None = None
) -> ErrorRates:
    """Return the error rates for a score that is a share of texts.

    Args:
        calibration: A judge's figures, as :meth:`ErrorRates.of` reads them.
        share: ``accepted`` or ``rejected``, see :class:`JudgeChoice`.
        steered: Whether a steered model wrote the texts, which have their own rates if the
            calibration separates them; ``None`` for the rates over both.

    Raises:
        InputError: As :meth:`ErrorRates.of`.
    """
    part = next((name for name, of in STEERED.items() if of is steered), "")
    found = ErrorRates.of((calibration or {}).get(part) or calibration)
    return found.reversed if share == REJECTED else found


def corrected_names(metric: str) -> tuple[str, ...]:
    """Return the names of a metric's corrected value, and of both ends of its interval."""
    return tuple(f"{metric}{ending}" for ending in _ENDINGS)


def is_corrected(metric: str) -> bool:
    """Tell whether a metric, with or without its filter, follows from others by a correction."""
    return metric.partition(",")[0].endswith(_ENDINGS)


def has_verdict(value: float, unparsed: float | None) -> float:
    """Return 1 if an item has a verdict, otherwise 0, from results that don't say it.

    One that was accepted has.

    Args:
        value: The item's score.
        unparsed: Its ``judge_unparsed``.
    """
    return float(value > 0 or not unparsed)


#: Group, score and :data:`JUDGED` of an item.
JudgedItem = tuple[str, float, float]


def corrected_ends(rates: ErrorRates) -> tuple[Callable[[Sequence[JudgedItem]], float], ...]:
    """Return the harness's aggregations for :func:`corrected_names`, at :data:`RECORDED_LEVEL`.

    They give NaN, with a warning, where the calibration does not fit the texts.
    """

    def end(items: Sequence[JudgedItem], which: str) -> float:
        groups, accepted, judged = zip(*items, strict=True)
        try:
            return float(
                getattr(
                    corrected_share(accepted, rates, groups, RECORDED_LEVEL, judged=judged), which
                )
            )
        except InputError as error:
            logger.warning("%s", error)
            return math.nan

    return tuple(partial(end, which=which) for which in ("mean", "low", "high"))
