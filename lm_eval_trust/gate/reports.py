"""Reports of checks: verdicts in words, Markdown for a job's summary, JSON, and JUnit XML.

JUnit XML is written with the standard library: junitparser would replace its few calls one by one,
and leaves characters that XML cannot hold in the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as Xml  # nosec B405: XML is written, never read

from lm_eval_trust.analysis.statistics import Interval, few_groups
from lm_eval_trust.core.plain import plain
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.gate.check_file import BEATS, Rule
from lm_eval_trust.gate.verdicts import INCONCLUSIVE, PASSED, CheckResult, Power, RuleVerdict

#: Files of checks that could not be run, each with the reason.
Errors = Sequence[tuple[Path, str]]

_SHOWN = {
    "max_drop": "a drop of {} or more",
    "min_gain": "a gain of {} or more",
    "non_inferiority": "a margin of {} or more",
    BEATS: "a gain of {} or more",
}
_SHOWN_RATIO = {"min_ratio": "a ratio of {} or less", "max_ratio": "a ratio of {} or more"}
_COMPARED = {"unsteered": "unsteered", "baseline": "in the baseline"}
_MARKUP = re.compile(r"[|*<]")
_HEADER = (
    "| verdict | task | metric | rule | value | reference | change | interval | power |",
    "|---|---|---|---|---|---|---|---|---|",
)
_HEADER_OF_ITEMS = (
    "| task | metric | category | items | wrong way | interval | right way | interval |",
    "|---|---|---|---:|---:|---|---:|---|",
)
#: Characters that XML 1.0 cannot hold in any form.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def title(verdict: RuleVerdict) -> str:
    """Return task, metric and rule."""
    return f"{verdict.task} {verdict.rule.metric} {verdict.rule.text}"


def value(verdict: RuleVerdict) -> str:
    """Return the metric, with its interval if the rule is a bound on it."""
    if verdict.change is None and verdict.interval is not None:
        return f"{number(verdict.value)} {ends(verdict.interval)}"
    return number(verdict.value)


def change(verdict: RuleVerdict) -> str:
    """Return difference or ratio with its interval; empty for bounds on the metric itself."""
    if verdict.change is None:
        return ""
    return f"{change_name(verdict)} {amount(verdict)} {ends(verdict.change)}"


def change_name(verdict: RuleVerdict) -> str:
    """Return what the change is called."""
    return "ratio" if verdict.is_ratio else "difference"


def amount(verdict: RuleVerdict) -> str:
    """Return the change itself, a difference with its sign."""
    if verdict.change is None:
        return ""
    mean = verdict.change.mean
    return number(mean) if verdict.is_ratio else f"{mean:+.4g}"


def power(verdict: RuleVerdict) -> str:
    """Return what the items could have shown, and whether their groups are few for an interval.

    Of bounds on the metric itself only the latter, so it is mostly empty.
    """
    has_interval = verdict.change is not None or verdict.interval is not None
    few = few_groups(verdict.groups) if has_interval and verdict.random is None else ""
    return "; ".join(filter(None, (_could_show(verdict), few)))


def _could_show(verdict: RuleVerdict) -> str:
    found = verdict.power
    if verdict.doubt:
        return verdict.doubt
    if verdict.random is not None:
        return verdict.random.sentence
    if found is None:
        return ""
    counted = f"these {items_in_groups(verdict.items, verdict.groups)}"
    if found.smallest is None:
        could = f"{counted} are too few to reliably show any possible {_kind(verdict.rule)}"
    else:
        shown = _SHOWN_RATIO[verdict.rule.kind] if verdict.is_ratio else _shown(verdict.rule)
        could = f"{counted} show {shown.format(number(found.smallest))}"
    return could + _needed(found, verdict)


def _shown(rule: Rule) -> str:
    return _SHOWN.get(rule.kind, _SHOWN["max_drop"])


def _needed(found: Power, verdict: RuleVerdict) -> str:
    if found.suffices:
        return ""
    if found.wanted is None:
        return "; `detect` says which change has to be shown"
    if found.needed is None:
        return ""
    unit = "items" if verdict.groups == verdict.items else "groups of items"
    return f"; {number(found.wanted)} needs about {found.needed} {unit}"


def _kind(rule: Rule) -> str:
    return {"min_gain": "gain", BEATS: "gain", "non_inferiority": "margin"}.get(rule.kind, "drop")


def items_in_groups(items: int, groups: int) -> str:
    """Return the number of items, and the number of groups if it differs."""
    return f"{items} items" if groups == items else f"{items} items in {groups} groups"


def sentence(verdict: RuleVerdict) -> str:
    """Return the whole verdict on one line."""
    parts = [f"{verdict.rule.metric} is {value(verdict)}"]
    if verdict.doubt:
        parts.append(verdict.doubt.rstrip("."))
    elif verdict.reference is not None:
        compared = _COMPARED.get(verdict.rule.against, f"under the control {verdict.rule.against}")
        parts[0] += f", {number(verdict.reference)} {compared}"
    if verdict.raw is not None:
        counted = " and ".join(number(raw) for raw in verdict.raw if raw is not None)
        parts[0] += f", corrected for the judge's errors (it counted {counted})"
    if verdict.reference is not None and not verdict.doubt:
        parts.append(f"{change(verdict)} at {verdict.rule.confidence:.4g} confidence")
    if not verdict.doubt:
        parts.append(power(verdict))
    return f"{title(verdict)}: {'; '.join(filter(None, parts))}"


def report_lines(result: CheckResult) -> Iterator[str]:
    """Yield the lines of a check's report for a terminal."""
    yield f"{result.path}: {'passed' if result.passed else 'FAILED'}"
    for verdict in result.verdicts:
        yield f"  {label(verdict):<21} {sentence(verdict)}"
    for moved in result.moved:
        yield f"  {'items':<21} {moved.sentence}"


def label(verdict: RuleVerdict) -> str:
    """Return the verdict, and what it counts as if it is inconclusive."""
    if verdict.outcome == INCONCLUSIVE:
        return f"inconclusive ({'fails' if verdict.fails_check else 'warning'})"
    return verdict.outcome.upper() if verdict.fails_check else verdict.outcome


def number(value: float) -> str:
    """Return a number with four significant digits."""
    return f"{value:.4g}"


def ends(interval: Interval) -> str:
    """Return the ends of an interval."""
    return f"[{number(interval.low)}, {number(interval.high)}]"


def markdown(results: Sequence[CheckResult], errors: Errors) -> str:
    """Return Markdown with a section for each check and a table of its rules."""
    lines: list[str] = []
    for result in results:
        passed = "passed" if result.passed else "failed"
        lines += [f"### {_escaped(result.path.name)}: {passed}", ""]
        lines += [*_HEADER, *_rows(result), ""]
        if result.moved:
            lines += [*_HEADER_OF_ITEMS, *_rows_of_items(result), ""]
    for config, message in errors:
        lines += [f"### {_escaped(config.name)}: could not run", "", _escaped(message), ""]
    return "\n".join(lines)


def _rows(result: CheckResult) -> Iterator[str]:
    for verdict in result.verdicts:
        cells = (
            verdict.task,
            verdict.rule.metric,
            verdict.rule.text,
            value(verdict) + _counted(verdict, 0),
            "" if verdict.reference is None else number(verdict.reference) + _counted(verdict, 1),
            f"{change_name(verdict)} {amount(verdict)}" if verdict.change else "",
            ends(verdict.change) if verdict.change else "",
            power(verdict),
        )
        said = f"**{label(verdict)}**" if verdict.fails_check else label(verdict)
        yield f"| {' | '.join((said, *map(_escaped, cells)))} |"


def _rows_of_items(result: CheckResult) -> Iterator[str]:
    for moved in result.moved:
        for effects in moved.effects:
            shares = (
                part
                for share in (effects.wrong, effects.right)
                for part in (f"{share.mean:.1%}", f"{share.low:.1%} to {share.high:.1%}")
            )
            cells = (moved.task, moved.metric, effects.category or "all", str(effects.items))
            yield f"| {' | '.join(map(_escaped, (*cells, *shares)))} |"


def _counted(verdict: RuleVerdict, which: int) -> str:
    """Return what a judge counted beside its corrected value: the metric's, or the reference's."""
    raw = None if verdict.raw is None else verdict.raw[which]
    return "" if raw is None else f" (counted {number(raw)})"


def _escaped(text: str) -> str:
    """Return text on one line that Markdown takes for no table, emphasis or tag."""
    return " ".join(_MARKUP.sub(r"\\\g<0>", text).split())


def write_json(results: Sequence[CheckResult], errors: Errors, path: Path) -> None:
    """Write all figures as JSON.

    Raises:
        ExternalError: The file cannot be written.
    """
    record = {
        "checks": [
            {
                "file": str(result.path),
                "passed": result.passed,
                "verdicts": [
                    {**plain(verdict), "fails_check": verdict.fails_check}
                    for verdict in result.verdicts
                ],
                "moved": plain(result.moved),
            }
            for result in results
        ],
        "errors": [{"file": str(config), "message": message} for config, message in errors],
    }
    with atomic_path(path) as temporary:
        text = json.dumps(record, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Case:
    """One case of a JUnit suite.

    Attributes:
        classname: What it belongs to.
        name: What is tested.
        said: The figures, in a sentence.
        failure: Kind of its failure; empty if it passed.
        passed: What it is called if it passed.
    """

    classname: str
    name: str
    said: str
    failure: str
    passed: str = PASSED


def write_junit(results: Sequence[CheckResult], errors: Errors, path: Path) -> None:
    """Write JUnit XML, which every CI system reads: a suite for each check, a case for each rule.

    Raises:
        ExternalError: The file cannot be written.
    """
    root = Xml.Element("testsuites")
    for result in results:
        cases = [_case(result.path.stem, verdict) for verdict in result.verdicts]
        suite = _add_suite(root, str(result.path), cases)
        if result.moved:
            said = "\n".join(moved.sentence for moved in result.moved)
            _element(suite, "system-out").text = _clean(said)
    for config, message in errors:
        suite = _element(root, "testsuite", name=str(config), tests="1", failures="0", errors="1")
        case = _element(suite, "testcase", classname=config.stem, name="check")
        _element(case, "error", message=message, type="error").text = _clean(message)
    _write_suites(root, path)


def write_cases(name: str, cases: Sequence[Case], path: Path) -> None:
    """Write JUnit XML of a single suite.

    Raises:
        ExternalError: The file cannot be written.
    """
    root = Xml.Element("testsuites")
    _add_suite(root, name, cases)
    _write_suites(root, path)


def _write_suites(root: Xml.Element, path: Path) -> None:
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, 0)) for suite in root)))
    Xml.indent(root)
    with atomic_path(path) as temporary:
        Xml.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _add_suite(root: Xml.Element, name: str, cases: Sequence[Case]) -> Xml.Element:
    failures = sum(bool(case.failure) for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0"}
    suite = _element(root, "testsuite", name=name, **counts)
    for case in cases:
        element = _element(suite, "testcase", classname=case.classname, name=case.name)
        if case.failure:
            failure = _element(element, "failure", message=case.said, type=case.failure)
            failure.text = _clean(case.said)
        else:
            _element(element, "system-out").text = _clean(f"{case.passed}: {case.said}")
    return suite


def _case(check: str, verdict: RuleVerdict) -> Case:
    kind = "inconclusive" if verdict.outcome == INCONCLUSIVE else "regression"
    return Case(
        f"{check}.{verdict.task}",
        title(verdict),
        sentence(verdict),
        kind if verdict.fails_check else "",
        verdict.outcome,
    )


def _element(parent: Xml.Element, tag: str, /, **attributes: str) -> Xml.Element:
    return Xml.SubElement(parent, tag, {k: _clean(v) for k, v in attributes.items()})


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
