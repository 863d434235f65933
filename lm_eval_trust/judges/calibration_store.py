"""What was measured of judges, kept where results files find it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval_trust.core.storage import atomic_path, cache_dir


def store_calibration(setting: str, judge: str, data: str, figures: Mapping[str, Any]) -> Path:
    """Keep the figures of a judge.

    Args:
        setting: Setting whose tasks quote the figures, e.g. ``truth_judge``.
        judge: Its fingerprint.
        data: Fingerprint of the labelled texts; figures on the same ones are replaced.
        figures: JSON-like, with ``items``, the number of texts.

    Returns:
        The file.

    Raises:
        ExternalError: It cannot be written.
    """
    path = _folder() / f"{setting}-{judge}-{data}.json"
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(dict(figures), indent=2) + "\n", encoding="utf-8")
    return path


def in_words(figures: Mapping[str, Any] | None) -> str:
    """Return what was measured of a judge as text beside its scores."""
    if figures is None:
        return "not calibrated (lm-eval-trust judge calibrate)"
    named = (
        f"{name} {figures[name]['value']:.3f}"
        for name in ("accuracy", "kappa", "auroc")
        if (figures.get(name) or {}).get("value") is not None
    )
    return f"calibrated on {figures['items']} of {figures['data']}: {', '.join(named)}"


def stored_calibration(setting: str, judge: str) -> dict[str, Any] | None:
    """Return the figures of a judge, those on the most texts; ``None`` where there are none."""
    found = []
    for path in sorted(_folder().glob(f"{setting}-{judge}-*.json")):
        try:
            figures = json.loads(path.read_text(encoding="utf-8"))
            found.append((int(figures["items"]), figures))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a damaged entry is as good as none: measuring again replaces it
    return max(found, key=lambda each: each[0])[1] if found else None


def _folder() -> Path:
    return cache_dir() / "judges" / "calibrations"
