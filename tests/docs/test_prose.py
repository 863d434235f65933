"""The linter of prose finds the house's habits, and nothing is left of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import ROOT

SCRIPT = ROOT / "scripts" / "prose.py"


def lint(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("written", "phrase"),
    [
        ("A judge is not to be had here.", "is not to be had"),
        ("The table lists numbers that are none.", "that are none"),
        ("The user is told what to do.", "is told"),
        ("The page has the score beside its interval.", "beside"),
        ("A vector of one's own can be used.", "one's own"),
        ("It stores a tensor a layer.", "a tensor a layer"),
        ("| file | a row a task |", "a row a task"),
        ("The run stops, so that nothing is lost.", ", so that"),
    ],
)
def test_a_habit_is_found_with_its_line_and_an_advice(
    written: str, phrase: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\nThis is plain.\n\n{written}\n", encoding="utf-8")
    done = lint(page)
    assert done.returncode == 1
    assert f"page.md:5: “{phrase}”: write: " in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_long_sentence_and_a_heap_of_passives_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    words = " ".join(["word"] * 36)
    heap = "It is built, is read, is kept and is shown."
    page.write_text(f"{words}.\n\n{heap}\n\n{' '.join(['word'] * 35)}.\n", encoding="utf-8")
    found = lint(page).stdout.splitlines()
    assert ["36 words" in line for line in found] == [True, False]
    assert "4 passives" in found[1]


def test_code_is_not_prose(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Use `beside`.\n\n```text\nbeside\n```\n\n    beside\n", encoding="utf-8")
    assert lint(page).returncode == 0


def test_docstrings_of_the_public_api_are_read(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '"""Fine."""\n\n\ndef shown():\n    """Do it.\n\n    Args:\n        x: Of its own.\n'
        '    """\n\n\ndef _hidden():\n    """Beside."""\n',
        encoding="utf-8",
    )
    assert [line.split(": “")[0] for line in lint(module).stdout.splitlines()] == [f"{module}:8"]


@pytest.mark.slow
def test_nothing_is_left_to_reword() -> None:
    done = lint()
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_nothing_is_misspelt() -> None:
    pytest.importorskip("codespell_lib")
    texts = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs", "scripts", "lm_eval_trust"]
    command = [sys.executable, "-m", "codespell_lib", *texts, "tasks", "analysis"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
