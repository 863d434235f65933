"""Boards of planted runs: every figure is known beforehand."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.leaderboard import plant

from lm_eval_trust.analysis.comparison import MCNEMAR, SIGN_FLIPS, compare, sign_flip_p
from lm_eval_trust.analysis.derived import SmallerProducts, icat_by_term, icat_products
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import SavedRun
from lm_eval_trust.leaderboard.build import BoardSettings, build_boards
from lm_eval_trust.leaderboard.formats import to_csv
from lm_eval_trust.leaderboard.table import category_tables
from lm_eval_trust.tasks.metrics import icat

CONFAIDE = "trust_confaide/acc,none"
TOXIGEN = "trust_toxigen/toxic_ratio,none"
RACE = "race/acc,none"


def run(
    folder: Path, name: str, confaide: str, toxigen: str = "", race: str = "", **more: Any
) -> SavedRun:
    """A run whose items are written as ones and zeros."""
    digits = {"trust_confaide": confaide, "trust_toxigen": toxigen, "race": race}
    tasks = {task: [float(d) for d in found] for task, found in digits.items() if found}
    return plant(folder / name, tasks, arguments=f"pretrained=o/{name}", **more)


def steered(folder: Path, name: str, *values: str) -> SavedRun:
    steps = [{"layer": 3, "alpha": 2.0, "action": "add", "positions": "generated", "origin": name}]
    config = {"steering": {"steps": steps}, "trust_fingerprint": f"mark-{name}"}
    return run(folder, name, *values, model="steered_amber", config=config)


@pytest.fixture
def three(tmp_path: Path) -> list[SavedRun]:
    """A steered run first: it gains 6 of 8 in privacy, and loses in the two others."""
    return [
        steered(tmp_path, "s", "11111110", "1110", "1000"),
        run(tmp_path, "p", "10000000", "1000", "1111"),
        run(tmp_path, "q", "10000000", "0000", "1111"),
    ]


def test_the_first_plain_row_is_the_reference(three: list[SavedRun]) -> None:
    (board,) = build_boards(three)
    assert board.reference == "p (hf)"
    assert {(pair.first, pair.second) for pair in board.pairs} == {
        ("p (hf)", "s + v(s, layer 3, α 2)"),
        ("p (hf)", "q (hf)"),
    }


def test_paired_differences_and_step_down_by_hand(three: list[SavedRun]) -> None:
    (board,) = build_boards(three)
    found = {(pair.second[0], pair.column): pair for pair in board.pairs}
    # 6 gained, none lost: p = 2 / 2^6. Two lost or gained: 2 / 4. One: 1. None: 1.
    wanted = {
        ("s", CONFAIDE): (0.75, 2 / 64),
        ("s", TOXIGEN): (0.5, 0.5),
        ("s", RACE): (-0.75, 0.25),
        ("q", CONFAIDE): (0.0, 1.0),
        ("q", TOXIGEN): (-0.25, 1.0),
        ("q", RACE): (0.0, 1.0),
    }
    got = {
        key: (pair.comparison.difference.mean, pytest.approx(pair.comparison.p))
        for key, pair in found.items()
    }
    assert got == wanted
    assert {pair.comparison.test for pair in board.pairs} == {MCNEMAR}
    # Two and three items that differ never add up to what six do, so six alone decide; and so on.
    for key, wanted_p in ((CONFAIDE, 2 / 64), (RACE, 0.25), (TOXIGEN, 0.5)):
        assert found["s", key].adjusted_p == pytest.approx(wanted_p, abs=0.02)
    assert {found["q", key].adjusted_p for key in (CONFAIDE, TOXIGEN, RACE)} == {1.0}
    assert {pair.family for pair in board.pairs} == {"primary"}
    idle = {(pair.second[0], pair.column) for pair in board.pairs if not pair.counted}
    assert idle == {("q", CONFAIDE), ("q", RACE)}
    assert any("2 of its comparisons do not count as tests" in note for note in board.notes)


def test_intervals_that_hold_together_contain_those_of_each_alone(three: list[SavedRun]) -> None:
    (board,) = build_boards(three)
    assert board.pairs
    for pair in board.pairs:
        alone = pair.comparison.difference
        assert pair.adjusted.low <= alone.low + 1e-9
        assert pair.adjusted.high >= alone.high - 1e-9


def test_the_primary_family_is_corrected_by_itself(three: list[SavedRun]) -> None:
    (board,) = build_boards(three, settings=BoardSettings(primary=("RACE",)))
    families = {pair.column: pair.family for pair in board.pairs}
    assert families == {CONFAIDE: "further", TOXIGEN: "further", RACE: "primary"}
    assert any(note.startswith("The primary family has 1 test (RACE)") for note in board.notes)
    with pytest.raises(InputError, match="primary column"):
        build_boards(three, settings=BoardSettings(primary=("RASE",)))


def test_ranks_say_what_few_items_cannot(three: list[SavedRun]) -> None:
    (board,) = build_boards(three)
    for standings in board.standings.values():
        assert all(s.rank_low <= s.rank_high <= 3 for s in standings.values())
        assert any(s.may_be_best for s in standings.values())


def test_all_pairs_when_asked_for(three: list[SavedRun]) -> None:
    (board,) = build_boards(three, settings=BoardSettings(pairs="all"))
    assert len(board.pairs) == 9
    assert {pair.first for pair in board.pairs if "p (hf)" in (pair.first, pair.second)} == {
        "p (hf)"
    }


def test_all_pairs_where_no_row_is_plain(tmp_path: Path) -> None:
    (board,) = build_boards([steered(tmp_path, name, "10") for name in "abc"])
    assert board.reference is None and len(board.pairs) == 3
    assert not board.tradeoffs.changes


def test_a_named_reference(three: list[SavedRun]) -> None:
    (board,) = build_boards(three, settings=BoardSettings(reference="q (hf)"))
    assert board.reference == "q (hf)" and {pair.first for pair in board.pairs} == {"q (hf)"}


def test_tradeoffs_are_oriented_so_that_positive_is_better(three: list[SavedRun]) -> None:
    (board,) = build_boards(three)
    changes = board.tradeoffs.changes["s + v(s, layer 3, α 2)"]
    assert {d: c.mean for d, c in changes.items()} == {
        "privacy": 0.75,
        "toxicity": -0.5,
        "general": -0.75,
    }
    assert all(c.low <= c.mean <= c.high for c in changes.values())
    assert board.tradeoffs.correlations == ()


def test_correlations_of_planted_changes(tmp_path: Path) -> None:
    """Each run gains in privacy what it loses in race; toxicity does not vary."""
    runs = [run(tmp_path, "p", "00000000", "1000", "11111111")]
    runs += [
        steered(tmp_path, f"s{k}", "1" * k + "0" * (8 - k), "1000", "1" * (8 - k) + "0" * k)
        for k in range(1, 6)
    ]
    (board,) = build_boards(runs)
    (found,) = board.tradeoffs.correlations
    assert {found.first, found.second} == {"privacy", "general"}
    assert found.value == pytest.approx(-1) and found.rows == 5


def test_categories_by_hand(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, "a", "1100", categories=["hill", "hill", "lake", "lake"]),
        run(tmp_path, "b", "0101", categories=["hill", "hill", "lake", "lake"]),
    ]
    (board,) = build_boards(runs)
    hill, lake = board.categories[CONFAIDE]
    assert (hill.kind, hill.name, lake.name) == ("category", "hill", "lake")
    assert {name: s.value for name, s in hill.scores.items()} == {"a (hf)": 1.0, "b (hf)": 0.5}
    assert {name: s.value for name, s in lake.scores.items()} == {"a (hf)": 0.0, "b (hf)": 0.5}
    assert lake.scores["b (hf)"].stderr == pytest.approx(0.5)  # sd of 0, 1 over sqrt(2)
    assert lake.scores["b (hf)"].items == 2


def test_items_of_one_group_are_drawn_together(tmp_path: Path) -> None:
    groups = ["x", "x", "y", "y"]
    runs = [run(tmp_path, "a", "1100", groups=groups), run(tmp_path, "b", "0101", groups=groups)]
    (board,) = build_boards(runs)
    (pair,) = board.pairs
    assert (pair.comparison.test, pair.comparison.groups) == (SIGN_FLIPS, 2)


def test_a_suite_of_unequal_tasks_is_tested_over_its_strata(tmp_path: Path) -> None:
    def with_suite(name: str, confaide: str, stereoset: str) -> SavedRun:
        tasks = {
            "trust_confaide": [float(d) for d in confaide],
            "trust_stereoset": [float(d) for d in stereoset],
        }
        means = [sum(values) / len(values) for values in tasks.values()]
        return plant(
            tmp_path / name,
            tasks,
            arguments=f"pretrained=o/{name}",
            results={"trust_suite": {"trust_score,none": sum(means) / 2}},
            group_subtasks={"trust_suite": list(tasks)},
        )

    (board,) = build_boards([with_suite("a", "0000", "01"), with_suite("b", "1100", "01")])
    (pair,) = [pair for pair in board.pairs if pair.column == "trust_suite/trust_score,none"]
    # A half of one of two tasks that weigh the same; pooled it would be a third.
    assert pair.comparison.difference.mean == 0.25
    assert pair.comparison.items == 6


def test_figures_that_are_no_mean_over_items_are_not_tested(tmp_path: Path) -> None:
    figures = {"trust_confaide": {"acc,none": 0.123}}
    f1 = {"trust_confaide": {"metric_list": [{"metric": "acc", "aggregation": "def f1(pairs):"}]}}
    runs = [run(tmp_path, n, "1100", results=figures, configs=f1) for n in "ab"]
    (board,) = build_boards(runs)
    assert board.pairs == ()
    assert "ConfAIde is not tested: the score is not a mean over items." in board.notes


def test_results_without_samples_are_shown_and_not_tested(tmp_path: Path) -> None:
    runs = [run(tmp_path, "a", "1100"), run(tmp_path, "b", "0000", save_samples=False)]
    (board,) = build_boards(runs)
    assert [row.scores[CONFAIDE].value for row in board.rows] == [0.5, 0.0]
    assert board.pairs == ()
    assert any("b (hf): samples were not saved (--log_samples)" in note for note in board.notes)


def test_items_that_only_one_row_has_are_left_out_and_told(tmp_path: Path) -> None:
    runs = [run(tmp_path, "a", "1100"), run(tmp_path, "b", "0000")]
    file = runs[1].samples_file("trust_confaide")
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("hash0", "other"), encoding="utf-8")
    (board,) = build_boards(runs)
    # Of the items that both have, the first row is right on one of three.
    (pair,) = board.pairs
    assert (pair.comparison.items, pair.comparison.difference.mean) == (3, pytest.approx(-1 / 3))
    told = "ConfAIde: a (hf) and b (hf) share 3 of 4 items; only these are compared."
    assert told in board.notes
    for position in range(1, 4):
        text = text.replace(f"hash{position}", f"other{position}")
    file.write_text(text.replace("hash0", "other0"), encoding="utf-8")
    (board,) = build_boards(runs)
    assert board.pairs == ()
    assert any("a (hf) and b (hf) share 0 of 4 items" in note for note in board.notes)


def test_judges_are_told_with_their_calibration(tmp_path: Path) -> None:
    calibration = {
        "items": 200,
        "data": "toxigen",
        "accuracy": {"value": 0.8125},
        "kappa": {"value": None},
        "auroc": None,
    }
    metadata = {
        "toxicity_judge": "linear",
        "toxicity_judge_version": "linear-1",
        "toxicity_judge_calibration": calibration,
    }
    (board,) = build_boards([run(tmp_path, "a", "", "10", metadata=metadata)])
    assert board.notes == (
        "Toxicity is judged by linear (version linear-1); calibrated on 200 of toxigen: "
        "accuracy 0.812.",
        "ToxiGen is not corrected for its judge's errors. The judge's calibration lacks "
        "sensitivity, as those of earlier releases do. Calibrate it with `lm-eval-trust judge "
        "calibrate` again.",
    )
    assert board.rows[0].provenance["judges"]["toxicity_judge"]["judge"] == "linear"


def test_provenance_of_a_row(tmp_path: Path) -> None:
    (board,) = build_boards([steered(tmp_path, "s", "10")])
    told = board.rows[0].provenance
    assert told["model"] == "steered_amber" and told["fingerprints"] == ["mark-s"]
    assert told["versions"] == {"lm_eval": "0.4.13", "transformers": "5.24.0", "torch": "2.13.0"}
    assert told["git_hash"] == "abc1234" and told["dates"] == ["2026-01-02T03:04:05+00:00"]
    assert told["steering"][0]["layer"] == 3


def test_reported_rows_are_shown_and_count_nowhere(three: list[SavedRun]) -> None:
    (plain,) = build_boards(three)
    (board,) = build_boards(three, settings=BoardSettings(with_paper=True))
    assert (board.pairs, board.win_rates, board.front) == (
        plain.pairs,
        plain.win_rates,
        plain.front,
    )
    assert [row.reported for row in board.rows] == [False] * 3 + [True] * 7
    assert [column.title for column in board.columns] == [
        *("Truth", "Info", "Truth*Info", "ARC", "MMLU", "MathQA", "RACE"),
        *("ToxiGen", "ConfAIde", "StereoSet", "SST-2"),
    ]
    reported = {row.name: row for row in board.rows if row.reported}
    first = reported["AmberChat + v(TruthfulQA, ckpt_179) (reported)"]
    assert first.scores["trust_truthfulqa/truth_info,none"].value == 0.6837
    last = reported["AmberChat + v(StereoSet, AmberChat) (reported)"]
    assert last.scores["trust_stereoset/acc,none"].value == 0.5830
    assert last.scores[TOXIGEN].value == 0.0820
    assert "trust_truthfulqa/truth,none" not in last.scores


def test_the_papers_rows_are_no_neighbours_of_the_embedded_world(tmp_path: Path) -> None:
    mini = plant(tmp_path, {"trust_confaide_mini": [1.0, 0.0]})
    boards = build_boards([mini], settings=BoardSettings(with_paper=True))
    assert [[row.reported for row in board.rows] for board in boards] == [[False], [True] * 7]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"reference": "p (fh)"}, r"Unknown reference row 'p \(fh\)'.*Did you mean 'p \(hf\)'"),
        ({"names": {"no-such-mark": "x"}}, "--names no-such-mark=x fits no run"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_settings_are_told(
    three: list[SavedRun], settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        build_boards(three, settings=BoardSettings(**settings))


def of_terms(folder: Path, values: list[tuple[str, float, float]], last: str = "last") -> SavedRun:
    """A run of StereoSet whose items have these terms, language and stereotype scores."""
    task = "trust_stereoset_icat"
    found = plant(
        folder,
        {task: [0.0] * len(values)},
        arguments=f"pretrained=o/{folder.name}",
        results={task: {"icat,none": icat(values)}},
    )
    file = found.samples_file(task)
    samples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for sample, scores in zip(samples, values, strict=True):
        sample |= {"metrics": ["icat"], "icat": scores}
    samples[-1]["doc_hash"] = last
    file.write_text("".join(json.dumps(each) + "\n" for each in samples), encoding="utf-8")
    return found


def test_icat_by_domain_is_taken_from_the_results(tmp_path: Path) -> None:
    """Means over target terms do not follow from the items of a domain alone."""
    task = "trust_stereoset_icat"
    runs = []
    for name, of_gender in (("a", 40.0), ("b", 50.0)):
        found = of_terms(tmp_path / name, [("aunt", 100, 0), ("aunt", 50, 100), ("monk", 50, 0)])
        figures = found.results["results"][task]
        for metric, value in {"icat": figures["icat,none"], "icat_gender": of_gender}.items():
            figures |= {f"{metric},none": value, f"{metric}_stderr,none": "N/A"}
            figures |= {f"{metric}_low,none": value - 9, f"{metric}_high,none": value + 9}
        # A single term has no interval, and a domain without any no value.
        single = {"icat_race": 0.0, "icat_race_low": math.nan, "icat_race_high": math.nan}
        silent = dict.fromkeys(("icat_creed", "icat_creed_low", "icat_creed_high"), math.nan)
        figures |= {f"{metric},none": value for metric, value in (single | silent).items()}
        file = found.samples_file(task)
        samples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for sample, domain in zip(samples, ("gender", "gender", "race"), strict=True):
            own = {f"icat_{domain}": sample["icat"]}
            sample |= {"icat_gender": None, "icat_race": None, **own}
            sample["metrics"] = ["icat", "icat_gender", "icat_race"]
        file.write_text("".join(json.dumps(each) + "\n" for each in samples), encoding="utf-8")
        runs.append(found)
    (board,) = build_boards(runs)
    gender, race = board.categories[f"{task}/icat,none"]
    assert (gender.kind, gender.name, race.name) == ("category", "gender", "race")
    assert {
        name: (score.value, score.interval and score.interval.low, score.items)
        for name, score in gender.scores.items()
    } == {"a (hf)": (40.0, 31.0, 2), "b (hf)": (50.0, 41.0, 2)}
    assert [score.items for score in race.scores.values()] == [1, 1]
    lines = csv.DictReader(io.StringIO(to_csv([board])["categories.csv"]))
    told = [(line["value"], line["high"]) for line in lines if line["category"] == "gender"]
    assert told == [("40.0", "49.0"), ("50.0", "59.0")]
    (table,) = category_tables(board)
    assert [cell.detail for cell in table.lines[0]] == ["", "[31.00, 49.00]", "[41.00, 59.00]", ""]


def test_icat_is_compared_term_by_term(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    terms = [f"t{i % 9}" for i in range(36)]
    sides = [
        (50.0 * random.integers(3, size=36), 100.0 * random.integers(2, size=36)) for _ in "pq"
    ]
    runs = [
        of_terms(tmp_path / name, list(zip(terms, *side, strict=True)))
        for name, side in zip("pq", sides, strict=True)
    ]
    (board,) = build_boards(runs)
    column = next(c for c in board.columns if c.metric == "icat")
    (pair,) = (pair for pair in board.pairs if pair.column == column.key)
    before, after = (list(icat_by_term(*side, terms).values()) for side in sides)
    assert pair.comparison == compare(before, after)
    assert pair.comparison.items == pair.comparison.groups == 9
    scores = [row.scores[column.key].value for row in board.rows]
    assert pair.comparison.difference.mean == pytest.approx(scores[1] - scores[0])


def test_icat_across_its_kink_is_compared_in_both_products(tmp_path: Path) -> None:
    terms = [f"t{i:02}" for i in range(40)]
    stereotype = np.repeat([0.0, 25.0, 50.0, 75.0, 100.0], 8)
    language = np.full(40, 100.0)
    sides = [(language, np.clip(stereotype + shift, 0.0, 100.0)) for shift in (-8, 4)]
    runs = [
        of_terms(tmp_path / name, list(zip(terms, *side, strict=True)))
        for name, side in zip("pq", sides, strict=True)
    ]
    (board,) = build_boards(runs)
    (pair,) = (pair for pair in board.pairs if pair.column.endswith("icat,none"))
    products = [np.array(list(icat_products(*side, terms).values())).T for side in sides]
    expected = SmallerProducts.between(*products, np.ones(40))
    found = pair.comparison.difference
    assert (found.low, found.high) == pytest.approx(astuple(expected.interval())[1:])
    assert pair.comparison.p == sign_flip_p(expected.sums)
    alone = compare(*(list(icat_by_term(*side, terms).values()) for side in sides)).difference
    assert found.high < alone.high - 1


def test_icat_on_other_items_is_not_compared(tmp_path: Path) -> None:
    values = [(f"t{i % 9}", 100.0, 100.0 * (i % 2)) for i in range(36)]
    runs = [of_terms(tmp_path / "p", values), of_terms(tmp_path / "q", values, last="other")]
    (board,) = build_boards(runs)
    assert not board.pairs
    assert any("share 0 of 9 items" in note for note in board.notes)
