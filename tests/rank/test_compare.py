"""What a ranking says of arms whose scores are given."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.axe import violations
from support.browser import chromium, open_page

from lm_eval_trust.analysis.multiplicity import beyond_reference
from lm_eval_trust.evaluate.controls import LEVEL
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.rank.arms import Arm, Panel
from lm_eval_trust.rank.compare import (
    besides_random,
    duels_of,
    is_more,
    rows_of,
    standings_of,
    unmoved,
)
from lm_eval_trust.rank.dose import Dose, Strength
from lm_eval_trust.rank.report import write_report
from lm_eval_trust.rank.run import Entry, PanelResult, Ranking
from lm_eval_trust.rank.spec import DimensionSpec, RankSpec

TASK, ITEMS, RANDOM = "trust_world_choice_mini", 40, 6
SPEC = RankSpec(
    source="mini",
    layers="0-1",
    costs=(0.1,),
    dimensions={"panel": DimensionSpec(dimension="truthfulqa", tasks=(TASK,), metric="acc")},
)


def outcome(values: np.ndarray) -> Outcome:
    """An evaluation in which each item scores what is given; NaN stands for no value."""
    names, known = [f"{i}-x" for i in range(len(values))], values[~np.isnan(values)]
    score = float(known.mean()) if len(known) else math.nan
    of_items = [None if math.isnan(value) else value for value in values.tolist()]
    measured = Measurement(
        TASK, "1", {}, {"acc": True}, {"acc": "mean"}, {"acc": score}, names,
        [str(i) for i in range(len(values))], {"acc": of_items}, list(range(len(values))),
    )  # fmt: skip
    scores = {TASK: {"acc,none": score}}
    return Outcome(scores, {TASK: len(values)}, {TASK: measured}, {}, {})


def result(effects: dict[str, float], *, missing: str = "", noise: float = 0.3) -> PanelResult:
    """A panel of methods with these effects, and of random directions with small ones."""
    random = np.random.default_rng(0)
    base = random.uniform(0.2, 0.6, ITEMS)
    small = {f"random {i}": 0.01 * (i - 3) for i in range(1, RANDOM + 1)}
    entries = []
    for name, effect in (effects | small).items():
        kind = "random" if name in small else "method"
        reached = name != missing
        strength = Strength(0.1, 0.5, Dose(0.1 if reached else 0.03, 9.0), reached, True)
        moved = base + effect + noise * 0.02 * random.standard_normal(ITEMS)
        arm = Arm(name, kind, "add", {}, file="v.safetensors")
        entries.append(Entry(arm, (0,), strength, 0.5, outcome(moved) if reached else None))
    methods = tuple(e.arm for e in entries if e.arm.kind == "method")
    panel = Panel("panel", SPEC.dimensions["panel"], methods, (), ())
    strengths = {(e.arm.name, (0,)): (e.strength,) for e in entries}
    return PanelResult(panel, outcome(base), outcome(base - 0.1), tuple(entries), strengths, {})


@pytest.mark.slow
def test_the_report_holds_what_was_given(tmp_path: Path) -> None:
    found = result({"strong": 0.2, "weak": 0.005, "far": 0.0}, missing="far")
    lines = write_report(Ranking(SPEC, (found,), 8.5, 99, ("a note",)), tmp_path)
    assert any(line.startswith("panel at KL 0.1: strong gains most, +0.2") for line in lines)
    assert "panel at KL 0.1: far not reached." in lines
    assert lines[-1] == "a note"
    arms = pd.read_csv(tmp_path / "ranking.csv").set_index("arm")
    assert len(arms) == 2 + 2 + RANDOM
    assert arms["change"]["strong"] == pytest.approx(0.2, abs=0.01)
    assert arms["change_low"]["strong"] < 0.2 < arms["change_high"]["strong"]
    assert arms["over_prompt"]["strong"] == pytest.approx(0.3, abs=0.01)
    assert arms["change"]["prompt"] == pytest.approx(-0.1)
    assert arms["p_family"].notna().sum() == 2
    assert arms["p_family"]["strong"] < 0.001
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    assert pairs[["first", "second"]].to_numpy().tolist() == [["strong", "weak"]]
    assert pairs["difference"][0] == pytest.approx(-0.195, abs=0.01)
    assert pairs["p_family"][0] < 0.001
    text = (tmp_path / "ranking.md").read_text(encoding="utf-8")
    assert "far does not reach KL 0.1" in text
    assert "Layers were chosen on the validation part." in text
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<svg" in page and "strong" in page
    assert "src=" not in page and "<link" not in page
    record = json.loads((tmp_path / "ranking.json").read_text(encoding="utf-8"))
    assert record["spec"]["costs"] == [0.1]
    assert (tmp_path / "steering-panel-kl0.1.yaml").is_file()
    assert (tmp_path / "figures" / "cost.svg").is_file()


def without_values(found: PanelResult, gaps: Mapping[str, Sequence[int]]) -> PanelResult:
    """The panel with items that lack a value under some arms."""

    def gapped(name: str, of: Outcome | None) -> Outcome | None:
        if of is None or name not in gaps:
            return of
        values = np.array(of.measurements[TASK].values["acc"], dtype=float)
        values[list(gaps[name])] = np.nan
        return outcome(values)

    entries = [replace(e, outcome=gapped(e.arm.name, e.outcome)) for e in found.entries]
    unsteered = gapped("unsteered", found.unsteered)
    assert unsteered is not None
    prompt = gapped("prompt", found.prompt)
    return replace(found, unsteered=unsteered, prompt=prompt, entries=tuple(entries))


def test_items_without_a_value_are_left_out_of_the_pairs_that_they_are_missing_from() -> None:
    gaps = {"unsteered": [0], "strong": [0, 7, 9], "weak": [3], "random 1": [5]}
    whole = result({"strong": 0.2, "weak": 0.005})
    found = without_values(whole, gaps)
    rows = {row.name: row for row in rows_of(found)}
    assert {name: rows[name].without for name in (*gaps, "prompt")} == {
        "unsteered": 1, "strong": 3, "weak": 1, "random 1": 1, "prompt": 0,
    }  # fmt: skip
    assert (rows["unsteered"].items, rows["strong"].items) == (ITEMS - 1, ITEMS - 3)
    compared = {name: row.change.items for name, row in rows.items() if row.change is not None}
    assert (compared["strong"], compared["weak"], compared["prompt"]) == (37, 38, 39)
    change, over = rows["strong"].change, rows["strong"].over_prompt
    assert change is not None and change.difference.mean == pytest.approx(0.2, abs=0.01)
    assert over is not None and over.items == ITEMS - 3
    assert change.p <= rows["strong"].p_family < 0.001
    (duel,) = duels_of(found)
    assert duel.difference.items == ITEMS - 4 and duel.p_family < 0.001
    assert unmoved(found) == []


@pytest.mark.slow
def test_the_report_says_how_many_items_have_no_value(tmp_path: Path) -> None:
    found = without_values(result({"strong": 0.2}), {"unsteered": [0], "strong": [0, 7, 9]})
    lines = write_report(Ranking(SPEC, (found,), 8.5, 99, ()), tmp_path)
    said = f"Up to 3 of 40 items of {TASK} have no value under an arm"
    assert any(line.startswith(f"panel: {said}") for line in lines)
    assert said in (tmp_path / "ranking.md").read_text(encoding="utf-8")
    arms = pd.read_csv(tmp_path / "ranking.csv").set_index("arm")
    assert (arms["items"]["strong"], arms["without_value"]["strong"]) == (37, 3)


def test_an_arm_without_any_value_is_left_out() -> None:
    everything = {name: range(ITEMS) for name in ("prompt", "weak", "random 2")}
    found = without_values(result({"strong": 0.2, "weak": 0.005}), everything)
    names = {row.name for row in rows_of(found)}
    assert "strong" in names and not names & everything.keys()
    strong, weak = standings_of(found)
    assert strong.beside is not None and strong.beside.arms == RANDOM - 1
    assert math.isnan(weak.gain) and math.isnan(strong.prompt)
    assert duels_of(found) == []


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_axe_finds_nothing_wrong(tmp_path: Path, scheme: str) -> None:
    write_report(Ranking(SPEC, (result({"strong": 0.2}),), 8.5, 99, ("a note",)), tmp_path)
    with chromium() as browser:
        watched = open_page(browser, tmp_path / "index.html", width=360, color_scheme=scheme)
        page = watched.page
        page.locator("summary").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert violations(page) == []
        assert len(watched.requests) == 1 and not watched.errors


@pytest.mark.slow
def test_a_single_method_has_no_pairs_and_its_tables_can_be_read(tmp_path: Path) -> None:
    write_report(Ranking(SPEC, (result({"strong": 0.2}),), 8.5, 99, ()), tmp_path)
    assert len(pd.read_csv(tmp_path / "pairs.csv")) == 0
    assert len(pd.read_csv(tmp_path / "standings.csv")) == 1


def test_the_p_of_random_directions_is_that_of_a_further_one() -> None:
    found = result({"strong": 0.2, "weak": 0.005})
    strong, weak = standings_of(found)
    gains = [
        e.outcome.scores[TASK]["acc,none"] - found.unsteered.scores[TASK]["acc,none"]
        for e in found.entries
        if e.arm.kind == "random" and e.outcome is not None
    ]
    t = (strong.gain - np.mean(gains)) / (np.std(gains, ddof=1) * math.sqrt(1 + 1 / RANDOM))
    assert strong.beside is not None
    assert strong.beside.p == pytest.approx(stats.t.sf(t, RANDOM - 1))
    assert weak.beside is not None and weak.p >= weak.beside.p
    gains_of = {"strong": {("add", 0.1): strong.gain}, "weak": {("add", 0.1): weak.gain}}
    randoms = {str(number): {("add", 0.1): gain} for number, gain in enumerate(gains)}
    assert strong.p == besides_random(gains_of, randoms, 0.0)["strong", ("add", 0.1)][1]
    assert strong.is_more
    assert not weak.is_more


def test_what_was_not_measured_is_not_compared() -> None:
    """Two random directions at the first cost, four at the second, which one method misses."""
    low, high = ("add", 0.1), ("add", 0.2)
    randoms = {str(n): {low: 0.1 * n, high: 0.1 * n} for n in range(2)}
    randoms |= {str(n): {high: 0.1 * n} for n in range(2, 4)}
    found = besides_random({"one": {low: 9.0, high: 0.35}, "other": {low: 9.0}}, randoms, 0.0)
    assert list(found) == [("one", high)]
    beside, p = found["one", high]
    assert (beside.beaten, beside.arms) == (4, 4)
    assert p == pytest.approx(beside.p, abs=0.02)
    assert not is_more(None, math.nan)
    assert besides_random({"one": {}}, {}, 0.0) == {}


def test_a_task_that_nothing_moves_is_named() -> None:
    still = result({"strong": 0.0}, noise=0.0)
    assert unmoved(still) == []
    base = still.unsteered
    entries = tuple(Entry(e.arm, e.layers, e.strength, None, base) for e in still.entries)
    same = PanelResult(still.panel, base, base, entries, still.strengths, {})
    assert unmoved(same) == [TASK]


@pytest.mark.parametrize("methods", [1, 20])
def test_null_methods_are_seldom_called_more(methods: int) -> None:
    """Directions of one normal distribution, 400 panels; the docs have more and worse designs."""
    called = 0
    for run in range(400):
        random = np.random.default_rng([run, methods])
        effects = random.standard_normal((methods + 8, 1))
        gains = effects[:, 0] + 0.5 * random.standard_normal(methods + 8)
        values, others = np.split(gains[:, None], [methods])
        p = beyond_reference(values, others, draws=500)[:, 0]
        called += bool(((p <= LEVEL) & (values[:, 0] > others.max())).any())
    # A standard error is 0.011.
    assert called / 400 <= 0.06
