"""The grid of a sweep: which configurations of steering it tries."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.models.layers import parse_layers
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import SteeringSpec

_JOINT = "+"


@dataclass(frozen=True)
class Configuration:
    """One way to steer.

    Attributes:
        vector: Vector file.
        layers: 0-based decoder blocks that are steered together.
        alpha: Strength.
        positions: ``generated``, ``all`` or ``last_prompt``.
        action: ``add``, ``clamp`` or ``ablate``.
        scale: ``projection_std``, ``unit`` or ``none``.
    """

    vector: str
    layers: tuple[int, ...]
    alpha: float
    positions: str = "generated"
    action: str = "add"
    scale: str = "projection_std"

    @property
    def layer(self) -> str:
        """The layers as model arguments have them, e.g. ``15`` or ``14+16``."""
        return _JOINT.join(map(str, self.layers))

    @property
    def family(self) -> Configuration:
        """What is the same at every strength: this at α = 0."""
        return self.at(0.0)

    def at(self, alpha: float) -> Configuration:
        """Return the same at another strength."""
        return Configuration(**(asdict(self) | {"alpha": alpha}))

    @property
    def name(self) -> str:
        """Name of its folder: what tells it from others, readable."""
        where = f"{Path(self.vector).stem}-layer{self.layer}-{self.positions}"
        return f"{where}-{self.action}-{self.scale}-alpha{self.alpha:g}"

    @property
    def request(self) -> SteeringSpec:
        """As model arguments ask for it."""
        return SteeringSpec(
            vector=self.vector,
            layer=self.layer,
            alpha=self.alpha,
            positions=self.positions,
            action=self.action,
            scale=self.scale,
        )

    @cached_property
    def plan(self) -> SteeringPlan:
        """The plan that does it.

        Raises:
            InputError: The vector cannot be read or lacks a layer.
        """
        return self.request.plan()

    def row(self) -> dict[str, Any]:
        """Return its columns in a table."""
        return {
            "vector": Path(self.vector).stem,
            "layer": self.layer,
            "alpha": self.alpha,
            "positions": self.positions,
            "action": self.action,
            "scale": self.scale,
        }

    def to_yaml(self, folder: Path, *, comment: str) -> str:
        """Return the steering file that does it, with the vector named from ``folder``."""
        vector = Path(self.vector).resolve()
        base = folder.resolve()
        path = vector.relative_to(base) if vector.is_relative_to(base) else vector
        entry = {
            "vector": str(path),
            "layer": self.layers[0] if len(self.layers) == 1 else list(self.layers),
            "alpha": self.alpha,
            "positions": self.positions,
            "action": self.action,
            "scale": self.scale,
        }
        lines = "".join(f"# {line}\n" for line in comment.splitlines())
        return lines + str(yaml.safe_dump({"steering": [entry]}, sort_keys=False))


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

    @property
    def families(self) -> list[Configuration]:
        """Combinations of all but the strength."""
        return [
            Configuration(vector, layers, 0.0, positions, self.action, self.scale)
            for vector, layers, positions in itertools.product(
                self.vectors, self.layers, self.positions
            )
        ]

    @property
    def configurations(self) -> list[Configuration]:
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


def midpoints(family: Configuration, tried: Sequence[float], best: float) -> list[Configuration]:
    """Return the configurations halfway from the best strength to its tried neighbours."""
    known = sorted({0.0, *tried})
    at = known.index(best)
    neighbours = [*known[max(at - 1, 0) : at], *known[at + 1 : at + 2]]
    return [family.at((best + other) / 2) for other in neighbours]
