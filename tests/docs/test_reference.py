"""What the reference says is what the code has."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager
from scipy import integrate, stats

from lm_eval_trust.benchmarks.load import load_rows
from lm_eval_trust.benchmarks.registry import DIMENSIONS
from lm_eval_trust.gate.check_file import CheckSpec
from lm_eval_trust.judges.registry import TOXICITY, TRUTH
from lm_eval_trust.plugin import MODELS, task_path
from lm_eval_trust.steering.spec import STEERING_KEYS
from lm_eval_trust.tasks.row_settings import RowSettings

pytest.importorskip("griffe", reason="the site needs `pip install 'lm-eval-trust[docs]'`")

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
STATISTICS = (DOCS / "statistics.md").read_text(encoding="utf-8")


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The modules that write the generated parts, as the site's hook imports them."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "site"))
    import arguments
    import commands
    import schemas

    import tasks

    yield {"arguments": arguments, "commands": commands, "schemas": schemas, "tasks": tasks}
    for name in ("arguments", "commands", "layout", "roles", "schemas", "tasks"):
        sys.modules.pop(name, None)


def rows(text: str, header: str) -> list[list[str]]:
    """The cells of the table below a header line, without code marks and thousands' commas."""
    body = text.split(header, 1)[1].split("\n\n", 1)[0]
    lines = [line for line in body.splitlines() if line.startswith("|") and "---" not in line]
    return [
        [c.strip().strip("`").replace(",", "") for c in line[1:-1].split("|")] for line in lines
    ]


def test_every_task_is_in_a_table_of_the_page(generators: Any) -> None:
    page = (DOCS / "reference" / "tasks.md").read_text(encoding="utf-8")
    folders = re.findall(r"^<!-- insert tasks (\S+) -->$", page, re.MULTILINE)
    listed = [t["task"] for f in folders for t in generators["tasks"].read_tasks(task_path() / f)]
    known = TaskManager(include_path=str(task_path()), include_defaults=False).all_subtasks
    assert sorted(listed) == sorted(known)


def test_every_folder_of_tasks_is_on_the_page() -> None:
    page = (DOCS / "reference" / "tasks.md").read_text(encoding="utf-8")
    for readme in sorted((ROOT / "tasks").glob("*/README.md")):
        assert f"<!-- insert readme {readme.relative_to(ROOT)} -->" in page


def test_tables_of_tasks_tell_metrics_shots_and_direction(generators: Any) -> None:
    table = generators["tasks"].table
    assert "| `trust_truthfulqa` |  | generates up to 50 tokens | 6 | `truth` ↑" in table(
        "truthfulqa"
    )
    assert "`toxic_ratio` ↓" in table("toxigen")
    assert "`toxic_generations` ↓ (total)" in table("toxigen")
    assert "| `trust_stereoset_icat` | `trust_extra` |" in table("stereoset")


@pytest.mark.slow
def test_every_argument_of_every_model_is_documented(generators: Any) -> None:
    described = generators["arguments"].described
    page = (DOCS / "reference" / "models.md").read_text(encoding="utf-8")
    steering = described("lm_eval_trust.steering.spec.SteeringSpec")
    assert {name for name, _, _ in steering} == set(STEERING_KEYS)
    common = {name for name, _, _ in described("lm_eval_trust.model_wrappers.amber.Amber")}
    for name, target in MODELS.items():
        path = target.replace(":", ".")
        shown = f"<!-- insert model-arguments {path} -->" in page
        own = {name for name, _, _ in described(path)} if shown else set()
        assert f"## {name}" in page
        if name.endswith("_vllm") and find_spec("vllm") is None:
            continue  # Its class takes the same arguments of its own; see tests/engine.
        assert own | common >= get_model(name).OWN_ARGUMENTS, name


@pytest.mark.slow
def test_defaults_are_those_of_the_code(generators: Any) -> None:
    described = generators["arguments"].described
    found = {n: d for n, d, _ in described("lm_eval_trust.steering.spec.SteeringSpec")}
    assert found["source"] == "`LLM360/Amber@ckpt_179`"
    assert found["layer"] == "`16`" and found["alpha"] == "`1.0`" and found["vector"] == ""


def test_the_table_of_settings_has_the_code_s_defaults() -> None:
    readme = (ROOT / "tasks" / "suite" / "README.md").read_text(encoding="utf-8")
    table = {name: default for name, _, default in rows(readme, "| key | values | default |")}
    assert set(table) - {"truth_judge", "toxicity_judge"} == {
        field.name for field in fields(RowSettings) if field.name != "form"
    }
    for field in fields(RowSettings):
        assert field.name == "form" or table[field.name] == str(field.default), field.name
    assert table["toxicity_judge"] == TOXICITY.default
    assert "allenai" in table["truth_judge"] and TRUTH.default.count("allenai") == 2


@pytest.mark.slow
def test_rows_of_the_parts_are_as_many_as_the_page_says(data_dir: Path, generators: Any) -> None:
    page = (DOCS / "reference" / "tasks.md").read_text(encoding="utf-8")
    told = rows(page, "| task | test half | groups in it | validation part |")
    tasks = {dimension.task for dimension in DIMENSIONS}
    assert {line[0] for line in told} == tasks | {"trust_xstest", "trust_bbq"}
    read = generators["tasks"].read_tasks(task_path())
    forms = {t["task"]: (t.get("dataset_kwargs") or {}).get("form") for t in read}
    for task, *numbers in told:
        form = forms[task]
        test, validation = (load_rows(form, part=part) for part in ("test", "validation"))
        groups = {row["group_id"] for row in test}
        assert [int(n) for n in numbers] == [len(test), len(groups), len(validation)], task


def test_every_command_has_its_help_on_the_page(generators: Any) -> None:
    from lm_eval_trust.cli import build_parser

    page = generators["commands"].help_pages()
    names = [command.name for command in generators["commands"].walk(build_parser())]
    assert {"demo", "vector build", "data audit", "sweep", "study", "doctor"} <= set(names)
    for name in names:
        assert re.search(rf"^##+ {name}$", page, re.MULTILINE)
        assert f"usage: lm-eval-trust {name}" in page
    assert "\x1b" not in page


def test_every_key_of_every_file_is_on_the_page(generators: Any) -> None:
    page = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
    shown = re.findall(r"^<!-- insert keys (\S+) -->$", page, re.MULTILINE)
    tables = {path.rsplit(".", 1)[-1]: generators["schemas"].table(path) for path in shown}
    assert {"CheckSpec", "RankSpec", "StudySpec", "FamilyFile", "StageSpec"} <= set(tables)
    assert "| `limit` | integer |  |" in tables["CheckSpec"]
    assert "| `rules` | mapping | required |" in tables["CheckSpec"]
    assert "| `engine` | `transformers` or `vllm` | `transformers` |" in tables["RankSpec"]
    assert "| `costs` | list of numbers | `[0.05, 0.1, 0.2]` |" in tables["RankSpec"]
    # Whatever a key's mapping holds is on the page as well.
    for table in tables.values():
        for key in re.findall(r"^\| `(\w+)` \| mapping \(below\)", table, re.MULTILINE):
            assert f"`{key}`" in page.split("<!-- insert keys", 1)[1], key


def test_every_variable_is_on_the_page_of_the_environment() -> None:
    page = (DOCS / "reference" / "environment.md").read_text(encoding="utf-8")
    sources = [p for f in ("lm_eval_trust", "tasks") for p in (ROOT / f).rglob("*.py")]
    names = {
        name
        for path in sources
        for name in re.findall(r'"(LM_EVAL_TRUST_[A-Z_]*[A-Z])"', path.read_text(encoding="utf-8"))
    }
    assert len(names) >= 6
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", ["guides/gate.md", "get-started.md"])
def test_checks_on_the_pages_are_checks(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    (check,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    spec = CheckSpec(**yaml.safe_load(check))
    known = TaskManager(include_path=str(task_path()), include_defaults=False).all_tasks
    assert set(spec.rules) <= set(known) and len(spec.rules) >= 2


def test_detectable_differences_are_those_of_the_formula() -> None:
    shares = (0.1, 0.2, 0.3, 0.5)
    told = rows(STATISTICS, "| items | ψ = 0.1 | ψ = 0.2 | ψ = 0.3 | ψ = 0.5 |")
    assert len(told) == 6
    for items, *differences in told:
        for share, difference in zip(shares, map(float, differences), strict=True):
            # The difference and the standard error that it implies find each other.
            error = np.sqrt((share - difference**2) / int(items))
            found = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error
            assert found == pytest.approx(difference, abs=1e-3)


def test_correlations_that_are_significant_are_those_of_the_t_test() -> None:
    told = rows(STATISTICS, "| checkpoints |")
    header = re.search(r"^\| checkpoints \|(.+)\|$", STATISTICS, re.MULTILINE)
    assert header
    for n, r in zip(map(int, header[1].split("|")), map(float, told[-1][-6:]), strict=True):
        t = r * np.sqrt((n - 2) / (1 - r * r))
        assert 2 * stats.t.sf(t, n - 2) == pytest.approx(0.05, abs=1e-3)


def test_the_best_of_28_flatters_as_much_as_the_page_says() -> None:
    # E max of k standard normals is the integral of 1 − Φ(x)^k − (1 − Φ(x))^k from 0 on.
    x = np.linspace(0, 10, 200_001)
    values = 1 - stats.norm.cdf(x) ** 28 - stats.norm.sf(x) ** 28
    assert integrate.trapezoid(values, x) == pytest.approx(2.0, abs=0.05)
    assert np.sqrt(2 * np.log(28)) == pytest.approx(2.6, abs=0.05)
    assert "for k = 28 it is 2.6 σ, the exact value being 2.0 σ" in STATISTICS
