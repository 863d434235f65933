"""Search for the layer and the strength of a steering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from lm_eval_trust.analysis.figures import looks
from lm_eval_trust.api.display import card, new_axes
from lm_eval_trust.api.folders import FolderResult, WorkFolder
from lm_eval_trust.api.models import Model, loaded_model
from lm_eval_trust.api.vectors import layer_numbers
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.plain import plain
from lm_eval_trust.evaluate.controls import Controls
from lm_eval_trust.models.layers import parts_of
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.steering.vectors import SteeringVector, load_vector
from lm_eval_trust.sweep.grid import (
    Grid,
    Keep,
    Limits,
    SweepSettings,
    default_perplexity_task,
    parse_sweep_layers,
)
from lm_eval_trust.sweep.report import STEERING_FILE, control_rows, kept_rows, table_of, test_rows
from lm_eval_trust.sweep.run import Sweep, run_sweep
from lm_eval_trust.sweep.search import Found

Layers = int | str | Sequence[int | Sequence[int]]


class SweepResult(FolderResult):
    """All configurations of a sweep, and the one that it chose.

    Attributes:
        summary: What was found, in lines.
        folder: Tables, figures and the steering file; ``save`` copies it.
    """

    def __init__(
        self, found: Found, settings: SweepSettings, summary: Sequence[str], folder: WorkFolder
    ) -> None:
        super().__init__(folder)
        self._found, self._settings, self.summary = found, settings, tuple(summary)

    def __repr__(self) -> str:
        return f"<SweepResult: {self.summary[-1] if self.chosen is None else self._choice}>"

    @property
    def _choice(self) -> str:
        return "" if self.chosen is None else self.chosen.describe()

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each configuration, on the validation part; as ``sweep.csv``.

        Columns: ``vector``, ``layer``, ``alpha``, ``positions``, ``action``, ``scale``,
        ``perplexity``, ``times`` (the unsteered perplexity), ``kl``, ``allowed``, ``score``,
        ``change``, ``ability``, ``pareto``, ``chosen``, and others.
        """
        return table_of(self._found, self._settings)

    @cached_property
    def test(self) -> pd.DataFrame:
        """The choice against the unsteered model on the test half, a row for each task.

        Empty if nothing was chosen. ``low`` and ``high`` are the change's 95 % interval, paired
        and over groups of items.
        """
        return pd.DataFrame([*test_rows(self._found, self._settings), *kept_rows(self._found)])

    @cached_property
    def controls(self) -> pd.DataFrame:
        """What each control arm gave on the test half; empty without controls."""
        found = control_rows(self._found, self._settings) if self._found.controls else ()
        return pd.DataFrame(list(found))

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The first prompts, answered at all strengths of the best layer."""
        return pd.DataFrame(
            [
                {
                    "task": task,
                    "alpha": trial.configuration.alpha if trial.configuration else 0.0,
                    "perplexity": trial.perplexity,
                    **example,
                }
                for trial in self._found.answers
                if trial.outcome is not None
                for task, examples in trial.outcome.examples.items()
                for example in examples
            ]
        )

    @property
    def chosen(self) -> SteeringSpec | None:
        """The best configuration within the limits; ``None`` if none beats the unsteered model."""
        return self._found.chosen.configuration if self._found.chosen else None

    @property
    def plan(self) -> SteeringPlan:
        """The choice, for ``with model.steer(result.plan):``.

        Raises:
            InputError: Nothing was chosen.
        """
        if self.chosen is None:
            raise InputError(f"The sweep chose nothing: {self.summary[-1]}")
        return self.chosen.plan()

    @property
    def steering_file(self) -> Path:
        """The choice as a file, for ``steering=…`` and ``let.audit``.

        Raises:
            InputError: Nothing was chosen.
        """
        if self.chosen is None:
            raise InputError(f"The sweep chose nothing: {self.summary[-1]}")
        return self.folder / STEERING_FILE

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the score against the strength, a line for each layer; return the axes.

        Configurations that cost too much perplexity have hollow markers; the choice has a ring.

        Args:
            ax: Where to draw; by default on a new figure.
        """
        axes = ax or new_axes()
        scored = self.table.dropna(subset=["score"])
        families = ["vector", "layer", "positions"]
        several = [name for name in families if self.table[name].nunique() > 1] or ["layer"]
        for (_, rows), (colour, marker) in zip(
            scored.groupby(families, sort=False), looks(), strict=False
        ):
            ordered = rows.sort_values("alpha")
            label = ", ".join(f"{name} {ordered[name].iloc[0]}" for name in several)
            axes.plot(ordered["alpha"], ordered["score"], color=colour, label=label)
            for allowed, face in ((True, colour), (False, "none")):
                part = ordered[ordered["allowed"] == allowed]
                axes.plot(part["alpha"], part["score"], marker, color=colour, markerfacecolor=face)
        chosen = scored[scored["chosen"]]
        axes.plot(chosen["alpha"], chosen["score"], "o", color="black", ms=12, mfc="none")
        unsteered = self._found.unsteered.score
        if unsteered is not None:
            axes.axhline(unsteered, color="#888888", ls="--", label="unsteered")
        axes.set_xlabel("α")
        axes.set_ylabel(f"{self._settings.metric}, validation part")
        axes.legend(fontsize=7)
        return axes

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-like values."""
        found: dict[str, Any] = plain(
            {
                "chosen": self.chosen.recipe() if self.chosen else None,
                "summary": self.summary,
                "configurations": self.table.to_dict("records"),
                "test": self.test.to_dict("records"),
                "controls": self.controls.to_dict("records"),
            }
        )
        return found

    def _repr_html_(self) -> str:
        shown = ["vector", "layer", "alpha", "perplexity", "allowed", "score", "change", "chosen"]
        return card("Sweep", {"result": " ".join(self.summary)}, self.table[shown])


def sweep(
    model: Model | str | Path,
    vectors: SteeringVector | str | Path | Sequence[SteeringVector | str | Path],
    tasks: str | Sequence[str],
    *,
    layers: Layers | None = None,
    alphas: Sequence[float] = (0.5, 1.0, 2.0, 4.0),
    positions: str | Sequence[str] = "generated",
    action: str = "add",
    scale: str = "projection_std",
    metric: str = "trust_score",
    limit: int | None = None,
    search: str = "coarse-to-fine",
    rounds: int = 2,
    perplexity_ratio: float = 1.33,
    perplexity_task: str | None = None,
    ability_tasks: Sequence[str] = (),
    keep: Mapping[str, float] | None = None,
    controls: str = "",
    control_prompt: str | None = None,
    control_source: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
) -> SweepResult:
    """Try layers and strengths, choose on the validation part, and report on the test half.

    Prompts are read once for all configurations. A sweep that is interrupted continues where it
    stopped, if it is called again with the same ``out``.

    Args:
        model: A loaded model, or a name for :func:`~lm_eval_trust.api.models.load`.
        vectors: Vectors, or names of their files.
        tasks: What is to become better.
        layers: ``15``, ``[14, 15]`` or ``"10-20"`` one by one; ``[(14, 16)]`` or ``"14+16"``
            together. By default all layers of the first vector, one by one.
        alphas: Strengths.
        positions: ``generated``, ``all`` or ``last_prompt``, or several.
        action: See :data:`lm_eval_trust.steering.actions.ACTIONS`.
        scale: What a strength multiplies.
        metric: Metric of the tasks; higher is better.
        limit: Items of each task at most, in each part.
        search: ``coarse-to-fine`` or ``grid``.
        rounds: Rounds of refinement.
        perplexity_ratio: Largest ratio to the unsteered perplexity.
        perplexity_task: Task whose perplexity is the cost; LAMBADA by default.
        ability_tasks: Tasks whose accuracy has to stay.
        keep: Task → by how much it may become worse.
        controls: What the choice has to beat on the test half, as
            ``"prompt,few-shot:5,random:8,sign"``; nothing by default.
        control_prompt: Text of the prompt arm.
        control_source: Model that the vectors were built from, for the ``shuffled`` arm.
        metadata: Settings of the tasks.
        out: Folder for everything; by default a temporary one, see :meth:`SweepResult.save`.

    Raises:
        InputError: A vector, layer, task, metric or setting does not fit.
        LeakError: A vector was built from items of the tasks.
        ExternalError: A model, data or a judge cannot be reached.
    """
    folder = WorkFolder(out)
    given = list(vectors) if isinstance(vectors, (list, tuple)) else [vectors]
    files = tuple(folder.vector_file(vector) for vector in given)
    if not files:
        raise InputError("vectors is empty; give at least one.")
    names = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    settings = SweepSettings(
        tasks=names,
        perplexity_task=perplexity_task or default_perplexity_task(names),
        ability_tasks=tuple(ability_tasks),
        metric=metric,
        limit=limit,
        limits=Limits(
            perplexity_ratio, keep=tuple(Keep(task, loss) for task, loss in (keep or {}).items())
        ),
        search=search,
        rounds=rounds,
        metadata=dict(metadata or {}),
        controls=Controls.parse(controls, prompt=control_prompt, source=control_source),
    )
    grid = Grid(
        vectors=files,
        layers=_layers(layers, files[0]),
        alphas=tuple(sorted({float(alpha) for alpha in alphas})),
        positions=(positions,) if isinstance(positions, str) else tuple(positions),
        action=action,
        scale=scale,
    )
    found = loaded_model(model)
    found.unsteered("A sweep")
    with found.in_use():
        asked = Sweep(found.kind, found.arguments, grid, settings)
        searched, lines = run_sweep(asked, folder.path, loaded=found.lm)
    return SweepResult(searched, settings, lines, folder)


def _layers(layers: Layers | None, vector: str) -> tuple[tuple[int, ...], ...]:
    if layers is None:
        layers = parts_of(sorted(load_vector(vector).layers))
    if isinstance(layers, str):
        return parse_sweep_layers(layers)
    parts = [layers] if isinstance(layers, int) else list(layers)
    return tuple(tuple(layer_numbers(part)) for part in parts)
