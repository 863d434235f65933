"""Control arms: what else would have done as well as the chosen steering?

A choice is compared, on the test half, with a prompt, with random directions of the same length,
with vectors built from shuffled labels, and with its own opposite. Random directions are what a
steering without content looks like: if they move the score as much, the direction says nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.steering.spec import SteeringSpec

if TYPE_CHECKING:  # Torch takes seconds to load, and help pages read the settings of a sweep.
    from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

#: Kind of an arm → how many there are where no number is given.
KINDS: Mapping[str, int] = {"prompt": 1, "random": 8, "shuffled": 1, "sign": 1}
_COUNTED = ("random", "shuffled")
#: A choice counts as more than a random direction if chance explains it in fewer cases than this.
LEVEL = 0.05


@dataclass(frozen=True)
class Controls:
    """Which control arms run beside the choice.

    Attributes:
        counts: Kind → number of arms.
        prompt: Text of the ``prompt`` arm, placed before every prompt.
        source: ``MODEL[@REVISION]`` that the vectors were built from, for the ``shuffled`` arm.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    prompt: str | None = None
    source: str | None = None

    @classmethod
    def parse(cls, text: str, *, prompt: str | None = None, source: str | None = None) -> Controls:
        """Read what ``--controls`` says, such as ``prompt,random:8,sign``.

        Args:
            text: Kinds, separated by commas; ``random`` and ``shuffled`` take a number.
            prompt: A text, or ``@FILE``.
            source: See the class.

        Raises:
            InputError: An unknown kind, one that is named twice, a number that is none or too
                small, or a prompt without its arm or an arm without its prompt.
        """
        counts: dict[str, int] = {}
        for part in filter(None, text.split(",")):
            kind, _, number = part.partition(":")
            if kind not in KINDS:
                raise unknown_name("control", kind, KINDS)
            if kind in counts:
                raise InputError(f"The control {kind} is named twice in {text!r}.")
            if number and kind not in _COUNTED:
                raise InputError(f"The control {kind} takes no number; it is {part!r}.")
            least = 3 if kind == "random" else 1
            if number and not (number.isdecimal() and int(number) >= least):
                raise InputError(f"The control {part!r} needs a whole number from {least} on.")
            counts[kind] = int(number) if number else KINDS[kind]
        for kind, option, given in (
            ("prompt", "--control-prompt TEXT or @FILE", prompt),
            ("shuffled", "--control-source, the model that the vectors were built from", source),
        ):
            if kind in counts and given is None:
                raise InputError(f"The control {kind} needs {option}.")
            if kind not in counts and given is not None:
                raise InputError(f"{option.split()[0].rstrip(',')} belongs to --controls {kind}.")
        return cls(counts, None if prompt is None else _read_prompt(prompt), source)


def _read_prompt(prompt: str) -> str:
    if not prompt.startswith("@"):
        text = prompt
    else:
        try:
            text = Path(prompt[1:]).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(f"The control prompt {prompt[1:]} cannot be read: {error}") from error
    if not text.strip():
        raise InputError("The control prompt is empty; give a text, or leave the control out.")
    return text


@dataclass(frozen=True)
class Arm:
    """One control.

    Attributes:
        name: For tables and names of files, e.g. ``random 3``.
        kind: One of :data:`KINDS`.
        plan: How it steers; empty for a prompt.
        call: Further arguments of the harness's evaluation.
    """

    name: str
    kind: str
    plan: SteeringPlan
    call: Mapping[str, Any]


def arms_of(controls: Controls, choice: SteeringSpec) -> list[Arm]:
    """Return the control arms of a choice.

    Raises:
        InputError: A control needs what the vector lacks.
        ExternalError: The model that a vector was built from cannot be fetched.
    """
    from lm_eval_trust.steering.plan import SteeringPlan

    plan = choice.plan()
    found = []
    for kind, count in controls.counts.items():
        for number in range(1, count + 1):
            name = f"{kind} {number}" if kind in _COUNTED else kind
            call = {"system_instruction": controls.prompt} if kind == "prompt" else {}
            made: Mapping[str, Callable[[], SteeringPlan]] = {
                "prompt": SteeringPlan,
                "random": partial(_randomised, plan, number),
                "shuffled": partial(_shuffled, choice, number, controls.source),
                "sign": partial(_reversed, plan),
            }
            found.append(Arm(name, kind, made[kind](), call))
    return found


def _reversed(plan: SteeringPlan) -> SteeringPlan:
    return replace(plan, steps=tuple(replace(step, alpha=-step.alpha) for step in plan.steps))


def _randomised(plan: SteeringPlan, number: int) -> SteeringPlan:
    return replace(
        plan, steps=tuple(random_step(step, number) for step in plan.steps), built_from=()
    )


def _shuffled(choice: SteeringSpec, number: int, source: str | None) -> SteeringPlan:
    from lm_eval_trust.steering.build import shuffled_vector
    from lm_eval_trust.steering.vectors import load_vector

    assert source is not None
    assert choice.vector is not None
    vector = load_vector(choice.vector)
    return choice.plan(shuffled_vector(vector, source, layers=choice.layers, seed=number))


def check_shuffled(controls: Controls, vectors: Sequence[str]) -> None:
    """Raise before a sweep if the labels of a vector cannot be shuffled.

    Raises:
        InputError: See :func:`lm_eval_trust.steering.build.shuffled_statements`.
    """
    if controls.source is None:
        return
    from lm_eval_trust.steering.build import shuffled_statements
    from lm_eval_trust.steering.vectors import load_vector

    for vector in vectors:
        shuffled_statements(load_vector(vector), controls.source, seed=0)


def random_step(step: SteeringStep, number: int) -> SteeringStep:
    """Return a step in a random direction, uniform on the sphere, of the same length.

    The direction depends on the step's vector, layer and the number alone, so that a repeated run
    meets the same ones.
    """
    import torch

    values = step.vector.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
    digest = hashlib.sha256(values + f"{step.layer}:{number}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    drawn = torch.from_numpy(random.standard_normal(len(step.vector)).astype(np.float32))
    vector = drawn / drawn.norm() * step.vector.norm()
    return replace(step, vector=vector, origin=f"random direction {number}")


@dataclass(frozen=True)
class AgainstRandom:
    """A choice beside random directions of the same length.

    Attributes:
        beaten: How many of them it beats.
        arms: How many there are.
        p: How often a further random direction would gain as much or more, one-sided, by
            Student's t around the arms' gains; corrected for how many configurations the choice
            was made from (Šidák).
        tried: Number of these configurations.
    """

    beaten: int
    arms: int
    p: float
    tried: int

    @property
    def is_more(self) -> bool:
        """Whether the choice does more than random directions do."""
        return self.beaten == self.arms and self.p <= LEVEL


def against_random(gain: float, random_gains: Sequence[float], *, tried: int) -> AgainstRandom:
    """Compare a gain over the unsteered model with those of random directions.

    Under the null the choice's direction is one more random one, so its gain lies in the arms'
    prediction interval: t = (g − ḡ) / (s √(1 + 1/K)) on K − 1 degrees of freedom. The gains are
    means over the same items, so their common noise cancels.

    Args:
        gain: Of the choice on the test half.
        random_gains: Of the arms on the same items, at least three.
        tried: Configurations among which the choice was made on the validation part.

    Raises:
        InputError: Fewer than three arms.
    """
    from scipy import stats

    if len(random_gains) < 3:
        raise InputError(f"A spread needs at least 3 random directions, not {len(random_gains)}.")
    gains = np.asarray(random_gains, dtype=np.float64)
    spread = float(gains.std(ddof=1)) * (1 + 1 / len(gains)) ** 0.5
    above = gain - float(gains.mean())
    if spread > 0:
        p = float(stats.t.sf(above / spread, len(gains) - 1))
    else:
        p = 0.0 if above > 0 else 1.0
    corrected = float(-np.expm1(tried * np.log1p(-p))) if p < 1 else 1.0
    return AgainstRandom(int((gains < gain).sum()), len(gains), corrected, tried)
