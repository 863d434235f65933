"""Measured effects of a vector, from the folder of a sweep or an audit, or the JSON of a check."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.audit.reports import FIGURES
from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.gate.check_file import read_check
from lm_eval_trust.steering.conditions import tensor_digest
from lm_eval_trust.steering.spec import SteeringSpec, read_steering_file
from lm_eval_trust.steering.vectors import SteeringVector, load_vector
from lm_eval_trust.sweep.report import STEERING_FILE


@dataclass(frozen=True)
class Effect:
    """One measured effect.

    Attributes:
        source: What measured it, and under which steering.
        said: The figures in a sentence.
    """

    source: str
    said: str


def read_effects(path: Path, vector: SteeringVector) -> list[Effect]:
    """Return the effects that a folder or file reports of a vector.

    Args:
        path: Folder of ``sweep`` or ``audit``, or the file that ``check --json`` wrote.
        vector: The vector, which the results have to be of.

    Raises:
        InputError: There are no such results, they are damaged, or they are of another vector.
    """
    for file, read in _READERS.items():
        if (path / file).is_file():
            return _read(path / file, read, vector)
    if path.is_file():
        return _read(path, _of_check, vector)
    raise InputError(
        f"{path} holds no results to show: expected the folder of a sweep ({_TEST}) or an audit "
        f"({FIGURES}), or the file of `check --json`."
    )


_TEST, _CONTROLS = "test.csv", "controls.csv"
_Reader = Callable[[Path, SteeringVector], Iterator[Effect]]


def _read(path: Path, reader: _Reader, vector: SteeringVector) -> list[Effect]:
    try:
        return list(reader(path, vector))
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
        raise InputError(f"{path} is damaged, or of another tool: {reason_of(error)}") from error


def _of_sweep(path: Path, vector: SteeringVector) -> Iterator[Effect]:
    specs = read_steering_file(path.parent / STEERING_FILE)
    chosen = [spec for spec in specs if _is_of(spec, vector)]
    if not chosen:
        raise _other(path, vector)
    source = f"Sweep, {_steering(chosen[0])}, chosen on the validation part, test half"
    for row in _rows(path):
        yield Effect(
            source,
            _sentence(
                f"{row['metric']} of `{row['task']}`",
                float(row["steered"]),
                float(row["unsteered"]),
                _change(float(row["change"]), float(row["low"]), float(row["high"])),
                int(row["items"]),
            ),
        )
    controls = path.with_name(_CONTROLS)
    for row in _rows(controls) if controls.is_file() else ():
        behind = [float(row[key]) for key in ("behind", "behind_low", "behind_high")]
        yield Effect(
            source,
            f"`{row['task']}`: the vector beats the control {row['arm']} by {_change(*behind)}",
        )


def _of_audit(path: Path, vector: SteeringVector) -> Iterator[Effect]:
    record = _json(path)
    steps = record["provenance"]["steering"]["steps"]
    digests = {step["vector"] for step in steps}
    scales = ("none", "unit", "projection_std", "relative")
    if not digests & {d for layer in vector.layers.values() for d in _digests(layer, scales)}:
        raise _other(path, vector)
    step = steps[0]
    source = (
        f"Audit, layer {step['layer']}, α = {step['alpha']:g}, verdict: **{record['verdict']}**"
    )
    for rule in record["rules"]:
        yield Effect(source, f"{rule['title']}: {rule['outcome']}. {rule['said']}")


def _of_check(path: Path, vector: SteeringVector) -> Iterator[Effect]:
    checks = _json(path)["checks"]
    found = False
    for check in checks:
        file = Path(check["file"])
        file = file if file.is_file() else path.parent / file
        chosen = [spec for spec in read_check(file).steering() if _is_of(spec, vector)]
        if not chosen:
            continue
        found = True
        verdict = "passed" if check["passed"] else "failed"
        source = f"Check `{file.name}` ({verdict}), {_steering(chosen[0])}"
        for each in check["verdicts"]:
            yield Effect(
                source,
                _sentence(
                    f"{each['rule']['metric']} of `{each['task']}`",
                    each["value"],
                    each.get("reference"),
                    _of_verdict(each),
                    each["items"],
                )
                + f"; rule {each['rule']['kind']}: {each['outcome']}",
            )
    if not found:
        raise _other(path, vector)


_READERS: Mapping[str, _Reader] = {_TEST: _of_sweep, FIGURES: _of_audit}


def _is_of(spec: SteeringSpec, vector: SteeringVector) -> bool:
    """Tell whether a steering applies a vector, by the directions themselves."""
    if spec.vector is None:
        return False
    used = load_vector(spec.vector)
    return all(
        layer in vector.layers
        and tensor_digest(used.layer(layer).direction)
        == tensor_digest(vector.layer(layer).direction)
        for layer in spec.layers
    )


def _digests(layer: Any, scales: tuple[str, ...]) -> Iterator[str]:
    for scale in scales:
        try:
            yield tensor_digest(layer.scaled(scale))
        except InputError:  # The vector lacks what the scale needs.
            continue


def _other(path: Path, vector: SteeringVector) -> InputError:
    return InputError(
        f"{path} is not about {vector.name}: none of its steerings applies that vector. Give the "
        f"results that were measured with it."
    )


def _steering(spec: SteeringSpec) -> str:
    return f"layer {spec.layer_text}, α = {spec.alpha:g}, {spec.action} at {spec.positions}"


def _sentence(
    what: str,
    value: float,
    reference: float | None,
    change: str,
    items: int,
) -> str:
    compared = "" if reference is None else f", {reference:.3f} without"
    moved = f": {change}" if change else ""
    return f"{what} {value:.3f}{compared}{moved}, {items} items"


def _of_verdict(verdict: Mapping[str, Any]) -> str:
    change = verdict.get("change")
    if not change:
        return ""
    confidence = verdict["rule"]["confidence"]
    if verdict["is_ratio"]:
        ends = f"{change['low']:.3f} to {change['high']:.3f}"
        return f"ratio {change['mean']:.3f} ({confidence:.0%} interval {ends})"
    return _change(change["mean"], change["low"], change["high"], confidence)


def _change(mean: float, low: float, high: float, confidence: float = 0.95) -> str:
    return f"{mean:+.3f} ({confidence:.0%} interval {low:+.3f} to {high:+.3f})"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError("it has no rows")
    return rows


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
