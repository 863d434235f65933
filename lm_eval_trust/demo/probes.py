"""Probes over the checkpoints of the embedded family: every dimension, every block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tqdm import tqdm

from lm_eval_trust.activations.models import load_source
from lm_eval_trust.activations.store import load_or_extract
from lm_eval_trust.analysis.probing import probe
from lm_eval_trust.data.load import load_statements
from lm_eval_trust.data.settings import MINI
from lm_eval_trust.dimensions import DIMENSIONS
from lm_eval_trust.mini.family import MiniFamily
from lm_eval_trust.mini.members import BASE

ProbeRow = Mapping[str, Any]


def probe_checkpoints(family: MiniFamily) -> list[ProbeRow]:
    """Return a row for each checkpoint, dimension and block.

    Columns: ``checkpoint``, ``step``, ``tokens``, ``dimension``, ``layer`` (0-based block),
    ``accuracy`` and ``majority`` on the test half, ``n_train``, ``n_test``.
    """
    checkpoints = tqdm(family.checkpoints.items(), "Probing checkpoints", unit="checkpoint")
    return [row for name, step in checkpoints for row in _probe_checkpoint(family, name, step)]


def _probe_checkpoint(family: MiniFamily, name: str, step: int) -> Iterator[ProbeRow]:
    model, tokenizer, identity = load_source(f"{BASE}@{name}", dtype="float32", device="cpu")
    layers = range(family.recipe.shape.layers)
    for dimension in DIMENSIONS:
        statements = load_statements(dimension, data_source=MINI)
        activations = load_or_extract(
            model, tokenizer, statements.texts, layers=layers, identity=identity, progress=False
        )
        parts = statements.partition()
        for layer in layers:
            result = probe(
                activations[:, layer], statements.labels, train=parts.train, test=parts.test
            )
            yield {
                "checkpoint": name,
                "step": step,
                "tokens": family.tokens_seen(step),
                "dimension": dimension.name,
                "layer": layer,
                "accuracy": result.accuracy,
                "majority": result.majority,
                "n_train": result.n_train,
                "n_test": result.n_test,
            }
