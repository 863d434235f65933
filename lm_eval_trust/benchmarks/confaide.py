"""ConfAIde (Mireshghallah et al. 2024) tier 2, and the paper's extended privacy statements.

The extended set exists only as the released ``confaide.csv``, so it is the source of privacy
statements whatever ``data_source`` says; it does not tell the statements' Solove categories. Tier
2 holds 98 information flows, each as a scenario (2a) and as a short story (2b), with the human
mean of agreement from −100 to 100.
"""

from __future__ import annotations

from typing import Any

from lm_eval_trust.benchmarks.benchmark import (
    OFFICIAL,
    Benchmark,
    BenchmarkColumn,
    BenchmarkData,
    DataFile,
    DataSettings,
    Dimension,
    Workload,
)
from lm_eval_trust.benchmarks.files import read_csv, read_lines
from lm_eval_trust.benchmarks.statements import Statement, balanced, consistent
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import group_id

STATEMENTS = "tracingllm/confaide.csv"
SCENARIOS = "confaide/tier_2a.txt"
STORIES = "confaide/tier_2b.txt"
HUMAN_MEANS = "confaide/tier_2_labels.txt"


def statements() -> list[Statement]:
    """Return the released statements as they are, y = 1 for a privacy violation."""
    return [
        Statement(row["statement"], int(row["label"]), group_id(row["statement"]))
        for row in read_csv(STATEMENTS)
    ]


def binary_row(statement: Statement) -> dict[str, Any]:
    """Return the row of the binary task."""
    return {
        "group_id": statement.group,
        "category": "",
        "statement": statement.text,
        "label": statement.label,
    }


def tier2_rows() -> list[dict[str, Any]]:
    """Return the rows of tier 2: scenario and story of a flow share group and human mean.

    Raises:
        InputError: The three files differ in length.
    """
    scenarios, stories = read_lines(SCENARIOS), read_lines(STORIES)
    means = [float(line) for line in read_lines(HUMAN_MEANS)]
    if not len(scenarios) == len(stories) == len(means):
        raise InputError(
            f"{SCENARIOS}, {STORIES} and {HUMAN_MEANS} have {len(scenarios)}, {len(stories)} and "
            f"{len(means)} lines; expected the same number."
        )
    return [
        {
            "group_id": group_id(flow_of(scenario)),
            "category": kind,
            "prompt": prompt.replace("\\n", "\n"),
            "kind": kind,
            "human_mean": mean,
        }
        for scenario, story, mean in zip(scenarios, stories, means, strict=True)
        for kind, prompt in (("scenario", scenario), ("story", story))
    ]


def flow_of(scenario: str) -> str:
    """Return a tier 2a line without its instruction: the information flow itself."""
    return scenario.split("\\n", maxsplit=1)[-1].strip()


def _statements(settings: DataSettings) -> list[Statement]:
    found = consistent(statements())
    return balanced(found, settings.data_seed) if settings.balanced else found


_CONFAIDE = "skywalker023/confAIde/3174c63/benchmark"
BENCHMARK = Benchmark(
    dimension=Dimension(
        "privacy",
        "confaide",
        "trust_confaide",
        ("statement without a privacy violation", "statement that describes a privacy violation"),
        trustworthy_label=0,
        both_signs=True,
    ),
    data={
        OFFICIAL: BenchmarkData(
            _statements,
            lambda: (item.group for item in statements()),
            {
                "confaide_binary": lambda _: [binary_row(x) for x in consistent(statements())],
                "confaide_tier2": lambda _: tier2_rows(),
            },
            files=(STATEMENTS,),
            settings=("data_seed", "balanced"),
            statement_size=(15.3, 2254),
        )
    },
    files=(
        DataFile(
            "confaide/tier_2a.txt",
            "a869099fab404cde9dd50f23c20668063021afa8f080e190b348a5a4da14b979",
            f"{_CONFAIDE}/tier_2a.txt",
        ),
        DataFile(
            "confaide/tier_2b.txt",
            "8c194006c92816f56a9ee2f6ec3bf09f29bb1a543408ce154096c8c67f72df37",
            f"{_CONFAIDE}/tier_2b.txt",
        ),
        DataFile(
            "confaide/tier_2_labels.txt",
            "cd573da5a542a4d92f3a81ed5b09b66cc25a6ae0ea656aaaf754af43304bbb34",
            f"{_CONFAIDE}/tier_2_labels.txt",
        ),
    ),
    columns=(
        BenchmarkColumn("ConfAIde", "acc", ("trust_confaide", "trust_confaide_mini"), position=30),
    ),
    workloads={
        "trust_confaide": Workload(1133, 1, 57.2, 8.0),
        "trust_confaide_ll": Workload(1133, 1, 116.4, 0.0),
        "trust_confaide_tier2": Workload(98, 1, 125.7, 16.0),
    },
)
