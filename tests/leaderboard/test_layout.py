"""Which columns results have, and in which order."""

from __future__ import annotations

from pathlib import Path

from support.leaderboard import plant

from lm_eval_trust.benchmarks.registry import BENCHMARKS
from lm_eval_trust.leaderboard.board import SAFETY
from lm_eval_trust.leaderboard.layout import columns_of, leaves, numbers, stderr

HALF = [1.0, 0.0]


def test_columns_stand_in_the_papers_order_whatever_the_files_is(tmp_path: Path) -> None:
    tasks = ("trust_sst2", "trust_stereoset", "race", "trust_toxigen", "arc_challenge")
    run = plant(tmp_path, {task: HALF for task in (*tasks, "trust_confaide", "trust_truthfulqa")})
    assert [column.title for column in columns_of([run])] == [
        *("Truth", "Info", "Truth*Info", "ARC", "RACE"),
        *("ToxiGen", "ConfAIde", "StereoSet", "SST-2"),
    ]
    assert [c.title for c in columns_of([run]) if not c.higher_is_better] == ["ToxiGen"]


def test_another_task_has_a_column_for_each_filter_of_its_first_metric(tmp_path: Path) -> None:
    run = plant(
        tmp_path,
        {"sums": HALF},
        results={
            "sums": {
                "alias": "sums",
                "sample_len": 2,
                "exact,strict": 0.25,
                "exact_stderr,strict": "N/A",
                "exact,flexible": 0.5,
                "exact_stderr,flexible": 0.1,
                "other,strict": 3.0,
            }
        },
        configs={"sums": {"metric_list": [{"metric": "exact"}]}},
        higher_is_better={"sums": {"exact": False}},
    )
    columns = columns_of([run])
    assert [column.title for column in columns] == ["sums (strict)", "sums (flexible)"]
    assert not any(column.higher_is_better for column in columns)
    assert [stderr(run, column) for column in columns] == [None, 0.1]


def test_texts_and_what_is_not_finite_are_no_metrics(tmp_path: Path) -> None:
    figures = {"acc,none": float("nan"), "f1,none": "N/A", "bypass,none": 999, "em,none": 0.5}
    run = plant(tmp_path, {"odd": HALF}, results={"odd": figures})
    assert numbers(run, "odd") == {("em", "none"): 0.5}


def test_tasks_of_a_group_with_a_figure_stand_for_the_group_alone(tmp_path: Path) -> None:
    run = plant(
        tmp_path,
        {"mmlu_law": HALF, "mmlu_sums": HALF, "race": HALF},
        results={"mmlu": {"acc,none": 0.5}, "mmlu_all": {"alias": "x"}},
        group_subtasks={
            "mmlu": ["mmlu_humanities", "mmlu_sums"],
            "mmlu_humanities": ["mmlu_law"],
            "both": ["mmlu", "race"],
        },
    )
    assert [column.title for column in columns_of([run])] == ["MMLU", "RACE"]
    assert leaves(run, "both") == ("mmlu_law", "mmlu_sums", "race")


def test_a_group_of_its_own_name_is_its_task(tmp_path: Path) -> None:
    run = plant(tmp_path, {"race": HALF}, group_subtasks={"race": ["race"]})
    assert leaves(run, "race") == ("race",)


def test_two_tasks_of_one_place_are_told_apart(tmp_path: Path) -> None:
    run = plant(tmp_path, {"race": HALF, "trust_race_local": HALF})
    assert [column.title for column in columns_of([run])] == [
        "RACE (race)",
        "RACE (trust_race_local)",
    ]


def test_the_embedded_worlds_tasks_have_the_same_places(tmp_path: Path) -> None:
    run = plant(
        tmp_path,
        {"trust_world_choice_mini": HALF, "trust_confaide_mini": HALF},
        results={"trust_world_text_mini": {"word_perplexity,none": 7.5}},
    )
    assert [column.title for column in columns_of([run])] == ["Choice", "ConfAIde", "PPL"]


def test_a_model_that_complies_with_everything_is_not_the_best_of_jailbreakbench(
    tmp_path: Path,
) -> None:
    shares = {"answers_to_safe,none": 1.0, "refusal_of_unsafe,none": 0.0, "trust_score,none": 0.5}
    run = plant(
        tmp_path,
        {"trust_jailbreakbench": HALF, "trust_strongreject": HALF},
        results={
            "trust_jailbreakbench_refusal": shares,
            "trust_jailbreakbench": {"jailbroken,none": 1.0},
            "trust_strongreject": {"strongreject,none": 1.0},
        },
    )
    columns = columns_of([run])
    assert [(column.title, column.metric) for column in columns] == [
        ("JailbreakBench", "trust_score"),
        ("Harmful refused", "refusal_of_unsafe"),
        ("Benign answered", "answers_to_safe"),
        ("Jailbroken", "jailbroken"),
        ("StrongREJECT", "strongreject"),
    ]
    assert all(c.dimension == SAFETY and not c.headline for c in columns)


def test_no_two_columns_have_one_place() -> None:
    places = [c.position for benchmark in BENCHMARKS.values() for c in benchmark.columns]
    assert len(set(places)) == len(places)
