from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from lm_eval_trust.benchmarks.load import data_of, load_statements
from lm_eval_trust.benchmarks.registry import (
    DATA_SOURCES,
    DIMENSIONS,
    UNIVERSAL,
    find_dimension,
)
from lm_eval_trust.core.errors import InputError, MissingDataError
from lm_eval_trust.mini.benchmarks import MINI

ALL = (*DIMENSIONS, UNIVERSAL)
SETS = [
    (d.name, source)
    for d in ALL
    for source in DATA_SOURCES
    if data_of(d.benchmark, source).statements
]


@pytest.mark.parametrize(("dimension", "source"), SETS)
def test_sets_load_with_record_and_universe(real_data: Path, dimension: str, source: str) -> None:
    statements = load_statements(dimension, data_source=source)
    assert statements.dimension.name == dimension
    assert statements.data_source == source
    assert set(statements.groups) <= frozenset().union(*statements.universe)
    recorded = "world" if source == MINI else "files"
    assert recorded in statements.settings
    assert all(text.strip() for text in statements.texts)


@pytest.mark.parametrize("dimension", [d.name for d in ALL])
def test_official_sets_are_balanced_and_free_of_repeats(real_data: Path, dimension: str) -> None:
    statements = load_statements(dimension)
    assert statements.labels.mean() == 0.5
    assert len({item.id for item in statements.items}) == len(statements)
    assert len(set(statements.texts)) == len(statements)


@pytest.mark.parametrize("dimension", [d.name for d in ALL])
def test_the_record_reproduces_the_set(real_data: Path, dimension: str) -> None:
    settings = {"data_seed": 5, "perturbation_rate": 0.3, "balanced": True}
    statements = load_statements(dimension, **settings)  # type: ignore[arg-type]
    recorded = {k: v for k, v in statements.settings.items() if k != "files"}
    assert load_statements(dimension, **recorded) == statements


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [d.name for d in ALL])
def test_the_seed_decides(real_data: Path, dimension: str) -> None:
    assert load_statements(dimension, data_seed=1) == load_statements(dimension, data_seed=1)
    assert load_statements(dimension, data_seed=1).texts != load_statements(dimension).texts


@pytest.mark.parametrize("dimension", ["reliability", "toxicity", "privacy", "fairness"])
def test_balance_only_leaves_out(real_data: Path, dimension: str) -> None:
    whole = load_statements(dimension, balanced=False)
    part = load_statements(dimension)
    assert {item.id for item in part.items} < {item.id for item in whole.items}


@pytest.mark.slow
def test_only_robustness_depends_on_the_rate(real_data: Path) -> None:
    for dimension in ALL:
        sets = [load_statements(dimension, perturbation_rate=rate) for rate in (0.05, 0.2)]
        assert (sets[0] == sets[1]) == (dimension.name != "robustness")


def test_names_of_dimension_and_benchmark_are_one(real_data: Path) -> None:
    assert load_statements("Fairness") == load_statements("stereoset")
    assert load_statements(find_dimension("fairness")) == load_statements("stereoset")


@pytest.mark.parametrize("dimension", [d.name for d in ALL])
def test_grouped_parts_share_no_group_and_random_ones_do(real_data: Path, dimension: str) -> None:
    statements = load_statements(dimension, balanced=False)
    groups = statements.groups
    for split, shared in (("grouped", False), ("random", len(set(groups)) < len(groups))):
        parts = statements.partition(split=split, seed=1)
        sides = [{groups[i] for i in p} for p in (parts.train, parts.validation, parts.test)]
        assert any(a & b for a, b in itertools.combinations(sides, 2)) == shared


@pytest.mark.parametrize("dimension", [d.name for d in ALL])
def test_halves_are_halves(real_data: Path, dimension: str) -> None:
    parts = load_statements(dimension).partition()
    total = len(parts.train) + len(parts.validation) + len(parts.test)
    assert len(parts.test) / total == pytest.approx(1 / 2, abs=0.04)
    assert len(parts.validation) / len(parts.development) == pytest.approx(1 / 5, abs=0.03)


def test_bad_names_and_rates() -> None:
    with pytest.raises(InputError, match="Did you mean 'toxicity'"):
        load_statements("toxcity")
    with pytest.raises(InputError, match="Unknown data_source 'released'"):
        load_statements("toxicity", data_source="released")
    with pytest.raises(InputError, match="perturbation_rate=20"):
        load_statements("robustness", perturbation_rate=20)


def test_a_set_that_was_not_released() -> None:
    with pytest.raises(InputError, match=r"pku-rlhf-10k\.csv"):
        load_statements(UNIVERSAL, data_source="tracingllm")


def test_a_rate_that_perturbs_nothing_leaves_nothing(real_data: Path) -> None:
    with pytest.raises(InputError, match="No statements are left for robustness"):
        load_statements("robustness", perturbation_rate=0.0)


def test_missing_data_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match=r"toxigen/toxiGen\.json"):
        load_statements("toxicity")
