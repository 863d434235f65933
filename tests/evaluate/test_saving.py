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


def tracker_of(out: Path, seen: list[list[str]], *, lines: int = 2, date: str = DATE) -> Any:
    """A tracker that writes as the harness does, and notes what is visible meanwhile."""
    tracker = SimpleNamespace(output_path=str(out), date_id=date)
    before = results_files(out)

    def note() -> None:
        visible = (path for path in out.rglob("*") if path.is_file())
        relative = [path.relative_to(out) for path in visible]
        seen.append([str(path) for path in relative if not str(path).startswith(".")])
        assert results_files(out) == before

    def results(results: dict[str, Any], samples: Any) -> None:
        (folder := Path(tracker.output_path) / "model").mkdir()
        (folder / f"results_{date}.json").write_text(json.dumps(results))
        note()

    def sample_rows(task_name: str, samples: Any) -> None:
        file = Path(tracker.output_path) / "model" / f"samples_{task_name}_{date}.jsonl"
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


def test_what_a_kill_left_before_results_were_kept_is_replaced_by_its_repetition(
    tmp_path: Path,
) -> None:
    later = [DATE.replace("05", seconds) for seconds in ("06", "07")]
    for date, accuracy in zip((DATE, *later), (0.5, 0.5, 0.75), strict=True):
        found = {
            "configs": {"a": {}},
            "results": {"a": {"acc": accuracy}},
            "date": date,
            "samples": {"a": [{}, {}]},
        }
        save_results(tracker_of(tmp_path, [], date=date), found)
    names = {file.name for file in (tmp_path / "model").iterdir()}
    expected = {f"results_{date}.json" for date in later}
    assert names == expected | {f"samples_a_{date}.jsonl" for date in later}
