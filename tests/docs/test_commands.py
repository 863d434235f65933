"""Commands on all pages are commands: programs, options, tasks, settings, arguments exist."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
from lm_eval._cli.harness import HarnessCLI
from lm_eval.api.registry import get_model, model_registry
from lm_eval.tasks import TaskManager
from support.pages import PAGES, ROOT, blocks, name

import lm_eval_trust.tasks
from lm_eval_trust.cli import build_parser
from lm_eval_trust.judges.settings import PREFIX, JudgeSettings
from lm_eval_trust.plugin import MODELS, register_models
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.tasks.row_settings import RowSettings

SETTINGS = (
    {field.name for field in fields(RowSettings)}
    | {"truth_judge", "toxicity_judge", "mini_truth_judge", "mini_toxicity_judge"}
    | {f"{PREFIX}{field.name}" for field in fields(JudgeSettings)}
)
COMMANDS = [(b.page, words) for page in PAGES for b in blocks(page) for words in b.commands]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
#: Programs of others, which have parsers of their own.
FOREIGN = ("hf", "pip", "ray", "torchrun", "pre-commit", "vllm", "tensorboard", "eval", "inspect")


def of(program: str) -> list[tuple[Path, tuple[str, ...]]]:
    """The commands of all pages that start with a program."""
    return [(page, words) for page, words in COMMANDS if words[0] == program]


def cases(found: list[tuple[Path, tuple[str, ...]]]) -> list[object]:
    """Test cases without repetitions, named by page and command."""
    unique = {words: page for page, words in reversed(found)}
    return [
        pytest.param(list(words), id=f"{name(page)}: {' '.join(words)[:90]}")
        for words, page in unique.items()
    ]


def test_commands_stand_in_blocks_that_tell_what_they_need() -> None:
    found = [
        f"{name(page)}: {line.strip()}"
        for page in PAGES
        for line in FENCED.sub("", page.read_text(encoding="utf-8")).splitlines()
        if re.match(r" {4,}(lm_eval|lm-eval-trust|make|python) ", line)
    ]
    assert found == []


def test_programs_exist() -> None:
    known = ("lm_eval", "lm-eval-trust", "make", "python", "scripts/gpu/check.sh", *FOREIGN)
    assert [f"{name(page)}: {words}" for page, words in COMMANDS if words[0] not in known] == []
    for page, words in of("python"):
        assert words[1].startswith("-") or (ROOT / words[1]).is_file(), f"{name(page)}: {words}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    targets = {words[1] for _, words in of("make")} | set(re.findall(r"`make ([\w-]+)", text))
    assert {"demo", "test", "model", "help", "bench"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_extras_exist() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project.split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = {
        extra
        for written in re.findall(r"pip install ['\"](?:lm[-_]eval[-_]trust|\.)\[([\w,]+)\]", text)
        for extra in written.split(",")
    }
    assert {"openai", "ray"} <= named <= set(re.findall(r"^(\w+) = ", extras, re.MULTILINE))


OURS = of("lm-eval-trust")
HARNESS = [*of("lm_eval"), *((page, words[1:]) for page, words in OURS if words[1] == "run")]


@pytest.mark.parametrize("words", cases([c for c in OURS if c[1][1] != "run"]))
def test_our_command_takes_what_is_written(words: list[str]) -> None:
    assert callable(build_parser().parse_args(words[1:]).func)


@pytest.mark.parametrize("words", cases([c for c in HARNESS if "…" not in c[1]]))
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
    tasks = (ROOT / "docs" / "reference" / "tasks.md").read_text(encoding="utf-8")
    models = (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    for task in ("trust_truthfulqa", "trust_toxigen", "trust_confaide", "trust_stereoset"):
        assert f"| `{task}` |" in tasks
    for model in MODELS:
        assert f"| `{model}` |" in models


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    kept = (re.sub(r"[^\w\s-]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in kept}


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_links_of_the_files_at_the_top_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", text)
    assert links or page == "CONTRIBUTING.md"
    for path, anchor in links:
        target = ROOT / path if path else ROOT / page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def python_of(page: Path) -> str:
    """Return all Python of a page: later blocks use what earlier ones import."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    return "\n".join(blocks)


PYTHON = [pytest.param(found, id=name(page)) for page in PAGES if (found := python_of(page))]


@pytest.mark.parametrize("text", PYTHON)
def test_python_on_the_pages_imports_what_exists(text: str) -> None:
    tree = ast.parse(text)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert imports
    if "inspect_ai" in text:
        pytest.importorskip("inspect_ai", reason="inspect_ai needs Python 3.11")
    exec(compile(ast.Module(body=list(imports), type_ignores=[]), "page", "exec"), {})
