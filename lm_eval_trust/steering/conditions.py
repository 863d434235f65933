"""Steer only where a condition holds: what it is, how it is written, how it is decided.

A row is steered if the state at its prompt's end resembles a condition vector (after conditional
activation steering, Lee et al. 2024, arXiv 2409.05907). The decision is made once for each row, at
the last prompt token, and kept for all that follows. The paper reads the mean state of the prompt
and compares it with its own projection; here it is one state, and its cosine with the vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.steering.hub_names import below, label, pinned

if TYPE_CHECKING:  # Torch takes seconds to load, and help pages read the settings.
    import torch

_EXPECTED = "expected for instance when: {vector: c.safetensors, threshold: 0.2}"


@dataclass(frozen=True)
class When:
    """A condition as settings have it.

    Attributes:
        vector: Vector file, or name on the Hub, that states are compared with.
        threshold: Cosine, from −1 to 1, that decides.
        layer: Block whose output is read; the lowest steered one by default.
        above: Whether states above the threshold are steered, or the others.

    Raises:
        InputError: A value of the wrong type, or no cosine.
    """

    vector: str
    threshold: float
    layer: int | None = None
    above: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.vector, (str, Path)) or not str(self.vector):
            raise InputError(f"when.vector={self.vector!r} is not the name of a file.")
        object.__setattr__(self, "vector", str(self.vector))
        number = isinstance(self.threshold, (int, float)) and not isinstance(self.threshold, bool)
        if not number or not -1 <= self.threshold <= 1:
            raise InputError(
                f"when.threshold={self.threshold!r} is no cosine; expected a number from -1 to 1, "
                f"as `lm-eval-trust vector threshold` suggests one."
            )
        object.__setattr__(self, "threshold", float(self.threshold))
        whole = isinstance(self.layer, int) and not isinstance(self.layer, bool)
        if self.layer is not None and (not whole or self.layer < 0):
            raise InputError(f"when.layer={self.layer!r} is no decoder block; write one as 12.")
        if not isinstance(self.above, bool):
            raise InputError(f"when.above={self.above!r} is neither true nor false.")

    @classmethod
    def parse(cls, value: Any) -> When:
        """Return the condition that a mapping holds.

        Raises:
            InputError: It is no mapping, has an unknown key, or lacks the vector or the threshold.
        """
        if isinstance(value, When):
            return value
        if not isinstance(value, Mapping):
            raise InputError(f"when={value!r} is no mapping; {_EXPECTED}.")
        for key in value:
            if key not in WHEN_KEYS:
                raise unknown_name("key of when", str(key), WHEN_KEYS)
        if lacking := [key for key in ("vector", "threshold") if value.get(key) is None]:
            raise InputError(f"when has no {' and no '.join(lacking)}; {_EXPECTED}.")
        return cls(**value)

    def below(self, folder: Path) -> When:
        """Return the same with a vector whose path is relative to a folder."""
        return replace(self, vector=below(folder, self.vector))

    def recipe(self) -> dict[str, Any]:
        """Return the settings as a steering file has them."""
        given = {key: value for key, value in asdict(self).items() if value is not None}
        return {**given, "vector": pinned(self.vector)}

    def describe(self) -> str:
        """Return a readable name, which can be a part of a folder's."""
        layer = "" if self.layer is None else f"-layer{self.layer}"
        side = "above" if self.above else "upto"
        return f"when-{label(self.vector)}{layer}-{side}{self.threshold:g}"

    def read(self, lowest: int) -> Condition:
        """Read the condition's vector.

        Args:
            lowest: Lowest steered block.

        Raises:
            InputError: The vector cannot be read, or lacks the layer.
        """
        from lm_eval_trust.steering.vectors import load_vector

        vector, layer = load_vector(self.vector), lowest if self.layer is None else self.layer
        unit = vector.layer(layer).unit
        return Condition(layer, unit, self.threshold, self.above, self.vector, vector.provenance)


def tensor_digest(tensor: torch.Tensor) -> str:
    """Return a digest of a tensor's values as float32."""
    values = tensor.detach().to("cpu").float().contiguous().numpy().tobytes()
    return hashlib.sha256(values).hexdigest()[:16]


def check_order(layer: int | None, steered: Iterable[int], positions: str) -> None:
    """Raise unless steering can wait for a decision.

    Args:
        layer: Block that the condition reads; ``None`` for the lowest steered one.
        steered: Blocks that are steered.
        positions: Where they are steered.

    Raises:
        InputError: Steering acts before the decision, in tokens or in blocks.
    """
    if positions == "all":
        raise InputError(
            "positions=all steers before the prompt's end, where `when` is decided; take "
            "positions=generated or last_prompt."
        )
    lowest = min(steered)
    if layer is not None and layer > lowest:
        raise InputError(
            f"when.layer={layer} lies above the steered layer {lowest}, which then runs before the "
            f"decision; take a layer up to {lowest}."
        )


WHEN_KEYS = tuple(field.name for field in fields(When))


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with ``when.vector`` and so on, as model arguments have them, under ``when``.

    Raises:
        InputError: ``when`` is given both ways.
    """
    inner = {key: value for key, value in settings.items() if key.startswith("when.")}
    rest = {key: value for key, value in settings.items() if key not in inner}
    if inner and "when" in rest:
        raise InputError(f"when is given beside {', '.join(sorted(inner))}; keep one.")
    return rest | (
        {"when": {k.removeprefix("when."): v for k, v in inner.items()}} if inner else {}
    )


@dataclass(frozen=True, eq=False)
class Condition:
    """Which rows a step steers.

    Attributes:
        layer: Block whose output is read, before anything is done to it there.
        unit: Direction of length 1 that states are compared with, float32, shape (hidden,).
        threshold: Cosine that decides.
        above: Whether rows above the threshold are steered, or the others.
        origin: Where the vector comes from, for messages.
        provenance: What it was built from, for the leak guard.
    """

    layer: int
    unit: torch.Tensor
    threshold: float
    above: bool = True
    origin: str = "condition"
    provenance: Provenance | None = None

    def summary(self) -> dict[str, Any]:
        """Return the condition as JSON-like values, with a digest in place of the vector."""
        return {
            "layer": self.layer,
            "threshold": self.threshold,
            "above": self.above,
            "vector": tensor_digest(self.unit),
        }

    def similarity(self, states: torch.Tensor) -> torch.Tensor:
        """Return the cosine of states with the vector; 0 for a state of length 0.

        Args:
            states: Shape (…, hidden).
        """
        import torch

        precise = states.to(torch.promote_types(states.dtype, torch.float32))
        lengths = precise.norm(dim=-1)
        along = precise @ self.unit.to(precise)
        cosines: torch.Tensor = along / lengths.clamp(min=torch.finfo(precise.dtype).tiny)
        return cosines

    def holds(self, states: torch.Tensor) -> torch.Tensor:
        """Tell for each state whether its row is steered.

        Args:
            states: At prompts' ends, shape (rows, hidden).

        Returns:
            bool, shape (rows,).
        """
        held: torch.Tensor = (self.similarity(states) > self.threshold) == self.above
        return held
