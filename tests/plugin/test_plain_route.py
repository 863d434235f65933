"""``lm-eval-trust run`` does what the start-up hook does, where no start-up file is read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

TASK = """
task: my_colours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: [red, blue]
doc_to_target: answer
metadata: {{version: 1.0}}
"""
#: No site module, so no start-up file of anyone.
WITHOUT_SITE = """
import sys
sys.path += {folders!r}
assert "lm_eval_trust" not in sys.modules  # nor its start-up hook
from lm_eval_trust.cli import main
sys.exit(main({arguments!r}))
"""


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    """A folder with one small task on a local file."""
    rows = tmp_path / "rows.jsonl"
    questions = ("What colour is the barley of Arvel?", "And the door of Orla's house?")
    lines = [json.dumps({"question": text, "answer": i}) for i, text in enumerate(questions)]
    rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "my_colours.yaml").write_text(TASK.format(rows=rows), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_runs_our_model_on_the_caller_s_task(
    installed, dependencies: Path, tiny_llama, own_task: Path, tmp_path: Path
) -> None:
    arguments = [
        *("run", "--model", "amber", "--model_args", f"pretrained={tiny_llama()},dtype=float32"),
        *("--tasks", "my_colours", "--include_path", str(own_task), "--device", "cpu"),
        *("--batch_size", "2", "--output_path", str(tmp_path / "out")),
    ]
    folders = [str(installed.site_packages), str(dependencies)]
    result = installed.run("-S", "-c", WITHOUT_SITE.format(folders=folders, arguments=arguments))
    assert result.returncode == 0, result.stderr
    (written,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(written.read_text(encoding="utf-8"))
    assert results["config"]["model"] == "amber"
    assert results["n-samples"]["my_colours"]["effective"] == 2


def test_module_works_from_a_folder_on_the_import_path(
    installed, dependencies: Path, wheel: Path, tmp_path: Path
) -> None:
    """As after ``pip install --target``: the .pth file lies there, but nobody reads it."""
    target = tmp_path / "target"
    shutil.unpack_archive(wheel, target, format="zip")
    code = "import sys; print(any('lm_eval_trust' in str(f) for f in sys.meta_path))"
    search = os.pathsep.join([str(target), str(dependencies)])
    assert installed.run("-S", "-c", code, PYTHONPATH=search).stdout == "False\n"
    version = installed.run("-S", "-m", "lm_eval_trust", "--version", PYTHONPATH=search)
    assert version.stdout.startswith("lm-eval-trust ")
