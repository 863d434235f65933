"""Execute the notebooks in docs/notebooks and keep their outputs.

    python scripts/notebooks.py [NAME…]      # e.g. 2-reading-a-sweep; by default all

Number 7 needs SmolLM2 and TruthfulQA: LM_EVAL_TRUST_SMOLLM2 and LM_EVAL_TRUST_DATA name their
folders. What is kept is the output that readers need: no progress bars, no times, no paths.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
#: Key of a notebook's metadata: the digest of the code that its outputs are of.
EXECUTED = "lm_eval_trust_executed"
_LONGEST = 600  # seconds that a cell may take
_KINDS = ("text/html", "text/plain", "image/png")
#: What the harness prints wherever it computes a perplexity's standard error.
_REMARK = re.compile(r"^bootstrapping for stddev: .*\n", re.MULTILINE)
#: The site has a style for tables.
_STYLE = re.compile(r"<style scoped>.*?</style>\n", re.DOTALL)
#: Small figures, and the same namespace for every notebook that a kernel runs.
_PREPARE = """\
%reset -f
%config InlineBackend.print_figure_kwargs = {{"dpi": 80}}
import os, warnings
os.chdir({folder!r})
warnings.simplefilter("ignore")
del os, warnings"""


def names() -> list[str]:
    """Return the names of all notebooks, in the order in which they are read."""
    return sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def read(name: str) -> Any:
    """Return a notebook."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def digest(notebook: Any) -> str:
    """Return the digest of a notebook's code."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()[:16]


@contextmanager
def kernel() -> Iterator[KernelManager]:
    """Start one Python for several notebooks: loading the libraries takes longer than most."""
    with tempfile.TemporaryDirectory() as folder:
        # Sockets of its own, which no other user can reach.
        manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{folder}/socket")
        manager.start_kernel(env=os.environ | {"TQDM_DISABLE": "1"})
        try:
            yield manager
        finally:
            manager.shutdown_kernel(now=True)


def execute(notebook: Any, manager: KernelManager, folder: Path, first: str = "") -> Any:
    """Return a notebook with the outputs of its code, run in a folder.

    Args:
        notebook: Which.
        manager: The Python that runs it.
        folder: Where it runs.
        first: Code to run before.

    Raises:
        CellExecutionError: A cell raised an error.
    """
    prepare = nbformat.v4.new_code_cell(f"{_PREPARE.format(folder=str(folder))}\n{first}")
    running = nbformat.from_dict({**notebook, "cells": [prepare, *notebook.cells]})
    NotebookClient(running, km=manager, timeout=_LONGEST).execute()
    running.cells = running.cells[1:]
    return kept(running)


def kept(notebook: Any) -> Any:
    """Return a notebook with what is kept of it, the same for the same outputs."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            EXECUTED: digest(notebook),
        }
    )
    count = 0
    for number, cell in enumerate(notebook.cells, start=1):
        cell.metadata, cell.id = nbformat.NotebookNode(), f"cell-{number}"
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = [found for each in cell.outputs if (found := _kept_output(each, count))]
    return notebook


def _kept_output(output: Any, count: int) -> Any | None:
    if output.output_type == "stream":
        output.text = _REMARK.sub("", output.text)
        return output if output.name == "stdout" and output.text else None
    if output.output_type not in ("display_data", "execute_result"):
        return output
    output.metadata = nbformat.NotebookNode()
    output.data = nbformat.NotebookNode({k: v for k, v in output.data.items() if k in _KINDS})
    if "text/html" in output.data:
        output.data["text/html"] = _STYLE.sub("", output.data["text/html"])
    if output.output_type == "execute_result":
        output.execution_count = count
    return output


def main() -> int:
    """Execute the notebooks that were asked for."""
    parser = argparse.ArgumentParser(description="Execute the notebooks of the documentation.")
    parser.add_argument("names", nargs="*", default=names(), metavar="NAME")
    for name in parser.parse_args().names:
        # A Python each, as for readers.
        with tempfile.TemporaryDirectory() as folder, kernel() as manager:
            done = execute(read(name), manager, Path(folder))
        nbformat.write(done, FOLDER / f"{name}.ipynb")
        print(FOLDER / f"{name}.ipynb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
