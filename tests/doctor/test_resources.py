"""The doctor finds benchmark files and judges, and tells whether a model can be steered."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lm_eval_trust.doctor import resources
from lm_eval_trust.doctor.environment import Check


def states(found: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in found}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "is_reachable", lambda address: False)
    monkeypatch.delenv("LM_EVAL_TRUST_DATA", raising=False)


@pytest.mark.usefixtures("offline")
def test_no_data_and_no_network_fails_for_tasks_and_is_a_note_for_vectors() -> None:
    found = states(resources.check_data())
    notes = {name for name, state in found.items() if state == "note"}
    assert notes == {"universal (pku_saferlhf)", "the paper's release (data_source=tracingllm)"}
    assert len(found) == 7
    assert set(found.values()) == {"note", "failed"}


@pytest.mark.usefixtures("offline")
def test_no_data_with_network_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(resources, "is_reachable", lambda address: True)
    found = resources.check_data()
    assert {check.state for check in found} == {"note"}
    assert {check.advice for check in found} == {"lm-eval-trust data fetch"}


def test_real_data_is_found_and_a_changed_file_is_not(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(data_dir))
    assert set(states(resources.check_data()).values()) == {"ok"}
    shutil.copytree(data_dir / "sst2", tmp_path / "sst2", copy_function=shutil.copyfile)
    with (tmp_path / "sst2" / "dev.tsv").open("a", encoding="utf-8") as file:
        file.write("one more line\t1\n")
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(tmp_path))
    changed = next(check for check in resources.check_data() if check.name == "robustness (sst2)")
    assert changed.state == "failed"
    assert "checksum" in changed.detail


def test_judges_are_named_with_the_variable_that_chooses_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth = resources._choice(resources.TRUTH)
    assert truth.state == "note"
    assert resources.TRUTH.variable in truth.advice
    monkeypatch.setenv(resources.TRUTH.variable, "reference")
    assert resources._choice(resources.TRUTH).state == "ok"


def test_small_model_can_be_steered(tiny_llama) -> None:
    check = resources.check_model(str(tiny_llama(layers=4)))
    assert check.state == "ok"
    assert check.detail.startswith("4 decoder blocks of width 32")


def test_folder_without_a_model_fails(tmp_path: Path) -> None:
    check = resources.check_model(str(tmp_path))
    assert check.state == "failed"
    assert check.detail
