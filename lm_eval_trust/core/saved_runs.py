"""Results and samples that the harness has written: found, read, and written in its layout."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.utils import handle_non_serializable

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.storage import atomic_path

Sample = dict[str, Any]

#: Key of a task's metadata that holds the rows of a saved run, which is then judged anew.
SAVED_ROWS = "saved_rows"
#: Marks results that a second judgement made, and tells of what.
JUDGED_FROM = "judged_from"
_DATE = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json$")


@dataclass(frozen=True)
class SavedRun:
    """One run of the harness on disk.

    Attributes:
        path: Its results file.
        date: The part of the file's name that its samples share.
        results: What it holds.
    """

    path: Path
    date: str
    results: dict[str, Any]

    @property
    def tasks(self) -> list[str]:
        """Tasks whose samples were saved."""
        return [
            task for task in self.results.get("configs", {}) if self.samples_file(task).exists()
        ]

    def samples_file(self, task: str) -> Path:
        """Return where a task's samples are."""
        return self.path.parent / f"samples_{task}_{self.date}.jsonl"

    def samples(self, task: str) -> list[Sample]:
        """Return a task's samples in the order of its rows.

        Raises:
            InputError: The file is damaged, or cannot be read.
        """
        path = self.samples_file(task)
        try:
            with path.open(encoding="utf-8") as file:
                found = [json.loads(line) for line in file if line.strip()]
            return sorted(found, key=lambda sample: int(sample["doc_id"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not a file of the harness's samples: {error}") from error


def find_runs(paths: Iterable[Path]) -> list[SavedRun]:
    """Return the runs in files and folders, each once.

    What a second judgement made is left out of folders, so that it is not judged again with what
    it was made from; name its file to have it.

    Raises:
        InputError: There is no such path, no results in it, or a file of another kind.
    """
    found: dict[Path, SavedRun] = {}
    for path in paths:
        if not path.exists():
            raise InputError(
                f"There is no {path}; give results_*.json or a folder with such files."
            )
        if path.is_file():
            found[path.resolve()] = read_run(path)
            continue
        runs = (read_run(file) for file in results_files(path))
        found.update({run.path.resolve(): run for run in runs if JUDGED_FROM not in run.results})
    if not found:
        raise InputError("No results_*.json of the harness there; did the run have --output_path?")
    return list(found.values())


def results_files(folder: Path) -> list[Path]:
    """Return the files in a folder, at any depth, that are named as results of the harness."""
    return [file for file in sorted(folder.rglob("*.json")) if _DATE.search(file.name)]


def read_run(path: Path) -> SavedRun:
    """Read a results file.

    Raises:
        InputError: It is none.
    """
    date = _DATE.search(path.name)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as results of the harness: {error}") from error
    if date is None or not isinstance(results, dict) or "configs" not in results:
        raise InputError(f"{path} is no results file of the harness (results_DATE.json).")
    return SavedRun(path, date[1], results)


def write_run(
    folder: Path,
    date: str,
    results: Mapping[str, Any],
    samples: Mapping[str, Iterable[Sample]],
) -> Path:
    """Write results and samples as the harness names and forms them; samples go first.

    Returns:
        The results file.

    Raises:
        ExternalError: The files cannot be written.
    """
    for task, rows in samples.items():
        with atomic_path(folder / f"samples_{task}_{date}.jsonl") as path:
            path.write_text("".join(_dump(row) + "\n" for row in rows), encoding="utf-8")
    target = folder / f"results_{date}.json"
    with atomic_path(target) as path:
        path.write_text(_dump(results, indent=2), encoding="utf-8")
    return target


def _dump(content: Any, indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, default=handle_non_serializable, ensure_ascii=False)
