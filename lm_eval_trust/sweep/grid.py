"""The grid of a sweep: which configurations of steering it tries."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.models.layers import parse_layers
from lm_eval_trust.steering.spec import SteeringSpec, check_setting

_JOINT = "+"


@dataclass(frozen=True)
class Grid:
    """All combinations of what a sweep varies.

    Attributes:
        vectors: Vector files.
        layers: Decoder blocks, or several at once, of one configuration each.
        alphas: Strengths, ascending; 0 is always evaluated as well, as the unsteered model.
        positions: Kinds of positions.
        action: The action.
        scale: The scale.

    Raises:
        InputError: Values that are given twice, that are none of the setting's, or no strength
            other than 0.
    """

    vectors: tuple[str, ...]
    layers: tuple[tuple[int, ...], ...]
    alphas: tuple[float, ...]
    positions: tuple[str, ...] = ("generated",)
    action: str = "add"
    scale: str = "projection_std"

    def __post_init__(self) -> None:
        for name in ("vectors", "layers", "alphas", "positions"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise InputError(f"{name} of the sweep are {list(values)}; name each once.")
        if not all(map(math.isfinite, self.alphas)):
            raise InputError(f"alphas are {list(self.alphas)}; expected finite numbers.")
        if not any(self.alphas):
            raise InputError("alphas hold 0 only, which is the unsteered model; add others.")
        for place in self.positions:
            check_setting("positions", place)
        check_setting("action", self.action)
        check_setting("scale", self.scale)

    @property
    def families(self) -> list[SteeringSpec]:
        """Combinations of all but the strength, at α = 0."""
        return [
            SteeringSpec(
                vector=vector,
                layer=layers,
                alpha=0.0,
                positions=positions,
                action=self.action,
                scale=self.scale,
            )
            for vector, layers, positions in itertools.product(
                self.vectors, self.layers, self.positions
            )
        ]

    @property
    def configurations(self) -> list[SteeringSpec]:
        """All combinations, α = 0 left out."""
        return [family.at(alpha) for family in self.families for alpha in self.alphas if alpha]

    @property
    def fingerprint(self) -> str:
        """Identity of the grid."""
        return fingerprint(asdict(self))


def parse_sweep_layers(text: str) -> tuple[tuple[int, ...], ...]:
    """Read layers to try: ``10-20`` or ``12,14`` one by one, ``14+16`` together.

    Raises:
        InputError: The text is none of these.
    """
    found: list[tuple[int, ...]] = []
    for part in text.split(","):
        if _JOINT in part:
            found.append(tuple(parse_layers(part)))
        else:
            found.extend((layer,) for layer in parse_layers(part))
    return tuple(found)


def parse_numbers(name: str, text: str) -> tuple[float, ...]:
    """Read numbers with commas between them; ascending, each once.

    Raises:
        InputError: One is no number.
    """
    try:
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError as error:
        raise InputError(f"{name} is {text!r}; expected numbers such as 0.5,1,2.") from error


def midpoints(family: SteeringSpec, tried: Sequence[float], best: float) -> list[SteeringSpec]:
    """Return the configurations halfway from the best strength to its tried neighbours."""
    known = sorted({0.0, *tried})
    at = known.index(best)
    neighbours = [*known[max(at - 1, 0) : at], *known[at + 1 : at + 2]]
    return [family.at((best + other) / 2) for other in neighbours]
