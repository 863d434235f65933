"""Every module can be imported by its dotted name."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest

from lm_eval_trust.core.errors import InputError

PACKAGES = (
    "lm_eval_trust",
    *(f"lm_eval_trust.{n}" for n in ("tasks", "model_wrappers", "analysis")),
)


def module_names() -> list[str]:
    names = set()
    for package in PACKAGES:
        folder = Path(importlib.import_module(package).__path__[0])
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            names.add(".".join((package, *(part for part in parts if part != "__init__"))))
    return sorted(name for name in names if not name.endswith("__main__"))


@pytest.mark.parametrize("name", module_names())
def test_module_imports(name: str) -> None:
    if name.endswith(("lora_vllm", "steered_vllm", "vllm_stream")) and find_spec("vllm") is None:
        with pytest.raises(InputError, match="needs vLLM, which is not installed"):
            importlib.import_module(name)
        return
    if ".inspect_bridge" in name:
        pytest.importorskip("inspect_ai", reason="inspect_ai needs Python 3.11")
    assert importlib.import_module(name).__name__ == name
