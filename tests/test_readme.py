"""Commands in README and docs are commands: targets, options, tasks, settings, arguments exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
from lm_eval._cli.harness import HarnessCLI
from lm_eval.api.registry import get_model, model_registry
from lm_eval.tasks import TaskManager

import lm_eval_trust.tasks
from lm_eval_trust.cli import build_parser
from lm_eval_trust.judges.settings import PREFIX, JudgeSettings
from lm_eval_trust.plugin import MODELS, register_models
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.tasks.row_settings import RowSettings

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, *DOCS, *sorted((ROOT / "tasks").rglob("README.md"))]
SETTINGS = (
    {field.name for field in fields(RowSettings)}
    | {"truth_judge", "toxicity_judge", "mini_truth_judge", "mini_toxicity_judge"}
    | {f"{PREFIX}{field.name}" for field in fields(JudgeSettings)}
)


def commands(program: str) -> Iterator[tuple[Path, list[str]]]:
    """The indented commands of all pages that start with ``program``, split into words."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(rf"^ {{4,}}({re.escape(program)} .*)$", text, re.MULTILINE):
            yield page, shlex.split(line, comments=True)


def cases(found: list[tuple[Path, list[str]]]) -> list[object]:
    """Test cases without repetitions, named by page and command."""
    unique = {tuple(words): page for page, words in reversed(found)}
    return [
        pytest.param(list(words), id=f"{page.relative_to(ROOT)}: {' '.join(words)[:90]}")
        for words, page in unique.items()
    ]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    targets = {words[1] for _, words in commands("make")} | set(re.findall(r"`make (\w+)`", text))
    assert {"demo", "test", "model", "help", "bench"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


OURS = list(commands("lm-eval-trust"))
#: A command that is written with … stands for many.
HARNESS = [
    *((page, words) for page, words in commands("lm_eval") if "…" not in words),
    *((page, words[1:]) for page, words in OURS if words[1] == "run"),
]


@pytest.mark.parametrize("words", cases([c for c in OURS if c[1][1] != "run"]))
def test_our_command_takes_what_is_written(words: list[str]) -> None:
    assert callable(build_parser().parse_args(words[1:]).func)


@pytest.mark.parametrize("words", cases(HARNESS))
def test_the_stock_command_knows_models_tasks_settings_and_arguments(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lm_eval", *words[1:]])
    args = HarnessCLI().parse_args()
    folder = Path(lm_eval_trust.tasks.__file__).parent
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    assert set(args.tasks) <= set(manager.all_tasks)
    register_models()
    assert args.model in model_registry
    assert set(args.metadata or {}) <= SETTINGS
    if args.model not in MODELS or (args.model.endswith("_vllm") and find_spec("vllm") is None):
        return
    request, _, _ = get_model(args.model).split(args.model_args or {})
    if request:
        SteeringSpec.parse(request, where="the page")


def test_the_tables_name_all_tasks_of_the_suite_and_all_models() -> None:
    readme = README.read_text(encoding="utf-8")
    for name in ("trust_truthfulqa", "trust_toxigen", "trust_confaide", "trust_stereoset"):
        assert f"| `{name}` |" in readme
    for name in MODELS:
        assert f"| `{name}` |" in readme


PYTHON = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}, block {number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    )
]


@pytest.mark.parametrize("block", PYTHON)
def test_python_on_the_pages_imports_what_exists(block: str) -> None:
    tree = ast.parse(block)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert imports
    exec(compile(ast.Module(body=list(imports), type_ignores=[]), "page", "exec"), {})
