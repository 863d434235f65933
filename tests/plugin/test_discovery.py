"""The stock harness, in fresh processes, finds our models and tasks and keeps its own."""

from __future__ import annotations

import json
import re
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.plugin import INSIDE_VLLM, MODELS, add_task_path, task_path


def ask(environment, code: str):
    """Run code that prints JSON as its last line in the environment."""
    result = environment.run("-c", textwrap.dedent(code))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_first_model_asked_for_may_be_ours_or_the_harness_s_own(installed) -> None:
    """get_model loads the built-ins only while the registry is empty; ours must not hide them."""
    for first, second in (("steered_amber", "hf"), ("hf", "amber")):
        answer = ask(
            installed,
            f"""
            import json
            from lm_eval.api.registry import get_model
            print(json.dumps([get_model({first!r}).__name__, get_model({second!r}).__name__]))
            """,
        )
        assert "HFLM" in answer
        assert len(set(answer)) == 2


def test_every_declared_model_resolves_to_its_class() -> None:
    from lm_eval.api.registry import get_model

    for name, target in MODELS.items():
        if name in INSIDE_VLLM and find_spec("vllm") is None:
            with pytest.raises(InputError, match=r"pip install \"lm-eval-trust\[vllm\]\""):
                get_model(name)
            continue
        found = get_model(name)
        assert f"{found.__module__}:{found.__name__}" == target


@pytest.mark.slow
def test_release_that_has_read_our_entry_points_already(installed) -> None:
    """Later releases put EntryPoint objects there first; that is no collision."""
    answer = ask(
        installed,
        """
        import importlib.metadata as metadata, json
        from lm_eval.api.registry import get_model, model_registry
        for entry in metadata.entry_points(group="lm_eval.models"):
            model_registry.register(entry.name, target=entry)
        placeholders = [type(v).__name__ for v in model_registry.values()]
        import lm_eval.models
        print(json.dumps([placeholders, "hf" in model_registry, get_model("amber").__module__]))
        """,
    )
    assert answer == [
        ["EntryPoint"] * len(MODELS),
        True,
        MODELS["amber"].partition(":")[0],
    ]


@pytest.mark.slow
def test_release_that_reads_our_entry_points_afterwards(installed) -> None:
    """Later releases pass over names that are taken, so ours must be taken by then."""
    answer = ask(
        installed,
        """
        import importlib.metadata as metadata, json
        import lm_eval.models
        from lm_eval.api.registry import model_registry
        entries = metadata.entry_points(group="lm_eval.models")
        print(json.dumps([entry.name in model_registry for entry in entries]))
        """,
    )
    assert answer == [True] * len(MODELS)


def own_tasks() -> list[str]:
    """Names of tasks in our folder, read off the files without the harness."""
    names = []
    for path in task_path().rglob("*.yaml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("task: trust_"):
                names.append(line.removeprefix("task: ").strip())
    return names


@pytest.mark.slow
def test_task_manager_finds_ours_after_the_built_in_ones(installed, tmp_path: Path) -> None:
    name = own_tasks()[0]
    (tmp_path / "mine.yaml").write_text(f"task: {name}\ndataset_path: mine\n")
    answer = ask(
        installed,
        f"""
        import json, logging
        from lm_eval.tasks import TaskManager
        place = lambda manager: str(manager.task_index[{name!r}].yaml_path)
        found = TaskManager()
        print(json.dumps({{
            "ours": sorted(n for n in found.all_tasks if n.startswith("trust_")),
            "built in": "arc_easy" in found.all_tasks,
            "default": place(found),
            "string": place(TaskManager(include_path={str(tmp_path)!r})),
            "list": place(TaskManager(None, [{str(tmp_path)!r}])),
            "alone": TaskManager(include_path={str(tmp_path)!r}, include_defaults=False).all_tasks,
            "empty": TaskManager(include_defaults=False).all_tasks,
        }}))
        """,
    )
    assert set(own_tasks()) <= set(answer["ours"])
    assert answer["built in"]
    assert "lm_eval_trust/tasks" in answer["default"]
    assert answer["string"] == answer["list"] == str(tmp_path / "mine.yaml")
    assert answer["alone"] == [name]
    assert answer["empty"] == []


def test_our_names_shadow_no_built_in_task() -> None:
    """A task of the same name would replace the harness's with only a log line."""
    import lm_eval.tasks
    from lm_eval.tasks._index import TaskIndex

    ours = set(TaskIndex().build([task_path()]))
    assert ours
    assert {name for name in ours if not name.startswith("trust_")} == set()
    declaration = re.compile(rf"^(?:task|group|tag): [\"']?({'|'.join(ours)})\\b", re.MULTILINE)
    built_in = Path(lm_eval.tasks.__file__).parent
    taken = [path for path in built_in.rglob("*.yaml") if declaration.search(path.read_text())]
    assert taken == []


def test_attaching_twice_adds_the_folder_once() -> None:
    class Manager:
        def __init__(self, verbosity=None, include_path=None, include_defaults=True):
            self.include_path = include_path

    add_task_path(Manager)
    add_task_path(Manager)
    assert Manager().include_path == [task_path()]
    assert Manager(include_path=Path("mine")).include_path == [task_path(), Path("mine")]
    assert Manager(include_path=("a", "b")).include_path == [task_path(), "a", "b"]
    assert Manager(include_path="a", include_defaults=False).include_path == "a"


def test_task_manager_of_another_shape_is_refused_with_its_signature() -> None:
    class Manager:
        def __init__(self, folders=()):
            self.folders = folders

    with pytest.raises(TypeError, match=r"folders=\(\)"):
        add_task_path(Manager)
    assert Manager().folders == ()
