"""The page of a ranking: one file that shows the figure and the tables without a network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval_trust.leaderboard.page.static import scrolling, static_page, table, text

if TYPE_CHECKING:
    from lm_eval_trust.rank.run import Ranking
    from lm_eval_trust.rank.spec import RankSpec

_STYLE = """
svg { max-width: 100%; height: auto; background: #fff; } tr.more td { font-weight: 600; }
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
        f"<p>{text(_words(ranking))}</p>",
        scrolling("Chart: scores against cost", figure[figure.index("<svg") :]),
        "<p class='note'>Lines: methods, with 95 % intervals. Grey: random directions of the same "
        "cost, whose layers were chosen in the same way. Black: the unsteered model and the "
        "prompt, which have no such cost.</p>",
    ]
    for name in spec.dimensions:
        standings = [row for row in tables["standings"] if row["dimension"] == name]
        arms = [row for row in tables["ranking"] if row["dimension"] == name]
        parts += [f"<h2>{text(name)}</h2>", *_table(f"Standings: {name}", _STANDINGS, standings)]
        parts += ["<details><summary>All arms on the test half</summary>"]
        parts += _table(f"All arms: {name}", _ARMS, arms)
        parts += ["</details>"]
    parts += [f"<p class='note'>{text(note)}</p>" for note in ranking.notes]
    return static_page("Steering methods at equal cost", parts, _STYLE)


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
    label: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    lines = (
        f"<tr{' class=more' if row.get('more_than_random') else ''}>"
        f"{''.join(_cell(row[column]) for column in columns)}</tr>"
        for row in rows
    )
    yield from table(label, columns.values(), lines)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "<td></td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, (int, float)):
        return f'<td class="n">{value:.4g}</td>'
    return f"<td>{text(str(value))}</td>"
