"""Checks of logs of inspect_ai: measurements are read, and nothing is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.inspect_logs import InspectRun, read_log
from lm_eval_trust.evaluate.measurement import Measurement, measurement_of
from lm_eval_trust.gate.check_file import Check, Rule
from lm_eval_trust.gate.paired_test import check_kind

#: Keys of a check that say how a model is run.
_RUNNING = (
    *("model", "model_args", "engine", "steering", "limit", "limits", "metadata", "controls"),
    "judge_correction",
)


@dataclass(frozen=True)
class Logged:
    """What a check of logs compares.

    Attributes:
        steered: Name in the rules → the measurement of that task, as a list of one.
        unsteered: The same for the reference's log; empty where no rule compares with it.
        identity: Which model the log is of.
    """

    steered: dict[str, list[Measurement]]
    unsteered: dict[str, list[Measurement]]
    identity: dict[str, Any]


def read_logs(check: Check, *, reference: bool = True) -> Logged:
    """Read the logs that a check names, and check its rules against them.

    Args:
        check: With ``log``.
        reference: Whether the log of ``reference`` is read.

    Raises:
        InputError: With file, line and key: a log is damaged, has no task of a rule, or the check
            has keys that belong to a model that is run.
    """
    assert check.spec.log is not None
    given = check.spec.model_fields_set
    for key in _RUNNING:
        if key in given:
            with check.document.at(key):
                raise InputError(f"{key} belongs to a model that is run; with `log`, leave it out.")
    with check.document.at("log"):
        run = read_log(_path(check, check.spec.log))
    steered = {name: [_measured(check, run, name)] for name in check.spec.rules}
    for rule in check.rules:
        with check.document.at(*rule.place):
            _check_rule(rule, steered[rule.task][0])
    unsteered: dict[str, list[Measurement]] = {}
    if reference and check.needs("unsteered"):
        with check.document.at("reference" if check.spec.reference else "log"):
            if check.spec.reference is None or check.spec.reference.log is None:
                raise InputError(
                    "a rule compares with the unsteered model; name its log: "
                    "`reference: {log: FILE.eval}`, or write `against: baseline`."
                )
            other = read_log(_path(check, check.spec.reference.log))
        unsteered = {name: [_measured(check, other, name)] for name in check.spec.rules}
    config = run.results["config"]
    names = ("model_args", "gen_kwargs", "trust_fingerprint")
    identity = {name: config[name] for name in names if config.get(name)}
    return Logged(steered, unsteered, identity)


def plan_of_logs(check: Check) -> Iterator[str]:
    """Yield lines that say what a check of logs reads.

    Raises:
        InputError: See :func:`read_logs`.
    """
    logged = read_logs(check)
    yield f"{check.path}: reads {check.spec.log}; nothing is run"
    for name, (measured,) in logged.steered.items():
        compared = ", with its reference" if logged.unsteered else ""
        yield f"  {name}: {len(measured.ids)} items{compared}"


def _path(check: Check, file: str) -> Path:
    path = check.path.parent / file
    if not path.is_file():
        raise InputError(f"there is no log {path}.")
    return path


def _measured(check: Check, run: InspectRun, name: str) -> Measurement:
    with check.document.at("rules", name):
        if name not in run.results["configs"]:
            raise unknown_name(f"task of {run.path}", name, run.results["configs"])
        found = {**run.results, "samples": {name: run.samples(name)}}
        listed = run.results["configs"][name]["metric_list"]
        return measurement_of(name, found, {e["metric"]: e.get("aggregation", "") for e in listed})


def _check_rule(rule: Rule, measured: Measurement) -> None:
    if rule.kind == "beats":
        raise InputError(
            "beats needs control arms, which are run on a model; with `log`, compare with the "
            "log of a control by `reference`."
        )
    metric = measured.metric(rule.metric)
    aggregation = measured.aggregations.get(metric)
    if rule.compares and aggregation:
        better = measured.higher_is_better.get(metric)
        check_kind(rule.kind, measured.task, metric, aggregation, better)
