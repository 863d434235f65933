"""Every way of steering does what docs/methods.md says, held against an independent formulation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.check_tables import check_documented
from support.method_checks import CHECKS, METHODS, Trial

from lm_eval_trust.steering.actions import ACTIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "methods.md"
#: What a user can do instead, one of which every refusal names.
INSTEAD = re.compile(r"Evaluate (it|this steering) with steered_amber|evaluate it with")
QUICK = ("rotate, conditional", "heads")


def documented() -> dict[str, list[str]]:
    """Return the page's table: method → entries, in the order of the checks."""
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index(f"| method | {next(iter(CHECKS))} |") :].split("\n\n")[0]
    header, _, *found = (
        [cell.strip() for cell in row.split("|")[1:-1]] for row in table.split("\n")
    )
    assert header == ["method", *CHECKS]
    return {name: cells for name, *cells in found}


def test_the_page_names_every_method_and_every_action() -> None:
    assert list(documented()) == list(METHODS)
    ours = {"add", "clamp", "ablate", "rotate", "erase", "reft"}
    assert {method.action for method in METHODS.values()} == ours
    assert ours <= set(ACTIONS)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in METHODS],
)
def test_a_method_is_exact_or_refused_as_documented(name: str, tmp_path: Path) -> None:
    check_documented(CHECKS, Trial(name, tmp_path), documented()[name], INSTEAD)
