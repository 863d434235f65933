"""Models and logs of inspect_ai."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

#: inspect_ai needs Python 3.11; without it there is nothing to test here.
collect_ignore_glob = [] if find_spec("inspect_ai") else ["test_*.py"]


@pytest.fixture
def inspected(tmp_path: Path) -> Callable[..., Any]:
    """Run an evaluation of inspect_ai; returns its log."""
    import inspect_ai

    def run(task: Any, model: Any, **settings: Any) -> Any:
        given = {"log_dir": str(tmp_path / "logs"), "display": "none", **settings}
        (log,) = inspect_ai.eval(task, model=model, **given)
        return log

    return run


@pytest.fixture(scope="session")
def kept_logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """Where logs are written, and those that are there: each is written once."""
    return tmp_path_factory.mktemp("logs"), {}


@pytest.fixture
def logged(tmp_path: Path, kept_logs: tuple[Path, dict[str, Path]]) -> Callable[..., Path]:
    """Write the log of an invented model that gives these answers; returns the log."""
    import inspect_ai
    import support.inspect_tasks  # noqa: F401  (registers the model)
    from inspect_ai.model import get_model

    folder, kept = kept_logs

    def run(task: Any, answers: list[str], **settings: Any) -> Path:
        key = repr((task.name, str(task.scorer), answers, sorted(settings.items())))
        if key not in kept:
            model = get_model("scripted/lampman", answers=answers, memoize=False)
            given = {"max_connections": 1, "max_samples": 1, **settings}
            (log,) = inspect_ai.eval(
                task, model=model, log_dir=str(folder), display="none", **given
            )
            kept[key] = Path(log.location)
        logs = tmp_path / "logs"
        logs.mkdir(exist_ok=True)
        # Logs of the same second have names in a random order, in which they would be read.
        name = f"{len(list(logs.iterdir()))}-{kept[key].name}"
        return Path(shutil.copy(kept[key], logs / name))

    return run
