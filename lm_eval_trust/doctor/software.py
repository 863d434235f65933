"""Python and the packages that ours requires."""

from __future__ import annotations

import platform
import re
from importlib import metadata

from packaging.requirements import Requirement

from lm_eval_trust import __version__
from lm_eval_trust.doctor.checks import Check

SECTION = "software"
DISTRIBUTION = "lm-eval-trust"


def look() -> list[Check]:
    """Return one check for Python and ourselves, and one for each requirement."""
    ours = Check(
        SECTION, DISTRIBUTION, "ok", f"{__version__} on Python {platform.python_version()}"
    )
    return [ours, *(_requirement(Requirement(text)) for text in _requirements())]


def _requirements() -> list[str]:
    """Return what the installed distribution requires, extras left out."""
    try:
        declared = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    return [text for text in declared if not re.search(r";.*\bextra\b", text)]


def _requirement(requirement: Requirement) -> Check:
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        found = ""
    if found and requirement.specifier.contains(found, prereleases=True):
        return Check(SECTION, requirement.name, "ok", found)
    detail = f"{found or 'not installed'}, needs {requirement.specifier}"
    advice = f"pip install '{requirement.name}{requirement.specifier}'"
    return Check(SECTION, requirement.name, "failed", detail, advice)
