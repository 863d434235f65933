"""Every family does what docs/families.md says, held against an independent loop."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.check_tables import check_documented
from support.families import FAMILIES
from support.family_checks import CHECKS, Trial

from lm_eval_trust.models.families import TESTED
from lm_eval_trust.models.reading import Reading, measure, reading_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"
#: What a user can do instead, one of which every refusal names.
INSTEAD = re.compile(r"Steer it with|[Ee]valuate .* by log-likelihood|use a decoder-only model")
#: Families that are tested where slow tests are left out: a Llama, windows, a state, images.
QUICK = ("llama", "mistral, sliding window", "mamba", "gemma3")
#: Not of the tested families: it shows what is found out about others.
UNTESTED = "paligemma"


def documented() -> dict[str, list[str]]:
    """Return the page's table: family → entries, in the order of the checks."""
    rows = re.findall(r"^\| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    header, *found = ([cell.strip() for cell in row.split("|")] for row in rows)
    assert header == ["family", *CHECKS]
    return {name: cells for name, *cells in found}


@pytest.mark.slow
def test_the_page_names_every_family_that_is_tested() -> None:
    assert list(documented()) == list(FAMILIES)
    kinds = {FAMILIES[name].build().config.model_type for name in FAMILIES if name != UNTESTED}
    assert kinds == TESTED


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in FAMILIES],
)
def test_a_family_is_exact_or_refused_as_documented(name: str, tmp_path: Path) -> None:
    check_documented(CHECKS, Trial(name, tmp_path), documented()[name], INSTEAD)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_known_of_a_family_is_what_is_measured(name: str) -> None:
    model = FAMILIES[name].build()
    if name == UNTESTED:
        assert not measure(model).causal
        return
    known, found = reading_of(model), measure(model)
    assert found.causal and known.cached == found.cached
    assert known.masks_padding == found.masks_padding
    assert isinstance(known, Reading)
