"""Progress bars with the time left, on a terminal or in a notebook and nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, TypeAlias

from tqdm import tqdm

ProgressBar: TypeAlias = "tqdm[Any]"
#: What ends sooner shows no bar, in seconds.
_DELAY = 1.0


def progress_bar(
    items: Iterable[Any] | None = None,
    title: str = "",
    *,
    total: int | None = None,
    unit: str = "it",
    done: int = 0,
    shown: bool = True,
) -> ProgressBar:
    """Return tqdm's bar on standard error, over items or to be moved by ``update``.

    Args:
        items: What to iterate over.
        title: Text before the bar.
        total: Number of units; by default that of ``items``.
        unit: What is counted.
        done: Units that were done before, and do not count for the time left.
        shown: ``False`` shows no bar. None is shown either if ``TQDM_DISABLE`` is set, or if
            standard error is neither a terminal nor a notebook's.
    """
    hidden = not (shown and shows_progress())
    return tqdm(
        items,
        title,
        total,
        unit=unit,
        initial=done,
        delay=_DELAY,
        disable=hidden,
        dynamic_ncols=True,
    )


def quieten_libraries() -> None:
    """Hide the bars of transformers and of the Hub's client where ours are hidden.

    Both read the variable when they are imported, so this comes first.
    """
    if not shows_progress():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def shows_progress() -> bool:
    """Tell whether bars are shown in this process at all."""
    if os.environ.get("TQDM_DISABLE"):
        return False
    return sys.stderr.isatty() or "ipykernel" in type(sys.stderr).__module__
