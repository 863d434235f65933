"""The page's files, and pages without a script in its look: their frame, tables and text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from importlib.resources import files

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.5 var(--sans); margin: 0 auto; padding: 1rem; max-width: 72rem;
  color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1, h2, h3 { font-family: var(--serif); line-height: 1.2; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
.note { color: var(--muted); font-size: .9rem; } summary { cursor: pointer; }
.scroll { overflow-x: auto; } pre { white-space: pre-wrap; font-size: .82rem; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); }
td.n, th.n { text-align: right; white-space: nowrap; }
@media print { :root { color-scheme: light; } .scroll { overflow: visible; } }
"""


def asset(name: str) -> str:
    """Return the text of a file in ``assets``."""
    return (files("lm_eval_trust.leaderboard.page") / "assets" / name).read_text(encoding="utf-8")


def static_page(title: str, parts: Iterable[str], style: str = "") -> str:
    """Return a page that loads nothing and runs nothing.

    Args:
        title: Text of its title and first heading.
        parts: HTML of what follows.
        style: CSS besides that of all such pages.
    """
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{text(title)}</title>",
            f"<style>{asset('look.css')}{_STYLE}{style}</style></head><body><main>",
            f"<h1>{text(title)}</h1>",
            *parts,
            "</main></body></html>",
            "",
        ]
    )


def text(value: str) -> str:
    """Return text as HTML."""
    return html.escape(value)


def scrolling(label: str, content: str) -> str:
    """Return a box that scrolls sideways, by keyboard as well.

    Args:
        label: Text that names the box, another one for each box of a page.
        content: HTML.
    """
    named = text(label)
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{named}">{content}</div>'


def table(
    label: str, names: Iterable[str], lines: Iterable[str], numbers: Iterable[int] = ()
) -> Iterator[str]:
    """Yield a table in a box that scrolls.

    Args:
        label: Names the box.
        names: Headings.
        lines: HTML of its rows.
        numbers: Places of the columns whose headings are aligned to the right.
    """
    right = set(numbers)
    heads = (
        f"<th{' class=n' if at in right else ''} scope=col>{text(name)}</th>"
        for at, name in enumerate(names)
    )
    head = f"<table><thead><tr>{''.join(heads)}</tr></thead><tbody>"
    yield scrolling(label, f"{head}{chr(10).join(lines)}</tbody></table>")
