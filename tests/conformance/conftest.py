"""The table of the conformance suite: wrappers × models × actions × positions.

Every property test takes one ``Case`` of it. A wrapper that joins the project adds its name to
``WRAPPERS`` and gets all properties.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.conformance import SHAPES, WRAPPERS, Case, random_vector
from support.reference import ReferenceModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.steering.plan import ACTIONS, POSITIONS


def _cases(*shapes: str) -> list[pytest.param]:
    # The wrappers share their request code: one meets every model, the others meet one.
    models = [("steered_amber", shape) for shape in shapes]
    models += [(wrapper, "multi-head") for wrapper in WRAPPERS if wrapper != "steered_amber"]
    return [
        pytest.param(choice := (wrapper, shape, action, positions), id="-".join(choice))
        for wrapper, shape in models
        for action in ACTIONS
        for positions in POSITIONS
    ]


@pytest.fixture(params=_cases(*SHAPES, "SmolLM2"))
def case(request: pytest.FixtureRequest) -> Case:
    """A case with a random Llama or with SmolLM2."""
    return _build_case(request)


@pytest.fixture(params=_cases(*SHAPES))
def small_case(request: pytest.FixtureRequest) -> Case:
    """A case with a random Llama, for what would take SmolLM2 long or a model of its own."""
    return _build_case(request)


def _build_case(request: pytest.FixtureRequest) -> Case:
    wrapper, shape, action, positions = request.param
    if shape == "SmolLM2":
        folder = request.getfixturevalue("smollm2")
        layers, width, norm, new_tokens, alpha = (10, 15), 576, 20.0, 3, 1.0
    else:
        folder = request.getfixturevalue("tiny_llama")(**SHAPES[shape])
        width = SHAPES[shape].get("hidden", 32)
        layers, norm, new_tokens, alpha = (0, 2), 4.0, 8, 0.7
    vector = random_vector(width, layers, norm=norm, seed=7)
    file = request.getfixturevalue("tmp_path") / "v.safetensors"
    vector.save(file)
    arguments = {"alpha": alpha, "action": action, "positions": positions}
    return Case(
        wrapper, folder, arguments, file, vector, layers, new_tokens, large=shape == "SmolLM2"
    )


@pytest.fixture(scope="session")
def loaded() -> Callable[[Path], tuple[Any, Any]]:
    """A plain model and tokenizer of a folder, loaded once."""
    found: dict[Path, tuple[Any, Any]] = {}

    def load(folder: Path) -> tuple[Any, Any]:
        if folder not in found:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            found[folder] = model, AutoTokenizer.from_pretrained(folder)
        return found[folder]

    return load


@pytest.fixture(scope="session")
def reference(loaded: Callable[[Path], tuple[Any, Any]]) -> Callable[[Case], ReferenceModel]:
    """The independent float64 formulation of a case's model."""
    found: dict[Path, ReferenceModel] = {}

    def build(case: Case) -> ReferenceModel:
        if case.folder not in found:
            found[case.folder] = ReferenceModel(loaded(case.folder)[0])
        return found[case.folder]

    return build
