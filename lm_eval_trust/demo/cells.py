"""What the demo evaluates: which models, vectors, strengths and tasks; each is evaluated once."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.benchmarks.benchmark import Dimension
from lm_eval_trust.benchmarks.registry import DIMENSIONS, UNIVERSAL, find_dimension
from lm_eval_trust.evaluate.evaluator import EvaluationSpec, Evaluator, Outcome, evaluate
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.mini.world import BASE, CHAT, MIDDLE_LAYER, SAFE
from lm_eval_trust.models.adapters import find_adapter
from lm_eval_trust.models.proxy_parts import find_part
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import STEERING_KEYS, SteeringSpec

#: The embedded models are so small that a batch costs little more than a row.
_BATCH_SIZE = 256
SUITE = ("trust_suite_mini", "trust_general_mini")
TEXT = "trust_world_text_mini"
#: Strengths that are tried, ascending, and how many times the unsteered perplexity is allowed to
#: the strength that is used in the table. Perplexity alone decides, never the score of a task.
STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
PERPLEXITY_LIMIT = 1.3
#: Strengths of the sweep, on both sides and far beyond what leaves the text whole.
SWEPT_ALPHAS = (-1.0, 0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0)
#: Dimensions whose strength is swept, with the metric of their task that it is to change.
SWEPT = {"reliability": "truth_info", "toxicity": "toxic_ratio"}
#: Dimensions whose probes are held against benchmarks over checkpoints, and the strength of the
#: vectors there.
CORRELATED = ("reliability", "toxicity")
TRANSFER_ALPHA = 1.0
#: Method of fine-tuning → harness model of its row in the table.
TUNED = {"full": "finetuned_amber", "lora": "lora_amber"}
#: Task of the paper's Figure 18, and the shares of pre-training after which its checkpoints come:
#: Amber's 119, 149, 179, 209 and 239 of 360.
CLASSIFICATION = "trust_truthfulqa_classify_mini"
PROXY_SHARES = (119 / 359, 149 / 359, 179 / 359, 209 / 359, 239 / 359)


@dataclass(frozen=True)
class Cell:
    """One model, steered or not, on some tasks.

    Attributes:
        name: Name of its folder.
        model: Harness model.
        arguments: Its model arguments.
        tasks: Harness tasks.
    """

    name: str
    model: str
    arguments: Mapping[str, Any]
    tasks: tuple[str, ...]


class CellEvaluator:
    """Evaluates cells and keeps their outcomes.

    Args:
        folder: Where each cell has its own folder, with the harness's results file.
        log: File that the harness's own output goes to.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder, self._log = folder, log
        self._evaluator, self._index = Evaluator(folder), TaskIndex({})

    def folder(self, name: str) -> Path:
        """Return where the results of the cell of that name are."""
        return self._folder / name

    def run(self, cell: Cell) -> Outcome:
        """Return what a cell gives, evaluated now unless it was before."""
        tasks = self._index.load(cell.tasks)
        spec = EvaluationSpec(cell.name, _model(cell), _steering(cell), tasks)

        def run() -> Outcome:
            with (
                self._log.open("a", encoding="utf-8") as log,
                contextlib.redirect_stderr(log),
            ):
                return evaluate(
                    cell.model,
                    tasks,
                    self.folder(cell.name),
                    model_args=dict(cell.arguments),
                    batch_size=_BATCH_SIZE,
                    device="cpu",
                )

        return self._evaluator.outcome(spec, run)


def _model(cell: Cell) -> dict[str, Any]:
    """Return the identity of a cell's model, without its steering."""
    found: dict[str, Any] = {"wrapper": cell.model}
    experts = {"expert": CHAT, "antiexpert": BASE} if cell.model == "proxy_amber" else {}
    for name, value in (experts | dict(cell.arguments)).items():
        if name == "adapter":
            found[name] = find_adapter(str(value)).identity
        elif name == "pretrained":
            found[name] = find_source(str(value)).identity.text
        elif name in ("expert", "antiexpert"):
            found[name] = find_part(str(value)).identity
        elif name not in STEERING_KEYS and name != "proxy_record":
            found[name] = value
    return found


def _steering(cell: Cell) -> str:
    """Return the fingerprint of a cell's steering, that of no steering for a plain model."""
    settings = {k: v for k, v in cell.arguments.items() if k in STEERING_KEYS}
    plan = SteeringSpec.parse(settings).plan() if settings else SteeringPlan()
    return plan.fingerprint


@dataclass(frozen=True)
class VectorPlan:
    """One steering vector.

    Attributes:
        dimension: Dimension of the vector.
        source: From which model.
    """

    dimension: Dimension
    source: str

    @property
    def name(self) -> str:
        """Name of its file and in tables."""
        return f"{self.dimension.name}-{self.source.replace('@', '-')}"

    def file(self, folder: Path) -> Path:
        """Return where it is kept."""
        return folder / f"{self.name}.safetensors"

    def arguments(self, folder: Path, alpha: float) -> dict[str, Any]:
        """Return the model arguments that steer the chat model by it."""
        steering = {"vector": str(self.file(folder)), "layer": MIDDLE_LAYER, "alpha": alpha}
        return {"pretrained": CHAT, **steering}


def table_vectors(middle: str) -> list[VectorPlan]:
    """Return the vectors of the table: every dimension's of a checkpoint, reliability's of Chat."""
    dimensions = [*DIMENSIONS, UNIVERSAL]
    plans = [VectorPlan(dimension, middle) for dimension in dimensions]
    return [plans[0], VectorPlan(find_dimension("reliability"), CHAT), *plans[1:]]


def unsteered_cells() -> dict[str, Cell]:
    """Return the evaluations of the models as they are, by title."""
    return {
        name: Cell(f"table-{name}", "amber", {"pretrained": name}, SUITE) for name in (CHAT, SAFE)
    }


def steered_cell(vector: VectorPlan, alpha: float, vectors: Path) -> Cell:
    """Return the evaluation of a steered row of the table."""
    return Cell(f"table-{vector.name}", "steered_amber", vector.arguments(vectors, alpha), SUITE)


def unsteered_text_cell() -> Cell:
    """Return the evaluation of held-out text by the model that is going to be steered."""
    return Cell("text-unsteered", "amber", {"pretrained": CHAT}, (TEXT,))


def text_cell(vector: VectorPlan, alpha: float, vectors: Path) -> Cell:
    """Return the evaluation of what one strength does to held-out text."""
    name = f"text-{vector.name}-{alpha:g}"
    return Cell(name, "steered_amber", vector.arguments(vectors, alpha), (TEXT,))


def sweep_cell(vector: VectorPlan, alpha: float, vectors: Path) -> Cell:
    """Return the evaluation of one strength: the dimension's own task, and perplexity."""
    tasks = (f"{vector.dimension.task}_mini", TEXT)
    name = f"sweep-{vector.name}-{alpha:g}"
    return Cell(name, "steered_amber", vector.arguments(vectors, alpha), tasks)


def late_checkpoints(steps: Mapping[str, int]) -> list[str]:
    """Return the evenly spaced checkpoints: those after the early, doubling steps.

    Args:
        steps: Name of a checkpoint → its step, ascending.
    """
    names, values = list(steps), list(steps.values())
    every = values[-1] - values[-2] if len(values) > 1 else 0
    return [name for name, step in zip(names, values, strict=True) if step >= every]


def transfer_cell(vector: VectorPlan, vectors: Path) -> Cell:
    """Return the evaluation of Chat steered by some checkpoint's vector, on its own task."""
    tasks = (f"{vector.dimension.task}_mini",)
    arguments = vector.arguments(vectors, TRANSFER_ALPHA)
    return Cell(f"transfer-{vector.name}", "steered_amber", arguments, tasks)


def tuned_cell(method: str, folder: Path) -> Cell:
    """Return the evaluation of a row of the table that was fine-tuned, by its method."""
    arguments = (
        {"pretrained": CHAT, "adapter": str(folder)}
        if method == "lora"
        else {"pretrained": str(folder)}
    )
    return Cell(f"table-{method}", TUNED[method], arguments, SUITE)


def proxy_checkpoints(steps: Mapping[str, int]) -> list[str]:
    """Return the checkpoints nearest to the paper's shares of pre-training, each once.

    Args:
        steps: Name of a checkpoint → its step, ascending.
    """
    last = max(steps.values())
    nearest = [min(steps, key=lambda n: abs(steps[n] - share * last)) for share in PROXY_SHARES]
    return list(dict.fromkeys(nearest))


def classification_cell(model: str, *, moved: bool) -> Cell:
    """Return the classification of statements by a model as it is, or moved by proxy-tuning."""
    kind = "proxy" if moved else "original"
    wrapper = "proxy_amber" if moved else "amber"
    return Cell(
        f"{kind}-{model.replace('@', '-')}", wrapper, {"pretrained": model}, (CLASSIFICATION,)
    )
