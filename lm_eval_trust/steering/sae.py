"""Features of sparse autoencoders as steering vectors: a feature's row of the decoder.

Read are folders of SAELens (``cfg.json`` and ``sae_weights.safetensors``) and any safetensors file
with a decoder ``W_dec`` of shape (features, hidden), such as EleutherAI's. Only one row is read, so
the size of the autoencoder does not matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.core.file_digest import file_digest
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.models.loading import several
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

_CONFIG = "cfg.json"
_WEIGHTS = ("sae_weights.safetensors", "sae.safetensors")
_DECODER = "W_dec"
#: A block's output in TransformerLens' names, and what goes into the next one, which is the same.
_AFTER = re.compile(r"blocks\.(\d+)\.hook_resid_post")
_BEFORE = re.compile(r"blocks\.(\d+)\.hook_resid_pre")
#: The module of a block in transformers' names; an autoencoder reads its output.
_MODULE = re.compile(r"(?:\w+\.)*(?:layers|h|blocks)\.(\d+)")
#: Normalisations of an autoencoder's input under which a row keeps its direction.
_SAME_DIRECTION = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")
_EXAMPLE = "blocks.15.hook_resid_post"


def read_feature(path: Path, feature: int, *, layer: int | None = None) -> SteeringVector:
    """Return a feature's decoder row as a steering vector.

    Args:
        path: A folder of SAELens, or a safetensors file with ``W_dec``.
        feature: Number of the feature, from 0.
        layer: 0-based decoder block to whose output the row is added. A folder's configuration
            names the block itself, and has to agree; a file needs it.

    Returns:
        The vector, without a standard deviation or target. Its provenance names no items: what the
        autoencoder was trained on is not known.

    Raises:
        InputError: The path holds no such autoencoder, it reads something else than a block's
            output, there is no such feature, or its row is not finite or zero.
    """
    if path.is_dir():
        config, weights = _config(path), _weights(path)
        at = _layer(path, weights, config, layer)
    else:
        config, weights = {}, path
        if layer is None:
            raise InputError(
                f"{path} does not say which block it belongs to; pass --layer N, or the folder "
                f"with its {_CONFIG}."
            )
        at = layer
    row = _row(weights, feature, config)
    try:
        direction = LayerVector(row)
    except InputError as error:
        raise InputError(f"Feature {feature} of {weights} cannot be used: {error}") from error
    provenance = _provenance(path, weights, config, feature)
    return SteeringVector({at: direction}, provenance, name=f"feature {feature} of {path}")


def _config(folder: Path) -> Mapping[str, Any]:
    file = folder / _CONFIG
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} is no folder of SAELens: {_CONFIG} cannot be read ({reason_of(error)}). "
            f"Pass its weights as a file, with --layer N."
        ) from error
    metadata = found.get("metadata") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(metadata or {}, dict):
        raise InputError(f"{file} is no configuration of SAELens: it holds no mapping.")
    # Since SAELens 6 what concerns the language model stands under `metadata`.
    return {**found, **(metadata or {})}


def _weights(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"{folder} holds neither {' nor '.join(_WEIGHTS)}; download the autoencoder's weights into "
        f"it, or pass them as a file with --layer N."
    )


def _layer(path: Path, weights: Path, config: Mapping[str, Any], given: int | None) -> int:
    """Return the block whose output the decoder writes, by the configuration's hook point."""
    # A transcoder reads one place and writes another; up to SAELens 3 it was called hook_point.
    names = (config.get(name) for name in ("hook_name_out", "hook_name", "hook_point"))
    hook = next((name for name in names if name), None)
    if hook is None and path.name.startswith("layers."):
        hook = path.name  # EleutherAI's folders are named after the module.
    at = _block(str(hook)) if hook is not None else given
    if at is None:
        reads = f"writes to {hook!r}" if hook is not None else "does not say where it writes to"
        raise InputError(
            f"The autoencoder in {path} {reads}; read are those of a block's output, such as "
            f"{_EXAMPLE}. To add the row to the output of block N all the same, pass "
            f"{weights} with --layer N."
        )
    if given is not None and given != at:
        raise InputError(
            f"The autoencoder in {path} belongs to {hook!r}, the output of block {at}, and not of "
            f"block {given}; pass --layer {at}, or leave it out."
        )
    normalised = str(config.get("normalize_activations") or "none")
    if normalised not in (*_SAME_DIRECTION, "True", "False"):
        raise InputError(
            f"The autoencoder in {path} normalises states by {normalised!r}, which turns them, so "
            f"that a row is no direction of theirs; fold the normalisation into its weights first."
        )
    return at


def _block(hook: str) -> int | None:
    if found := _AFTER.fullmatch(hook) or _MODULE.fullmatch(hook):
        return int(found[1])
    found = _BEFORE.fullmatch(hook)
    return int(found[1]) - 1 if found and int(found[1]) > 0 else None


def _row(weights: Path, feature: int, config: Mapping[str, Any]) -> torch.Tensor:
    try:
        with safe_open(weights, framework="pt") as file:
            names = list(file.keys())
            if _DECODER not in names:
                raise InputError(
                    f"{weights} holds no decoder {_DECODER} (tensors {several(names)}); expected "
                    f"an autoencoder of SAELens, or a file with {_DECODER}."
                )
            decoder = file.get_slice(_DECODER)
            shape = tuple(decoder.get_shape())
            _check_shape(weights, shape, config)
            if not 0 <= feature < shape[0]:
                raise InputError(
                    f"{weights} has no feature {feature}; it has {shape[0]}, from 0 on."
                )
            row: torch.Tensor = decoder[feature : feature + 1]
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{weights} is not a whole safetensors file ({reason_of(error)}); download it again."
        ) from error
    return row[0].clone()


def _check_shape(weights: Path, shape: tuple[int, ...], config: Mapping[str, Any]) -> None:
    width = config.get("d_out") or config.get("d_in")
    features = config.get("d_sae") or config.get("num_latents") or None
    asked = (features or (shape[0] if shape else 0), width or shape[-1] if shape else 0)
    if len(shape) != 2 or shape != asked:
        raise InputError(
            f"{_DECODER} of {weights} has shape {shape}; expected (features, hidden)"
            + (f", which its {_CONFIG} says is {asked}." if config else ".")
        )


def _provenance(path: Path, weights: Path, config: Mapping[str, Any], feature: int) -> Provenance:
    kept = ("architecture", "hook_name", "hook_name_out", "hook_point", "neuronpedia_id")
    told = {name: config[name] for name in kept if config.get(name)}
    return Provenance(
        model=str(config.get("model_name") or "unknown"),
        revision="unknown",
        dimension="custom",
        data_source=str(path),
        split="none",
        split_seed=0,
        part="all",
        method="sae",
        items=(),
        groups=(),
        settings={"feature": feature, "sae": file_digest(weights), **told},
    )
