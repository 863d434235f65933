"""The wrappers' model arguments: which exist, and which belong to the steering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lm_eval.utils import simple_parse_args_string

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.steering.conditions import nested
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import (
    STEERING_KEYS,
    SteeringSpec,
    combined_plan,
    read_steering_file,
)

#: Arguments that ``HFLM`` hands on to ``from_pretrained``.
LOADING_ARGUMENTS = frozenset(
    (
        "attn_implementation",
        "bnb_4bit_compute_dtype",
        "bnb_4bit_quant_type",
        "bnb_4bit_use_double_quant",
        "cache_dir",
        "device_map",
        "experts_implementation",
        "force_download",
        "key_mapping",
        "load_in_4bit",
        "load_in_8bit",
        "local_files_only",
        "low_cpu_mem_usage",
        "quantization_config",
        "token",
        "use_safetensors",
        "variant",
        "weights_only",
    )
)


def parse_arguments(text: str) -> dict[str, Any]:
    """Return model arguments that are written as ``NAME=VALUE,…``, as the harness reads them.

    Raises:
        InputError: A name is given twice, of which the harness would take the last.
    """
    names = [part.partition("=")[0] for part in text.split(",") if part]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"The model argument {name!r} is given twice; keep one.")
    found: dict[str, Any] = simple_parse_args_string(text)
    return found


def split_arguments(
    arguments: Mapping[str, Any], own_names: frozenset[str], harness: frozenset[str]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Divide a wrapper's arguments into steering request, wrapper's own and the harness's.

    Args:
        arguments: All of them.
        own_names: Names of the wrapper's arguments.
        harness: Names of those of the harness's own model.

    Raises:
        InputError: An argument is none of these; the nearest name is suggested.
    """
    arguments = nested(arguments)
    allowed = frozenset(STEERING_KEYS) | own_names | harness
    for name in arguments:
        if name not in allowed:
            raise unknown_name("model argument", name, allowed)
    request = {k: v for k, v in arguments.items() if k in STEERING_KEYS}
    if request.get("scale", "") is None:
        request["scale"] = "none"  # The harness reads `scale=none` as a null.
    own = {k: v for k, v in arguments.items() if k in own_names}
    rest = {k: v for k, v in arguments.items() if k not in {*STEERING_KEYS, *own_names}}
    return request, own, rest


def plan_from_arguments(
    request: Mapping[str, Any],
    steering_file: str | None,
    *,
    defaults: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    device: str | None = None,
) -> SteeringPlan:
    """Return the plan that model arguments ask for; empty where they ask for none.

    Args:
        request: Arguments of one vector (``vector`` or ``dimension``, ``layer``, ``alpha``, …).
        steering_file: Value of ``steering=``.
        defaults: Request to make where the arguments name neither vector, dimension nor file.
        dtype: In which the source model runs where a vector has to be built; see
            :func:`lm_eval_trust.models.sources.load_source`.
        device: Where it runs.

    Raises:
        InputError: Both a file and single arguments, or settings without a vector.
    """
    device = _usable(device)
    if steering_file is not None:
        if request:
            raise InputError(
                f"steering={steering_file} holds the whole steering; "
                f"{', '.join(sorted(request))} cannot be given beside it."
            )
        return combined_plan(read_steering_file(steering_file), dtype=dtype, device=device)
    if defaults and not {"vector", "dimension"} & set(request):
        request = {**defaults, **request}
    if not request:
        return SteeringPlan()
    spec = SteeringSpec.parse(request, where="the model arguments")
    return spec.plan(dtype=dtype, device=device)


def as_flag(name: str, value: Any) -> bool:
    """Return a model argument as a truth value.

    Raises:
        InputError: It is neither true nor false.
    """
    text = str(value).strip().lower()
    if text not in ("true", "false", "1", "0"):
        raise InputError(f"{name}={value!r} is neither true nor false.")
    return text in ("true", "1")


def _usable(device: Any) -> str | None:
    # The harness asks for cuda:0 unless told otherwise, and falls back to what there is.
    if device is None or (str(device).startswith("cuda") and not torch.cuda.is_available()):
        return None
    return str(device)
