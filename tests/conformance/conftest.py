"""The table of the conformance suite: setups × models × actions × positions.

Every property test takes one ``Case`` of it. A wrapper that joins the project adds a setup to
``SETUPS`` and gets all properties.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from support.conformance import PROMPTS, PROXY_ALPHA, SETUPS, SHAPES, Case, random_vector
from support.reference import Reference, ReferenceEnsemble, ReferenceModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.models.activations import extract_activations
from lm_eval_trust.steering.spec import POSITIONS

Loaded = Callable[[Path], tuple[Any, Any]]


#: Setups whose models have blocks of their own kind: they meet these actions at all positions. The
#: others share their code with one of these, and SmolLM2 takes its time: they meet each action and
#: each position once.
_THOROUGH = ("steered_amber", "lora_amber", "proxy_amber")
_ACTIONS = ("add", "clamp", "ablate")
#: Further ways to steer, which wrappers know nothing of but by a condition's need of prompt ends;
#: ``tests/conformance/test_methods.py`` holds each against the reference by itself.
_FURTHER = {
    "steered_amber": (
        ("erase", "all"),
        ("rotate", "generated"),
        ("reft", "last_prompt"),
        ("when", "generated"),
        ("heads", "generated"),
    ),
    "lora_amber": (("when", "generated"),),
    "proxy_amber": (("when", "last_prompt"),),
}
#: Actions of those ways that are named otherwise.
_ADDING = ("when", "heads")
_DEGREES, _STRENGTH = 25.0, 0.7
#: The case that every property meets also where slow tests are left out.
_QUICK = ("steered_amber", "multi-head", "add", "generated")


def _cases(setups: dict[str, tuple[str, ...]], *, leave: str = "") -> list[pytest.param]:
    return [
        pytest.param(
            choice := (setup, shape, action, positions),
            id="-".join(choice),
            marks=_marks(choice),
        )
        for setup, shapes in setups.items()
        for shape in shapes
        for action, positions in (
            *(
                itertools.product(_ACTIONS, POSITIONS)
                if setup in _THOROUGH and shape != "SmolLM2"
                else zip(_ACTIONS, POSITIONS, strict=True)
            ),
            *(_FURTHER.get(setup, ()) if shape == "multi-head" else ()),
        )
        if action != leave
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


@pytest.fixture(params=_cases({"steered_amber": (*SHAPES, "SmolLM2")}, leave="heads"))
def plain_case(request: pytest.FixtureRequest) -> Case:
    """A case of a plain Llama whose blocks' outputs are steered, for what the hooks do."""
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
    if action == "heads":
        vector = replace(vector, site="heads")
    file = request.getfixturevalue("tmp_path") / "v.safetensors"
    vector.save(file)
    settings = {"alpha": _DEGREES if action == "rotate" else _STRENGTH, "positions": positions}
    settings["action"] = "add" if action in _ADDING else action
    if action == "when":
        model = request.getfixturevalue("loaded")(folder)
        settings["when"] = _condition(model, file.with_name("c.safetensors"), layers[0])
    return Case(
        setup,
        folder,
        _own_arguments(request, setup, folder),
        settings,
        file,
        vector,
        layers,
        new_tokens,
        large=shape == "SmolLM2",
    )


def _condition(loaded: tuple[Any, Any], file: Path, layer: int) -> dict[str, Any]:
    """A condition that holds for the first prompt and for some of the others."""
    model, tokenizer = loaded
    width = model.config.hidden_size
    condition = random_vector(width, (layer,), norm=1.0, seed=11)
    condition.save(file)
    states = extract_activations(model, tokenizer, PROMPTS, layers=[layer], progress=False)[:, 0]
    cosines = states @ condition.layer(layer).unit.numpy() / np.linalg.norm(states, axis=1)
    gaps = np.diff(ordered := np.sort(cosines))[1:-1]
    middle = int(gaps.argmax()) + 1
    threshold = float(ordered[middle : middle + 2].mean())
    above = bool(cosines[0] > threshold)
    return {"vector": str(file), "threshold": threshold, "layer": layer, "above": above}


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
