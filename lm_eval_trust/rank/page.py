"""The page of a ranking: one file that shows the figure and the tables without a network."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval_trust.rank.run import Ranking
    from lm_eval_trust.rank.spec import RankSpec

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.scroll { overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 0.87rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; text-align: left; border-bottom: 1px solid #ddd; }
td.n { text-align: right; } tr.more td { font-weight: 600; } .note { color: #555; }
"""
#: Column → heading, of the table of standings and that of all arms.
_STANDINGS = {
    "cost": "KL",
    "method": "method",
    "layer": "layer",
    "gain": "gain",
    "prompt_gain": "gain of the prompt",
    "random_beaten": "random directions beaten",
    "random": "of",
    "p_corrected": "p, corrected",
    "more_than_random": "more than random",
}
_ARMS = {
    "cost": "KL",
    "arm": "arm",
    "task": "task",
    "layer": "layer",
    "alpha": "α",
    "kl": "measured KL",
    "perplexity": "perplexity",
    "value": "score",
    "low": "low",
    "high": "high",
    "change": "change",
    "change_low": "low",
    "change_high": "high",
    "p_family": "p, family",
}


def page_of(
    ranking: Ranking, tables: Mapping[str, Sequence[Mapping[str, Any]]], figure: str
) -> str:
    """Return the page.

    Args:
        ranking: What was found.
        tables: Rows of ``standings`` and of ``ranking``.
        figure: An SVG file's content.
    """
    spec = ranking.spec
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Ranking at equal cost</title><style>{_STYLE}</style></head><body>",
        "<h1>Steering methods at equal cost</h1>",
        f"<p>{_text(_words(ranking))}</p>",
        f'<div class="scroll">{figure[figure.index("<svg") :]}</div>',
        "<p class='note'>Lines: methods, with 95 % intervals. Grey: random directions of the same "
        "cost, whose layers were chosen in the same way. Black: the unsteered model and the "
        "prompt, which have no such cost.</p>",
    ]
    for name in spec.dimensions:
        standings = [row for row in tables["standings"] if row["dimension"] == name]
        arms = [row for row in tables["ranking"] if row["dimension"] == name]
        parts += [f"<h2>{_text(name)}</h2>", *_table(_STANDINGS, standings, "more_than_random")]
        parts += ["<details><summary>All arms on the test half</summary>", *_table(_ARMS, arms)]
        parts += ["</details>"]
    parts += [f"<p class='note'>{_text(note)}</p>" for note in ranking.notes]
    return "\n".join([*parts, "</body></html>", ""])


def layers_in_words(spec: RankSpec) -> str:
    """Return how the layers came about."""
    if len(spec.layers) > 1:
        return "Layers were chosen on the validation part."
    return f"All steer layer {'+'.join(map(str, spec.layers[0]))}."


def _words(ranking: Ranking) -> str:
    spec = ranking.spec
    return (
        f"Every arm steers with the strength at which the mean KL(unsteered ‖ steered) per token "
        f"is the cost named, within {spec.tolerance:.0%}, on {ranking.tokens} tokens of "
        f"{spec.text_task} (unsteered perplexity {ranking.text_perplexity:.2f}). "
        f"{layers_in_words(spec)} Scores, intervals and tests are of the test half. A method is "
        f"called more than random if it beats all random directions of the same cost and p, "
        f"corrected for the dimension's methods and costs (step-down), is at most 0.05."
    )


def _table(
    columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], marked: str = ""
) -> Iterator[str]:
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th>{_text(title)}</th>" for title in columns.values())
    yield "</tr></thead><tbody>"
    for row in rows:
        yield f"<tr{' class=more' if marked and row[marked] else ''}>"
        yield "".join(_cell(row[column]) for column in columns)
        yield "</tr>"
    yield "</tbody></table></div>"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "<td></td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, (int, float)):
        return f'<td class="n">{value:.4g}</td>'
    return f"<td>{_text(str(value))}</td>"


def _text(text: str) -> str:
    return html.escape(text)
