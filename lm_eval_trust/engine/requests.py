"""How a request says its steering, and the folder that plans travel through.

A plan is in a folder that the engine's processes share, under the fingerprint of its content.
A request names the fingerprint, so the same name never means two things.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.storage import build_once, cache_dir
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

#: Names the folder of plans; only where it is set does the plugin change an engine.
PLANS_VARIABLE = "LM_EVAL_TRUST_ENGINE_PLANS"
#: Says how many plans run at once.
SLOTS_VARIABLE = "LM_EVAL_TRUST_ENGINE_SLOTS"
_SLOTS = 64
#: Name of the argument in ``SamplingParams.extra_args``, and in ``vllm_xargs`` over HTTP.
ARGUMENT = "lm_eval_trust"
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")
_SETTINGS = ("layer", "alpha", "action", "positions", "target", "origin")


def default_folder() -> Path:
    """Return where plans lie unless :data:`PLANS_VARIABLE` says otherwise."""
    return cache_dir() / "engine-plans"


def slots() -> int:
    """Return how many plans run at once.

    Raises:
        InputError: :data:`SLOTS_VARIABLE` is not a number above 0.
    """
    told = os.environ.get(SLOTS_VARIABLE, str(_SLOTS))
    if not told.isdecimal() or not int(told):
        raise InputError(f"{SLOTS_VARIABLE} is {told[:40]!r}; expected a whole number above 0.")
    return int(told)


def check_steps(plan: SteeringPlan) -> None:
    """Raise if a plan does what does not run inside vLLM.

    Raises:
        InputError: A step waits for a condition, which is no function of one hidden state, or
            steers attention heads.
    """
    if any(step.when is not None for step in plan.active_steps):
        raise InputError(
            "Steering that waits for a condition (`when:`) does not run inside vLLM, where a "
            "prompt may be read in parts; use steered_amber for it."
        )
    if any(step.site != "block" for step in plan.active_steps):
        raise InputError(
            "Attention heads are not steered inside vLLM, where blocks' outputs are; use "
            "steered_amber for them, or write them into the weights with `lm-eval-trust bake`."
        )


def publish(plan: SteeringPlan, folder: Path) -> str:
    """Put a plan where an engine finds it; return its fingerprint.

    Raises:
        InputError: It does not run inside vLLM.
        ExternalError: The disk refused to write.
    """
    check_steps(plan)
    build_once(_file(folder, plan.fingerprint), partial(_write, plan))
    read_plan(folder, plan.fingerprint)
    return plan.fingerprint


def _file(folder: Path, fingerprint: str) -> Path:
    return folder / f"{fingerprint}.safetensors"


def _write(plan: SteeringPlan, path: Path) -> None:
    steps = plan.active_steps
    tensors = {f"{i}.vector": step.vector.contiguous() for i, step in enumerate(steps)} | {
        f"{i}.parts.{name}": part.contiguous()
        for i, step in enumerate(steps)
        for name, part in step.parts.items()
    }
    settings = [{name: getattr(step, name) for name in _SETTINGS} for step in steps]
    save_file(tensors, path, metadata={"steps": json.dumps(settings)})


@lru_cache(maxsize=1024)
def read_plan(folder: Path, fingerprint: str) -> SteeringPlan:
    """Return the plan with a fingerprint.

    Raises:
        InputError: There is none, or the file does not hold what its name says.
    """
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise InputError(f"{fingerprint[:80]!r} is not the fingerprint of a steering plan.")
    path = _file(folder, fingerprint)
    try:
        with safe_open(path, "pt") as file:
            settings = json.loads(file.metadata()["steps"])
            steps = tuple(
                SteeringStep(
                    vector=file.get_tensor(f"{i}.vector"),
                    parts={
                        name.split(".", 2)[2]: file.get_tensor(name)
                        for name in file.keys()  # noqa: SIM118
                        if name.startswith(f"{i}.parts.")
                    },
                    **values,
                )
                for i, values in enumerate(settings)
            )
    except FileNotFoundError as error:
        raise InputError(
            f"The engine knows no steering {fingerprint}; it has to be published in the folder "
            f"that {PLANS_VARIABLE} names."
        ) from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"The steering {path.name} cannot be read: {error}") from error
    plan = SteeringPlan(steps)
    if plan.fingerprint != fingerprint:
        raise InputError(f"The steering {path.name} was changed after it had been published.")
    return plan


@dataclass(frozen=True)
class RequestSteering:
    """The steering of one request.

    Attributes:
        plan: Fingerprint of its plan; empty for none.
        prompt_end: Index of the last prompt token; ``None`` for the last token that is sent, as
            in generation. A request that scores sends the text to be scored as well, and says
            where its prompt ends.
        private: Whether keys and values from the prompt's end on stay out of the prefix cache. A
            request that scores needs it: vLLM gives no log-probabilities for cached tokens.
    """

    plan: str = ""
    prompt_end: int | None = None
    private: bool = False

    def arguments(self) -> dict[str, str]:
        """Return it as ``extra_args`` of ``SamplingParams``."""
        return {ARGUMENT: json.dumps(vars(self), sort_keys=True)}

    @classmethod
    def of(cls, parameters: Any) -> RequestSteering | None:
        """Return the steering in ``SamplingParams``; ``None`` if there is none.

        Raises:
            InputError: It is malformed.
        """
        extra: Mapping[str, Any] = getattr(parameters, "extra_args", None) or {}
        return None if ARGUMENT not in extra else _parse(extra[ARGUMENT])

    def end_in(self, prompt_tokens: int) -> int:
        """Return the index of the last prompt token of a request that sends so many tokens."""
        return prompt_tokens - 1 if self.prompt_end is None else self.prompt_end


@lru_cache(maxsize=65536)
def _parse_text(text: str) -> RequestSteering:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"The request's steering is not JSON: {text[:80]!r}.") from error
    kinds: Mapping[str, tuple[type, ...]] = {
        "plan": (str,),
        "prompt_end": (int, type(None)),
        "private": (bool,),
    }
    if not isinstance(given, dict) or set(given) - set(kinds):
        raise InputError(
            f"A request's steering has the keys {', '.join(kinds)}; it is {text[:80]!r}."
        )
    for name, value in given.items():
        if type(value) not in kinds[name]:
            raise InputError(f"{name} of the request's steering is {str(value)[:80]!r}.")
    return RequestSteering(**given)


def _parse(given: Any) -> RequestSteering:
    if not isinstance(given, str):
        raise InputError("The request's steering has to be a JSON text.")
    return _parse_text(given)


def plans_folder() -> Path | None:
    """Return the folder of plans; ``None`` in a process whose engine does not steer."""
    named = os.environ.get(PLANS_VARIABLE)
    return Path(named) if named else None
