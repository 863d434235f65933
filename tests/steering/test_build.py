from __future__ import annotations

import math
import statistics as stdlib_statistics
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from lm_eval_trust.benchmarks.benchmark import Dimension
from lm_eval_trust.benchmarks.load import load_rows, load_statements
from lm_eval_trust.benchmarks.registry import find_dimension
from lm_eval_trust.benchmarks.statements import Statement, Statements
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.models.activations import extract_activations
from lm_eval_trust.models.sources import ModelIdentity
from lm_eval_trust.steering.build import build_vector
from lm_eval_trust.steering.vectors import SteeringVector

IDENTITY = ModelIdentity("tiny", "first", commit="c0ffee")


def some_statements(dimension: str | Dimension = "reliability", towns: int = 20) -> Statements:
    """Each invented town twice: inland (y = 0) and by the sea (y = 1)."""
    found = find_dimension(dimension) if isinstance(dimension, str) else dimension
    items = tuple(
        Statement(f"Town number {town} lies {place}.", label, group_id(str(town)))
        for town in range(towns)
        for label, place in enumerate(("in the hills", "by the sea"))
    )
    return Statements(found, "official", items, {"data_seed": 7})


@pytest.fixture
def llama(tiny_llama: Callable[..., Path]) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(tiny_llama()).eval()


def build(model: Any, tokenizer: Any, statements: Statements, **changes: Any) -> SteeringVector:
    settings: dict[str, Any] = {"layers": [0, 2], "identity": IDENTITY, "progress": False}
    return build_vector(model, tokenizer, statements, **settings | changes)


@pytest.mark.parametrize("part", ["train", "development"])
@pytest.mark.parametrize("split", ["grouped", "random"])
def test_the_mass_mean_is_what_the_formula_says(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, split: str, part: str
) -> None:
    statements = some_statements()
    vector = build(llama, tokenizer, statements, split=split, split_seed=3, part=part)
    used = statements.select(statements.partition(split=split, seed=3).part(part))
    activations = extract_activations(llama, tokenizer, used.texts, layers=[0, 2], progress=False)
    for at, layer in enumerate((0, 2)):
        values = activations[:, at].astype(np.float64)
        by_label = [[v for v, y in zip(values, used.labels, strict=True) if y == k] for k in (0, 1)]
        expected = np.mean(by_label[1], axis=0) - np.mean(by_label[0], axis=0)
        found = vector.layer(layer)
        np.testing.assert_allclose(found.direction.numpy(), expected, rtol=1e-4, atol=1e-5)
        projections = values @ (expected / np.linalg.norm(expected))
        centred = projections - projections.mean()
        assert found.projection_std == pytest.approx(np.sqrt((centred**2).mean()), rel=1e-4)
        assert found.target == pytest.approx(projections[used.labels == 1].mean(), rel=1e-4)
        lengths = sorted(math.sqrt(sum(value * value for value in state)) for state in values)
        assert found.state_norm == pytest.approx(stdlib_statistics.median(lengths), rel=1e-4)


@pytest.mark.parametrize("method", ["mass_mean", "pca", "logistic"])
@pytest.mark.parametrize("dimension", ["reliability", "fairness"])
def test_every_direction_points_to_the_trustworthy_side(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, method: str, dimension: str
) -> None:
    statements = some_statements(dimension)
    vector = build(llama, tokenizer, statements, method=method)
    used = statements.select(statements.partition().part("train"))
    activations = extract_activations(llama, tokenizer, used.texts, layers=[0, 2], progress=False)
    trustworthy = used.labels == find_dimension(dimension).trustworthy_label
    for at, layer in enumerate((0, 2)):
        projections = activations[:, at] @ vector.layer(layer).unit.numpy()
        assert projections[trustworthy].mean() > projections[~trustworthy].mean()
        assert vector.layer(layer).target == pytest.approx(projections[trustworthy].mean(), 1e-4)


def test_the_vector_knows_what_it_was_built_from(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    statements = some_statements("fairness")
    provenance = build(llama, tokenizer, statements, split_seed=5, method="pca").provenance
    assert provenance is not None
    parts = statements.partition(seed=5)
    used = [statements.items[i] for i in parts.train]
    assert set(provenance.items) == {item.id for item in used}
    assert set(provenance.groups) == {item.group for item in used}
    assert set(provenance.groups).isdisjoint(statements.groups[i] for i in parts.test)
    assert set(provenance.groups).isdisjoint(statements.groups[i] for i in parts.validation)
    assert (provenance.model, provenance.revision) == ("tiny", "first")
    assert (provenance.dimension, provenance.method) == ("fairness", "pca")
    assert (provenance.split, provenance.split_seed, provenance.part) == ("grouped", 5, "train")
    assert provenance.settings == {"data_seed": 7, "commit": "c0ffee", "dtype": "float32"}
    assert provenance.versions["torch"] == version("torch")


def test_test_statements_leave_no_trace(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    statements = some_statements()
    parts = statements.partition()
    replaced = list(statements.items)
    for position in (*parts.test, *parts.validation):
        old = replaced[position]
        replaced[position] = Statement("Something else entirely.", 1 - old.label, old.group)
    changed = Statements(statements.dimension, "official", tuple(replaced), statements.settings)
    before, after = (build(llama, tokenizer, s) for s in (statements, changed))
    for layer in (0, 2):
        assert torch.equal(before.layer(layer).direction, after.layer(layer).direction)
        assert before.layer(layer).projection_std == after.layer(layer).projection_std


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "mean"}, "Unknown method 'mean'"),
        ({"split": "sorted"}, "Unknown split 'sorted'"),
        ({"part": "test"}, "part to build from 'test'"),
        ({"layers": [3]}, "Layer 3 is out of range"),
    ],
)
def test_impossible_requests_are_refused(
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    change: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        build(llama, tokenizer, some_statements(), **change)


def test_a_part_with_one_label_is_refused(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    whole = some_statements()
    seaside = whole.select(np.flatnonzero(whole.labels == 1))
    with pytest.raises(InputError, match="0 with y = 0 and 8 with y = 1"):
        build(llama, tokenizer, seaside)


def test_statements_that_do_not_differ_are_refused(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    items = tuple(
        Statement("The same.", label, group_id(str(town))) for town in range(8) for label in (0, 1)
    )
    with pytest.raises(InputError, match="finds no direction"):
        build(llama, tokenizer, Statements(find_dimension("toxicity"), "official", items))


def test_real_statements_use_the_partition_of_the_task_rows(
    tiny_llama: Callable[..., Path], tokenizer: PreTrainedTokenizerFast, data_dir: Path
) -> None:
    llama = AutoModelForCausalLM.from_pretrained(tiny_llama(max_length=2048)).eval()
    statements = load_statements("confaide")
    provenance = build(llama, tokenizer, statements, layers=[0]).provenance
    assert provenance is not None
    rows = load_rows("confaide_binary")
    assert rows and set(provenance.groups).isdisjoint(row["group_id"] for row in rows)
