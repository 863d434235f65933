"""What is ranked, and what it is compared with: methods, random directions, shuffled labels, −α.

A random direction goes through all that a method goes through: α by its cost, the layer by the
validation part, the score on the test half. So under the hypothesis that a method's direction is
one more random one, its result is one more of theirs, and choosing the layer needs no correction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.controls import random_step
from lm_eval_trust.rank.spec import DimensionSpec, Layers, RankSpec
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.build import cached_vector
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.shuffled import shuffled_statements, shuffled_vector
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.steering.vectors import SteeringVector, load_vector

METHOD, RANDOM, SHUFFLED, SIGN = "method", "random", "shuffled", "sign"


@dataclass(frozen=True)
class Arm:
    """One way to steer, at any of some layers and any strength.

    Attributes:
        name: For tables, e.g. ``mass_mean``, ``pca ablate`` or ``random 3``.
        kind: ``method``, ``random``, ``shuffled`` or ``sign``.
        action: Name of the action.
        plans: Layers → the plan at α = 1.
        file: Vector of a method.
        of: The method that a ``shuffled`` or ``sign`` arm belongs to.
    """

    name: str
    kind: str
    action: str
    plans: Mapping[Layers, SteeringPlan]
    file: str | None = None
    of: str = ""

    def limit(self, spec: RankSpec) -> float:
        """Return the largest strength that is tried: the action's own, or the ranking's."""
        return ACTIONS[self.action].most or spec.alpha_limit

    def at(self, layers: Layers, alpha: float) -> SteeringPlan:
        """Return the plan at a strength."""
        plan = self.plans[layers]
        return replace(
            plan, steps=tuple(replace(step, alpha=step.alpha * alpha) for step in plan.steps)
        )


@dataclass(frozen=True)
class Panel:
    """All arms of a dimension that take part from the beginning.

    Attributes:
        name: Name of the panel.
        spec: What its file says.
        methods: What is ranked.
        randoms: Random directions, as many for each action.
        notes: What cannot take part, and why.
    """

    name: str
    spec: DimensionSpec
    methods: tuple[Arm, ...]
    randoms: tuple[Arm, ...]
    notes: tuple[str, ...]


def panel_of(name: str, spec: RankSpec, folder: Path) -> Panel:
    """Build a dimension's vectors, or find them again, and return its arms.

    Args:
        name: Name of the dimension's panel.
        spec: The ranking.
        folder: Where built vectors are written.

    Raises:
        InputError: A vector cannot be built or read, lacks a layer or what the scale or an action
            needs, or none of the methods can take part.
        ExternalError: The source model cannot be fetched, or the disk refused to write.
    """
    notes: list[str] = []
    methods: dict[str, Arm] = {}
    for title, file in _files(name, spec, folder, notes).items():
        vector = load_vector(file)
        for action in spec.actions:
            arm = _method(title, file, vector, action, spec, notes)
            if arm is None:
                continue
            does = " ".join(plan.fingerprint for plan in arm.plans.values())
            if does in methods:
                same = methods[does].name
                notes.append(f"{name}: {arm.name} steers as {same} does, and is not run again.")
            methods.setdefault(does, arm)
        if spec.controls.shuffled:
            _check_shuffled(vector, title, spec)
    if not methods:
        raise InputError(f"{name}: no method can take part. {' '.join(notes)}")
    arms = tuple(methods.values())
    return Panel(name, spec.dimensions[name], arms, tuple(_randoms(arms, spec)), tuple(notes))


def _files(name: str, spec: RankSpec, folder: Path, notes: list[str]) -> dict[str, str]:
    """Return the vector file of each method, built where it is not given."""
    panel = spec.dimensions[name]
    files = dict(panel.vectors)
    for method in spec.methods if panel.dimension is not None else ():
        try:
            files[method] = str(_built(name, method, spec, folder))
        except InputError as error:
            if not spec.takes_all:
                raise InputError(f"{method} of {name}: {error}") from error
            notes.append(f"{name}: {method} takes no part: {error}")
    return files


def _method(
    title: str,
    file: str,
    vector: SteeringVector,
    action: str,
    spec: RankSpec,
    notes: list[str],
) -> Arm | None:
    """Return a vector with an action; ``None``, with a note, where the two do not go together."""
    name = title if len(spec.actions) == 1 else f"{title} {action}"
    try:
        plans = {layers: _spec(file, layers, action, spec).plan(vector) for layers in spec.layers}
    except InputError as error:
        if len(spec.actions) == 1 and not spec.takes_all:
            raise InputError(f"{title}: {error}") from error
        notes.append(f"{name} takes no part: {error}")
        return None
    return Arm(name, METHOD, action, plans, file)


def steering_of(arm: Arm, layers: Layers, alpha: float, spec: RankSpec) -> SteeringSpec:
    """Return a method's steering as a steering file has it."""
    assert arm.file is not None
    return _spec(arm.file, layers, arm.action, spec).at(alpha)


def controls_of(arm: Arm, layers: Sequence[Layers], spec: RankSpec) -> Iterator[Arm]:
    """Yield the control arms of one method at the layers that were chosen for it.

    Raises:
        InputError: See :func:`lm_eval_trust.steering.shuffled.shuffled_statements`.
        ExternalError: The source model cannot be fetched.
    """
    if spec.controls.sign:
        plans = {each: _reversed(arm.plans[each]) for each in layers}
        yield Arm(f"{arm.name} −α", SIGN, arm.action, plans, of=arm.name)
    assert arm.file is not None
    for number in range(1, spec.controls.shuffled + 1):
        assert spec.source is not None
        needed = sorted({layer for each in layers for layer in each})
        vector = shuffled_vector(
            load_vector(arm.file), spec.source, layers=needed, seed=number, device=spec.device
        )
        plans = {each: _spec(arm.file, each, arm.action, spec).plan(vector) for each in layers}
        name = f"{arm.name} shuffled {number}"
        yield Arm(name, SHUFFLED, arm.action, plans, of=arm.name)


def _built(name: str, method: str, spec: RankSpec, folder: Path) -> Path:
    panel = spec.dimensions[name]
    assert panel.dimension is not None
    assert spec.source is not None
    vector = cached_vector(
        dimension=panel.dimension,
        source=spec.source,
        layers=spec.every_layer,
        method=method,
        data_source=panel.data_source,
        device=spec.device,
    )
    path = folder / "vectors" / f"{name}-{method}.safetensors"
    vector.save(path)
    return path


def _spec(file: str, layers: Layers, action: str, spec: RankSpec) -> SteeringSpec:
    return SteeringSpec(
        vector=file, layer=layers, positions=spec.positions, action=action, scale=spec.scale
    )


def _check_shuffled(vector: SteeringVector, title: str, spec: RankSpec) -> None:
    if spec.source is None:
        raise InputError(
            f"The control shuffled builds {title} again from permuted labels; name the model that "
            f"it was built from by source, or leave the control out by controls: {{shuffled: 0}}."
        )
    try:
        shuffled_statements(vector, spec.source, seed=0)
    except InputError as error:
        raise InputError(f"{error} Or leave it out by controls: {{shuffled: 0}}.") from error


def _randoms(methods: Sequence[Arm], spec: RankSpec) -> Iterator[Arm]:
    for action in dict.fromkeys(arm.action for arm in methods):
        pattern = next(arm for arm in methods if arm.action == action)
        for number in range(1, spec.controls.random + 1):
            plans = {
                layers: replace(
                    plan,
                    steps=tuple(random_step(step, number) for step in plan.steps),
                    built_from=(),
                )
                for layers, plan in pattern.plans.items()
            }
            name = f"random {number}" if len(spec.actions) == 1 else f"random {number} {action}"
            yield Arm(name, RANDOM, action, plans)


def _reversed(plan: SteeringPlan) -> SteeringPlan:
    return replace(plan, steps=tuple(replace(step, alpha=-step.alpha) for step in plan.steps))
