"""``amber``: LLM360's Amber at any checkpoint, or any other model; ``steered_amber``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.model_wrappers.amber_arguments import AMBER_CHAT, AmberArguments
from lm_eval_trust.model_wrappers.steerable import SteerableLM


class Amber(AmberArguments, SteerableLM):
    """Harness model ``amber``.

    Args:
        pretrained: Hub name or folder, ``LLM360/Amber`` by default; or ``mini``, ``mini-chat``,
            ``mini-safe`` or ``mini@CHECKPOINT`` of the embedded family, which is trained on first
            use.
        checkpoint: Short for ``revision=ckpt_NNN``.
        steering: Steering file, see :func:`lm_eval_trust.steering.spec.read_steering_file`.
        allow_leak: Also evaluate on items that a vector was built from or the model was trained on.
        identities: See :class:`lm_eval_trust.model_wrappers.steerable.SteerableLM`.
        trained_on: See :class:`lm_eval_trust.model_wrappers.steerable.SteerableLM`.
        **arguments: The steering arguments of
            :class:`lm_eval_trust.steering.spec.SteeringSpec`, and all of ``HFLM``'s.

    Raises:
        InputError: An unknown argument, a revision that does not exist, steering that does not
            fit the model.
        ExternalError: The model is neither local nor reachable.
    """

    def __init__(
        self,
        pretrained: Any = None,
        *,
        identities: Mapping[str, str] | None = None,
        trained_on: Sequence[Provenance] = (),
        **arguments: Any,
    ) -> None:
        asked = self.asked_for(pretrained, arguments)
        super().__init__(
            asked.pretrained,
            plan=asked.plan,
            allow_leak=asked.allow_leak,
            identities=identities,
            trained_on=trained_on,
            **asked.rest,
        )


class SteeredAmber(Amber):
    """Harness model ``steered_amber``.

    By default AmberChat, steered at layer 16 with α = 1 by the mass-mean vector that
    ``LLM360/Amber`` at ``ckpt_179`` gives on the universal set (arXiv 2402.19465, section 3.4 and
    eq. 2). See :class:`Amber` for the arguments.
    """

    DEFAULT_MODEL: ClassVar[str] = AMBER_CHAT
    DEFAULT_STEERING: ClassVar[Mapping[str, Any]] = {"dimension": "universal"}
