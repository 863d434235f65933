"""``amber``, LLM360's Amber at any checkpoint, or any other model; ``steered_amber``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.mini.benchmarks import MINI
from lm_eval_trust.mini.world import MIDDLE, MIDDLE_LAYER, is_mini
from lm_eval_trust.model_wrappers.arguments import (
    as_flag,
    parse_arguments,
    plan_from_arguments,
    split_arguments,
)
from lm_eval_trust.model_wrappers.steerable import SteerableLM
from lm_eval_trust.models.sources import MadeModel, made_model

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


class Amber(SteerableLM):
    """Harness model ``amber``.

    Args:
        pretrained: Hub name or folder, ``LLM360/Amber`` by default; or ``mini``, ``mini-chat``,
            ``mini-safe`` or ``mini@CHECKPOINT`` of the embedded family, which is trained on first
            use.
        checkpoint: Short for ``revision=ckpt_NNN``.
        steering: Steering file, see :func:`lm_eval_trust.steering.spec.read_steering_file`.
        allow_leak: Evaluate also on items that a vector was built from, or the model trained on.
        identities: See :class:`lm_eval_trust.model_wrappers.steerable.SteerableLM`.
        trained_on: See :class:`lm_eval_trust.model_wrappers.steerable.SteerableLM`.
        **arguments: The steering arguments of
            :class:`lm_eval_trust.steering.spec.SteeringSpec`, and all of ``HFLM``'s.

    Raises:
        InputError: An unknown argument, a revision that does not exist, steering that does not
            fit the model.
        ExternalError: The model is neither local nor reachable.
    """

    #: Model that is evaluated where ``pretrained`` is not given.
    DEFAULT_MODEL: ClassVar[str] = AMBER
    #: Its revision, where neither ``pretrained`` nor a revision is given.
    DEFAULT_REVISION: ClassVar[str | None] = None
    #: Names of arguments that are neither the steering's nor ``HFLM``'s.
    OWN_ARGUMENTS: ClassVar[frozenset[str]] = frozenset(("steering", "checkpoint", "allow_leak"))
    #: Steering request that is made where the arguments name no steering.
    DEFAULT_STEERING: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        pretrained: Any = None,
        *,
        identities: Mapping[str, str] | None = None,
        trained_on: Sequence[Provenance] = (),
        **arguments: Any,
    ) -> None:
        request, own, rest = split_arguments(arguments, self.OWN_ARGUMENTS)
        if pretrained is None:
            pretrained = self.DEFAULT_MODEL
            if self.DEFAULT_REVISION and not {"checkpoint", "revision"} & set(arguments):
                rest["revision"] = self.DEFAULT_REVISION
        if "checkpoint" in own:
            rest["revision"] = _revision(own["checkpoint"], pretrained, rest.get("revision"))
        defaults = dict(self.DEFAULT_STEERING)
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
        super().__init__(
            pretrained,
            plan=plan,
            allow_leak=allow_leak,
            identities=identities,
            trained_on=trained_on,
            **rest,
        )

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> Amber:
        """Make the model from ``NAME=VALUE,…``; see ``lm_eval.api.model.LM``.

        Raises:
            InputError: A name is given twice, or what the class raises.
        """
        made: Amber = cls.create_from_arg_obj(parse_arguments(arg_string), additional_config)
        return made


class SteeredAmber(Amber):
    """Harness model ``steered_amber``.

    By default AmberChat, steered at layer 16 with α = 1 by the mass-mean vector that
    ``LLM360/Amber`` at ``ckpt_179`` gives on the universal set (arXiv 2402.19465, section 3.4 and
    eq. 2). See :class:`Amber` for the arguments.
    """

    DEFAULT_MODEL: ClassVar[str] = AMBER_CHAT
    DEFAULT_STEERING: ClassVar[Mapping[str, Any]] = {"dimension": "universal"}


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
