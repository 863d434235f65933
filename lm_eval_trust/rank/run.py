"""A whole ranking in a folder: vectors, strengths of equal cost, layers, and the test half."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.storage import folder_lock
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.evaluate.prefixes import prompt_prefixes, wordings_of
from lm_eval_trust.evaluate.tasks import TaskIndex, TaskSet
from lm_eval_trust.rank.arms import Arm, Panel, controls_of, panel_of
from lm_eval_trust.rank.budget import Budget, configurations
from lm_eval_trust.rank.dose import (
    Curve,
    DoseMeter,
    Strength,
    find_strengths,
    first_strength,
    passages_of,
)
from lm_eval_trust.rank.spec import DimensionSpec, Layers, RankSpec
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.sweep.grid import Items
from lm_eval_trust.sweep.passes import (
    TEST,
    UNSTEERED,
    VALIDATION,
    Cell,
    SharedPasses,
    shared_passes,
    slug,
)
from lm_eval_trust.sweep.run import check_metric, claim
from lm_eval_trust.sweep.search import score_of
from lm_eval_trust.sweep.sweep_model import loading_arguments

_MARK = "rank.json"
_FORMAT = {"format": 1}
#: Plans that are timed together for the estimate.
_TIMED = 8
#: Arm's name and layers → a strength for each cost.
Strengths = Mapping[tuple[str, Layers], tuple[Strength, ...]]


@dataclass(frozen=True)
class Entry:
    """An arm at a cost.

    Attributes:
        arm: Which.
        layers: Those that score best on the validation part at this cost.
        strength: The strength there.
        validation: The score there; ``None`` if there was only one choice of layers.
        outcome: On the test half; ``None`` where no layers reach the cost.
    """

    arm: Arm
    layers: Layers
    strength: Strength
    validation: float | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class PanelResult:
    """What a dimension's panel gave.

    Attributes:
        panel: Its arms.
        unsteered: The model as it is, on the test half.
        prompt: It with the prompt, if there is one.
        entries: Every arm at every cost.
        strengths: All that were found, at all layers.
        layer_scores: Arm's name, layers and cost → score on the validation part.
    """

    panel: Panel
    unsteered: Outcome
    prompt: Outcome | None
    entries: tuple[Entry, ...]
    strengths: Strengths
    layer_scores: Mapping[tuple[str, Layers, float], float]


@dataclass(frozen=True)
class Ranking:
    """What a ranking gave.

    Attributes:
        spec: What was asked for.
        panels: A result for each dimension.
        text_perplexity: The unsteered model's, on the text that measures the cost.
        tokens: How many tokens that text has after its prompts.
        notes: What there is to say about how it ran.
    """

    spec: RankSpec
    panels: tuple[PanelResult, ...]
    text_perplexity: float
    tokens: int
    notes: tuple[str, ...]


def run_rank(spec: RankSpec, folder: Path, budget: Budget) -> Ranking:
    """Run a ranking; what the folder contains already is not computed again.

    Raises:
        InputError: Something does not fit, another ranking runs in the folder, or more is asked
            for than the budget allows.
        ExternalError: The budget's time is over, or the disk refused to write.
    """
    with folder_lock(folder, f"Another ranking is running in {folder}; choose another folder."):
        claim(folder, _MARK, _FORMAT, what="ranking")
        index = check_before_loading(spec)
        budget.check_number(configurations(spec))
        panels = [panel_of(name, spec, folder) for name in spec.dimensions]
        plans = [
            plan
            for panel in panels
            for arm in (*panel.methods, *panel.randoms)
            for plan in arm.plans.values()
        ]
        with shared_passes(
            folder, spec.model, _arguments(spec), index, plans, engine=spec.engine
        ) as passes:
            model, text = passes.model, index.load((spec.text_task,), part=VALIDATION)
            passages = passages_of(model, text, number=spec.text.passages, tokens=spec.text.tokens)
            meter = DoseMeter(model, passes.answers, passages)
            runner = _Runner(spec, passes, meter)
            runner.estimate(panels, budget)
            results = tuple(runner.run(panel, budget) for panel in panels)
            (unsteered,) = meter.measure([SteeringPlan()])
            notes = (*([model.note] if model.note else []), *(n for p in panels for n in p.notes))
    tokens = sum(len(rest) for _, rest in passages)
    return Ranking(spec, results, unsteered.perplexity, tokens, notes)


def check_before_loading(spec: RankSpec) -> TaskIndex:
    """Load the tasks and raise if they cannot serve, before gigabytes of weights are loaded.

    Raises:
        InputError: A task's data or settings are wrong, or it lacks the metric, or the metric is
            not one of which more is better.
    """
    index = TaskIndex(spec.metadata)
    for name, panel in spec.dimensions.items():
        check_metric(index, panel.tasks, panel.metric, spec.limit_of(panel))
        tested = index.load(panel.tasks, limit=spec.limit_of(panel), part=TEST)
        prefixes_of(name, panel, tested)
    index.load((spec.text_task,), part=VALIDATION)
    return index


def prefixes_of(name: str, panel: DimensionSpec, tasks: TaskSet) -> dict[str, str]:
    """Return the text before each task's prompts in the prompt arm; nothing without such an arm.

    Raises:
        InputError: No text is given, and a task's benchmark has none.
    """
    if panel.prompt is False:
        return {}
    if panel.prompt is True and not all(map(wordings_of, tasks.tasks.values())):
        lacking = next(task for task, one in tasks.tasks.items() if not wordings_of(one))
        raise InputError(
            f"dimensions.{name}: the benchmark of {lacking} has no prompt of its own to compare "
            f"with; give a text by prompt, or leave that control out by prompt: false."
        )
    return prompt_prefixes(tasks, None if panel.prompt is True else panel.prompt)


def _arguments(spec: RankSpec) -> dict[str, Any]:
    return loading_arguments(
        spec.engine, spec.model_args, batch_size=spec.batch_size, device=spec.device
    )


class _Runner:
    """Measures panels with one loaded model."""

    def __init__(self, spec: RankSpec, passes: SharedPasses, meter: DoseMeter) -> None:
        self._spec, self._passes, self._meter = spec, passes, meter

    def estimate(self, panels: Sequence[Panel], budget: Budget) -> None:
        """Time what the search begins with, and hold the estimate against the budget."""
        plans = [
            arm.at(layers, first_strength(arm.limit(self._spec)))
            for panel in panels
            for arm in (*panel.methods, *panel.randoms)
            for layers in self._spec.layers
        ][: _TIMED + 1]
        begun = time.monotonic()
        self._meter.measure(plans[:1])
        alone = time.monotonic() - begun
        begun = time.monotonic()
        self._meter.measure(plans[1:])
        together = (time.monotonic() - begun) / max(len(plans) - 1, 1)
        plain = {}
        for panel in panels:
            begun = time.monotonic()
            self._unsteered(panel.name, panel.spec)
            plain[panel.name] = time.monotonic() - begun
        shared = min(1.0, together / alone) if alone > 0 and len(plans) > 1 else 1.0
        budget.check_time(configurations(self._spec), together, plain, shared)

    def run(self, panel: Panel, budget: Budget) -> PanelResult:
        """Find strengths, choose layers, and evaluate on the test half."""
        spec, costs = self._spec, self._spec.costs
        arms = [*panel.methods, *panel.randoms]
        strengths = self._strengths(panel.name, arms, {a.name: spec.layers for a in arms}, budget)
        scores = self._layer_scores(panel, arms, strengths, budget)
        chosen = [
            _best(arm, at, spec.layers, strengths, scores)
            for arm in arms
            for at in range(len(costs))
        ]
        chosen += self._controls(panel, chosen, budget)
        unsteered = self._unsteered(panel.name, panel.spec)
        self._check_items(panel, unsteered)
        prompt = None
        items = self._items(panel.spec, TEST)
        if prefixes := prefixes_of(panel.name, panel.spec, self._passes.tasks(items)):
            told = [Cell(f"{panel.name}-prompt", SteeringPlan())]
            (prompt,) = self._passes.evaluate(told, items, prefixes=prefixes)
        entries = tuple(self._tested(panel, chosen, budget))
        return PanelResult(panel, unsteered, prompt, entries, strengths, scores)

    def _strengths(
        self,
        title: str,
        arms: Sequence[Arm],
        layers: Mapping[str, Sequence[Layers]],
        budget: Budget,
    ) -> Strengths:
        spec = self._spec

        def measure(plans: Sequence[SteeringPlan]) -> Any:
            budget.check_clock()
            return self._meter.measure(plans)

        return find_strengths(
            {
                (arm.name, each): Curve(partial(arm.at, each), arm.limit(spec))
                for arm in arms
                for each in layers[arm.name]
            },
            measure,
            costs=spec.costs,
            tolerance=spec.tolerance,
            title=f"{title}: strengths",
        )

    def _layer_scores(
        self, panel: Panel, arms: Sequence[Arm], strengths: Strengths, budget: Budget
    ) -> dict[tuple[str, Layers, float], float]:
        """Score all layers on the validation part, if there is a choice."""
        if len(self._spec.layers) == 1:
            return {}
        wanted = [
            (arm, layers, strength)
            for arm in arms
            for layers in self._spec.layers
            for strength in strengths[arm.name, layers]
            if strength.reached
        ]
        found = {}
        outcomes = self._evaluate(panel, wanted, VALIDATION, "layers", budget)
        for (arm, layers, strength), outcome in zip(wanted, outcomes, strict=True):
            score = score_of(outcome, panel.spec.tasks, panel.spec.metric)
            if not outcome.nonfinite and math.isfinite(score):
                found[arm.name, layers, strength.cost] = score
        return found

    def _controls(self, panel: Panel, chosen: Sequence[Entry], budget: Budget) -> list[Entry]:
        """Return the control arms of the methods, at the layers and costs of each."""
        found: list[Entry] = []
        of_method: dict[str, list[Entry]] = {}
        for entry in chosen:
            if entry.arm.kind == "method" and entry.strength.reached:
                of_method.setdefault(entry.arm.name, []).append(entry)
        arms: dict[str, Arm] = {}
        for entries in of_method.values():
            layers = list(dict.fromkeys(entry.layers for entry in entries))
            for arm in controls_of(entries[0].arm, layers, self._spec):
                arms[arm.name] = arm
        layers_of = {name: tuple(arm.plans) for name, arm in arms.items()}
        title = f"{panel.name}: controls"
        strengths = self._strengths(title, list(arms.values()), layers_of, budget) if arms else {}
        for arm in arms.values():
            for entry in of_method[arm.of]:
                at = self._spec.costs.index(entry.strength.cost)
                found.append(Entry(arm, entry.layers, strengths[arm.name, entry.layers][at]))
        return found

    def _tested(self, panel: Panel, chosen: Sequence[Entry], budget: Budget) -> Iterator[Entry]:
        reached = [entry for entry in chosen if entry.strength.reached]
        wanted = [(entry.arm, entry.layers, entry.strength) for entry in reached]
        outcomes = iter(self._evaluate(panel, wanted, TEST, "test", budget))
        for entry in chosen:
            outcome = next(outcomes) if entry.strength.reached else None
            yield Entry(entry.arm, entry.layers, entry.strength, entry.validation, outcome)

    def _evaluate(
        self,
        panel: Panel,
        wanted: Sequence[tuple[Arm, Layers, Strength]],
        part: str,
        title: str,
        budget: Budget,
    ) -> list[Outcome]:
        cells = [
            Cell(
                f"{panel.name}-{slug(arm.name)}-layer{'+'.join(map(str, layers))}"
                f"-kl{strength.cost:g}",
                arm.at(layers, strength.alpha),
            )
            for arm, layers, strength in wanted
        ]
        outcomes = self._passes.evaluate(cells, self._items(panel.spec, part))
        found: list[Outcome] = []
        for outcome in progress_bar(
            outcomes, f"{panel.name}: {title}", total=len(cells), unit="configuration"
        ):
            found.append(outcome)
            budget.check_clock()
        return found

    def _unsteered(self, name: str, panel: DimensionSpec) -> Outcome:
        cells = [Cell(f"{name}-{UNSTEERED}", SteeringPlan())]
        (outcome,) = self._passes.evaluate(cells, self._items(panel, TEST))
        return outcome

    def _items(self, panel: DimensionSpec, part: str) -> Items:
        return Items(panel.tasks, part, self._spec.limit_of(panel), self._spec.metadata)

    def _check_items(self, panel: Panel, outcome: Outcome) -> None:
        metric = panel.spec.metric
        for task, items in outcome.items.items():
            if not any(metric in item for item in items):
                raise InputError(
                    f"{task} gives no {metric} of each item, so that nothing can be compared in "
                    f"pairs; name another metric."
                )
        if outcome.nonfinite:
            raise InputError(
                f"The unsteered model gives values that are not finite on {panel.name} "
                f"({outcome.nonfinite} items); try dtype=float32, or another model."
            )


def _best(
    arm: Arm,
    at: int,
    layers: Sequence[Layers],
    strengths: Strengths,
    scores: Mapping[tuple[str, Layers, float], float],
) -> Entry:
    """Return an arm at a cost with its best layers; of equals the ones of lower perplexity."""
    found = {each: strengths[arm.name, each][at] for each in layers}
    reaching = [each for each in layers if found[each].reached]
    scored = [each for each in reaching if (arm.name, each, found[each].cost) in scores]
    if scored:
        best = min(
            scored,
            key=lambda each: (
                -scores[arm.name, each, found[each].cost],
                found[each].dose.perplexity,
            ),
        )
        return Entry(arm, best, found[best], scores[arm.name, best, found[best].cost])
    best = (reaching or sorted(layers, key=lambda each: -found[each].dose.kl))[0]
    return Entry(arm, best, found[best])
