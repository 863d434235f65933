"""What an audit leaves behind: the page, all figures as JSON, JUnit XML, lines for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from lm_eval_trust.audit.page import page_of
from lm_eval_trust.audit.rules import SHOWN
from lm_eval_trust.audit.run import Audited
from lm_eval_trust.core.plain import plain
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.gate.reports import Case, write_cases
from lm_eval_trust.gate.verdicts import PASSED

PAGE, FIGURES, JUNIT = "audit.html", "audit.json", "audit.xml"


def write_reports(audited: Audited, folder: Path) -> None:
    """Write the page, the figures and JUnit XML.

    Raises:
        ExternalError: They cannot be written.
    """
    with atomic_path(folder / PAGE) as temporary:
        temporary.write_text(page_of(audited), encoding="utf-8")
    judged = audited.judged
    record = {
        "verdict": judged.verdict,
        "tasks": audited.audit.tasks,
        "demands": audited.audit.demands,
        "tried": audited.audit.tried,
        "rules": judged.findings,
        "arms": judged.arms,
        "effects": judged.effects,
        "judges": audited.judges,
        "kl": audited.measured.text[1].divergence,
        "provenance": audited.provenance,
        "notes": audited.notes,
    }
    with atomic_path(folder / FIGURES) as temporary:
        text = json.dumps(plain(record), indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    cases = [
        Case(
            f"audit.{finding.group}",
            finding.title,
            finding.said,
            "" if finding.outcome == PASSED else "harm" if finding.harm else finding.outcome,
        )
        for finding in judged.findings
    ]
    write_cases(audited.audit.steering.name, cases, folder / JUNIT)


def lines(audited: Audited) -> Iterator[str]:
    """Yield what an audit found, for the terminal."""
    judged = audited.judged
    yield from audited.notes
    for finding in judged.findings:
        outcome = "HARMFUL" if finding.harm else finding.outcome
        yield f"  {outcome:<13} {finding.title}: {finding.said}"
    verdict = judged.verdict if judged.verdict == SHOWN else judged.verdict.upper()
    yield f"{audited.audit.steering}: {verdict}"
