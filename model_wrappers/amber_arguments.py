"""What the arguments of our models ask for, whichever engine runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.mini.benchmarks import MINI
from lm_eval_trust.mini.world import MIDDLE, MIDDLE_LAYER, is_mini
from lm_eval_trust.model_wrappers.arguments import (
    LOADING_ARGUMENTS,
    as_flag,
    parse_arguments,
    plan_from_arguments,
    split_arguments,
)
from lm_eval_trust.model_wrappers.lm_eval_internals import hflm_arguments
from lm_eval_trust.models.sources import MadeModel, made_model
from lm_eval_trust.steering.plan import SteeringPlan

AMBER = "LLM360/Amber"
AMBER_CHAT = "LLM360/AmberChat"
#: Amber's revisions are ckpt_000 to ckpt_358; its last checkpoint, 359, is ``main``.
LAST_CHECKPOINT = 359
#: Of vectors for the embedded family, where the arguments do not say: its own world, a checkpoint
#: between the beginning and the end of pre-training, a middle layer.
MINI_STEERING: dict[str, Any] = {
    "source": MIDDLE,
    "layer": MIDDLE_LAYER,
    "data_source": MINI,
}


@dataclass(frozen=True)
class Asked:
    """What model arguments ask for.

    Attributes:
        pretrained: Hub name or folder, or a ready model.
        plan: The steering.
        allow_leak: Evaluate also on items that a vector was built from, or the model trained on.
        rest: Arguments of the harness's own model.
    """

    pretrained: Any
    plan: SteeringPlan
    allow_leak: bool
    rest: dict[str, Any]


class AmberArguments:
    """Reads the arguments of a model; goes before a model of the harness."""

    #: Model that is evaluated where ``pretrained`` is not given.
    DEFAULT_MODEL: ClassVar[str] = AMBER
    #: Its revision, where neither ``pretrained`` nor a revision is given.
    DEFAULT_REVISION: ClassVar[str | None] = None
    #: Names of arguments that are neither the steering's nor ``HFLM``'s.
    OWN_ARGUMENTS: ClassVar[frozenset[str]] = frozenset(("steering", "checkpoint", "allow_leak"))
    #: Steering request that is made where the arguments name no steering.
    DEFAULT_STEERING: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def asked_for(cls, pretrained: Any, arguments: Mapping[str, Any]) -> Asked:
        """Return what model arguments ask for; see the class.

        Raises:
            InputError: As the class.
        """
        request, own, rest = cls.split(arguments)
        if pretrained is None:
            pretrained = cls.DEFAULT_MODEL
            if cls.DEFAULT_REVISION and not {"checkpoint", "revision"} & set(arguments):
                rest["revision"] = cls.DEFAULT_REVISION
        if "checkpoint" in own:
            rest["revision"] = _revision(own["checkpoint"], pretrained, rest.get("revision"))
        defaults = dict(cls.DEFAULT_STEERING)
        mini = is_mini(pretrained)
        if made := made_model(pretrained):
            pretrained = _made_folder(made, pretrained, rest.pop("revision", None))
        if mini:
            defaults = MINI_STEERING | defaults if defaults else {}
            if "dimension" in request:
                request = MINI_STEERING | request
        plan = plan_from_arguments(
            request,
            own.get("steering"),
            defaults=defaults,
            dtype=rest.get("dtype"),
            device=rest.get("device"),
        )
        allow_leak = as_flag("allow_leak", own.get("allow_leak", False))
        return Asked(pretrained, plan, allow_leak, rest)

    @classmethod
    def split(cls, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Divide arguments into steering request, this class's own and the harness's model's.

        Raises:
            InputError: An argument is none of these.
        """
        return split_arguments(arguments, cls.OWN_ARGUMENTS, cls.harness_arguments())

    @classmethod
    def harness_arguments(cls) -> frozenset[str]:
        """Return the names of the arguments that the harness's own model takes."""
        return hflm_arguments() | LOADING_ARGUMENTS

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> Any:
        """Make the model from ``NAME=VALUE,…``; see ``lm_eval.api.model.LM``.

        Raises:
            InputError: A name is given twice, or what the class raises.
        """
        arguments = parse_arguments(arg_string)
        return cls.create_from_arg_obj(arguments, additional_config)  # type: ignore[attr-defined]


def _made_folder(made: MadeModel, name: str, revision: str | None) -> str:
    """Return the folder of a model that is made on this machine."""
    if revision and "@" in name:
        raise InputError(f"{name} and revision={revision} name the checkpoint twice; keep one.")
    return str(made.make(f"{name}@{revision}" if revision else name))


def _revision(checkpoint: Any, pretrained: Any, revision: Any) -> str:
    """Return the revision that ``checkpoint=`` is short for."""
    if revision is not None:
        raise InputError(
            f"checkpoint={checkpoint} and revision={revision} name the revision twice; keep one."
        )
    number = str(checkpoint).removeprefix("ckpt_")
    if not number.isdigit():
        raise InputError(f"checkpoint={checkpoint!r} is not a checkpoint's number such as 179.")
    if pretrained == AMBER:
        if int(number) > LAST_CHECKPOINT:
            raise InputError(
                f"checkpoint={checkpoint} does not exist: Amber has 0 to {LAST_CHECKPOINT}."
            )
        if int(number) == LAST_CHECKPOINT:
            return "main"
    return f"ckpt_{int(number):03d}"
