"""Whatever is left of an installation, Python starts and lm_eval works."""

from __future__ import annotations

import pytest

#: Files that run at start-up or while lm_eval is imported.
IN_THE_PATH = (
    "lm_eval_trust/__init__.py",
    "lm_eval_trust/_hook.py",
    "lm_eval_trust/plugin.py",
    "lm_eval_trust/tasks/__init__.py",
)
GET_HF = """
import lm_eval.models, lm_eval.tasks.manager
from lm_eval.api.registry import model_registry
assert "hf" in model_registry
lm_eval.tasks.manager.TaskManager(include_defaults=False)
"""


def starts_clean(environment) -> None:
    result = environment.run("-c", "pass")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.slow
def test_each_file_may_be_missing_at_start_up(damaged) -> None:
    package = damaged.site_packages / "lm_eval_trust"
    files = [path for path in package.rglob("*") if path.suffix in {".py", ".yaml", ".typed"}]
    assert len(files) > 10
    for path in files:
        away = path.with_suffix(".away")
        path.rename(away)
        starts_clean(damaged)
        away.rename(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_THE_PATH)
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_lm_eval_survives_a_broken_file(damaged, name: str, damage: str) -> None:
    path = damaged.site_packages / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_text("def broken(:\n")
    starts_clean(damaged)
    result = damaged.run("-c", GET_HF)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


def test_missing_plugin_is_named_in_one_warning_each(damaged) -> None:
    (damaged.site_packages / "lm_eval_trust" / "plugin.py").unlink()
    result = damaged.run("-c", GET_HF)
    assert result.stderr.count("lm_eval_trust could not add its models and tasks") == 2
    assert "Reinstall it" in result.stderr


def test_start_up_file_may_outlive_the_package(damaged) -> None:
    package = damaged.site_packages / "lm_eval_trust"
    package.rename(package.with_name("gone"))
    starts_clean(damaged)
    assert damaged.run("-c", GET_HF).returncode == 0


def test_uninstalling_removes_both_start_up_files(damaged) -> None:
    def left() -> set[str]:
        return {p.name for p in damaged.site_packages.iterdir() if "lm_eval_trust" in p.name}

    assert {"lm_eval_trust.pth", "lm_eval_trust.start", "lm_eval_trust"} <= left()
    damaged.pip("uninstall", "--yes", "lm-eval-trust")
    assert left() == set()
    starts_clean(damaged)
