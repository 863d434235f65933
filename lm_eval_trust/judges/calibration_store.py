"""Calibrations of judges, kept where results files quote them from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lm_eval_trust.core.storage import cache_dir, read_kept, write_kept

#: Key of figures on models' own texts, and the keys of those on steered and unsteered ones alone.
OWN_TEXTS = "own_texts"
STEERED = {"steered": True, "unsteered": False}
#: Fewest groups with texts of either label that say anything about a rate of errors.
FEWEST_GROUPS = 5


def store_calibration(setting: str, judge: str, data: str, figures: Mapping[str, Any]) -> Path:
    """Keep how good a judge is.

    Args:
        setting: Setting whose tasks quote the figures, e.g. ``truth_judge``.
        judge: The judge's fingerprint.
        data: Fingerprint of the labelled texts; earlier figures on the same texts are replaced.
        figures: JSON-like, with ``data`` and ``items``, the name and number of the texts.

    Returns:
        The file.

    Raises:
        ExternalError: It cannot be written.
    """
    path = _folder() / f"{setting}-{judge}-{data}.json"
    write_kept(path, dict(figures))
    return path


def stored_calibration(setting: str, judge: str) -> Mapping[str, Any] | None:
    """Return a judge's figures, ``None`` if it was not calibrated.

    As :func:`best_calibration`; of equally good ones the latest.
    """
    files = list(_folder().glob(f"{setting}-{judge}-*.json"))
    files.sort(key=lambda file: (-file.stat().st_mtime_ns, file.name))
    found = [figures for file in files if (figures := _figures(file)) is not None]
    return best_calibration(found)


def best_calibration(found: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the most informative figures of a judge: on models' own texts, then on most texts.

    Own texts come first if they are enough to correct scores by. Of equal ones the first is taken.
    """

    def value(figures: Mapping[str, Any]) -> tuple[bool, int]:
        groups = (figures.get(f"{label}_groups") or 0 for label in ("positive", "negative"))
        return bool(figures.get(OWN_TEXTS)) and min(groups) >= FEWEST_GROUPS, int(figures["items"])

    return max(found, key=value, default=None)


def in_words(figures: Mapping[str, Any] | None) -> str:
    """Return a judge's figures as text to print with its scores."""
    if figures is None:
        return "not calibrated (lm-eval-trust judge calibrate)"
    named = (
        f"{name} {figures[name]['value']:.3f}"
        for name in ("accuracy", "kappa", "auroc")
        if (figures.get(name) or {}).get("value") is not None
    )
    return f"calibrated on {figures['items']} of {figures['data']}: {', '.join(named)}"


def _figures(path: Path) -> dict[str, Any] | None:
    """Return the figures in a file; earlier versions wrote them without a checksum."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        plain = None
    found = plain if isinstance(plain, dict) and "items" in plain else read_kept(path)
    return found if isinstance(found, dict) and isinstance(found.get("items"), int) else None


def _folder() -> Path:
    return cache_dir() / "judges" / "calibrations"
