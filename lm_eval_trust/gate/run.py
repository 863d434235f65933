"""Running a check: evaluate what is missing, decide every rule, update a baseline, plan a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.evaluate.controls import Arm, arms_of, check_shuffled
from lm_eval_trust.evaluate.evaluator import EvaluationSpec, Evaluator, Outcome, evaluate
from lm_eval_trust.evaluate.item_effects import item_effects
from lm_eval_trust.evaluate.measurement import Measurement
from lm_eval_trust.evaluate.tasks import TaskIndex, TaskSet
from lm_eval_trust.gate.baseline import Baseline, read_baseline, write_baseline
from lm_eval_trust.gate.check_file import BEATS, DIFFERENCES, Check, Rule
from lm_eval_trust.gate.judge_correction import JudgeCorrection, correction_of, judged_beside
from lm_eval_trust.gate.logs import plan_of_logs, read_logs
from lm_eval_trust.gate.models import Subject
from lm_eval_trust.gate.paired_test import check_kind
from lm_eval_trust.gate.power import Design, planned_contrast
from lm_eval_trust.gate.reports import items_in_groups, number
from lm_eval_trust.gate.verdicts import (
    CheckResult,
    Moved,
    RuleVerdict,
    check_comparable,
    decide,
    decide_random,
)
from lm_eval_trust.model_wrappers.swept_model import Answers, AnswersInMemory, SweptModel
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.sweep.sweep_model import SweepLM

#: Name in the rules → the measurement of each task that it stands for.
_ByName = dict[str, list[Measurement]]
#: Rule and task → what takes a judge's errors out of the metric.
_Corrections = Mapping[tuple[Rule, str], JudgeCorrection]


@dataclass(frozen=True)
class _Measured:
    """The measurements of a check; ``unsteered`` is empty if no rule compares with it.

    ``arms`` holds, for each task of a name, those of its control arms by their names.
    """

    identity: Mapping[str, Any]
    steered: _ByName
    unsteered: _ByName
    corrections: _Corrections
    arms: dict[str, list[Mapping[str, Measurement]]] = field(default_factory=dict)


def run_check(check: Check, cache: Path | None = None) -> CheckResult:
    """Measure what has not been measured yet, and decide every rule.

    Args:
        check: The check.
        cache: Folder of measurements; by default in the user's cache.

    Raises:
        InputError: Something in the file does not fit, or a baseline is missing or of other items.
        ExternalError: A model, data or a judge cannot be fetched.
    """
    baseline = read_baseline(check.baseline) if check.needs("baseline") else None
    found = _measure(check, cache)
    verdicts = tuple(_verdicts(check, found, baseline))
    return CheckResult(check.path, verdicts, tuple(_moved(check, found)))


def update_baseline(check: Check, cache: Path | None = None) -> bool:
    """Measure the checked model, and keep the metrics of the rules as the baseline.

    Returns:
        Whether the file changed.

    Raises:
        InputError: See :func:`run_check`.
        ExternalError: The same, or the file cannot be written.
    """
    found = _measure(check, cache, reference=False)
    kept: dict[str, tuple[Measurement, list[str]]] = {}
    for rule in check.rules:
        for place in _holding(found, rule.task, rule.metric):
            measured = found.steered[rule.task][place]
            with check.document.at(*rule.place):
                metric = measured.metric(rule.metric)
                if doubt := measured.doubt(metric):
                    raise InputError(f"{doubt} The baseline stays as it is.")
            metrics = kept.setdefault(measured.task, (measured, []))[1]
            needed = [metric, *_correction_metrics(rule, measured, found)]
            metrics += [each for each in needed if each not in metrics]
    return write_baseline(check.baseline, found.identity, kept)


def _correction_metrics(rule: Rule, measured: Measurement, found: _Measured) -> list[str]:
    """Return the metric that a later correction needs beside that of a rule."""
    corrected = (rule, measured.task) in found.corrections
    return [judged_beside(measured.metric(rule.metric))] if corrected else []


def plan(check: Check, cache: Path | None = None) -> Iterator[str]:
    """Yield lines that say what would be run, and what the items could show.

    Args:
        check: The check.
        cache: Folder of measurements.

    Raises:
        InputError: Something in the file does not fit.
        ExternalError: A model or data cannot be fetched.
    """
    if check.spec.log is not None:
        yield from plan_of_logs(check)
        return
    steered, reference = check.subjects()
    measuring = _Measuring(cache)
    tasks = _tasks(check)
    jobs = _jobs(check, steered, reference, tasks)
    yield f"{check.path}:"
    _corrections(check, tasks)
    for name, members in tasks.items():
        for task, of_task in zip(members, jobs[name], strict=True):
            missing = [job.label for job in of_task if not measuring.is_kept(job)]
            todo = f"to be run {' and '.join(missing)}" if missing else "measured already"
            (task_name,) = task.tasks
            groups = task.groups(task_name)
            yield f"  {task_name}: {items_in_groups(len(groups), len(set(groups)))}, {todo}"
            for rule in check.rules:
                if rule.task == name and rule.kind in DIFFERENCES:
                    power = _planned_power(rule, groups, check.spec.disagreement)
                    yield f"    {rule.metric} {rule.text}: {power}"


def _planned_power(rule: Rule, groups: Sequence[str], disagreement: float) -> str:
    design = Design.of(planned_contrast(groups, disagreement), rule.confidence)
    share = f"{disagreement:.0%} of the answers differing"
    if rule.kind == "non_inferiority":
        return f"with {share}, a margin of {number(design.margin_held())} could be shown"
    smallest = design.smallest_shown(rule.bound)
    kind = "drop" if rule.kind == "max_drop" else "gain"
    if smallest > 1:
        return f"with {share}, no {kind} could be shown"
    return f"with {share}, a {kind} of {number(smallest)} could be shown"


@dataclass(frozen=True)
class _Job:
    """A model on a task.

    Attributes:
        label: ``steered``, ``unsteered``, or the name of a control arm.
        subject: The model.
        task: One task.
        arm: The control arm that it is, if it is one.
    """

    label: str
    subject: Subject
    task: TaskSet
    arm: Arm | None = None

    @property
    def spec(self) -> EvaluationSpec:
        """What is evaluated."""
        (name,) = self.task.tasks
        prefixes = self.arm.prefixes if self.arm is not None else {}
        subject = self.subject
        return EvaluationSpec(name, subject.identity, subject.plan.fingerprint, self.task, prefixes)

    @property
    def sharing(self) -> tuple[str, int, str]:
        """Jobs with the same value answer the same prompts with one loaded model."""
        return self.subject.loading_key, id(self.task), str(self.spec.prefixes)


class _Measuring:
    """Measures jobs, with one loaded model at a time; those that can share passes.

    Args:
        cache: Folder of measurements, and of the harness's results and samples.
    """

    def __init__(self, cache: Path | None) -> None:
        self._folder = cache or cache_dir() / "checks"
        self._evaluator = Evaluator(self._folder / "measurements")
        self._loaded: tuple[str, Any] | None = None

    def is_kept(self, job: _Job) -> bool:
        """Tell whether a measurement is there already."""
        return self._evaluator.kept(job.spec) is not None

    def measure(self, jobs: Sequence[_Job], of: SteeringPlan, title: str) -> list[Measurement]:
        """Return what jobs score, in order, evaluated now unless they were before.

        Args:
            jobs: What is measured.
            of: Whose control the arms are.
            title: Title of the progress bar.
        """
        found: dict[int, Measurement] = {}
        together: dict[tuple[str, int, str], list[int]] = {}
        for number_of_job, job in enumerate(jobs):
            together.setdefault(job.sharing, []).append(number_of_job)
        with progress_bar(total=len(jobs), title=title, unit="task") as bar:
            for _, numbers in sorted(together.items(), key=lambda pair: pair[0][0]):
                missing = [jobs[n] for n in numbers if not self.is_kept(jobs[n])]
                answers = AnswersInMemory()
                for n in numbers:
                    run = partial(self._run, jobs[n], missing, answers, of)
                    outcome = self._evaluator.outcome(jobs[n].spec, run)
                    found[n] = outcome.measurements[jobs[n].spec.name]
                    bar.update()
        return [found[n] for n in range(len(jobs))]

    def _run(
        self, job: _Job, beside: Sequence[_Job], answers: Answers, of: SteeringPlan
    ) -> Outcome:
        model = self._model(job.subject)
        if isinstance(model, SweptModel):
            plans = [each.subject.plan for each in beside]
            # One decoder that answers for one plan has nothing to share.
            alone = len(plans) == 1 and isinstance(model, SweepLM)
            model.sweep([] if alone else plans, answers)
            model.take_broken()
        outcome = evaluate(
            model,
            job.task,
            self._folder / "results" / job.spec.key,
            prefixes=job.spec.prefixes,
            control=None if job.arm is None else job.arm.record(of, tried=1),
            bootstrap_iters=0,
        )
        if isinstance(model, SweptModel) and (broken := model.take_broken()):
            raise InputError(
                f"The logits of {broken} answers to {job.spec.name} are no numbers "
                f"({job.label}); lower alpha, or try dtype=float32."
            )
        return outcome

    def _model(self, subject: Subject) -> Any:
        if self._loaded is None or self._loaded[0] != subject.loading_key:
            self._loaded = None
            self._loaded = (subject.loading_key, subject.load())
        self._loaded[1].steer_by(subject.plan)
        return self._loaded[1]


def _tasks(check: Check) -> dict[str, list[TaskSet]]:
    """Return the tasks that each name in the rules stands for, once every rule applies to them."""
    index, members = TaskIndex(check.spec.metadata), {}
    for name in check.spec.rules:
        with check.document.at("rules", name):
            members[name] = index.load([name], limit=check.spec.limit_of(name)).members()
    for rule in check.rules:
        with check.document.at(*rule.place):
            metric = rule.metric.partition(",")[0]
            known = [
                m for task in members[rule.task] for of in task.aggregations.values() for m in of
            ]
            if metric not in known:
                raise unknown_name(f"metric of {rule.task}", metric, dict.fromkeys(known))
            for task in members[rule.task]:
                _check_rule(rule, task)
    return members


def _check_rule(rule: Rule, task: TaskSet) -> None:
    ((name, loaded),) = task.tasks.items()
    metric = rule.metric.partition(",")[0]
    aggregation = task.aggregations[name].get(metric)
    if rule.compares and aggregation is not None:
        better = loaded.higher_is_better().get(metric)
        check_kind(rule.kind, name, metric, aggregation, better)


def _corrections(check: Check, members: Mapping[str, list[TaskSet]]) -> _Corrections:
    """Return what corrects the rules' metrics for judges' errors, where the check asks for it."""
    found: dict[tuple[Rule, str], JudgeCorrection] = {}
    if not check.spec.judge_correction:
        return found
    for rule in check.rules:
        for name, task in (each for of in members[rule.task] for each in of.tasks.items()):
            with check.document.at(*rule.place):
                correction = correction_of(
                    task, rule.metric.partition(",")[0], steered=check.spec.steering is not None
                )
            if correction is not None:
                found[rule, name] = correction
    if not found:
        with check.document.at("judge_correction"):
            raise InputError(
                "no rule holds a score that a calibrated judge decides, so there is nothing to "
                "correct; leave judge_correction out."
            )
    return found


def _measure(check: Check, cache: Path | None, *, reference: bool = True) -> _Measured:
    """Measure what has not been measured yet, of the unsteered model only if asked to."""
    if check.spec.log is not None:
        logged = read_logs(check, reference=reference)
        return _Measured(logged.identity, logged.steered, logged.unsteered, {})
    subject, unsteered = check.subjects()
    members = _tasks(check)
    corrections = _corrections(check, members)
    jobs = _jobs(check, subject, unsteered, members, reference=reference)
    every = [job for of_name in jobs.values() for of_task in of_name for job in of_task]
    results = iter(_Measuring(cache).measure(every, subject.plan, check.path.name))
    found = _Measured(subject.identity, {}, {}, corrections)
    for name, of_name in jobs.items():
        for of_task in of_name:
            beside: dict[str, Measurement] = {}
            for job in of_task:
                if job.arm is not None:
                    beside[job.label] = next(results)
                else:
                    models = found.steered if job.label == "steered" else found.unsteered
                    models.setdefault(name, []).append(next(results))
            found.arms.setdefault(name, []).append(beside)
    return found


def _jobs(
    check: Check,
    steered: Subject,
    unsteered: Subject | None,
    members: Mapping[str, list[TaskSet]],
    *,
    reference: bool = True,
) -> dict[str, list[list[_Job]]]:
    """Return what is measured of each task of a name: the models, and the arms it has to beat."""
    controls, steering = check.controls, check.steering()
    if controls.counts and reference:
        check_shuffled(controls, steering)
    found: dict[str, list[list[_Job]]] = {}
    for name, metrics in check.spec.rules.items():
        kinds = {kind for given in metrics.values() for kind in given.beats or {}}
        wanted = replace(controls, counts={k: n for k, n in controls.counts.items() if k in kinds})
        for task in members[name]:
            jobs = [_Job("steered", steered, task)]
            if unsteered is not None and reference:
                jobs.append(_Job("unsteered", unsteered, task))
            with check.document.at("rules", name):
                for arm in arms_of(wanted, steering, task) if kinds and reference else ():
                    assert unsteered is not None
                    model = replace(steered, plan=arm.plan) if arm.plan.steps else unsteered
                    jobs.append(_Job(arm.name, model, task, arm))
            found.setdefault(name, []).append(jobs)
    return found


def _verdicts(check: Check, found: _Measured, baseline: Baseline | None) -> Iterator[RuleVerdict]:
    for rule in check.rules:
        for number_of_task in _holding(found, rule.task, rule.metric):
            after = found.steered[rule.task][number_of_task]
            correction = found.corrections.get((rule, after.task))
            with check.document.at(*rule.place):
                if rule.kind == BEATS:
                    arms = found.arms[rule.task][number_of_task]
                    yield _against_arms(rule, after, arms, correction)
                    continue
                before = None
                if rule.compares and rule.against == "unsteered":
                    before = found.unsteered[rule.task][number_of_task]
                elif rule.compares and baseline is not None:
                    before = baseline.of(after.task, after.metric(rule.metric))
                if before is not None:
                    _check_pair(before, after, baseline if rule.against == "baseline" else None)
                yield decide(rule, after, before, correction)


def _holding(found: _Measured, name: str, metric: str) -> list[int]:
    """Return which of a group's tasks have a metric; all if none has, so it is refused."""
    measured = found.steered[name]
    return [n for n, each in enumerate(measured) if each.has(metric)] or list(range(len(measured)))


def _against_arms(
    rule: Rule,
    after: Measurement,
    arms: Mapping[str, Measurement],
    correction: JudgeCorrection | None,
) -> RuleVerdict:
    """Return the verdict on a rule of control arms.

    Of many directions each stands as it does with the judge's errors, which shift and shrink all
    scores alike.
    """
    kind, _, number_of_arms = rule.against.partition(":")
    if kind != "random":
        return decide(rule, after, arms[rule.against], correction)
    directions = [arms[f"random {n}"] for n in range(1, int(number_of_arms) + 1)]
    return decide_random(rule, after, directions)


def _moved(check: Check, found: _Measured) -> Iterator[Moved]:
    """Yield what the steering does to single items, once for each task and metric."""
    pairs = dict.fromkeys((rule.task, rule.metric) for rule in check.rules if rule.compares)
    for name, metric_name in pairs:
        for place in _holding(found, name, metric_name) if name in found.unsteered else ():
            before, after = found.unsteered[name][place], found.steered[name][place]
            metric = after.metric(metric_name)
            if not (before.doubt(metric) or after.doubt(metric)):
                yield Moved(after.task, metric, tuple(item_effects(before, after, metric)))


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
