"""inspect_ai: our steered models as its models, ``lm_eval_trust/MODEL``.

inspect_ai loads this package by the entry point group ``inspect_ai``; models are loaded on first
use. Its logs are read by :mod:`lm_eval_trust.core.inspect_logs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspect_ai.model import modelapi

if TYPE_CHECKING:
    from inspect_ai.model import ModelAPI


@modelapi(name="lm_eval_trust")  # type: ignore[untyped-decorator]
def lm_eval_trust() -> type[ModelAPI]:
    """Return the provider of steered models, see :mod:`lm_eval_trust.inspect_bridge.provider`."""
    from lm_eval_trust.inspect_bridge.provider import TrustModel

    return TrustModel
