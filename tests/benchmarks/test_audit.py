from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lm_eval_trust.benchmarks import confaide
from lm_eval_trust.benchmarks import released_file_errors as findings
from lm_eval_trust.benchmarks.audit import audit, audit_statements
from lm_eval_trust.benchmarks.registry import DIMENSIONS, find_dimension
from lm_eval_trust.benchmarks.released_file_errors import Finding, released_findings
from lm_eval_trust.benchmarks.statements import Statement, Statements


def test_planted_faults_are_found() -> None:
    items = (
        *(Statement(f"s{i}", i % 2, f"g{i // 4}", f"c{i % 3}") for i in range(40)),
        Statement("s0", 0, "g0"),
        Statement("s0", 1, "g0"),
    )
    report = audit_statements(Statements(find_dimension("privacy"), "planted", items))
    assert (report.statements, report.labels, report.groups) == (42, (21, 21), 10)
    assert (report.repeats, report.contradictory_texts, report.categories) == (1, 1, 3)
    assert report.splits["grouped"].straddling_groups == 0
    random = report.splits["random"]
    assert random.train + random.validation + random.test == 42
    assert 0 < random.straddling_groups <= 10
    assert random.straddling_items >= random.straddling_groups


def test_straddling_counted_by_hand() -> None:
    items = tuple(Statement(f"s{i}", i % 2, "only" if i < 9 else f"g{i}") for i in range(12))
    statements = Statements(find_dimension("privacy"), "planted", items)
    parts = statements.partition(split="random", seed=2)
    in_test = sum(i < 9 for i in parts.test)
    report = audit_statements(statements, split_seed=2).splits["random"]
    assert (report.straddling_groups, report.straddling_items) == (1, in_test)


@pytest.mark.parametrize("source", ["official", "tracingllm"])
@pytest.mark.parametrize("dimension", [d.name for d in DIMENSIONS])
def test_grouped_splits_have_no_straddling_group(
    real_data: Path, dimension: str, source: str
) -> None:
    report = audit(dimension, source, split_seed=3)
    assert report.splits["grouped"].straddling_groups == 0
    assert sum(report.labels) == report.statements


@pytest.mark.slow
def test_every_documented_figure_is_reproduced(real_data: Path) -> None:
    found = released_findings()
    assert {finding.dimension for finding in found} == {d.name for d in DIMENSIONS}
    assert [finding for finding in found if not finding.agrees] == []


def test_findings_of_one_dimension(real_data: Path) -> None:
    assert {finding.dimension for finding in released_findings("privacy")} == {"privacy"}
    assert released_findings("universal") == []


def test_a_repaired_file_is_noticed(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repaired = list({item.text: item for item in confaide.statements()}.values())
    monkeypatch.setattr(findings.confaide, "statements", lambda: repaired)
    disagreeing = {f.what for f in released_findings("privacy") if not f.agrees}
    assert "repeated statements" in disagreeing


@pytest.mark.parametrize(("measured", "agrees"), [(0.9071, True), (0.9049, False), (0.92, False)])
def test_agreement_is_in_the_documented_digits(measured: float, agrees: bool) -> None:
    finding = Finding("robustness", "sst2.csv", "twins", 0.91, 0.0, decimals=2)
    assert dataclasses.replace(finding, measured=measured).agrees == agrees
