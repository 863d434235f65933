"""The table of the conformance suite: setups × models × actions × positions.

Every property test takes one ``Case`` of it. A wrapper that joins the project adds a setup to
``SETUPS`` and gets all properties.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from support.conformance import PROXY_ALPHA, SETUPS, SHAPES, Case, random_vector
from support.reference import Reference, ReferenceEnsemble, ReferenceModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.steering.spec import POSITIONS

Loaded = Callable[[Path], tuple[Any, Any]]


#: Setups whose models have blocks of their own kind: they meet all actions at all positions. The
#: others share their code with one of these, and SmolLM2 takes its time: they meet each action and
#: each position once.
_THOROUGH = ("steered_amber", "lora_amber", "proxy_amber")
#: Of this project, with their strengths; those that other packages add are theirs to test.
_ACTIONS = {"add": 0.7, "clamp": 0.7, "ablate": 0.7, "erase": 0.7, "rotate": 25.0, "reft": 0.7}
#: The case that every property meets also where slow tests are left out.
_QUICK = ("steered_amber", "multi-head", "add", "generated")


def _cases(setups: dict[str, tuple[str, ...]]) -> list[pytest.param]:
    return [
        pytest.param(
            choice := (setup, shape, action, positions),
            id="-".join(choice),
            marks=_marks(choice),
        )
        for setup, shapes in setups.items()
        for shape in shapes
        for action, positions in (
            itertools.product(_ACTIONS, POSITIONS)
            if setup in _THOROUGH and shape != "SmolLM2"
            else zip(_ACTIONS, itertools.cycle(POSITIONS))
        )
    ]


def _marks(choice: tuple[str, ...]) -> list[pytest.MarkDecorator]:
    of_model = [pytest.mark.model] if choice[1] == "SmolLM2" else []
    return of_model + ([] if choice == _QUICK else [pytest.mark.slow])


#: One wrapper meets every model, the others meet one.
_SMALL = {setup: ("multi-head",) for setup in SETUPS} | {"steered_amber": tuple(SHAPES)}


@pytest.fixture(params=_cases(_SMALL | {"steered_amber": (*SHAPES, "SmolLM2")}))
def case(request: pytest.FixtureRequest) -> Case:
    """A case with a random Llama or with SmolLM2."""
    return _build_case(request)


@pytest.fixture(params=_cases(_SMALL))
def small_case(request: pytest.FixtureRequest) -> Case:
    """A case with a random Llama, for what would take SmolLM2 long or a model of its own."""
    return _build_case(request)


@pytest.fixture(params=_cases({"steered_amber": (*SHAPES, "SmolLM2")}))
def plain_case(request: pytest.FixtureRequest) -> Case:
    """A case of a plain Llama, for what the hooks do whatever wrapper they serve."""
    return _build_case(request)


def _build_case(request: pytest.FixtureRequest) -> Case:
    setup, shape, action, positions = request.param
    if shape == "SmolLM2":
        folder = request.getfixturevalue("smollm2")
        layers, width, norm, new_tokens = (10, 15), 576, 20.0, 3
    else:
        folder = request.getfixturevalue("tiny_llama")(**SHAPES[shape])
        width = SHAPES[shape].get("hidden", 32)
        layers, norm, new_tokens = (0, 2), 4.0, 8
    vector = random_vector(width, layers, norm=norm, seed=7)
    file = request.getfixturevalue("tmp_path") / "v.safetensors"
    vector.save(file)
    return Case(
        setup,
        folder,
        _own_arguments(request, setup, folder),
        {"alpha": _ACTIONS[action], "action": action, "positions": positions},
        file,
        vector,
        layers,
        new_tokens,
        large=shape == "SmolLM2",
    )


def _own_arguments(request: pytest.FixtureRequest, setup: str, folder: Path) -> dict[str, str]:
    adapter = request.getfixturevalue("random_adapter")
    llama = request.getfixturevalue("tiny_llama")
    if setup.startswith("lora_amber"):
        return {"adapter": str(adapter(folder)), "merge": str(setup.endswith("merged"))}
    if setup == "proxy_amber":
        # Of other shapes than the base and than each other: only the vocabulary is shared.
        experts = {
            "expert": llama(**SHAPES["grouped-query"]),
            "antiexpert": llama(**SHAPES["tied"]),
        }
    elif setup == "proxy_amber_shared":
        experts = {"expert": adapter(folder), "antiexpert": folder}
    else:
        return {}
    return {name: str(place) for name, place in experts.items()} | {"proxy_alpha": str(PROXY_ALPHA)}


@pytest.fixture(scope="session")
def loaded() -> Loaded:
    """A plain model and tokenizer of a folder, loaded once."""
    found: dict[Path, tuple[Any, Any]] = {}

    def load(folder: Path) -> tuple[Any, Any]:
        if folder not in found:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            found[folder] = model, AutoTokenizer.from_pretrained(folder)
        return found[folder]

    return load


@pytest.fixture(scope="session")
def reference(loaded: Loaded) -> Callable[[Case], Reference]:
    """The independent float64 formulation of a case's model."""
    found: dict[str, Reference] = {}

    def plain(folder: Path) -> Reference:
        return found.setdefault(str(folder), ReferenceModel(loaded(folder)[0]))

    def tuned(folder: Path, adapter: str) -> Reference:
        if adapter not in found:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
            found[adapter] = ReferenceModel(merged)
        return found[adapter]

    def build(case: Case) -> Reference:
        own = case.own_arguments
        if "adapter" in own:
            return tuned(case.folder, own["adapter"])
        if "expert" not in own:
            return plain(case.folder)
        shared = case.setup.endswith("shared")
        expert = tuned(case.folder, own["expert"]) if shared else plain(Path(own["expert"]))
        antiexpert = plain(Path(own["antiexpert"]))
        return ReferenceEnsemble(plain(case.folder), expert, antiexpert, PROXY_ALPHA)

    return build
