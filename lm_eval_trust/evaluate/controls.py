"""Control arms: what else would have done as well as a steering?

A steering is compared with a prompt, with examples, with random directions of the same length, with
vectors built from shuffled labels, and with its own opposite. Random directions are what a steering
without content looks like: if they move the score as much, the direction says nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.evaluate.prefixes import few_shot_prefixes, prompt_prefixes
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.spec import SteeringSpec

if TYPE_CHECKING:  # Torch takes seconds to load, and help pages read the settings of a sweep.
    from lm_eval_trust.evaluate.tasks import TaskSet
    from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

#: Kind of an arm → its number where none is given: of arms, and of examples for ``few-shot``.
KINDS: Mapping[str, int] = {
    "unsteered": 1,
    "prompt": 1,
    "few-shot": 5,
    "random": 8,
    "shuffled": 1,
    "sign": 1,
}
#: Kinds that take a number → the smallest one. A spread needs three random directions.
LEAST: Mapping[str, int] = {"few-shot": 1, "random": 3, "shuffled": 1}
#: Kinds of which the number is that of arms.
_SEVERAL = ("random", "shuffled")
#: A choice counts as more than a random direction if chance explains it in fewer cases than this.
LEVEL = 0.05


@dataclass(frozen=True)
class Controls:
    """Which control arms run along with the choice.

    Attributes:
        counts: Kind → its number, see :data:`KINDS`.
        prompt: Text of the ``prompt`` arm, placed before every prompt; by default what the task's
            benchmark has.
        source: ``MODEL[@REVISION]`` that the vectors were built from, for the ``shuffled`` arm.
        seed: Seed of the draw of examples.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    prompt: str | None = None
    source: str | None = None
    seed: int = 0

    @classmethod
    def parse(
        cls, text: str, *, prompt: str | None = None, source: str | None = None, seed: int = 0
    ) -> Controls:
        """Read what ``--controls`` says, such as ``prompt,few-shot:5,random:8,sign``.

        Args:
            text: Kinds, separated by commas; those of :data:`LEAST` take a number.
            prompt: A text, or ``@FILE``.
            source: See the class.
            seed: See the class.

        Raises:
            InputError: An unknown kind, one that is named twice, a count that is not a number or
                too small, a text without its arm, or ``shuffled`` without a source.
        """
        counts: dict[str, int] = {}
        for part in filter(None, text.split(",")):
            kind, _, number = part.partition(":")
            if kind not in KINDS:
                raise unknown_name("control", kind, KINDS)
            if kind in counts:
                raise InputError(f"The control {kind} is named twice in {text!r}.")
            if number and kind not in LEAST:
                raise InputError(f"The control {kind} takes no number; it is {part!r}.")
            if number and not (number.isdecimal() and int(number) >= LEAST[kind]):
                raise InputError(
                    f"The control {part!r} needs a whole number from {LEAST[kind]} on."
                )
            counts[kind] = int(number) if number else KINDS[kind]
        if "shuffled" in counts and source is None:
            raise InputError(
                "The control shuffled needs --control-source, the model that the vectors were "
                "built from."
            )
        for kind, option, given in (
            ("prompt", "--control-prompt", prompt),
            ("shuffled", "--control-source", source),
        ):
            if kind not in counts and given is not None:
                raise InputError(f"{option} belongs to --controls {kind}.")
        return cls(counts, None if prompt is None else read_prompt(prompt), source, seed)


def read_prompt(prompt: str) -> str:
    """Return a control prompt that is given as a text, or as ``@FILE``.

    Raises:
        InputError: The file cannot be read, or it is not text.
    """
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
        plan: How it steers; empty where it only reads other prompts.
        prefixes: Task → text before each of its prompts.
    """

    name: str
    kind: str
    plan: SteeringPlan
    prefixes: Mapping[str, str] = field(default_factory=dict)

    def record(self, choice: SteeringPlan, tried: int) -> dict[str, Any]:
        """Return what results files say of the arm.

        Args:
            choice: Whose control it is.
            tried: Configurations among which that was chosen.
        """
        return {
            "arm": self.name,
            "kind": self.kind,
            "of": choice.fingerprint,
            "tried": tried,
        }


def arms_of(controls: Controls, choice: Sequence[SteeringSpec], tasks: TaskSet) -> list[Arm]:
    """Return the control arms of a choice, on some tasks.

    Args:
        controls: Which.
        choice: The steerings that are applied together.
        tasks: What the arms are evaluated on.

    Raises:
        InputError: A control needs what the vector or a task lacks.
        ExternalError: The model that a vector was built from cannot be fetched.
    """
    from lm_eval_trust.steering.plan import SteeringPlan
    from lm_eval_trust.steering.spec import combined_plan

    plan = combined_plan(choice)
    prefixes = prefixes_of(controls, tasks)
    found = []
    for kind, count in controls.counts.items():
        for number in range(1, count + 1 if kind in _SEVERAL else 2):
            name = f"{kind} {number}" if kind in _SEVERAL else kind
            made: Mapping[str, Callable[[], SteeringPlan]] = {
                "random": partial(_randomised, plan, number),
                "shuffled": partial(_shuffled, choice, number, controls.source),
                "sign": partial(_reversed, plan),
            }
            found.append(Arm(name, kind, made.get(kind, SteeringPlan)(), prefixes.get(kind, {})))
    return found


def prefixes_of(controls: Controls, tasks: TaskSet) -> dict[str, dict[str, str]]:
    """Return the texts of the arms that only read other prompts: kind → task → text.

    Raises:
        InputError: A task has no control prompt and none is given, or it has no examples.
    """
    found = {}
    if "prompt" in controls.counts:
        found["prompt"] = prompt_prefixes(tasks, controls.prompt)
    if "few-shot" in controls.counts:
        found["few-shot"] = few_shot_prefixes(tasks, controls.counts["few-shot"], controls.seed)
    return found


def _reversed(plan: SteeringPlan) -> SteeringPlan:
    return replace(plan, steps=tuple(replace(step, alpha=-step.alpha) for step in plan.steps))


def _randomised(plan: SteeringPlan, number: int) -> SteeringPlan:
    return replace(
        plan, steps=tuple(random_step(step, number) for step in plan.steps), built_from=()
    )


def _shuffled(choice: Sequence[SteeringSpec], number: int, source: str | None) -> SteeringPlan:
    from lm_eval_trust.steering.plan import SteeringPlan
    from lm_eval_trust.steering.shuffled import shuffled_vector

    assert source is not None
    plan = SteeringPlan()
    for spec in choice:
        vector = shuffled_vector(spec.load(), source, layers=spec.layers, seed=number)
        plan += spec.plan(vector)
    return plan


def check_shuffled(controls: Controls, choice: Sequence[SteeringSpec]) -> None:
    """Raise if the labels of a vector cannot be shuffled.

    Raises:
        InputError: See :func:`lm_eval_trust.steering.shuffled.shuffled_statements`.
    """
    if controls.source is None:
        return
    from lm_eval_trust.steering.shuffled import shuffled_statements

    for spec in choice:
        shuffled_statements(spec.load(), controls.source, seed=0)


def random_step(step: SteeringStep, number: int) -> SteeringStep:
    """Return a step in a random direction, uniform on the sphere, of the same length.

    If an action uses the rows of a part, these are rotated to random ones with the same angles
    between them, so it adds as much as before in other directions. What is drawn depends on the
    step's vector, layer and the number alone, so a repeated run meets the same.
    """
    import torch

    values = step.vector.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
    digest = hashlib.sha256(values + f"{step.layer}:{number}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    drawn = torch.from_numpy(random.standard_normal(len(step.vector)).astype(np.float32))
    if step.site == "heads":
        drawn = drawn * (step.vector != 0)  # The same heads.
    vector = drawn / drawn.norm() * step.vector.norm()
    parts = dict(step.parts)
    if (rows := ACTIONS[step.action].towards) is not None:
        # R = L Q with orthonormal rows of Q; R' = L Q' has the same Gram matrix.
        lower = torch.linalg.qr(parts[rows].T).R.T
        shape = tuple(parts[rows].T.shape)
        anew = torch.from_numpy(random.standard_normal(shape).astype(np.float32))
        parts[rows] = lower @ torch.linalg.qr(anew).Q.T
    return replace(step, vector=vector, parts=parts, origin=f"random direction {number}")


@dataclass(frozen=True)
class AgainstRandom:
    """A choice compared with random directions of the same length.

    Attributes:
        beaten: How many of them it beats.
        arms: How many there are.
        p: How often a further random direction would gain as much or more, one-sided, by
            Student's t around the arms' gains; corrected for how many configurations the choice
            was made from (Šidák).
        tried: Number of these configurations.
        spread: Standard deviation of one more direction's gain around the arms' mean, at least a
            step of the score.
    """

    beaten: int
    arms: int
    p: float
    tried: int
    spread: float = 0.0

    def reach(self, confidence: float) -> float:
        """Return half the length of the prediction interval of one more direction's gain."""
        from scipy import stats

        return float(stats.t.ppf((1 + confidence) / 2, self.arms - 1)) * self.spread

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        corrected = f", corrected for {self.tried} configurations tried" if self.tried > 1 else ""
        return (
            f"beats {self.beaten} of {self.arms} random directions of the same length "
            f"(p = {self.p:.2g}{corrected})"
        )

    @property
    def is_more(self) -> bool:
        """Whether the choice does more than random directions do."""
        return self.beaten == self.arms and self.p <= LEVEL


def smallest_step(first: Mapping[Any, float], others: Iterable[Mapping[Any, float]]) -> float:
    """Return by how little a mean over items can move: an item's least change, over their number.

    Args:
        first: Item → value of one model.
        others: The same of other models.

    Returns:
        0 where no item differs.
    """
    changes = (abs(o[item] - value) for o in others for item, value in first.items() if item in o)
    return min((change for change in changes if change > 0), default=0.0) / max(len(first), 1)


def against_random(
    gain: float, random_gains: Sequence[float], *, tried: int, step: float
) -> AgainstRandom:
    """Compare a gain over the unsteered model with those of random directions.

    Under the null the choice's direction is one more random one, so its gain is in the arms'
    prediction interval: t = (g − ḡ) / (s √(1 + 1/K)) on K − 1 degrees of freedom. The gains are
    means over the same items, so their common noise cancels. Where random directions change hardly
    any item, their gains are equal by the coarseness of the score; s is at least one step of it.

    Args:
        gain: Gain of the choice on the test half.
        random_gains: Random gains of the arms on the same items, at least three.
        tried: Configurations among which the choice was made on the validation part.
        step: Smallest step of the score, see :func:`smallest_step`.

    Raises:
        InputError: Fewer than three arms.
    """
    from scipy import stats

    if len(random_gains) < 3:
        raise InputError(f"A spread needs at least 3 random directions, not {len(random_gains)}.")
    gains = np.asarray(random_gains, dtype=np.float64)
    spread = max(float(gains.std(ddof=1)), step) * (1 + 1 / len(gains)) ** 0.5
    above = gain - float(gains.mean())
    p = float(stats.t.sf(above / spread, len(gains) - 1)) if spread > 0 else float(above <= 0)
    corrected = float(-np.expm1(tried * np.log1p(-p))) if p < 1 else 1.0
    return AgainstRandom(int((gains < gain).sum()), len(gains), corrected, tried, spread)
