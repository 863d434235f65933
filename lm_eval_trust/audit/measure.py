"""All evaluations of an audit, in the shared passes of a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lm_eval_trust.audit.settings import REWORDINGS, Audit
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.evaluate.controls import Arm, arms_of
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.evaluate.prefixes import few_shot_prefixes, prompt_prefixes, wordings_of
from lm_eval_trust.evaluate.tasks import TaskIndex, TaskSet, held_metrics, score_metric
from lm_eval_trust.gate.check_file import BEATS
from lm_eval_trust.gate.paired_test import check_kind
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import SteeringSpec, combined_plan
from lm_eval_trust.sweep.grid import Items, default_perplexity_task
from lm_eval_trust.sweep.passes import TEST, UNSTEERED, Cell, SharedPasses, slug


@dataclass(frozen=True)
class Context:
    """A text before every prompt, under which the model runs with and without steering.

    Attributes:
        name: ``prompt``, ``prompt, reworded 2``, ``few-shot``, ``few-shot, other draw``.
        again: Whether it is a rewording or another draw.
        prefixes: Task → text.
    """

    name: str
    again: bool
    prefixes: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """All that is to be evaluated, fixed before a model is loaded.

    Attributes:
        choice: What is audited.
        targets: The tasks that are to become better.
        suite: The other tasks.
        arms: Controls that steer, and the prompt and few-shot arms.
        contexts: The texts of the latter, with rewordings and another draw.
        metrics: Target → its metric.
        held: Task of the suite → metrics that must not become worse.
        items: Items of the targets.
        suite_items: Items of the suite.
        text_items: Items of the perplexity task.
    """

    choice: SteeringPlan
    targets: TaskSet
    suite: TaskSet | None
    arms: tuple[Arm, ...]
    contexts: tuple[Context, ...]
    metrics: Mapping[str, str]
    held: Mapping[str, tuple[str, ...]]
    items: Items
    suite_items: Items | None
    text_items: Items


@dataclass(frozen=True)
class InContext:
    """The model under a context.

    Attributes:
        context: Which.
        before: Unsteered.
        after: Steered.
    """

    context: Context
    before: Outcome
    after: Outcome


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        before: The unsteered model on the targets.
        after: The steered one.
        arms: Each control with what it gave.
        contexts: The model under each text.
        suite: Unsteered and steered, on the other tasks; ``None`` without any.
        text: Unsteered and steered, on the perplexity task.
    """

    before: Outcome
    after: Outcome
    arms: tuple[tuple[Arm, Outcome], ...]
    contexts: tuple[InContext, ...]
    suite: tuple[Outcome, Outcome] | None
    text: tuple[Outcome, Outcome]


def plan_audit(audit: Audit, steering: Sequence[SteeringSpec], index: TaskIndex) -> Plan:
    """Load the tasks, and make all arms.

    Raises:
        InputError: A task, a metric or a control lacks something.
        ExternalError: A judge, data or a model cannot be fetched.
    """
    items = Items(audit.tasks, TEST, audit.limit, audit.metadata)
    targets = index.load(items.tasks, limit=items.limit, part=TEST)
    whole = index.load(audit.suite, limit=audit.limit, part=TEST)
    others = tuple(name for name in whole.tasks if name not in targets.tasks)
    suite_items = replace(items, tasks=others) if others else None
    suite = index.load(others, limit=audit.limit, part=TEST) if others else None
    text = (default_perplexity_task(audit.tasks),)
    metrics = _metrics(targets, audit.metric)
    held = {} if suite is None else _held(suite)
    arms = arms_of(audit.controls, steering, targets)
    return Plan(
        combined_plan(steering),
        targets,
        suite,
        tuple(arm for arm in arms if arm.kind != "unsteered"),
        tuple(_contexts(audit, targets, arms)),
        metrics,
        held,
        items,
        suite_items,
        replace(items, tasks=text),
    )


def _metrics(targets: TaskSet, asked: str) -> dict[str, str]:
    """Return the metric of each target, once it can be compared item by item."""
    found = {}
    for name, known in targets.aggregations.items():
        found[name] = score_metric(name, list(known), asked)
        _check(targets, name, found[name], BEATS)
    return found


def _held(suite: TaskSet) -> dict[str, tuple[str, ...]]:
    """Return the metrics of each other task, likewise."""
    found = {}
    for name, known in suite.aggregations.items():
        found[name] = held_metrics(name, list(known))
        for metric in found[name]:
            _check(
                suite, name, metric, "max_ratio" if "perplexity" in metric else "non_inferiority"
            )
    return found


def _check(tasks: TaskSet, name: str, metric: str, kind: str) -> None:
    direction = tasks.tasks[name].higher_is_better().get(metric)
    check_kind(kind, name, metric, tasks.aggregations[name][metric], direction)


def _contexts(audit: Audit, targets: TaskSet, arms: Sequence[Arm]) -> Iterator[Context]:
    for arm in arms:
        if arm.kind == "prompt":
            yield Context("prompt", False, arm.prefixes)
            for number, prefixes in enumerate(_reworded(audit, targets), 1):
                yield Context(f"prompt, reworded {number}", True, prefixes)
        if arm.kind == "few-shot":
            yield Context("few-shot", False, arm.prefixes)
            controls = audit.controls
            other = few_shot_prefixes(targets, controls.counts["few-shot"], controls.seed + 1)
            yield Context("few-shot, other draw", True, other)


def _reworded(audit: Audit, targets: TaskSet) -> Iterator[dict[str, str]]:
    if audit.rewordings or audit.controls.prompt is not None:
        for text in audit.rewordings:
            yield prompt_prefixes(targets, text)
        return
    fewest = min(len(wordings_of(task)) for task in targets.tasks.values())
    if fewest <= 1:
        raise InputError(
            f"{', '.join(targets.tasks)}: the benchmark has no rewordings of its control prompt; "
            f"give a prompt and {REWORDINGS} rewordings by --control-prompt."
        )
    for wording in range(1, min(fewest, REWORDINGS + 1)):
        yield prompt_prefixes(targets, None, wording=wording)


def measure(passes: SharedPasses, plan: Plan, tried: int) -> Measured:
    """Evaluate everything that has not been evaluated before.

    Raises:
        InputError: A vector does not fit the model; as the tasks and the leak guard.
        ExternalError: A judge failed, or the disk refused to write.
    """
    steering = [arm for arm in plan.arms if not arm.prefixes]
    total = 2 * (2 + (plan.suite_items is not None) + len(plan.contexts)) + len(steering)
    with progress_bar(total=total, title="Audit", unit="evaluation") as bar:

        def both(items: Items, context: Context | None = None) -> tuple[Outcome, Outcome]:
            suffix, told, prefixes = "", None, None
            if context is not None:
                suffix, prefixes = f"-{slug(context.name)}", context.prefixes
                kind = context.name.partition(",")[0]
                told = Arm(context.name, kind, SteeringPlan()).record(plan.choice, tried)
            cells = [
                Cell(f"{UNSTEERED}{suffix}", SteeringPlan(), told),
                Cell(f"steered{suffix}", plan.choice),
            ]
            before, after = passes.evaluate(cells, items, prefixes=prefixes)
            bar.update(2)
            return before, after

        before, after = both(plan.items)
        outcomes: dict[str, Outcome] = {}
        for arm, outcome in passes.arms(steering, plan.choice, tried, plan.items, prefix=""):
            outcomes[arm.name] = outcome
            bar.update()
        contexts = [InContext(each, *both(plan.items, each)) for each in plan.contexts]
        text = both(plan.text_items)
        suite = None if plan.suite_items is None else both(plan.suite_items)
    outcomes |= {each.context.name: each.before for each in contexts}
    arms = tuple((arm, outcomes[arm.name]) for arm in plan.arms)
    return Measured(before, after, arms, tuple(contexts), suite, text)
