"""The notebooks run from top to bottom, and show the outputs of the code that they have."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient", reason="needs `pip install 'lm-eval-trust[notebooks]'`")

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
ON_SMOLLM2 = {"7-replicating-caa"}
#: The quick family has learnt nothing and has fewer checkpoints: no score is looked at.
QUICKLY = """\
import os, sys
os.environ.update(LM_EVAL_TRUST_CACHE={cache!r}, HF_HUB_OFFLINE="1")
sys.path.insert(0, {tests!r})
from lm_eval_trust.mini import family
from support.mini import QUICK
family.RECIPE = QUICK
del os, sys, family, QUICK"""
#: What is run → what takes less time.
IN_PLACE_OF = {
    "mini@ckpt_014": "mini@ckpt_005",
    "{0: 0, 6: 400, 7: 800, 8: 1200, 10: 2000, 12: 2800, 14: 3600, 17: 4800}": (
        "{0: 0, 1: 1, 2: 2, 3: 4, 4: 8, 5: 12}"
    ),
    "alphas=[0.5, 1, 2, 4],": "alphas=[1], limit=6,",
    "random:19": "random:3",
    "--max-steps 60": "--max-steps 2",
}
ON_SMOLLM2_IN_PLACE_OF = {"limit=12": "limit=3", "random:8": "random:3", "[:200]": "[:40]"}
#: Bytes of a notebook; a figure takes some 20,000.
LARGEST = 200_000


@pytest.fixture(scope="module")
def notebooks() -> Iterator[Any]:
    """The script that executes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import notebooks

        yield notebooks
    sys.modules.pop("notebooks", None)


@pytest.fixture(scope="module")
def kernel(notebooks: Any) -> Iterator[Any]:
    with notebooks.kernel() as manager:
        yield manager


def outputs(notebook: Any) -> list[Any]:
    return [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]


def shortened(notebook: Any, shorter: dict[str, str]) -> Any:
    for cell in notebook.cells:
        for real, quick in shorter.items():
            cell.source = cell.source.replace(real, quick)
    return notebook


def test_there_are_seven_and_each_is_on_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert len(NAMES) == 7
    assert re.findall(r"notebooks/(\S+)\.md$", navigation, re.MULTILINE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_the_code(name: str, notebooks: Any) -> None:
    notebook = notebooks.read(name)
    assert notebook.metadata[notebooks.EXECUTED] == notebooks.digest(notebook), (
        f"run scripts/notebooks.py {name}"
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert outputs(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_small_and_says_nothing_of_the_machine(name: str, notebooks: Any) -> None:
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert not re.search(r"/(?:tmp|root|home|work|usr)/", text)
    notebook = notebooks.read(name)
    assert set(notebook.metadata) == {"kernelspec", "language_info", notebooks.EXECUTED}
    assert all(not cell.metadata for cell in notebook.cells)
    assert all(o.output_type != "error" and o.get("name") != "stderr" for o in outputs(notebook))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ON_SMOLLM2])
def test_a_notebook_runs(
    name: str, notebooks: Any, kernel: Any, trained_quick_family: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained_quick_family, tmp_path / "cache")
    first = QUICKLY.format(tests=str(ROOT / "tests"), cache=str(tmp_path / "cache"))
    notebook = shortened(notebooks.read(name), IN_PLACE_OF)
    done = notebooks.execute(notebook, kernel, tmp_path, first)  # Raises what a cell raises.
    assert len(outputs(done)) >= len(outputs(notebooks.read(name))) / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ON_SMOLLM2))
def test_a_notebook_runs_on_smollm2(
    name: str,
    notebooks: Any,
    data_dir: Path,
    smollm2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_SMOLLM2", str(smollm2))
    notebook = shortened(notebooks.read(name), ON_SMOLLM2_IN_PLACE_OF)
    assert notebook != notebooks.read(name)
    with notebooks.kernel() as kernel:
        done = notebooks.execute(notebook, kernel, tmp_path)
    assert len(outputs(done)) == len(outputs(notebooks.read(name)))
