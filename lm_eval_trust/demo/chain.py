"""The chain: checkpoints → activations → probes → vectors → the suite → perplexity against α."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lm_eval_trust.activations.models import load_source
from lm_eval_trust.data.load import load_statements
from lm_eval_trust.data.settings import MINI
from lm_eval_trust.demo.cells import Cell, Evaluator, Outcome
from lm_eval_trust.demo.differences import paired_difference
from lm_eval_trust.demo.plan import (
    SWEPT_ALPHAS,
    VectorPlan,
    middle_checkpoint,
    suite_cell,
    sweep_cell,
    table_rows,
)
from lm_eval_trust.demo.probes import ProbeRow, probe_checkpoints
from lm_eval_trust.demo.report import metric, probe_summary, suite_row, write_csv
from lm_eval_trust.dimensions import find_dimension
from lm_eval_trust.mini.family import MiniFamily
from lm_eval_trust.mini.members import BASE
from lm_eval_trust.steering.build import build_vector

Table = Sequence[Mapping[str, Any]]
#: Dimensions whose α is swept, with the metric of their task that the sweep shows.
SWEPT = {"reliability": "truth_info", "toxicity": "toxic_ratio"}
_TEXT_TASK, _PERPLEXITY = "trust_world_text_mini", "word_perplexity"


class Demo:
    """The whole chain in one folder; what is there already is not done again.

    Args:
        family: The models.
        folder: Where everything goes: ``vectors/``, ``evaluations/`` and CSV tables.
    """

    def __init__(self, family: MiniFamily, folder: Path) -> None:
        self._family, self._folder = family, folder
        self._vectors = folder / "vectors"
        self._vectors.mkdir(parents=True, exist_ok=True)
        self._evaluator = Evaluator(
            folder / "evaluations", folder / "harness.log", {"world": family.seed}
        )

    def train(self) -> None:
        """Train the family, where it is not there."""
        self._family.checkpoint()
        self._family.safe()

    def probe(self) -> Table:
        """Probe every checkpoint; return the accuracy of the middle blocks, by checkpoint."""
        rows: list[ProbeRow] = probe_checkpoints(self._family)
        write_csv(self._folder / "probes.csv", rows)
        return probe_summary(rows)

    def compare(self) -> Table:
        """Evaluate every row of the table."""
        rows = table_rows(self._family)
        for row in rows:
            if row.vector is not None:
                self._build(row.vector)
        cells = [suite_cell(row, self._vectors) for row in rows]
        outcomes = self._evaluate(cells, "Evaluating models")
        table = [
            suite_row(row.title, outcome.scores)
            for row, outcome in zip(rows, outcomes, strict=True)
        ]
        write_csv(self._folder / "suite.csv", table)
        return table

    def sweep(self) -> Table:
        """Evaluate the middle checkpoint's vectors at every α, against α = 0."""
        table = []
        for name, of_task in SWEPT.items():
            dimension = find_dimension(name)
            vector = VectorPlan(dimension, f"{BASE}@{middle_checkpoint(self._family)}")
            self._build(vector)
            cells = [sweep_cell(vector, alpha, self._vectors) for alpha in SWEPT_ALPHAS]
            outcomes = dict(
                zip(SWEPT_ALPHAS, self._evaluate(cells, f"Sweeping α, {name}"), strict=True)
            )
            task = f"{dimension.task}_mini"
            for alpha, outcome in outcomes.items():
                change = paired_difference(outcomes[0.0].items[task], outcome.items[task], of_task)
                perplexity = metric(outcome.scores, _TEXT_TASK, _PERPLEXITY)
                base = metric(outcomes[0.0].scores, _TEXT_TASK, _PERPLEXITY)
                table.append(
                    {
                        "vector": name,
                        "alpha": alpha,
                        "metric": of_task,
                        "value": metric(outcome.scores, task, of_task),
                        "change": change.mean,
                        "low": change.low,
                        "high": change.high,
                        "perplexity": perplexity,
                        "times": perplexity / base,
                    }
                )
        write_csv(self._folder / "sweep.csv", table)
        return table

    def _evaluate(self, cells: Sequence[Cell], title: str) -> list[Outcome]:
        return [self._evaluator.run(cell) for cell in tqdm(cells, title, unit="model")]

    def _build(self, plan: VectorPlan) -> None:
        """Build a vector where it is not there, or where it was built from another model."""
        model, tokenizer, identity = load_source(plan.source, dtype="float32", device="cpu")
        vector = build_vector(
            model,
            tokenizer,
            load_statements(plan.dimension, data_source=MINI),
            layers=range(self._family.recipe.shape.layers),
            identity=identity,
            progress=False,
        )
        vector.save(plan.file(self._vectors))
