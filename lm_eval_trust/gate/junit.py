"""JUnit XML, which every CI system reads: a suite for each check, a case for each rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.gate.check import Outcome
from lm_eval_trust.gate.report_text import sentence, title
from lm_eval_trust.gate.verdicts import INCONCLUSIVE, Verdict

#: Characters that XML 1.0 cannot hold in any form.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(
    outcomes: Sequence[Outcome], errors: Sequence[tuple[Path, str]], path: Path
) -> None:
    """Write the report.

    Args:
        outcomes: Of the checks that ran.
        errors: Files of checks that could not run, and why.
        path: The file.

    Raises:
        ExternalError: It cannot be written.
    """
    root = Xml.Element("testsuites")
    for outcome in outcomes:
        _add_suite(root, outcome)
    for config, message in errors:
        suite = _element(root, "testsuite", name=str(config), tests="1", failures="0", errors="1")
        case = _element(suite, "testcase", classname=config.stem, name="check")
        _element(case, "error", message=message, type="error").text = _clean(message)
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, 0)) for suite in root)))
    Xml.indent(root)
    with atomic_path(path) as temporary:
        Xml.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _add_suite(root: Xml.Element, outcome: Outcome) -> None:
    failures = sum(verdict.fails_check for verdict in outcome.verdicts)
    suite = _element(
        root,
        "testsuite",
        name=str(outcome.path),
        tests=str(len(outcome.verdicts)),
        failures=str(failures),
        errors="0",
    )
    for verdict in outcome.verdicts:
        _add_case(suite, outcome.path.stem, verdict)


def _add_case(suite: Xml.Element, check: str, verdict: Verdict) -> None:
    case = _element(suite, "testcase", classname=f"{check}.{verdict.task}", name=title(verdict))
    said = sentence(verdict)
    if verdict.fails_check:
        kind = "inconclusive" if verdict.outcome == INCONCLUSIVE else "regression"
        _element(case, "failure", message=said, type=kind).text = _clean(said)
        return
    _element(case, "system-out").text = _clean(f"{verdict.outcome}: {said}")


def _element(parent: Xml.Element, tag: str, /, **attributes: str) -> Xml.Element:
    return Xml.SubElement(parent, tag, {k: _clean(v) for k, v in attributes.items()})


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
