"""Reads the runs of a leaderboard from files and folders, and refuses what it cannot use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.inspect_logs import read_saved, saved_files
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.consistency import nonfinite_note
from lm_eval_trust.leaderboard.identity import provenance_of
from lm_eval_trust.leaderboard.items import Samples
from lm_eval_trust.leaderboard.layout import columns_of, numbers
from lm_eval_trust.leaderboard.names import default_name
from lm_eval_trust.leaderboard.rows import DescribedRun


def read_runs(
    paths: Iterable[Path], samples: Samples, *, skip_damaged: bool = False
) -> tuple[list[SavedRun], list[str]]:
    """Return the runs in files and folders, each once; runs that were judged again are included.

    Args:
        paths: ``results_*.json`` of the harness, ``.eval`` of inspect_ai, or folders with such
            files, at any depth.
        samples: Receives the runs' samples.
        skip_damaged: Skip runs that cannot be used, and return why.

    Returns:
        The runs, and why others were skipped.

    Raises:
        InputError: A path is missing or holds no results, or a run cannot be used: its results or
            samples are damaged, it has no task, or a task has no numeric metric.
    """
    found: dict[Path, SavedRun] = {}
    skipped = []
    for file in progress_bar(_files(paths), title="Reading runs", unit="run"):
        try:
            run = _usable(read_saved(file))
            samples.read(run)
            found[file.resolve()] = run
        except InputError as error:
            if not skip_damaged:
                raise InputError(f"{error} Use --skip-damaged to go on without it.") from error
            skipped.append(f"Skipped: {error}")
    if not found:
        raise InputError(" ".join(["No run is left to show.", *skipped]))
    return list(found.values()), skipped


def _files(paths: Iterable[Path]) -> list[Path]:
    files = []
    for path in paths:
        if not path.exists():
            raise InputError(
                f"There is no {path}; give results_*.json, a log of inspect_ai (.eval), or a "
                f"folder with such files."
            )
        of_path = [path] if path.is_file() else saved_files(path)
        if not of_path:
            raise InputError(
                f"{path} holds no results_*.json of the harness and no .eval of inspect_ai; did "
                f"the run have --output_path?"
            )
        files.extend(of_path)
    return files


def _usable(run: SavedRun) -> SavedRun:
    """Return the run if all of it can be read.

    Raises:
        InputError: Otherwise.
    """
    try:
        DescribedRun.of(run)
        default_name(run)
        columns_of((run,))
        provenance_of((run,))
        unscored = [
            task
            for task in run.results["configs"]
            if not numbers(run, task) and nonfinite_note(run, task, ()) is None
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{run.path} is damaged: {type(error).__name__}: {error}.") from error
    if not run.results["configs"]:
        raise InputError(f"{run.path} holds no tasks.")
    if unscored:
        raise InputError(
            f"{run.path} holds no numeric metric of {', '.join(unscored)}; a run with "
            f"--predict_only has none, so evaluate it without."
        )
    return run
