from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from support.hub import Hub, Repository
from support.vectors import tide_vector

from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.sharing.card import updated_card
from lm_eval_trust.sharing.effects import Effect, read_effects
from lm_eval_trust.steering.conditions import tensor_digest
from lm_eval_trust.steering.hub_names import HubName
from lm_eval_trust.steering.vectors import load_vector

NAME = HubName("velmi/honest", "main", "honest.safetensors")


def head_of(card: str) -> dict[str, object]:
    found = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_a_card_says_where_a_vector_comes_from() -> None:
    card = updated_card("", tide_vector(), NAME)
    assert head_of(card) == {
        "tags": ["steering-vector", "lm_eval_trust"],
        "library_name": "lm_eval_trust",
        "base_model": "velmi/tides",
    }
    assert "Directions for decoder blocks 1 to 2, width 16." in card
    assert "from 3 statements" in card
    assert "| Statements | 3 in 2 groups |" in card
    assert "vector=velmi/honest:honest.safetensors,layer=2,alpha=1 " in card


def test_the_origin_of_an_import_is_unknown() -> None:
    vector = replace(tide_vector(), provenance=None)
    card = updated_card("", vector, NAME)
    assert "base_model" not in head_of(card)
    assert "its origin is unknown" in card
    assert "scale=unit" in card


def test_a_folder_is_not_named_as_base_model() -> None:
    made = tide_vector().provenance
    assert made is not None
    folder = replace(made, model="tides", settings={"commit": ""})
    assert "base_model" not in head_of(
        updated_card("", replace(tide_vector(), provenance=folder), NAME)
    )


def test_what_people_wrote_stays() -> None:
    theirs = "---\nlicense: mit\ntags:\n- sea\n---\n# Mine\n\nHands off.\n"
    once = updated_card(theirs, tide_vector(), NAME)
    twice = updated_card(once + "\nAnd this.\n", tide_vector(seed=1), NAME, [Effect("X", "new")])
    assert head_of(twice)["license"] == "mit"
    assert head_of(twice)["tags"] == ["sea", "steering-vector", "lm_eval_trust"]
    assert twice.count("# Mine\n\nHands off.") == twice.count("And this.") == 1
    assert twice.count("### Use it") == 1
    assert "- new" in twice
    assert updated_card(twice, tide_vector(seed=1), NAME, [Effect("X", "new")]) == twice


@pytest.mark.parametrize(
    ("old", "said"),
    [
        ("---\na: [\n---\n", "is not YAML"),
        ("---\n- a\n---\n", "is not a YAML mapping"),
        ("<!-- vector: honest.safetensors -->\n", "restore the mark"),
    ],
)
def test_cards_that_cannot_be_kept(old: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        updated_card(old, tide_vector(), NAME)


@pytest.fixture
def sweep(tmp_path: Path, vector_file: Path) -> Path:
    folder = tmp_path / "sweep"
    folder.mkdir()
    entry = {"vector": str(vector_file), "layer": 1, "alpha": 2.5}
    (folder / "steering.yaml").write_text(yaml.safe_dump({"steering": [entry]}))
    test = {"task": "trust_truthfulqa", "metric": "trust_score", "items": 40, "groups": 40}
    figures = {"unsteered": 0.461, "steered": 0.545, "change": 0.084, "low": -0.013, "high": 0.181}
    pd.DataFrame([test | figures]).to_csv(folder / "test.csv", index=False)
    arm = {"arm": "random 1", "task": "trust_truthfulqa"}
    behind = {"behind": 0.05, "behind_low": 0.01, "behind_high": 0.09}
    pd.DataFrame([arm | behind]).to_csv(folder / "controls.csv", index=False)
    return folder


def test_effects_of_a_sweep(sweep: Path, vector_file: Path) -> None:
    first, second = read_effects(sweep, load_vector(vector_file))
    assert first.source.startswith("Sweep, layer 1, α = 2.5, add at generated")
    assert first.said == (
        "trust_score of `trust_truthfulqa` 0.545, 0.461 without: +0.084 (95% interval -0.013 to "
        "+0.181), 40 items"
    )
    assert "beats the control random 1 by +0.050 (95% interval +0.010 to +0.090)" in second.said


def test_effects_of_an_audit(tmp_path: Path, vector_file: Path) -> None:
    vector = load_vector(vector_file)
    step = {"layer": 1, "alpha": 2.0, "vector": tensor_digest(vector.layer(1).scaled("unit"))}
    record = {
        "verdict": "not shown",
        "provenance": {"steering": {"steps": [step]}},
        "rules": [{"title": "Gain on the task", "outcome": "inconclusive", "said": "+0.08."}],
    }
    (tmp_path / "audit.json").write_text(json.dumps(record))
    (effect,) = read_effects(tmp_path, vector)
    assert effect == Effect(
        "Audit, layer 1, α = 2, verdict: **not shown**",
        "Gain on the task: inconclusive. +0.08.",
    )
    with pytest.raises(InputError, match="is not about"):
        read_effects(tmp_path, tide_vector(seed=5))


def test_effects_of_a_check(tmp_path: Path, vector_file: Path) -> None:
    check = tmp_path / "check.yaml"
    entry = {"vector": vector_file.name, "layer": 1}
    rules = {"trust_truthfulqa": {"trust_score": {"min_gain": 0.02}}}
    check.write_text(yaml.safe_dump({"steering": [entry], "rules": rules}))
    rule = {"metric": "trust_score", "kind": "min_gain", "confidence": 0.9}
    verdict = {
        "rule": rule,
        "task": "trust_truthfulqa",
        "outcome": "passed",
        "value": 0.5,
        "reference": 0.4,
        "change": {"mean": 0.1, "low": 0.03, "high": 0.17},
        "is_ratio": False,
        "items": 50,
    }
    record = {"checks": [{"file": str(check), "passed": True, "verdicts": [verdict]}]}
    (tmp_path / "check.json").write_text(json.dumps(record))
    (effect,) = read_effects(tmp_path / "check.json", load_vector(vector_file))
    assert effect.source == "Check `check.yaml` (passed), layer 1, α = 1, add at generated"
    assert effect.said.endswith(
        "0.500, 0.400 without: +0.100 (90% interval +0.030 to +0.170), 50 items; rule min_gain: "
        "passed"
    )


def test_results_of_another_vector_are_refused(sweep: Path) -> None:
    with pytest.raises(InputError, match=r"test.csv is not about vector"):
        read_effects(sweep, tide_vector(seed=7))


@pytest.mark.parametrize("damage", ["", "task,metric\na,b\n", "\x00"])
def test_damaged_results(sweep: Path, vector_file: Path, damage: str) -> None:
    (sweep / "test.csv").write_text(damage or "task,steered\nx,y\n")
    with pytest.raises(InputError, match=r"test.csv is damaged"):
        read_effects(sweep, load_vector(vector_file))


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the folder of a sweep"):
        read_effects(tmp_path, tide_vector())


def test_effects_reach_the_card(hub: Hub, sweep: Path, vector_file: Path) -> None:
    hub.models["velmi/honest"] = Repository({"main": {"README.md": b"# Ours\n"}})
    command = ["vector", "push", str(vector_file), "velmi/honest", "--results", str(sweep)]
    assert main(command) == 0
    card = hub.models["velmi/honest"].files("main")["README.md"].decode()
    assert "# Ours" in card
    assert "0.545, 0.461 without: +0.084" in card
