"""Commands on the pages of the documentation.

Commands stand in fenced ``bash`` blocks. A block whose first line is ``# needs: …`` needs what CI
does not have (a GPU, a network, hours); its commands are parsed, those of other blocks are run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, *DOCS, *sorted((ROOT / "tasks").rglob("README.md"))]
_BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NEEDS = re.compile(r"# needs: (.+)\n")


@dataclass(frozen=True)
class Block:
    """A block of commands.

    Attributes:
        page: Where it stands.
        needs: What it needs that CI does not have; empty if it is run.
        commands: Split into words, without comments and line breaks.
    """

    page: Path
    needs: str
    commands: tuple[tuple[str, ...], ...]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    for text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        needs = _NEEDS.match(text)
        lines = text.replace("\\\n", " ").splitlines()
        words = (tuple(shlex.split(line, comments=True)) for line in lines)
        yield Block(page, needs[1] if needs else "", tuple(filter(None, words)))


def name(page: Path) -> str:
    """Return a page's path in the repository."""
    return str(page.relative_to(ROOT))
