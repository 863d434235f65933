"""The doctor notices what is wrong with the packages, the harness and the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_trust.doctor import environment
from lm_eval_trust.doctor.environment import Check


def states(found: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in found}


def test_every_requirement_is_listed_with_its_version() -> None:
    found = states(environment.check_software())
    assert {"lm-eval-trust", "lm_eval", "torch", "transformers"} <= set(found)
    assert set(found.values()) == {"ok"}


def test_too_old_and_missing_requirements_fail_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = ["numpy>=999", "no-such-package-here>=1", 'left-out; extra == "test"']
    monkeypatch.setattr(environment.metadata, "requires", lambda name: wanted)
    _, old, missing = environment.check_software()
    assert (old.state, missing.state) == ("failed", "failed")
    assert old.advice == "pip install 'numpy>=999'"
    assert missing.detail == "not installed, needs >=1"


def test_harness_sees_us() -> None:
    assert set(states(environment.check_harness()).values()) == {"ok"}


def test_tasks_of_other_packages_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = environment.task_paths()
    (tmp_path / "lantern.yaml").write_text("task: lantern\n")
    before = environment._tasks().detail
    monkeypatch.setattr(environment, "task_paths", lambda: [*ours, tmp_path])
    after = environment._tasks().detail
    assert int(after.split()[0]) == int(before.split()[0]) + 1


def test_switched_off_hook_is_a_note_with_the_other_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.sys, "meta_path", [])
    hook = environment._start_up_hook()
    assert hook.state == "note"
    assert "lm-eval-trust run" in hook.advice


def test_cache_that_cannot_be_written_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("a file stands where the folder should be")
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(occupied / "cache"))
    check = environment.checked("machine", "cache", environment._cache)
    assert check.state == "failed"
    assert str(occupied) in check.detail


def test_size_of_the_cache_counts_its_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(bytes(3_000_000))
    assert "holds 3 MB" in environment._cache().detail
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "file"]
