"""A whole sweep in a folder: load once, search, report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.harness import check_tasks
from lm_eval_trust.sweep.answers import AnswerStore
from lm_eval_trust.sweep.evaluation import SweepEvaluator
from lm_eval_trust.sweep.grid import Grid
from lm_eval_trust.sweep.report import summary, test_rows, write_report
from lm_eval_trust.sweep.search import Found, Search
from lm_eval_trust.sweep.settings import SweepSettings
from lm_eval_trust.sweep.sweep_model import load_prefilled


@dataclass(frozen=True)
class Sweep:
    """What is swept.

    Attributes:
        model: Harness model, e.g. ``amber``.
        arguments: Its model arguments.
        grid: Configurations.
        settings: How they are measured and chosen.
    """

    model: str
    arguments: Mapping[str, Any]
    grid: Grid
    settings: SweepSettings


def run_sweep(sweep: Sweep, folder: Path) -> tuple[Found, list[str]]:
    """Run a sweep; what the folder holds already is not computed again.

    Returns:
        What was found, and lines that say it.

    Raises:
        InputError: The model, a vector, a task or a setting does not fit, or another sweep runs in
            the folder.
        ExternalError: The disk refused to write.
    """
    # Before gigabytes of weights are loaded.
    settings = sweep.settings
    check_tasks((*settings.tasks, settings.perplexity_task, *settings.ability_tasks))
    plans = [configuration.plan() for configuration in sweep.grid.configurations]
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        model = load_prefilled(sweep.model, sweep.arguments)
        for plan in plans:
            model.steer_by(plan)
        with AnswerStore(folder / "answers.sqlite", model.identity) as answers:
            evaluator = SweepEvaluator(model, folder, model.identity)
            found = Search(model, answers, evaluator, sweep.grid, settings).run()
        write_report(found, settings, folder)
    return found, summary(found, list(test_rows(found, settings)))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"Another sweep is running in {folder}; choose another folder.") from error
    try:
        yield
    finally:
        lock.release()
