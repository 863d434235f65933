"""Results and samples in the harness's layout: finding, reading and writing them."""

from __future__ import annotations

import ast
import filecmp
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.utils import handle_non_serializable

from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.core.storage import atomic_path

Sample = dict[str, Any]

#: Key of a task's metadata that holds the rows of a saved run while it is judged again.
SAVED_ROWS = "saved_rows"
#: Key that marks results of a second judgement and names the run that was judged.
JUDGED_FROM = "judged_from"
#: Key under ``config`` that says of which steering results are a control.
CONTROL = "control"
#: Key under ``config`` of the texts that stood before prompts: task → text.
PREFIXES = "prefixes"
#: Key under ``config`` of the tasks that were asked by the model's chat template.
CHATS = "chats"
#: What results say, apart from when, where and how fast they were computed.
_SAID = (
    *("results", "groups", "configs", "config", "versions", "n-shot", "n-samples"),
    *("lm_eval_version", "transformers_version", "git_hash", JUDGED_FROM),
)
#: Parts of results that have to be mappings, and those that have to be mappings of mappings.
_MAPPINGS = ("config", "versions", "n-shot", "higher_is_better", "group_subtasks")
_NESTED = ("configs", "results", "groups", "n-samples")
_DATE = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json$")


@dataclass(frozen=True)
class SavedRun:
    """One run of the harness on disk.

    Attributes:
        path: Its results file.
        date: The part of the file's name that its samples share.
        results: Content of the results file.
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
                found = [_checked(json.loads(line)) for line in file if line.strip()]
            return sorted(found, key=lambda sample: sample["doc_id"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path} is not a file of the harness's samples: {reason_of(error)}"
            ) from error

    def repeats(self, other: SavedRun) -> bool:
        """Tell whether another run says the same, with the same samples."""
        said, of_other = (
            json.dumps({name: run.results.get(name) for name in _SAID}, sort_keys=True)
            for run in (self, other)
        )
        return (
            said == of_other
            and self.tasks == other.tasks
            and all(
                filecmp.cmp(self.samples_file(task), other.samples_file(task), shallow=False)
                for task in self.tasks
            )
        )


def saved_value(text: str) -> Any:
    """Return the value whose text the harness saved in place of it, such as a judged answer's dict.

    Raises:
        ValueError: It is no such text.
    """
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"it is no value of Python ({reason_of(error)})") from error


def remove_repeats(run: SavedRun) -> None:
    """Delete the earlier runs next to a run that say the same.

    They are left by kills after results were written and before it was kept that they are there.
    """
    for file in sorted(run.path.parent.glob("results_*.json")):
        try:
            other = read_run(file)
        except InputError:
            continue
        if other.date < run.date and run.repeats(other):
            # The results first: without their samples they would be damaged.
            file.unlink()
            for task in run.tasks:
                other.samples_file(task).unlink(missing_ok=True)


def find_runs(paths: Iterable[Path]) -> list[SavedRun]:
    """Return the runs in files and folders, each once.

    Folders are searched for original runs only: the results of a second judgement are found by
    naming their file.

    Raises:
        InputError: A path does not exist, holds no results, or is a file of another kind.
    """
    found: dict[Path, SavedRun] = {}
    for path in paths:
        if not path.exists():
            raise InputError(
                f"{path} does not exist; expected results_*.json or a folder of such files."
            )
        if path.is_file():
            found[path.resolve()] = read_run(path)
            continue
        runs = (read_run(file) for file in results_files(path))
        found.update({run.path.resolve(): run for run in runs if JUDGED_FROM not in run.results})
    if not found:
        raise InputError("Found no results_*.json of the harness; was the run given --output_path?")
    return list(found.values())


def results_files(folder: Path) -> list[Path]:
    """Return the files in a folder, at any depth, that are named as results of the harness.

    Hidden folders, in which results are in the making, are left out.
    """
    found = (file for file in sorted(folder.rglob("*.json")) if _DATE.search(file.name))
    return [f for f in found if not any(p.startswith(".") for p in f.relative_to(folder).parts)]


def read_run(path: Path) -> SavedRun:
    """Read a results file.

    Raises:
        InputError: The file is not a results file of the harness.
    """
    date = _DATE.search(path.name)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as results of the harness: {reason_of(error)}"
        ) from error
    if date is None or not isinstance(results, dict) or "configs" not in results:
        raise InputError(f"{path} is not a results file of the harness (results_DATE.json).")
    for place, value in _parts(results):
        if not isinstance(value, dict):
            raise InputError(f"{path} is damaged: {place} is {str(value)[:60]!r}, not a mapping.")
    return SavedRun(path, date[1], results)


def _parts(results: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield place and value of what has to be a mapping; what is not there may be absent."""
    for name in (*_MAPPINGS, *_NESTED):
        if results.get(name) is not None:
            yield name, results[name]
    for name in _NESTED:
        if isinstance(results.get(name), dict):
            yield from ((f"{name}.{task}", part) for task, part in results[name].items())
    if isinstance(results["configs"], dict):
        for task, config in results["configs"].items():
            if isinstance(config, dict):
                known = ((name, config.get(name)) for name in ("metadata", "dataset_kwargs"))
                yield from ((f"configs.{task}.{n}", part) for n, part in known if part is not None)
                for metric in _listed(config.get("metric_list")):
                    yield f"configs.{task}.metric_list", metric


def write_run(
    folder: Path,
    date: str,
    results: Mapping[str, Any],
    samples: Mapping[str, Iterable[Sample]],
) -> Path:
    """Write samples, then results, in the harness's names and format.

    Returns:
        The results file.

    Raises:
        ExternalError: The files cannot be written.
    """
    for task, rows in samples.items():
        with atomic_path(folder / f"samples_{task}_{date}.jsonl") as path:
            _write(path, "".join(_dump(row) + "\n" for row in rows))
    target = folder / f"results_{date}.json"
    with atomic_path(target) as path:
        _write(path, _dump(results, indent=2))
    return target


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _checked(sample: Sample) -> Sample:
    """Return a sample whose number and names of metrics are what they have to be.

    Raises:
        ValueError: They are not.
    """
    number, metrics = sample["doc_id"], sample.get("metrics", [])
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"doc_id is {str(number)[:60]!r}, not a whole number")
    if not isinstance(metrics, list) or not all(isinstance(name, str) for name in metrics):
        raise ValueError(f"metrics of sample {number} are {str(metrics)[:60]!r}, not names")
    return sample


def _write(path: Path, text: str) -> None:
    """Write JSON; half of a surrogate pair, which UTF-8 lacks, becomes JSON's own escape."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _dump(content: Any, indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, default=handle_non_serializable, ensure_ascii=False)
