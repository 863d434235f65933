"""``steered_amber``: AmberChat steered by a vector of a pre-training checkpoint (paper, eq. 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lm_eval_trust.model_wrappers.amber import Amber

AMBER_CHAT = "LLM360/AmberChat"


class SteeredAmber(Amber):
    """Harness model ``steered_amber``.

    By default AmberChat, steered at layer 16 with α = 1 by the mass-mean vector that
    ``LLM360/Amber`` at ``ckpt_179`` gives on the universal set (paper, section 3.4). See
    :class:`lm_eval_trust.model_wrappers.amber.Amber` for the arguments.
    """

    DEFAULT_MODEL: ClassVar[str] = AMBER_CHAT
    DEFAULT_STEERING: ClassVar[Mapping[str, Any]] = {"dimension": "universal"}
