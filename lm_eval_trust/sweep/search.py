"""The search for a steering, in the paper's two stages, and the choice among what was found.

First the strengths that text survives are found by perplexity alone. Then these are scored on the
validation part, coarsely, and more finely around the best. What is chosen there is reported on the
test half.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.run_log import log_scalars
from lm_eval_trust.evaluate.controls import Arm, arms_of
from lm_eval_trust.evaluate.evaluator import (
    EXAMPLES,
    Outcome,
)
from lm_eval_trust.evaluate.tasks import TaskIndex, held_metrics
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.sweep.grid import Grid, Items, SweepSettings, midpoints
from lm_eval_trust.sweep.passes import TEST, UNSTEERED, VALIDATION, Cell, SharedPasses, slug

_PERPLEXITIES = ("perplexity", "word_perplexity")
#: By how much a loss may be above the largest one by rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Trial:
    """A configuration and what it gave on the validation part.

    Attributes:
        configuration: Which; ``None`` for the unsteered model.
        perplexity: Perplexity of the perplexity task.
        divergence: Mean KL(unsteered ‖ steered) there, in nats a token.
        allowed: Whether perplexity and divergence keep the limits, and all that was measured is
            finite.
        outcome: Outcome of the tasks, where it was scored.
        score: Mean of their metric.
        ability: Mean accuracy on the ability tasks, where that was measured.
        kept: Task and metric → score, higher being better, where that was measured.
        nonfinite: Number of items with a log-likelihood or score that is not finite.
    """

    configuration: SteeringSpec | None
    perplexity: float
    divergence: float
    allowed: bool
    outcome: Outcome | None = None
    score: float | None = None
    ability: float | None = None
    kept: Mapping[tuple[str, str], float] = field(default_factory=dict)
    nonfinite: int = 0

    def loss(self, metric: tuple[str, str], unsteered: Trial) -> float | None:
        """Return by how much a metric of a task is worse than unsteered, if that was measured."""
        if metric not in self.kept:
            return None
        return unsteered.kept[metric] - self.kept[metric]

    def scored(self, outcome: Outcome, score: float) -> Trial:
        """Return the trial with what the tasks gave."""
        broken = self.nonfinite + outcome.nonfinite
        finite = not broken and math.isfinite(score)
        return replace(
            self,
            outcome=outcome,
            score=score if finite else None,
            allowed=self.allowed and finite,
            nonfinite=broken,
        )


@dataclass(frozen=True)
class Control:
    """A control arm of the choice, and what it gave.

    Attributes:
        arm: Which.
        outcome: On the test half.
        perplexity: Perplexity of the perplexity task, on the validation part.
        divergence: As a trial's; NaN where the prompts are others.
    """

    arm: Arm
    outcome: Outcome
    perplexity: float
    divergence: float


@dataclass(frozen=True)
class Found:
    """What a search gave.

    Attributes:
        unsteered: The model as it is, on the validation part.
        trials: All configurations, in the grid's order.
        chosen: The one that is best within the limits; ``None`` where none is better than the
            unsteered model.
        answers: The first prompts, answered at all strengths of what is best.
        before: The unsteered model on the test half.
        after: The chosen one on the test half.
        controls: Its control arms.
        kept: The unsteered model and the chosen one on the test half of what is to be kept.
    """

    unsteered: Trial
    trials: tuple[Trial, ...]
    chosen: Trial | None
    answers: tuple[Trial, ...] = ()
    before: Outcome | None = None
    after: Outcome | None = None
    controls: tuple[Control, ...] = ()
    kept: tuple[Outcome, Outcome] | None = None


class Search:
    """Searches a grid with one loaded model.

    Args:
        passes: Evaluate on it.
        grid: What is tried.
        settings: How.
    """

    def __init__(self, passes: SharedPasses, grid: Grid, settings: SweepSettings) -> None:
        self._passes, self._grid, self._settings = passes, grid, settings
        #: Of each configuration in the log of the run, in the order of their measurement.
        self._numbers: dict[SteeringSpec | None, int] = {}

    @cached_property
    def _limits(self) -> dict[tuple[str, str], float]:
        """The largest loss of each task and metric that is to be kept."""
        return kept_limits(self._passes.index, self._settings) if self._settings.limits.keep else {}

    def run(self) -> Found:
        """Search, choose on the validation part, and report the choice on the test half.

        Raises:
            InputError: A vector, a task or a metric does not fit.
        """
        configurations = self._grid.configurations
        unsteered = self._scored(self._narrow([None]))[0]
        check_unsteered(unsteered, self._settings)
        trials = self._narrow(configurations, unsteered)
        if self._settings.search == "grid":
            trials = self._scored(trials)
        else:
            trials = self._refined(self._scored_where_allowed(trials), unsteered)
        unsteered = self._with_side_effects(unsteered)
        check_kept(unsteered)
        trials, chosen = self._choose(trials, unsteered)
        found = Found(unsteered, tuple(trials), chosen, self._answer(chosen, trials, unsteered))
        if chosen is None or chosen.configuration is None:
            return found
        before, after = self._both(chosen.configuration, self._settings.tasks)
        names = self._settings.kept_tasks
        kept = self._both(chosen.configuration, names) if names else None
        tried = sum(trial.score is not None for trial in trials)
        controls = tuple(self._control(chosen.configuration, tried))
        return replace(found, before=before, after=after, controls=controls, kept=kept)

    def _both(self, choice: SteeringSpec, tasks: tuple[str, ...]) -> tuple[Outcome, Outcome]:
        """Evaluate the unsteered model and a choice on the test half."""
        cells = [Cell(UNSTEERED, SteeringPlan()), Cell(choice.describe(), choice.plan())]
        before, after = self._passes.evaluate(cells, self._settings.items(tasks, TEST))
        return before, after

    def _control(self, choice: SteeringSpec, tried: int) -> Iterator[Control]:
        """Run the control arms of a choice on the test half."""
        tested = self._settings.items(self._settings.tasks, TEST)
        arms = arms_of(self._settings.controls, [choice], self._passes.tasks(tested))
        task, name = self._settings.perplexity_task, f"{choice.describe()}-"
        cells = [Cell(f"{name}{slug(arm.name)}", arm.plan) for arm in arms]
        read = self._passes.evaluate(cells, self._settings.items((task,), VALIDATION))
        texts = {arm.name: text for arm, text in zip(arms, read, strict=True)}
        found = self._passes.arms(arms, choice.plan(), tried, tested, prefix=name)
        for arm, outcome in progress_bar(
            found, "Controls", unit="arm", total=len(arms), shown=bool(arms)
        ):
            text = texts[arm.name]
            divergence = math.nan if arm.prefixes else text.divergence
            yield Control(arm, outcome, perplexity_of(text, task), divergence)

    def _narrow(
        self, configurations: Sequence[SteeringSpec | None], unsteered: Trial | None = None
    ) -> list[Trial]:
        """Measure what configurations do to text."""
        task = self._settings.perplexity_task
        limits, trials = self._settings.limits, []
        for configuration, outcome in self._evaluate(configurations, (task,), "Perplexity"):
            perplexity = perplexity_of(outcome, task)
            allowed = unsteered is None or (
                not outcome.nonfinite
                and perplexity <= limits.highest_perplexity(unsteered.perplexity)
                and (limits.divergence is None or outcome.divergence <= limits.divergence)
            )
            trials.append(
                Trial(
                    configuration,
                    perplexity,
                    outcome.divergence,
                    allowed,
                    nonfinite=outcome.nonfinite,
                )
            )
        return self._reported(trials)

    def _reported(self, trials: list[Trial]) -> list[Trial]:
        """Report trials to the log of the run, if there is one; a step is a configuration."""
        for trial in trials:
            step = self._numbers.setdefault(trial.configuration, len(self._numbers))
            spec = trial.configuration
            figures = {
                "alpha": 0.0 if spec is None else spec.alpha,
                "layer": None if spec is None else float(spec.layers[0]),
                "perplexity": trial.perplexity,
                "kl": trial.divergence,
                "score": trial.score,
            }
            log_scalars({f"sweep/{name}": value for name, value in figures.items()}, step)
        return trials

    def _scored(self, trials: Sequence[Trial]) -> list[Trial]:
        """Score trials on the tasks."""
        tasks = self._settings.tasks
        outcomes = self._evaluate([t.configuration for t in trials], tasks, "Scoring")
        scored = [
            trial.scored(outcome, score_of(outcome, tasks, self._settings.metric))
            for trial, (_, outcome) in zip(trials, outcomes, strict=True)
        ]
        return self._reported(scored)

    def _scored_where_allowed(self, trials: Sequence[Trial]) -> list[Trial]:
        scored = iter(self._scored([trial for trial in trials if trial.allowed]))
        return [next(scored) if trial.allowed else trial for trial in trials]

    def _refined(self, trials: list[Trial], unsteered: Trial) -> list[Trial]:
        """Try strengths between those next to the best, round by round."""
        for _ in range(self._settings.rounds):
            known = {trial.configuration for trial in trials}
            finer = [c for best in self._best(trials) for c in self._around(best, trials)]
            finer = [c for c in dict.fromkeys(finer) if c not in known]
            if not finer:
                break
            trials += self._scored_where_allowed(self._narrow(finer, unsteered))
        return trials

    def _best(self, trials: Iterable[Trial]) -> list[SteeringSpec]:
        """Return the best configuration of each of the best families."""
        ranked = [t.configuration for t in _ranked(trials) if t.configuration is not None]
        best = {c.at(0.0): c for c in reversed(ranked)}
        families = list(dict.fromkeys(c.at(0.0) for c in ranked))[: self._settings.kept]
        return [best[family] for family in families]

    def _around(self, best: SteeringSpec, trials: Iterable[Trial]) -> list[SteeringSpec]:
        tried = [
            t.configuration.alpha
            for t in trials
            if t.configuration is not None and t.configuration.at(best.alpha) == best
        ]
        return midpoints(best.at(0.0), tried, best.alpha)

    def _with_side_effects(self, trial: Trial) -> Trial:
        """Return a trial with its general ability, and what is to be kept."""
        if tasks := self._settings.ability_tasks:
            ((_, outcome),) = self._evaluate([trial.configuration], tasks, "General ability")
            trial = replace(trial, ability=score_of(outcome, tasks, "acc"))
        if tasks := self._settings.kept_tasks:
            ((_, outcome),) = self._evaluate([trial.configuration], tasks, "Side effects")
            kept = {metric: kept_score(outcome, *metric) for metric in self._limits}
            trial = replace(trial, kept=kept)
        return trial

    def _keeps(self, trial: Trial, unsteered: Trial) -> bool:
        """Tell whether a trial's side effects are within the limits; one that is NaN is not."""
        floor = self._settings.limits.ability * (unsteered.ability or 0.0)
        if trial.ability is not None and not trial.ability >= floor:
            return False
        return all(
            (loss := trial.loss(metric, unsteered)) is not None and loss <= most + _ROUNDING
            for metric, most in self._limits.items()
        )

    def _choose(self, trials: list[Trial], unsteered: Trial) -> tuple[list[Trial], Trial | None]:
        """Return the trials with the side effects that were measured, and the best allowed one."""
        assert unsteered.score is not None
        for trial in _ranked(trials):
            assert trial.score is not None
            if trial.score <= unsteered.score:
                break
            measured = self._with_side_effects(trial)
            trials[trials.index(trial)] = measured
            if self._keeps(measured, unsteered):
                return trials, measured
        return trials, None

    def _answer(
        self, chosen: Trial | None, trials: Sequence[Trial], unsteered: Trial
    ) -> tuple[Trial, ...]:
        """Return the trials of the best family, allowed or not, with answers of a few items."""
        best = chosen or max(trials, key=lambda t: -1.0 if t.score is None else t.score)
        assert best.configuration is not None
        family = best.configuration.at(0.0)
        followed = [t for t in trials if t.configuration and t.configuration.at(0.0) == family]
        followed = [unsteered, *sorted(followed, key=lambda t: _strength(t.configuration))]
        few = replace(self._settings.items(self._settings.tasks, VALIDATION), limit=EXAMPLES)
        outcomes = self._evaluate_on([t.configuration for t in followed], few, "Answering")
        return tuple(
            replace(trial, outcome=outcome)
            for trial, (_, outcome) in zip(followed, outcomes, strict=True)
        )

    def _evaluate(
        self, configurations: Sequence[SteeringSpec | None], tasks: tuple[str, ...], title: str
    ) -> list[tuple[SteeringSpec | None, Outcome]]:
        items = self._settings.items(tasks, VALIDATION)
        return self._evaluate_on(configurations, items, title)

    def _evaluate_on(
        self, configurations: Sequence[SteeringSpec | None], items: Items, title: str
    ) -> list[tuple[SteeringSpec | None, Outcome]]:
        cells = [
            Cell(UNSTEERED, SteeringPlan()) if c is None else Cell(c.describe(), c.plan())
            for c in configurations
        ]
        found = self._passes.evaluate(cells, items)
        bar = progress_bar(found, title, total=len(cells), unit="configuration")
        return list(zip(configurations, bar, strict=True))


def perplexity_of(outcome: Outcome, task: str) -> float:
    """Return a task's perplexity.

    Raises:
        InputError: The task has none.
    """
    for name in _PERPLEXITIES:
        value = outcome.scores.get(task, {}).get(f"{name},none")
        if value is not None:
            return float(value)
    raise InputError(
        f"{task} measures no perplexity; expected a task such as lambada_openai or wikitext."
    )


def check_unsteered(unsteered: Trial, settings: SweepSettings) -> None:
    """Raise unless configurations can be compared with the unsteered model.

    Raises:
        InputError: Its log-likelihoods are not finite, or the metric has no value for it.
    """
    if unsteered.nonfinite or not math.isfinite(unsteered.perplexity):
        raise InputError(
            f"The unsteered model gives log-likelihoods that are not finite "
            f"({unsteered.nonfinite} items, perplexity {unsteered.perplexity:g}), so that nothing "
            f"can be compared with it; try dtype=float32, or another model."
        )
    if unsteered.score is None:
        raise InputError(
            f"The unsteered model has no {settings.metric} on the validation items of "
            f"{', '.join(settings.tasks)}: no answer could be read, or no item has a value. Name "
            f"another metric or more items, or ask it in its chat template."
        )


def kept_limits(index: TaskIndex, settings: SweepSettings) -> dict[tuple[str, str], float]:
    """Return each task and metric that is to be kept, with the largest loss.

    Raises:
        InputError: A task has no such metric, or it is kept twice; or as the tasks raise.
    """
    found: dict[tuple[str, str], float] = {}
    for keep in settings.limits.keep:
        items = settings.items((keep.task,), VALIDATION)
        tasks = index.load(items.tasks, limit=items.limit, part=items.part)
        for name, known in tasks.aggregations.items():
            for metric in held_metrics(name, list(known), keep.metric):
                if (name, metric) in found:
                    raise InputError(f"--keep names {metric} of {name} twice; name it once.")
                found[name, metric] = keep.loss
    return found


def check_kept(unsteered: Trial) -> None:
    """Raise where a loss cannot be told, since the unsteered model has no score.

    Raises:
        InputError: A score is not finite.
    """
    for (task, metric), score in unsteered.kept.items():
        if not math.isfinite(score):
            raise InputError(
                f"The unsteered model's {metric} on the validation items of {task} is {score}, so "
                f"that no loss can be told; name more items by --limit, or another metric by "
                f"--keep {task}:METRIC:LOSS."
            )


def kept_score(outcome: Outcome, task: str, metric: str) -> float:
    """Return a task's score, or its negative where less is better."""
    found = outcome.measurements[task]
    name = found.metric(metric)
    return found.scores[name] if found.higher_is_better.get(name, True) else -found.scores[name]


def score_of(outcome: Outcome, tasks: Sequence[str], metric: str) -> float:
    """Return the mean of a metric over tasks or groups; NaN if no item of a task has a value.

    Raises:
        InputError: One has no such metric.
    """
    values: list[float] = []
    for task in tasks:
        value = outcome.scores.get(task, {}).get(f"{metric},none")
        if value is None and task in outcome.measurements:
            value = outcome.measurements[task].scores.get(metric)
        if not isinstance(value, (int, float)):
            known = sorted(
                name.split(",")[0]
                for name, found in outcome.scores.get(task, {}).items()
                if isinstance(found, (int, float)) and "stderr" not in name
            )
            raise InputError(f"{task} has no metric {metric!r}; it has {', '.join(known)}.")
        values.append(float(value))
    return sum(values) / len(values)


def _strength(configuration: SteeringSpec | None) -> float:
    return configuration.alpha if configuration else 0.0


def _ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Return the allowed and scored trials, best first; of equals the gentler one."""
    scored = [t for t in trials if t.allowed and t.score is not None and t.configuration]
    return sorted(scored, key=lambda t: (-(t.score or 0.0), t.perplexity))
