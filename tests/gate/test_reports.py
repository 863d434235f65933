"""Names and messages of any kind leave reports that can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as Xml

from support.measured import measurement, rule

from lm_eval_trust.gate.reports import markdown, write_junit
from lm_eval_trust.gate.verdicts import CheckResult, decide

ERRORS = [(Path("b|c.yaml"), "no <a> at\n \x1b[31m*x* | y")]


def result() -> CheckResult:
    measured = replace(measurement([1.0, 0.0], score=0.5), task="a|b<c>\x0b*d*")
    return CheckResult(Path("e|<f>.yaml"), (decide(rule("min", 0.9), measured, None),))


def test_names_are_no_markup_of_a_summary() -> None:
    lines = markdown([result()], ERRORS).splitlines()
    assert lines[0] == r"### e\|\<f>.yaml: failed"
    assert lines[4].startswith(r"| **FAILED** | a\|b\<c> \*d\* | acc | min 0.9 | 0.5 [")
    assert lines[6:9] == [r"### b\|c.yaml: could not run", "", "no \\<a> at \x1b[31m\\*x\\* \\| y"]


def test_names_are_no_markup_of_xml(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    write_junit([result()], ERRORS, path)
    root = Xml.parse(path).getroot()
    first, second = root.iter("testcase")
    assert first.get("name") == "a|b<c>\ufffd*d* acc min 0.9"
    assert [each.tag for each in (*first, *second)] == ["failure", "error"]
    assert second[0].text == "no <a> at\n \ufffd[31m*x* | y"
