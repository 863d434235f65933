"""How much a ranking is, counted before and estimated at its beginning, against what is allowed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.rank.spec import RankSpec

#: Measurements that a curve needs for each cost beyond its first, as found on SmolLM2.
_MEASURED_PER_COST = 2.5


@dataclass(frozen=True)
class Configurations:
    """How many configurations a panel needs at most.

    Attributes:
        doses: Whose cost is measured, about.
        validation: Scored on the validation part.
        test: Scored on the test half.
    """

    doses: int
    validation: int
    test: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.doses + self.validation + self.test


def configurations(spec: RankSpec) -> dict[str, Configurations]:
    """Return how many configurations each panel needs, by its name."""
    found = {}
    costs, layers = len(spec.costs), len(spec.layers)
    each = 1 + _MEASURED_PER_COST * costs
    for name, panel in spec.dimensions.items():
        built = len(spec.methods) if panel.dimension is not None else 0
        methods = (built + len(panel.vectors)) * len(spec.actions)
        arms = methods + spec.controls.random * len(spec.actions)
        further = methods * (spec.controls.shuffled + spec.controls.sign)
        found[name] = Configurations(
            # Control arms of a method run at its chosen layers, seldom more than two.
            round((arms * layers + further * min(layers, 2)) * each),
            arms * layers * costs if layers > 1 else 0,
            (arms + further) * costs + 1 + (panel.prompt is not False),
        )
    return found


@dataclass
class Budget:
    """What a ranking may take.

    Attributes:
        hours: From now on; no limit by default.
        number: Number of configurations, as :func:`configurations` counts them.
        said: What is to be told to the user.
    """

    hours: float | None = None
    number: int | None = None
    said: list[str] = field(default_factory=list)
    _begun: float = field(default_factory=time.monotonic)

    def check_number(self, planned: Mapping[str, Configurations]) -> None:
        """Raise if there are more configurations than are allowed.

        Raises:
            InputError: With how to have fewer.
        """
        total = sum(one.total for one in planned.values())
        if self.number is not None and total > self.number:
            raise InputError(
                f"The ranking needs about {total} configurations and --max-configurations allows "
                f"{self.number}; name fewer layers, costs, methods or random directions."
            )

    def check_time(
        self,
        planned: Mapping[str, Configurations],
        dose: float,
        plain: Mapping[str, float],
        shared: float,
    ) -> None:
        """Estimate the time that is needed, and raise if it is more than is allowed.

        Args:
            planned: What there is to do.
            dose: Seconds of one measurement of the cost, in shared passes.
            plain: Panel → seconds of the unsteered model on its test items.
            shared: Time of a configuration in shared passes, as a share of that alone.

        Raises:
            InputError: With the estimate.
        """
        seconds = sum(
            one.doses * dose + (one.validation + one.test) * plain[name] * shared
            for name, one in planned.items()
        )
        total = sum(one.total for one in planned.values())
        self.said.append(
            f"About {total} configurations; estimated at {seconds / 3600:.2f} hours on this "
            f"machine, without what is kept already."
        )
        if self.hours is not None and seconds > self.hours * 3600:
            raise InputError(
                f"{self.said[-1]} That is more than --budget-hours {self.hours:g}; lower limit, "
                f"layers, costs or the number of random directions, or allow more."
            )

    def check_clock(self) -> None:
        """Raise if the time is over.

        Raises:
            ExternalError: With how to continue.
        """
        if self.hours is not None and time.monotonic() - self._begun > self.hours * 3600:
            raise ExternalError(
                f"The {self.hours:g} hours of --budget-hours are over. What is finished is kept: "
                f"the same command goes on from there."
            )
