"""``lm-eval-trust doctor`` notices what is there and what is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lm_eval_trust import cli
from lm_eval_trust.doctor import checks, data, harness, judges, machine, model, software
from lm_eval_trust.doctor.checks import Check


def states(found: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in found}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "is_reachable", lambda address: False)
    monkeypatch.setattr(data, "is_reachable", lambda address: False)
    monkeypatch.delenv("LM_EVAL_TRUST_DATA", raising=False)


def test_every_requirement_is_listed_with_its_version() -> None:
    found = states(software.look())
    assert {"lm-eval-trust", "lm_eval", "torch", "transformers"} <= set(found)
    assert set(found.values()) == {"ok"}


def test_too_old_and_missing_requirements_fail_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = ["numpy>=999", "no-such-package-here>=1", 'left-out; extra == "test"']
    monkeypatch.setattr(software.metadata, "requires", lambda name: wanted)
    _, old, missing = software.look()
    assert (old.state, missing.state) == ("failed", "failed")
    assert old.advice == "pip install 'numpy>=999'"
    assert missing.detail == "not installed, needs >=1"


def test_harness_sees_us() -> None:
    assert set(states(harness.look()).values()) == {"ok"}


def test_switched_off_hook_is_a_note_with_the_other_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.sys, "meta_path", [])
    hook = harness._start_up_hook()
    assert hook.state == "note"
    assert "lm-eval-trust run" in hook.advice


def test_cache_that_cannot_be_written_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("a file stands where the folder should be")
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(occupied / "cache"))
    check = checks.checked("machine", "cache", machine._cache)
    assert check.state == "failed"
    assert str(occupied) in check.detail


def test_size_of_the_cache_counts_its_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(bytes(3_000_000))
    assert "holds 3 MB" in machine._cache().detail
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "file"]


@pytest.mark.usefixtures("offline")
def test_no_data_and_no_network_fails_for_tasks_and_is_a_note_for_vectors() -> None:
    found = states(data.look())
    notes = {name for name, state in found.items() if state == "note"}
    assert notes == {"universal (pku_saferlhf)", "the paper's release (data_source=tracingllm)"}
    assert len(found) == 7
    assert set(found.values()) == {"note", "failed"}


@pytest.mark.usefixtures("offline")
def test_no_data_with_network_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(data, "is_reachable", lambda address: True)
    found = data.look()
    assert {check.state for check in found} == {"note"}
    assert {check.advice for check in found} == {"lm-eval-trust data fetch"}


def test_real_data_is_found_and_a_changed_file_is_not(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(data_dir))
    assert set(states(data.look()).values()) == {"ok"}
    shutil.copytree(data_dir / "sst2", tmp_path / "sst2", copy_function=shutil.copyfile)
    with (tmp_path / "sst2" / "dev.tsv").open("a", encoding="utf-8") as file:
        file.write("one more line\t1\n")
    monkeypatch.setenv("LM_EVAL_TRUST_DATA", str(tmp_path))
    changed = next(check for check in data.look() if check.name == "robustness (sst2)")
    assert changed.state == "failed"
    assert "checksum" in changed.detail


def test_judges_are_named_with_the_variable_that_chooses_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth = judges._choice(judges.TRUTH)
    assert truth.state == "note"
    assert judges.TRUTH.variable in truth.advice
    monkeypatch.setenv(judges.TRUTH.variable, "reference")
    assert judges._choice(judges.TRUTH).state == "ok"


def test_small_model_can_be_steered(tiny_llama) -> None:
    (check,) = model.look(str(tiny_llama(layers=4)))
    assert check.state == "ok"
    assert check.detail.startswith("4 decoder blocks of width 32")


def test_folder_without_a_model_fails(tmp_path: Path) -> None:
    (check,) = model.look(str(tmp_path))
    assert check.state == "failed"
    assert check.detail


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("failed", 3)])
def test_exit_code_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    from lm_eval_trust.cli import doctor

    check = Check("data", "reliability", state, "what was found", "what to do")  # type: ignore[arg-type]
    monkeypatch.setattr(doctor, "_look", lambda model: [check])
    assert cli.main(["doctor"]) == code
    assert "what was found" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["checks"][0]["state"] == state
