"""The tutorial's commands, one after the other, as a reader types them.

The quick family stands for the real one: it has learnt nothing, so no score is looked at; files
and exit codes are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import lm_eval.tasks
import pytest
from lm_eval.tasks._index import TaskIndex

from lm_eval_trust.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "get-started.md").read_text(encoding="utf-8")
#: The quick family has fewer checkpoints and needs fewer items.
IN_PLACE_OF = {
    "mini@ckpt_014": "mini@ckpt_005",
    "--layers 0-3": "--layers 0-1",
    "--limit 60": "--limit 4",
}


def commands() -> list[list[str]]:
    text = TEXT.replace("\\\n", " ")
    for written, used in IN_PLACE_OF.items():
        assert written in text
        text = text.replace(written, used)
    lines = re.findall(r"^ {4}((?:lm_eval|lm-eval-trust) .*)$", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.fixture
def ours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness indexes our tasks only: its own 14,000 take seconds for every command."""
    own, search = Path(lm_eval.tasks.__file__).parent, TaskIndex._iter_yaml_files

    def files(root: Path) -> Iterator[Path]:
        return iter(()) if root == own else search(root)

    monkeypatch.setattr(TaskIndex, "_iter_yaml_files", staticmethod(files))


def run(words: list[str]) -> int:
    """Run a command in this process, where the quick family is known by the names."""
    if words[0] == "lm-eval-trust":
        return main(words[1:])
    return main(["run", *words[1:], "--limit", "2"])


@pytest.mark.slow
def test_the_tutorial_runs(
    quick: None,
    ours_only: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (check,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    Path("check.yaml").write_text(f"{check}limit: 4\n", encoding="utf-8")
    for words in commands():
        if words[1] == "check" and not Path("sweep/steering.yaml").exists():
            # No strength made an untrained model better; a reader's sweep chooses one.
            steering = "steering:\n- {vector: ../truth.safetensors, layer: 1, alpha: 1}\n"
            Path("sweep/steering.yaml").write_text(steering, encoding="utf-8")
        code = run(words)
        assert code == 0 or (words[1] == "check" and code == 1), (words, capsys.readouterr())
    made = ("out/plain", "out/steered", "truth.safetensors", "board", "sweep/examples.md")
    assert [name for name in made if not Path(name).exists()] == []
    assert (Path("baked") / "config.json").is_file()
    assert "<testsuite" in Path("report.xml").read_text(encoding="utf-8")


def test_the_example_of_the_python_pages_runs(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert "mini@ckpt_014" in block
    exec(block.replace("mini@ckpt_014", "mini@ckpt_005"), {})
    assert "brem" in capsys.readouterr().out
