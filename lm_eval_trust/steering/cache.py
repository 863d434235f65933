"""Vectors that are built on first use and found again afterwards."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.storage import build_once, cache_dir
from lm_eval_trust.models.sources import find_source, load_pinned, resolve_dtype
from lm_eval_trust.steering.build import build_vector, provenance_of
from lm_eval_trust.steering.files import FORMAT, to_bytes
from lm_eval_trust.steering.vectors import SteeringVector, load_vector

_LOG = logging.getLogger(__name__)

#: The validation part stays untouched, for choosing layers and strengths.
_PART = "train"


def cached_vector(
    *,
    dimension: str,
    source: str,
    layers: Sequence[int],
    method: str = "mass_mean",
    data_source: str = "official",
    split: str = "grouped",
    split_seed: int = 0,
    data_seed: int = 0,
    dtype: str | None = "float32",
    device: str | None = None,
) -> SteeringVector:
    """Return the vector of a dimension from a source model, built now or before.

    The entry's key is made of everything that the vector depends on: the model's commit or
    content, dtype, the statements' ids, split, seeds, method and layers. The vector is built from
    the training part. Two processes that ask at once build once.

    Args:
        dimension: A dimension or benchmark, e.g. ``truthfulqa``.
        source: ``MODEL[@REVISION]``, see :func:`lm_eval_trust.models.sources.find_source`.
        layers: 0-based decoder blocks.
        method: ``mass_mean``, ``pca`` or ``logistic``.
        data_source: ``official`` or ``tracingllm``.
        split: ``grouped`` or ``random``.
        split_seed: Seed of the partition.
        data_seed: Seed of the choice of statements.
        dtype: In which the source model runs; see
            :func:`lm_eval_trust.models.sources.load_source`.
        device: Where it runs.

    Raises:
        InputError: As :func:`lm_eval_trust.steering.build.build_vector`, or the model or the data
            cannot be had.
        ExternalError: The Hub cannot be reached, or the cache cannot be written.
    """
    chosen = sorted(layers)
    found = find_source(source)
    statements = load_statements(dimension, data_source=data_source, data_seed=data_seed)
    provenance = provenance_of(
        statements,
        identity=found.identity,
        dtype=resolve_dtype(dtype, device),
        method=method,
        split=split,
        split_seed=split_seed,
        part=_PART,
    )
    key = fingerprint({"provenance": provenance.fingerprint, "layers": chosen, "format": FORMAT})
    path = cache_dir() / "vectors" / f"{key}.safetensors"

    def build(temporary: Path) -> None:
        model, tokenizer = load_pinned(found, dtype=dtype, device=device)
        vector = build_vector(
            model,
            tokenizer,
            statements,
            layers=chosen,
            identity=found.identity,
            method=method,
            split=split,
            split_seed=split_seed,
            part=_PART,
        )
        temporary.write_bytes(to_bytes(vector))

    try:
        return load_vector(build_once(path, build))
    except InputError:
        if not path.exists():
            raise
        _LOG.warning("%s is damaged; the vector is built again.", path)
        path.unlink()
        return load_vector(build_once(path, build))
