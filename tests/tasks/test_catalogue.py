"""Every YAML, group and tag builds on real data; folders explain themselves."""

from __future__ import annotations

import re
from pathlib import Path

import lm_eval.tasks
import pytest
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Kind
from support.harness import TASKS, manager

from lm_eval_trust.benchmarks.registry import DIMENSIONS

HARNESS = Path(lm_eval.tasks.__file__).parent
INDEX = manager().task_index
YAML_TASKS = sorted(name for name, entry in INDEX.items() if entry.yaml_path)
LEAVES = sorted(n for n, e in INDEX.items() if e.kind in (Kind.TASK, Kind.PY_TASK))
#: Tasks whose data only the Hub has.
OF_THE_HUB = {"trust_jailbreakbench", "trust_jailbreakbench_refusal", "trust_strongreject"}
EXTRA = {
    "trust_truthfulqa_mc1",
    "trust_truthfulqa_mc2",
    "trust_truthfulqa_classify",
    "trust_truthfulqa_classify_ll",
    "trust_confaide_tier2",
    "trust_confaide_ll",
    "trust_stereoset_icat",
    "trust_stereoset_ll",
    "trust_stereoset_binary",
    "trust_sst2_clean",
    "trust_sst2_ll",
    "trust_sst2_binary",
    "trust_sst2_rate10",
    "trust_sst2_rate20",
    "trust_sst2_rate50",
}
#: Forms that ask and score as the benchmarks' authors do.
OFFICIAL = {
    "trust_truthfulqa_binary",
    "trust_truthfulqa_binary_ll",
    "trust_confaide_tier1",
    "trust_confaide_tier2",
    "trust_stereoset_icat",
    "trust_stereoset_intrasentence",
    "trust_sst2_advglue",
}


def test_every_yaml_but_templates_is_indexed() -> None:
    files = {path for path in TASKS.glob("**/*.yaml") if not path.name.startswith("_")}
    assert {Path(INDEX[name].yaml_path or "") for name in YAML_TASKS} == files


def test_every_name_is_ours() -> None:
    assert all(name.startswith("trust_") for name in INDEX)


def test_the_suite_has_the_dimensions_tasks() -> None:
    config = INDEX["trust_suite"].cfg or {}
    assert config["task"] == [dimension.task for dimension in DIMENSIONS]


def test_the_tag_holds_the_further_forms() -> None:
    assert INDEX["trust_extra"].tags == EXTRA


def test_the_group_of_the_authors_forms() -> None:
    assert set((INDEX["trust_official"].cfg or {})["task"]) == OFFICIAL


def test_the_general_group_names_built_in_tasks() -> None:
    config = INDEX["trust_general"].cfg or {}
    folders = ("arc", "lambada", "mathqa", "mmlu/default", "race")
    built_in = TaskManager(include_path=[HARNESS / f for f in folders], include_defaults=False)
    assert set(config["task"]) <= set(built_in.all_tasks)
    local = {f"trust_{name}_local" for name in config["task"]}
    assert set((INDEX["trust_general_local"].cfg or {})["task"]) == local


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize("name", sorted(set(LEAVES) - OF_THE_HUB))
def test_task_builds_its_requests_on_real_data(name: str) -> None:
    task = manager().load([name])["tasks"][name]
    task.set_config("num_fewshot", 0)
    task.build_all_requests(limit=5)
    assert task.VERSION not in (None, "Yaml")
    assert len({request.doc_id for request in task.instances}) == 5
    # A filled sentence stands alone: nothing comes before it.
    alone = name == "trust_stereoset_intrasentence"
    assert all(bool(request.args[0].strip()) != alone for request in task.instances)
    assert set(task.aggregation()) == set(task.higher_is_better())


@pytest.mark.usefixtures("data_dir")
def test_local_mmlu_has_few_shot_examples() -> None:
    name = "trust_mmlu_anatomy_local"
    task = manager().load([name])["tasks"][name]
    task.set_config("num_fewshot", 5)
    task.build_all_requests(limit=1)
    prompt = task.instances[0].args[0]
    assert len(re.findall(r"^Answer: [ABCD]$", prompt, flags=re.MULTILINE)) == 5


@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize("group", ["trust_suite", "trust_mmlu_local", "trust_general_local"])
def test_group_builds(group: str) -> None:
    loaded = manager().load([group])
    assert group in loaded["groups"]
    assert loaded["tasks"]


@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize(
    ("name", "count"), [("trust_stereoset", 4), ("trust_toxigen", 13), ("trust_truthfulqa", 38)]
)
def test_breakdown_has_a_metric_for_every_category(name: str, count: int) -> None:
    task = manager(split="full").load([name])["tasks"][name]
    declared = {config["metric"] for config in task.config.metric_list}
    names = set(task.aggregation()) - declared
    assert len(names) == count
    assert all(re.fullmatch(rf"{task.breakdown.metric}_[a-z0-9_]+", each) for each in names)


def test_every_folder_with_tasks_has_a_readme_that_names_them() -> None:
    for path in TASKS.iterdir():
        names = [p.stem for p in path.glob("*.yaml") if not p.name.startswith("_")]
        if names:
            text = (path / "README.md").read_text(encoding="utf-8")
            assert not [name for name in names if f"`{name}`" not in text], path.name
