"""Put one steering on trial against all controls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from lm_eval_trust.api.display import bars, card
from lm_eval_trust.api.folders import FolderResult, WorkFolder
from lm_eval_trust.api.models import Model, loaded_model
from lm_eval_trust.api.sweeping import SweepResult
from lm_eval_trust.api.vectors import STEERING_FILES, VectorLike, applied, layers_of
from lm_eval_trust.audit.reports import FIGURES, PAGE, lines, write_reports
from lm_eval_trust.audit.rules import SHOWN
from lm_eval_trust.audit.run import Audited, run_audit
from lm_eval_trust.audit.settings import Audit, Demands
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.evaluate.controls import Controls, read_prompt
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import SteeringSpec, steering_yaml
from lm_eval_trust.steering.vectors import load_vector

#: Hidden, so that the folder counts as empty.
_STEERING = ".steering.yaml"


class AuditResult(FolderResult):
    """The verdict on a steering, and all that it rests on.

    Attributes:
        summary: What was found, in lines.
        folder: The page, the figures and the evaluations; ``save`` copies it.
    """

    def __init__(self, audited: Audited, folder: WorkFolder) -> None:
        super().__init__(folder)
        self._audited, self.summary = audited, tuple(lines(audited))

    def __repr__(self) -> str:
        return f"<AuditResult: {self.verdict}>"

    @property
    def verdict(self) -> str:
        """``shown``, ``not shown`` or ``harmful``."""
        return self._audited.judged.verdict

    @property
    def shown(self) -> bool:
        """Whether the steering is shown to do what it is for, without harm."""
        return self.verdict == SHOWN

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each rule: ``group``, ``rule``, ``outcome``, ``figures``, ``harm``."""
        return pd.DataFrame(
            [
                {
                    "group": finding.group,
                    "rule": finding.title,
                    "outcome": finding.outcome,
                    "figures": finding.said,
                    "harm": finding.harm,
                }
                for finding in self._audited.judged.findings
            ]
        )

    @cached_property
    def controls(self) -> pd.DataFrame:
        """A row for each task and control: its score, and the steered model's gain over it.

        ``low`` and ``high`` are the gain's interval, paired and over groups of items;
        ``p_adjusted`` is corrected for all controls of the audit.
        """
        return pd.DataFrame(
            [
                {
                    "task": row.task,
                    "control": row.arm,
                    "value": row.value,
                    "gain": row.gain.difference.mean,
                    "low": row.gain.difference.low,
                    "high": row.gain.difference.high,
                    "p": row.gain.p,
                    "p_adjusted": row.adjusted,
                }
                for row in self._audited.judged.arms
            ]
        )

    @cached_property
    def effects(self) -> pd.DataFrame:
        """How the items of each task moved: all of them, then by category."""
        return pd.DataFrame(
            [
                {"task": task, **each.row()}
                for task, effects in self._audited.judged.effects.items()
                for each in effects
            ]
        )

    @property
    def page(self) -> Path:
        """The page with the verdict, an HTML file."""
        return self.folder / PAGE

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the gain over each control with its interval; return the axes.

        Args:
            ax: Where to draw; by default on a new figure.
        """
        rows = self.controls
        labels = [f"{row.task}: {row.control}" for row in rows.itertuples()]
        axes = bars(labels, rows["gain"], rows["low"], rows["high"], ax=ax)
        axes.axvline(0.0, color="#888888", linewidth=0.8)
        axes.set_xlabel("gain of the steered model")
        axes.set_title(f"verdict: {self.verdict}")
        return axes

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as JSON-like values, as ``audit.json`` has them."""
        found: dict[str, Any] = json.loads((self.folder / FIGURES).read_text(encoding="utf-8"))
        return found

    def _repr_html_(self) -> str:
        return card(f"Audit: {self.verdict}", {"tried": self._audited.audit.tried}, self.table)


def audit(
    model: Model | str | Path,
    steering: VectorLike | SweepResult,
    *,
    layer: int | str | Sequence[int] | None = None,
    alpha: float | None = None,
    tasks: str | Sequence[str] = (),
    suite: str | Sequence[str] = (),
    metric: str = "",
    limit: int | None = None,
    controls: str = "prompt,few-shot:5,random:8,sign",
    control_prompts: Sequence[str] = (),
    control_source: str | None = None,
    tried: int | None = None,
    margin: float = 0.05,
    perplexity_ratio: float = 1.33,
    most_wrong: float = 0.25,
    confidence: float = 0.95,
    metadata: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> AuditResult:
    """Compare a steering with a prompt, examples, random directions and its opposite.

    An audit that is interrupted continues where it stopped, if it is called again with the same
    ``out``.

    Args:
        model: A loaded model, or a name for :func:`~lm_eval_trust.api.models.load`.
        steering: A sweep's result, a steering file, or a vector with ``layer`` and ``alpha``.
        layer: 0-based decoder blocks of a vector; by default its only one.
        alpha: Strength of a vector; 1 by default.
        tasks: What is to become better; by default the task of the vector's dimension.
        suite: What must not become worse; by default the suite and the safety tasks.
        metric: Metric of the tasks; by default ``trust_score`` or ``acc``.
        limit: Items of each task at most.
        controls: The arms; nothing can be shown without random ones.
        control_prompts: Text of the prompt arm, and its rewordings; by default the benchmark's.
        control_source: Model that the vectors were built from, for the ``shuffled`` arm.
        tried: Configurations that the steering was chosen from; known for a sweep's result.
        margin: Largest acceptable loss on a task of the suite.
        perplexity_ratio: Largest acceptable ratio to the unsteered perplexity.
        most_wrong: Largest acceptable share of items that are moved the wrong way.
        confidence: Confidence of the intervals.
        metadata: Settings of the tasks.
        out: Folder for everything; by default a temporary one, see :meth:`AuditResult.save`.
        **settings: For a vector: ``positions``, ``action``, ``scale``, ``target`` and ``when``.

    Raises:
        InputError: The steering, a task or a setting does not fit.
        LeakError: The vector was built from items of the tasks.
        ExternalError: A model, data or a judge cannot be reached.
    """
    folder = WorkFolder(out)
    prompt = control_prompts[0] if control_prompts else None
    given = {"layer": layer, "alpha": alpha, **settings}
    asked = Audit(
        steering=_steering_file(steering, folder, given),
        model="amber",
        arguments={},
        tasks=_names(tasks),
        suite=_names(suite),
        metric=metric,
        limit=limit,
        metadata=dict(metadata or {}),
        controls=Controls.parse(controls, prompt=prompt, source=control_source),
        rewordings=tuple(map(read_prompt, control_prompts[1:])),
        tried=tried,
        demands=Demands(margin, perplexity_ratio, most_wrong, confidence),
    )
    found = loaded_model(model)
    found.unsteered("An audit")
    with found.in_use():
        audited = run_audit(asked, folder.path, loaded=found.lm)
    write_reports(audited, folder.path)
    return AuditResult(audited, folder)


def _steering_file(
    steering: VectorLike | SweepResult, folder: WorkFolder, given: Mapping[str, Any]
) -> Path:
    """Return a steering as a file, which is written if there is none."""
    told = {name: value for name, value in given.items() if value is not None}
    whole = isinstance(steering, (str, Path)) and Path(steering).suffix in STEERING_FILES
    if whole or isinstance(steering, SweepResult):
        if told:
            raise InputError(f"{', '.join(told)}: the steering says everything; leave it out.")
        return steering.steering_file if isinstance(steering, SweepResult) else Path(steering)  # type: ignore[arg-type]
    if isinstance(steering, SteeringPlan):
        raise InputError("An audit needs a vector or a steering file, since a plan has no file.")
    applied(told)
    file = folder.vector_file(steering)
    chosen = {**told, "layer": layers_of(load_vector(file), told.get("layer"))}
    spec = SteeringSpec.parse({"vector": file, **chosen}, where="the steering")
    path = folder.path / _STEERING
    with atomic_path(path) as temporary:
        temporary.write_text(steering_yaml([spec], folder.path), encoding="utf-8")
    return path


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
