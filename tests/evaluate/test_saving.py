"""The harness's results appear whole, after their samples; what a kill leaves is no result."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.saved_runs import results_files
from lm_eval_trust.evaluate.harness import save_results

DATE = "2026-01-02T03-04-05.678"


def tracker_of(out: Path, seen: list[list[str]], *, lines: int = 2) -> Any:
    """A tracker that writes as the harness does, and notes what is visible meanwhile."""
    tracker = SimpleNamespace(output_path=str(out), date_id=DATE)

    def note() -> None:
        visible = (path for path in out.rglob("*") if path.is_file())
        relative = [path.relative_to(out) for path in visible]
        seen.append([str(path) for path in relative if not str(path).startswith(".")])
        assert results_files(out) == []

    def results(results: dict[str, Any], samples: Any) -> None:
        (folder := Path(tracker.output_path) / "model").mkdir()
        (folder / f"results_{DATE}.json").write_text(json.dumps(results))
        note()

    def sample_rows(task_name: str, samples: Any) -> None:
        file = Path(tracker.output_path) / "model" / f"samples_{task_name}_{DATE}.jsonl"
        file.write_text("{}\n" * lines)
        note()

    tracker.save_results_aggregated, tracker.save_results_samples = results, sample_rows
    return tracker


def test_nothing_is_visible_until_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    moved: list[str] = []
    replace = Path.replace

    def noted(self: Path, target: Path) -> Path:
        moved.append(self.name.split("_")[0])
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    found = {"configs": {"a": {}}, "samples": {"a": [{}, {}]}}
    save_results(tracker_of(tmp_path / "out", seen), found)
    assert seen == [[], []]
    assert moved == ["samples", "results"]
    (file,) = results_files(tmp_path / "out")
    assert file == tmp_path / "out" / "model" / f"results_{DATE}.json"
    assert (file.parent / f"samples_a_{DATE}.jsonl").read_text() == "{}\n{}\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]


def test_samples_that_are_cut_off_leave_nothing(tmp_path: Path) -> None:
    found = {"configs": {"a": {}}, "samples": {"a": [{}, {}]}}
    with pytest.raises(ExternalError, match="could not write its results"):
        save_results(tracker_of(tmp_path, [], lines=1), found)
    assert not any(tmp_path.iterdir())
