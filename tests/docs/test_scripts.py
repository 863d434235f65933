"""Every program of benchmarks/ and scripts/ says what it does and takes."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest
from support.pages import ROOT

#: They run in environments that hold packages of their own, llama-cpp-python and vLLM.
ELSEWHERE = {"llama_cpp_logits.py", "name_vllm.py"}
SCRIPTS = [
    path
    for folder in ("benchmarks", "scripts")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "__main__" in path.read_text(encoding="utf-8") and path.name not in ELSEWHERE
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_script_answers_help(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its usage, and nothing is run."""
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"usage: {script.name}")
