"""Writes one HTML file with boards, charts and samples, and the page's own script and style."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.page.payload import analysis_payload, board_payload, sweep_payload
from lm_eval_trust.leaderboard.page.samples import LONE, SampleSets, encode
from lm_eval_trust.leaderboard.page.static import asset

TITLE = "Trustworthiness leaderboard"
#: Parts of the page's script; each uses only those before it.
SCRIPTS = (
    "elements.js",
    "theme.js",
    "data.js",
    "statistics.js",
    "link.js",
    "forest.js",
    "story.js",
    "cell.js",
    "table.js",
    "samples.js",
    "card.js",
    "drilldown.js",
    "charts.js",
    "board.js",
    "page.js",
)
#: What an HTML parser takes for markup, what ends a line of script, and what UTF-8 cannot hold.
_ESCAPED = re.compile(f"[<>&\u2028\u2029]|{LONE.pattern}")


def write_page(
    path: Path,
    boards: Sequence[Board],
    *,
    sweeps: Sequence[Path] = (),
    analyses: Sequence[Path] = (),
    title: str = TITLE,
) -> None:
    """Write boards and the samples behind them as one file that works without a server.

    Args:
        path: The HTML file, written atomically.
        boards: Shown with the samples of their rows' runs.
        sweeps: Folders with tables of sweeps, drawn as curves over α.
        analyses: Folders with measurements of checkpoints, drawn over steps.
        title: Title of the page.

    Raises:
        InputError: No boards, a damaged file of samples, or a folder without its table.
        ExternalError: The file cannot be written.
    """
    if not boards:
        raise InputError("A page needs at least one board, and there is none.")
    sets = SampleSets()
    data = {
        "title": title,
        "boards": [board_payload(board, sets) for board in boards],
        "sweeps": [sweep_payload(folder) for folder in sweeps],
        "analyses": [analysis_payload(folder) for folder in analyses],
    }
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(_document(title, data, sets))


def _document(title: str, data: dict[str, Any], sets: SampleSets) -> Iterator[str]:
    """Yield the file's parts: boards, the script that shows them, then samples and Plotly.

    So the first screen is there before the browser has read the samples.
    """
    script, charts = _script(), _plotly()
    head, rest = asset("page.html").split("<!-- data -->")
    middle, foot = rest.split("<!-- samples -->")
    yield Template(head).substitute(
        title=html.escape(title),
        policy=html.escape(_policy(script, charts)),
        style=asset("look.css") + asset("page.css"),
    )
    yield _json_element("data", data)
    yield Template(middle).substitute(script=script)
    for name, index in sets.indices.items():
        yield _json_element(name, index)
    for name, text in sets.chunks.items():
        yield f'<script type="text/plain" id="c-{name}">{text}</script>\n'
    packed = encode(json.dumps(charts).encode())
    yield f'<script type="text/plain" id="c-plotly">{packed}</script>\n'
    yield foot


def _script() -> str:
    parts = "\n".join(asset(name) for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}\n}})();'


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _policy(*scripts: str) -> str:
    """Return a content security policy: only these scripts run, and nothing is loaded."""
    hashes = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _json_element(name: str, value: Any) -> str:
    """Return JSON that an HTML parser cannot take for markup, whatever a model answered."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = _ESCAPED.sub(lambda mark: f"\\u{ord(mark[0]):04x}", text)
    return f'<script type="application/json" id="{name}">{text}</script>\n'
