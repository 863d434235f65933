"""Checks of an adapter: of its settings, of its file of weights, and of what has been attached.

peft leaves matrices that are missing at their first values, under which an adapter changes nothing
or adds random numbers, and takes any settings.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.loading import FLOATING, check_finite, several, tensor_types

#: What peft puts before the names of the base model's weights.
PREFIX = "base_model.model."


def check_settings(config: Mapping[str, Any], *, where: Path) -> None:
    """Refuse ranks and scales under which an adapter's change is undefined, nothing or reversed.

    Args:
        config: Content of ``adapter_config.json``.
        where: The file, for messages.

    Raises:
        InputError: With the setting.
    """
    for name, value in _numbers(config, "r", "rank_pattern"):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{where}: {name} is {value!r}; expected a whole number from 1 on.")
    for name, value in _numbers(config, "lora_alpha", "alpha_pattern"):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and value > 0):
            raise InputError(f"{where}: {name} is {value!r}; expected a finite number above 0.")


def _numbers(config: Mapping[str, Any], setting: str, pattern: str) -> Iterator[tuple[str, Any]]:
    if setting in config:
        yield setting, config[setting]
    for layers, value in dict(config.get(pattern) or {}).items():
        yield f"{pattern}[{layers!r}]", value


def stored_weights(file: Path) -> set[str]:
    """Return the names of an adapter's weights, once their types are checked.

    Raises:
        InputError: The file is damaged, or holds other numbers than real ones.
    """
    types = tensor_types(file)
    for name, kind in sorted(types.items()):
        if kind not in FLOATING:
            raise InputError(
                f"{file} stores {name} as {kind}, which holds no real numbers; save the adapter as "
                f"F32, F16 or BF16."
            )
    return set(types)


def replaced_weights(stored: set[str], model: nn.Module, config: Mapping[str, Any]) -> set[str]:
    """Return the stored weights that take the place of the base model's own.

    peft stores embeddings this way once their number of rows was changed.

    Args:
        stored: Names in the adapter's file.
        model: The base model, without peft's wrapper.
        config: Content of ``adapter_config.json``; its ``modules_to_save`` are kept with the
            base model's weights.
    """
    own = model.state_dict().keys()
    beside = tuple(config.get("modules_to_save") or ())
    return {
        name
        for name in stored
        if ".original_module." in name
        or (name.removeprefix(PREFIX) in own and not any(f".{part}." in name for part in beside))
    }


def check_attached(
    stored: set[str], expected: Mapping[str, Any], known: Collection[str], *, file: Path
) -> None:
    """Refuse an adapter of whose weights some were missing, had no place, or are no numbers.

    Args:
        stored: Names in the adapter's file.
        expected: Name → weight of the attached adapter, by the names of its file.
        known: Names that may be stored with these.
        file: The adapter's file, for messages.

    Raises:
        InputError: With the first such weight.
    """
    if left_over := stored - set(expected) - set(known):
        raise InputError(
            f"{file} does not fit: {several(left_over)} of its matrices have no place in the model."
        )
    if absent := set(expected) - stored:
        raise InputError(
            f"{file} lacks {several(absent)}, which its configuration names; peft would leave them "
            f"at their first values. Get the whole adapter, or correct its target_modules."
        )
    check_finite(expected, lambda name: f"{name} in {file}", what="the adapter")
