"""The wheel holds the package as it is imported, and nothing else."""

from __future__ import annotations

import configparser
import re
import zipfile
from pathlib import Path

import pytest

from lm_eval_trust.plugin import MODELS

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "lm_eval_trust": "lm_eval_trust",
    "tasks": "lm_eval_trust/tasks",
    "model_wrappers": "lm_eval_trust/model_wrappers",
    "analysis": "lm_eval_trust/analysis",
}
CARRIED = {".py", ".yaml", ".md", ".typed", ".css", ".html", ".js"}


@pytest.fixture(scope="module")
def contents(wheel: Path) -> dict[str, str]:
    """Name → text of every file in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name).decode("utf-8") for name in archive.namelist()}


def source_files() -> set[str]:
    """What the four folders hold, under the names that they install as."""
    return {
        f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in CARRIED and "__pycache__" not in path.parts
    }


def test_every_source_file_is_in_the_wheel(contents: dict[str, str]) -> None:
    packaged = {name for name in contents if name.startswith("lm_eval_trust/")}
    assert packaged == source_files()


def test_only_our_package_and_the_start_up_files_land_in_site_packages(
    contents: dict[str, str],
) -> None:
    top = {name.split("/")[0] for name in contents if ".dist-info" not in name}
    assert top == {"lm_eval_trust", "lm_eval_trust.pth", "lm_eval_trust.start"}


def test_start_up_files_are_one_line_that_names_the_hook(contents: dict[str, str]) -> None:
    assert contents["lm_eval_trust.start"] == "lm_eval_trust._hook:install\n"
    (line,) = contents["lm_eval_trust.pth"].splitlines()
    assert line.startswith("import ")  # site.py runs such lines and takes others for paths
    assert "lm_eval_trust._hook" in line


def test_entry_points_are_the_plugin_s_models_and_the_command(contents: dict[str, str]) -> None:
    declared = configparser.ConfigParser(delimiters="=")
    (text,) = (text for name, text in contents.items() if name.endswith("entry_points.txt"))
    declared.read_string(text)
    assert dict(declared["lm_eval.models"]) == MODELS
    assert dict(declared["console_scripts"]) == {"lm-eval-trust": "lm_eval_trust.cli:main"}


def test_metadata_names_licence_and_python(contents: dict[str, str]) -> None:
    (metadata,) = (text for name, text in contents.items() if name.endswith("/METADATA"))
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.10" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in contents)


def test_every_package_is_listed_in_pyproject() -> None:
    """Task folders are package data; every other folder with Python in it is a package."""
    listed = set(
        re.findall(r'"(lm_eval_trust[\w.]*)",', (ROOT / "pyproject.toml").read_text("utf-8"))
    )
    holding = {str(Path(name).parent) for name in source_files() if name.endswith(".py")}
    packages = {name.replace("/", ".") for name in holding if "/tasks/" not in name}
    assert packages == listed


def test_every_package_has_an_init_file() -> None:
    files = source_files()
    folders = {str(Path(n).parent) for n in files if n.endswith(".py") and "/tasks/" not in n}
    assert {folder for folder in folders if f"{folder}/__init__.py" not in files} == set()
