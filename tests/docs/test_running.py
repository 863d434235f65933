"""The commands of every page that need nothing special, one after the other.

The quick family stands for the real one: it has learnt nothing, so no score is looked at; files
and exit codes are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import lm_eval.tasks
import pytest
from lm_eval.tasks._index import TaskIndex
from support.pages import PAGES, ROOT, blocks, name

from lm_eval_trust.cli import main

START = ROOT / "docs" / "get-started.md"
#: The quick family has fewer checkpoints and needs fewer items.
IN_PLACE_OF = {"mini@ckpt_014": "mini@ckpt_005", "0-3": "0-1", "60": "4"}


def commands(page: Path) -> list[list[str]]:
    """The lines of a page that are run; installing and make are not this test's."""
    return [
        [IN_PLACE_OF.get(word, word) for word in words]
        for block in blocks(page)
        if not block.needs
        for words in block.commands
        if words[0] in ("lm_eval", "lm-eval-trust")
    ]


RUN = [page for page in PAGES if commands(page)]


@pytest.fixture
def ours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness indexes our tasks only: its own 14,000 take seconds for every command."""
    own, search = Path(lm_eval.tasks.__file__).parent, TaskIndex._iter_yaml_files

    def files(root: Path) -> Iterator[Path]:
        return iter(()) if root == own else search(root)

    monkeypatch.setattr(TaskIndex, "_iter_yaml_files", staticmethod(files))


def run(words: list[str]) -> int:
    """Run a command in this process, where the quick family is known by the names."""
    if words[0] == "lm-eval-trust" and words[1] != "run":
        return main(words[1:])
    rest = words[1:] if words[0] == "lm_eval" else words[2:]
    return main(["run", *rest, "--limit", "2"])


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name)
def test_the_commands_of_the_page_run(
    page: Path,
    quick: None,
    ours_only: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for written in re.findall(
        r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S
    ):
        if "rules:" in written:
            Path("check.yaml").write_text(f"{written}limit: 4\n", encoding="utf-8")
    for words in commands(page):
        if words[1] == "check" and not Path("sweep/steering.yaml").exists():
            # No strength made an untrained model better; a reader's sweep chooses one.
            steering = "steering:\n- {vector: ../truth.safetensors, layer: 1, alpha: 1}\n"
            Path("sweep/steering.yaml").write_text(steering, encoding="utf-8")
        code = run(words)
        allowed = {0, 1} if words[1] in ("check", "doctor") else {0}
        if words[1] == "doctor" and "LM_EVAL_TRUST_DATA" not in os.environ:
            allowed |= {3}  # The benchmarks' files may be missing.
        assert code in allowed, (words, capsys.readouterr())
    if page == START:
        made = ("out/plain", "out/steered", "truth.safetensors", "board", "sweep/examples.md")
        assert [path for path in made if not Path(path).exists()] == []
        assert (Path("baked") / "config.json").is_file()
        assert "<testsuite" in Path("report.xml").read_text(encoding="utf-8")


def test_getting_started_and_installing_are_among_the_pages_that_are_run() -> None:
    assert {START, ROOT / "docs" / "install.md"} <= set(RUN)
    assert len(commands(START)) >= 10


def test_the_example_of_the_python_pages_runs(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert "mini@ckpt_014" in block
    exec(block.replace("mini@ckpt_014", "mini@ckpt_005"), {})
    assert "brem" in capsys.readouterr().out
