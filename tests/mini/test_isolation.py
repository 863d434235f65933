"""The real benchmarks never read the embedded world, and the other way round."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.harness import manager

from lm_eval_trust.benchmarks import files
from lm_eval_trust.benchmarks.load import data_of, load_rows, load_statements
from lm_eval_trust.benchmarks.registry import BENCHMARKS as REAL
from lm_eval_trust.benchmarks.registry import DIMENSIONS, UNIVERSAL, benchmarks_by_form
from lm_eval_trust.core.errors import InputError, TrustError
from lm_eval_trust.mini.benchmarks import BENCHMARKS, groups_of
from lm_eval_trust.mini.world import SEED_VARIABLE, build_world

MINI_TASKS = [f"{d.task}_mini" for d in DIMENSIONS]


@pytest.fixture
def no_real_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a real file is caught."""

    def refuse(name: str) -> Path:
        raise AssertionError(f"read the real file {name}")

    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(files, "locate", refuse)
    monkeypatch.setattr("lm_eval_trust.benchmarks.files.locate", refuse)


@pytest.mark.usefixtures("no_real_data")
def test_the_mini_tasks_and_statements_touch_no_real_file() -> None:
    assert set(manager().load(MINI_TASKS)["tasks"]) == set(MINI_TASKS)
    for dimension in (*DIMENSIONS, UNIVERSAL):
        assert len(load_statements(dimension, data_source="mini").partition().train) > 100


@pytest.mark.usefixtures("no_real_data")
@pytest.mark.parametrize("task", [d.task for d in DIMENSIONS])
def test_a_real_task_refuses_the_mini_world(task: str) -> None:
    with pytest.raises(InputError, match="run trust_suite_mini instead"):
        manager(data_source="mini").load([task])


@pytest.mark.usefixtures("no_real_data")
@pytest.mark.parametrize("source", ["official", "tracingllm"])
def test_a_mini_task_cannot_be_turned_to_real_data(source: str) -> None:
    tasks = manager(data_source=source).load(MINI_TASKS)["tasks"]
    for task in tasks.values():
        assert task.config.metadata["data_source"] == "mini"


def test_without_real_data_a_real_task_does_not_fall_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(tmp_path))
    with pytest.raises(TrustError):
        manager().load(["trust_confaide"])


@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize("benchmark", sorted(BENCHMARKS))
def test_no_group_is_shared(benchmark: str) -> None:
    if REAL[benchmark].dimension:
        real = {item.group for item in load_statements(benchmark).items}
    else:
        (form,) = [f for f in data_of(benchmark, "official").forms if not f.endswith("completions")]
        real = {row["group_id"] for row in load_rows(form, split="full")}
    assert real and not real & groups_of(benchmark, build_world(0))


@pytest.mark.parametrize(
    "form",
    sorted(
        form
        for form, benchmark in benchmarks_by_form().items()
        if REAL[benchmark].dimension and form in data_of(benchmark, "mini").forms
    ),
)
def test_statements_and_rows_agree_on_the_test_half(form: str) -> None:
    benchmark = benchmarks_by_form()[form]
    statements = load_statements(benchmark, data_source="mini")
    built = statements.select(statements.partition(seed=3).development)
    rows = load_rows(form, data_source="mini", split_seed=3)
    assert rows and not {row["group_id"] for row in rows} & set(built.groups)


def test_rows_follow_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_rows("truthfulqa_generation", data_source="mini")
    assert first == load_rows("truthfulqa_generation", data_source="mini")
    monkeypatch.setenv(SEED_VARIABLE, "1")
    assert first != load_rows("truthfulqa_generation", data_source="mini")
