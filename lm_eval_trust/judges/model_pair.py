"""The names behind ``hf:`` and ``openai:``."""

from __future__ import annotations

from pathlib import Path

from lm_eval_trust.core.errors import InputError

#: ``+`` for command lines, which part settings at commas.
_SEPARATORS = (",", "+")


def split_models(models: str) -> tuple[str, str]:
    """Return the model of truth and that of informativeness; one alone serves both.

    Raises:
        InputError: More than two, or an empty name.
    """
    if Path(models).expanduser().is_dir():
        return models, models
    for separator in _SEPARATORS:
        if separator in models:
            parts = [part.strip() for part in models.split(separator)]
            if len(parts) != 2 or not all(parts):
                raise InputError(
                    f"{models!r} names {len(parts)} models; a judge has one, or one of truth and "
                    f"one of informativeness joined by a plus sign."
                )
            return parts[0], parts[1]
    return models, models


def joined(models: str) -> str:
    """Return the models in the one spelling that names of judges have."""
    return ",".join(dict.fromkeys(split_models(models)))
