"""The README's commands are commands: targets, options, tasks, settings and arguments exist."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from lm_eval._cli.harness import HarnessCLI
from lm_eval.api.registry import get_model, model_registry
from lm_eval.tasks import TaskManager

import lm_eval_trust.tasks
from lm_eval_trust.cli.parser import build_parser
from lm_eval_trust.model_wrappers.arguments import split_arguments
from lm_eval_trust.plugin import MODELS
from lm_eval_trust.steering.requests import request_from
from lm_eval_trust.tasks.settings import RowSettings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = {field.name for field in fields(RowSettings)} | {"truth_judge", "toxicity_judge"}


def commands(program: str) -> list[list[str]]:
    """The indented commands of the README that start with ``program``, split into words."""
    text = README.replace("\\\n", " ")
    lines = re.findall(rf"^ {{4,}}({re.escape(program)} .*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {words[1] for words in commands("make")} | set(re.findall(r"`make (\w+)`", README))
    assert {"demo", "test", "model", "help", "bench"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


OURS = commands("lm-eval-trust")
HARNESS = [*commands("lm_eval"), *(words[1:] for words in OURS if words[1] == "run")]


@pytest.mark.parametrize("words", [w for w in OURS if w[1] != "run"], ids=" ".join)
def test_our_command_takes_what_is_written(words: list[str]) -> None:
    assert callable(build_parser().parse_args(words[1:]).func)


@pytest.mark.parametrize("words", HARNESS, ids=" ".join)
def test_the_stock_command_knows_models_tasks_settings_and_arguments(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lm_eval", *words[1:]])
    args = HarnessCLI().parse_args()
    folder = Path(lm_eval_trust.tasks.__file__).parent
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    assert set(args.tasks) <= set(manager.all_tasks)
    assert args.model in model_registry
    assert set(args.metadata or {}) <= SETTINGS
    own_names = get_model(args.model).OWN_ARGUMENTS
    request, _, _ = split_arguments(args.model_args or {}, own_names)
    if request:
        request_from(request, where="the README")


def test_the_tables_name_all_tasks_of_the_suite_and_all_models() -> None:
    for name in ("trust_truthfulqa", "trust_toxigen", "trust_confaide", "trust_stereoset"):
        assert f"| `{name}` |" in README
    for name in MODELS:
        assert f"| `{name}` |" in README
