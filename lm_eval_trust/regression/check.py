"""A whole check: read its file, measure what is needed, judge every rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from lm_eval_trust.document import Document, read_document
from lm_eval_trust.errors import InputError
from lm_eval_trust.regression.baseline import (
    Baseline,
    baseline_path,
    read_baseline,
    write_baseline,
)
from lm_eval_trust.regression.catalogue import Catalogue
from lm_eval_trust.regression.evaluation import Evaluator, LoadedTask, Tasks
from lm_eval_trust.regression.measurements import Measurement
from lm_eval_trust.regression.rules import Rule, rules_of
from lm_eval_trust.regression.spec import CheckSpec
from lm_eval_trust.regression.verdicts import Verdict, check_comparable, judge
from lm_eval_trust.storage import cache_dir

if TYPE_CHECKING:  # it loads torch, which looking at a file can do without
    from lm_eval_trust.regression.subjects import Subject


@dataclass(frozen=True)
class Check:
    """A check as its file declares it.

    Attributes:
        document: The file.
        spec: What it says.
        rules: Its rules, in order.
    """

    document: Document
    spec: CheckSpec
    rules: tuple[Rule, ...]

    @property
    def path(self) -> Path:
        """The file."""
        return self.document.path

    @property
    def baseline(self) -> Path:
        """Where its baseline lies, or would."""
        return baseline_path(self.path)

    def needs(self, reference: str) -> bool:
        """Tell whether a rule compares with ``unsteered`` or ``baseline``."""
        return any(rule.compares and rule.against == reference for rule in self.rules)

    def subjects(self) -> tuple[Subject, Subject | None]:
        """Return the checked model and, where a rule compares with it, the unsteered one.

        Raises:
            InputError: With file and line.
            ExternalError: A model cannot be fetched.
        """
        from lm_eval_trust.regression.subjects import reference_subject, steered_subject

        with self.document.at("model_args" if self.spec.steering is None else "steering"):
            steered = steered_subject(self.spec, self.path.parent)
        if not self.needs("unsteered"):
            return steered, None
        with self.document.at("reference" if self.spec.reference else "model"):
            return steered, reference_subject(self.spec, steered)


@dataclass(frozen=True)
class Outcome:
    """What a check gave.

    Attributes:
        path: Its file.
        verdicts: One for each rule and task.
    """

    path: Path
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether no verdict fails it."""
        return not any(verdict.fails_check for verdict in self.verdicts)


def read_check(path: Path) -> Check:
    """Read a check's file.

    Raises:
        InputError: With file, line and key of what is wrong.
    """
    document = read_document(path, "check")
    spec = document.parse(CheckSpec)
    return Check(document, spec, tuple(rules_of(spec)))


def validate(check: Check) -> None:
    """Raise unless everything that a check names exists, as far as can be told without running.

    Raises:
        InputError: With file, line and key of what is wrong.
    """
    catalogue = Catalogue()
    for rule in check.rules:
        with check.document.at("rules", rule.task, rule.metric):
            catalogue.check(rule.task, rule.metric)
    _check_files(check)
    if check.needs("baseline"):
        with check.document.at("rules"):
            read_baseline(check.baseline)


def run_check(check: Check, cache: Path | None = None) -> Outcome:
    """Measure what is not measured yet, and judge every rule.

    Args:
        check: Which.
        cache: Folder of measurements; by default in the user's cache.

    Raises:
        InputError: Something in the file does not fit, a baseline is missing or of other items.
        ExternalError: A model, data or a judge cannot be fetched.
    """
    baseline = read_baseline(check.baseline) if check.needs("baseline") else None
    found = _Measured(check, cache, against_unsteered=True)
    return Outcome(check.path, tuple(_verdicts(check, found, baseline)))


def update_baseline(check: Check, cache: Path | None = None) -> bool:
    """Measure the checked model and keep what its rules look at as the baseline.

    Returns:
        Whether the file changed.

    Raises:
        InputError: As :func:`run_check`.
        ExternalError: Likewise, or the file cannot be written.
    """
    found = _Measured(check, cache, against_unsteered=False)
    kept: dict[str, tuple[Measurement, list[str]]] = {}
    for rule in check.rules:
        for measured in found.steered[rule.task]:
            with check.document.at(*rule.place):
                metric = measured.metric(rule.metric)
            metrics = kept.setdefault(measured.task, (measured, []))[1]
            if metric not in metrics:
                metrics.append(metric)
    return write_baseline(check.baseline, found.subject.identity, kept)


class _Measured:
    """All measurements of a check: name in the rules → a measurement of each of its tasks."""

    def __init__(self, check: Check, cache: Path | None, *, against_unsteered: bool) -> None:
        self.subject, self.reference = check.subjects()
        tasks = Tasks(check.spec.metadata)
        evaluator = Evaluator(cache or cache_dir() / "checks")
        members: dict[str, list[LoadedTask]] = {}
        for name in check.spec.rules:
            with check.document.at("rules", name):
                members[name] = tasks.members(name, check.spec.limit_of(name))
        subjects = [self.subject]
        if against_unsteered and self.reference is not None:
            subjects.append(self.reference)
        wanted = [(s, n, task) for s in subjects for n, found in members.items() for task in found]
        measured: dict[int, dict[str, list[Measurement]]] = {id(s): {} for s in subjects}
        for subject, name, task in tqdm(wanted, desc=check.path.name, unit="task"):
            measured[id(subject)].setdefault(name, []).append(evaluator.measure(subject, task))
        self.steered: Mapping[str, list[Measurement]] = measured[id(self.subject)]
        self.unsteered: Mapping[str, list[Measurement]] = measured.get(id(self.reference), {})


def _verdicts(check: Check, found: _Measured, baseline: Baseline | None) -> Iterator[Verdict]:
    for rule in check.rules:
        for number, after in enumerate(found.steered[rule.task]):
            with check.document.at(*rule.place):
                before = None
                if rule.compares and rule.against == "unsteered":
                    before = found.unsteered[rule.task][number]
                elif rule.compares and baseline is not None:
                    before = baseline.of(after.task, after.metric(rule.metric))
                if before is not None:
                    _check_pair(before, after, baseline if rule.against == "baseline" else None)
                yield judge(rule, after, before)


def _check_pair(before: Measurement, after: Measurement, baseline: Baseline | None) -> None:
    try:
        check_comparable(before, after)
    except InputError as error:
        if baseline is None:
            raise
        raise InputError(
            f"{baseline.path} does not fit: {error} Run `lm-eval-trust check --update-baseline` "
            f"and review the file."
        ) from error


def _check_files(check: Check) -> None:
    """Raise unless files of steering exist; models and vectors themselves are not loaded."""
    if check.spec.steering is None:
        return
    from lm_eval_trust.regression.subjects import requests_of

    with check.document.at("steering"):
        for request in requests_of(check.spec, check.path.parent):
            if request.vector is not None and not Path(request.vector).is_file():
                raise InputError(f"there is no vector file {request.vector}.")
