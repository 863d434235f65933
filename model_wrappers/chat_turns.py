"""Warn where a vector was built from chats and the prompts are plain text, or the reverse."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jinja2

from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.steering.build import BUILDING_PARTS, CHAT_SETTING
from lm_eval_trust.steering.methods import METHODS

_WORDS = "What the user says"


def template_mismatch(
    built_from: Iterable[Provenance], prompts: Iterable[str], tokenizer: Any
) -> str | None:
    """Return what to tell the user if vectors and prompts are written in different ways.

    A prompt counts as a chat if it holds what the tokenizer's template writes between a user's
    words and the assistant's. Vectors that do not say how they were built are left out.

    Args:
        built_from: What the vectors were built from.
        prompts: Prompts of the requests.
        tokenizer: The evaluated model's.

    Returns:
        A sentence; ``None`` if they agree, or if it cannot be known.
    """
    built = [p for p in built_from if p.part in BUILDING_PARTS and p.method in METHODS]
    turn = _turn(tokenizer) if built else ""
    if not turn:
        return None
    asked = [turn in prompt for prompt in prompts]
    for provenance in built:
        chat = CHAT_SETTING in provenance.settings
        if chat and not all(asked):
            return (
                f"The {provenance.dimension} vector was built from chats, and the prompts are "
                f"none; evaluate with --apply_chat_template, or build it without --chat-template."
            )
        if not chat and any(asked):
            return (
                f"The {provenance.dimension} vector was built from plain statements, and the "
                f"prompts are chats; build it with --chat-template, or evaluate without "
                f"--apply_chat_template."
            )
    return None


def _turn(tokenizer: Any) -> str:
    """Return what the template writes between a user's words and an answer; '' if unknown."""
    if not getattr(tokenizer, "chat_template", None):
        return ""
    messages = [{"role": "user", "content": _WORDS}]
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
    except (jinja2.TemplateError, ValueError, TypeError, LookupError):
        return ""
    _, found, turn = text.rpartition(_WORDS)
    return turn.strip() if found else ""
