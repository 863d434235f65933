"""A steering vector as text."""

from __future__ import annotations

from lm_eval_trust.steering.vectors import SteeringVector


def describe(vector: SteeringVector) -> str:
    """Return a table of the vector's layers, and its provenance line by line."""
    lines = [
        f"{vector.name}: width {vector.width}",
        f"{'layer':>5} {'norm':>12} {'std':>12} target",
    ]
    for index, layer in sorted(vector.layers.items()):
        norm = float(layer.direction.norm())
        std, target = _number(layer.projection_std), _number(layer.target)
        lines.append(f"{index:>5} {_number(norm):>12} {std:>12} {target}")
    if vector.provenance is None:
        return "\n".join([*lines, "provenance: unknown (an import); the leak guard cannot see it"])
    lines.append("provenance:")
    lines.extend(f"  {name}: {value}" for name, value in vector.provenance.summary().items())
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
