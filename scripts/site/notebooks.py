"""The notebooks as pages: their Markdown, code and outputs, read from docs/notebooks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = "notebooks"
_HEADING = re.compile(r"^(##+) (.+)$", re.MULTILINE)


def pages(docs: Path) -> dict[str, str]:
    """Return the Markdown of every notebook, by the page's path in docs/."""
    return {f"{FOLDER}/{path.stem}.md": page(path) for path in (docs / FOLDER).glob("*.ipynb")}


def page(path: Path) -> str:
    """Return a notebook as Markdown, with a link to itself below the heading."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    heading, _, first = _text(cells[0]["source"]).partition("\n")
    link = f"[Download this notebook]({path.name}) and run it with Jupyter."
    text = "\n\n".join([first.strip(), *_parts(cells[1:], path.stem)])
    return f"{heading}\n\n{link}\n\n{text}\n"


def _parts(cells: list[dict[str, Any]], name: str) -> Iterator[str]:
    for cell in cells:
        source = _text(cell["source"])
        if cell["cell_type"] == "markdown":
            yield _HEADING.sub(lambda match: _with_anchor(match, name), source)
            continue
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            yield _output(output)


def _with_anchor(heading: re.Match[str], name: str) -> str:
    """Return a heading whose anchor no other page has, as references by anchor need it."""
    words = re.sub(r"[^a-z0-9]+", "-", heading[2].lower()).strip("-")
    return f"{heading[0]} {{ #{name}-{words} }}"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        image = "".join(_text(data["image/png"]).split())
        address = f"data:image/png;base64,{image}"
        return f'<img class="notebook" alt="What the code above draws" src="{address}">'
    if "text/html" in data:
        # Markdown would end the block at an empty line.
        html = re.sub(r"\n\s*", "", _text(data["text/html"]))
        return f'<div class="notebook">{html}</div>'
    text = _text(output.get("text") or data.get("text/plain", ""))
    return f"```{{ .text .notebook }}\n{text.rstrip()}\n```"


def _text(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)
