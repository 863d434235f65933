"""README files of folders as sections of a page, so that nothing stands in two places."""

from __future__ import annotations

import os
import re
from pathlib import Path

from layout import ROOT

_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def section(readme: Path, page: str) -> str:
    """Return a README's text with its headings one level lower and its links seen from ``page``.

    Args:
        readme: The file.
        page: Path of the page in ``docs/``.
    """
    here = (ROOT / "docs" / page).parent

    def link(match: re.Match[str]) -> str:
        return f"]({os.path.relpath((readme.parent / match[1]).resolve(), here)}"

    lines, fenced = [], False
    for line in readme.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        lines.append(line if fenced or not line.startswith("#") else f"#{line}")
    return _LINK.sub(link, "\n".join(lines))
