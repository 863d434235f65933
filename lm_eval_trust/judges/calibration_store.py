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

    Those on models' own texts are preferred, then those on the most texts.
    """
    files = sorted(_folder().glob(f"{setting}-{judge}-*.json"))
    found = [figures for file in files if (figures := _figures(file)) is not None]
    return best_calibration(found)


def best_calibration(found: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the most informative figures of a judge: on models' own texts, then on most texts."""
    return max(found, key=lambda f: (bool(f.get(OWN_TEXTS)), int(f["items"])), default=None)


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
