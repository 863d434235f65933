"""What predicts that a vector steers, against direct formulations and planted truths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from lm_eval_trust.benchmarks.registry import find_dimension
from lm_eval_trust.benchmarks.statements import Statement, Statements
from lm_eval_trust.models.activations import extract_activations
from lm_eval_trust.models.sources import ModelIdentity
from lm_eval_trust.steering.build import build_vector
from lm_eval_trust.steering.evidence import (
    Evidence,
    HeldOut,
    doubts,
    evidence_of,
    from_record,
    table,
    to_record,
)
from lm_eval_trust.steering.vectors import load_vector

Planted = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], list[str]]


def planted(seed: int, *, strength: float, pairs: int = 40, width: int = 24) -> Planted:
    """Pairs of statements about one topic each, whose labels differ along the first axis."""
    random = np.random.default_rng(seed)
    topics = np.repeat(random.standard_normal((pairs, width)) * 2, 2, axis=0)
    labels = np.tile([0, 1], pairs)
    states = topics + random.standard_normal((2 * pairs, width))
    states[:, 0] += strength * labels
    return states.astype(np.float32), labels, [str(pair) for pair in range(pairs) for _ in (0, 1)]


def found_in(seed: int, *, strength: float) -> Evidence:
    states, labels, groups = planted(seed, strength=strength)
    train, rest = slice(0, 56), slice(56, None)
    high, low = (states[train][labels[train] == y].mean(axis=0) for y in (1, 0))
    held_out = HeldOut(states[rest], labels[rest], groups[rest])
    return evidence_of(
        high - low,
        states[train],
        labels[train],
        groups[train],
        held_out,
    )


def test_the_figures_are_what_their_definitions_say() -> None:
    states, labels, groups = planted(3, strength=1.0, pairs=12)
    direction = np.random.default_rng(1).standard_normal(24)
    found = evidence_of(direction, states, labels, groups, HeldOut(states, labels, groups))
    differences = [(states[2 * i + 1] - states[2 * i]).astype(float) for i in range(12)]
    mean = np.mean(differences, axis=0)

    def cosine(a: Any, b: Any) -> float:
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    assert found.pairs == 12
    assert found.agreement == pytest.approx(np.mean([cosine(d, mean) for d in differences]))
    against = [
        cosine(d, np.mean([o for o in differences if o is not d], axis=0)) < 0 for d in differences
    ]
    assert found.reversed == pytest.approx(np.mean(against))
    high, low = (states[labels == y].astype(float) @ direction for y in (1, 0))
    wins = [(h > other) + 0.5 * (h == other) for h in high for other in low]
    assert found.auroc == pytest.approx(np.mean(wins))
    spread = np.sqrt((np.var(high) + np.var(low)) / 2)
    assert found.d_prime == pytest.approx((high.mean() - low.mean()) / spread)


def test_chance_is_what_pairs_in_random_order_give() -> None:
    """Of n unrelated differences the mean has a cosine of about 1/√n with each."""
    found = found_in(0, strength=0.0)
    assert found.agreement_by_chance is not None
    assert 28**-0.5 < found.agreement_by_chance < 28**-0.5 + 0.06


def test_statements_without_a_direction_are_doubted_and_planted_ones_are_not() -> None:
    """Each of the two doubts is left out by chance in about 5 % of empty sets."""
    empty = [found_in(seed, strength=0.0) for seed in range(120)]
    for what in ("agree no more", "apart no better"):
        doubted = sum(what in " ".join(doubts({0: each})) for each in empty)
        assert doubted > (1 - 0.13) * len(empty), what
    clear = [found_in(seed, strength=2.5) for seed in range(40)]
    assert sum(bool(doubts({0: e})) for e in clear) <= 2
    assert np.mean([e.auroc or 0 for e in clear]) > 0.7


def test_answers_that_resemble_each_other_are_no_direction() -> None:
    """Whichever side of a question is called right, a random direction exceeds chance rarely."""
    random, beyond = np.random.default_rng(3), 0
    labels, questions = np.tile(np.repeat([0, 1], (2, 3)), 24), np.repeat(np.arange(24), 5)
    groups = [str(question) for question in questions]
    for _ in range(200):
        sides = random.normal(size=(48, 12))[2 * questions + labels]
        states = (sides + 0.3 * random.normal(size=sides.shape)).astype(np.float32)
        held_out = HeldOut(states, labels, groups)
        found = evidence_of(random.normal(size=12), states, labels, groups, held_out)
        assert found.auroc is not None and found.auroc_by_chance is not None
        beyond += found.auroc > found.auroc_by_chance
    # 10 are expected, with a standard deviation of 3.
    assert 2 <= beyond <= 19


def test_pairs_that_point_both_ways_are_counted() -> None:
    states, labels, groups = planted(5, strength=6.0)
    flipped = labels.copy()
    flipped[:20] = 1 - flipped[:20]
    found = evidence_of(np.ones(24), states, flipped, groups, None)
    assert found.reversed == pytest.approx(0.25, abs=0.05)


def test_layers_are_named_together() -> None:
    poor = Evidence(9, 0.1, 0.2, 0.5, 0.5, 0.6, 0.0)
    good = Evidence(9, 0.4, 0.2, 0.0, 0.9, 0.6, 1.0)
    first, second = doubts({3: poor, 1: good, 2: poor})
    assert first.startswith("At layers 2, 3 the differences of the pairs agree no more")
    assert second.startswith("At layers 2, 3 the direction tells")
    assert doubts({1: good, 2: Evidence(0)}) == []
    assert "-" in table({2: Evidence(0)})


@pytest.mark.parametrize("pairs", [2, 4])
def test_too_few_pairs_show_nothing(pairs: int) -> None:
    states, labels, groups = planted(1, strength=50.0, pairs=pairs)
    found = evidence_of(np.eye(24)[0], states, labels, groups, HeldOut(states, labels, groups))
    assert "agree no more" in doubts({0: found})[0]


def test_what_cannot_be_measured_is_left_open() -> None:
    states, labels, groups = planted(1, strength=1.0)
    alone = [str(i) for i in range(len(groups))]
    one_label = HeldOut(states[labels == 1], labels[labels == 1], groups[:40])
    assert evidence_of(np.eye(24)[0], states, labels, alone, one_label) == Evidence(0)
    equal = HeldOut(np.zeros_like(states), labels, groups)
    found = evidence_of(np.eye(24)[0], states, labels, alone, equal)
    assert (found.auroc, found.d_prime) == (0.5, None)


def test_a_vector_keeps_its_evidence_and_never_reads_the_test_half(
    tiny_llama: Callable[..., Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    llama = AutoModelForCausalLM.from_pretrained(tiny_llama()).eval()
    items = tuple(
        Statement(f"Town number {town} lies {place}.", label, str(town))
        for town in range(30)
        for label, place in enumerate(("in the hills", "by the sea"))
    )
    statements = Statements(find_dimension("fairness"), "official", items)
    identity = ModelIdentity("tiny", "first")
    settings: dict[str, Any] = {"layers": [1], "identity": identity, "progress": False}
    vector = build_vector(llama, tokenizer, statements, **settings)
    assert vector.provenance is not None
    found = from_record(vector.provenance.evidence)
    assert to_record(found) == vector.provenance.evidence
    parts = statements.partition()
    held_out = statements.select(parts.validation)
    states = extract_activations(llama, tokenizer, held_out.texts, layers=[1], progress=False)[:, 0]
    projections = states @ vector.layer(1).direction.numpy()
    # Fairness counts its label 0 as trustworthy.
    high, low = (projections[held_out.labels == y] for y in (0, 1))
    assert found[1].auroc == pytest.approx(np.mean(high[:, None] > low[None]))
    assert found[1].pairs == len(parts.train) / 2
    path = tmp_path / "v.safetensors"
    vector.save(path)
    back = load_vector(path)
    assert back.provenance == vector.provenance
    assert "evidence:" in back.describe() and "AUROC" in back.describe()
    assert "evidence" not in back.provenance.summary()
    whole = build_vector(llama, tokenizer, statements, part="development", **settings)
    assert whole.provenance is not None
    assert from_record(whole.provenance.evidence)[1].auroc is None
