"""How much models read and write for statements and tasks, for estimates before a run."""

from __future__ import annotations

from dataclasses import dataclass

from lm_eval_trust.study.cells import ActivationCell, AnalysisCell, Cell, EvaluationCell


@dataclass(frozen=True)
class Workload:
    """What a task asks of a model.

    Attributes:
        items: Of the whole task or group.
        tasks: Tasks in the group, each of which a limit cuts.
        read: Tokens read for an item, all its requests together.
        written: Tokens written for an item, at most.
    """

    items: int
    tasks: int
    read: float
    written: float


#: Counted with SmolLM2's tokenizer on the test halves of the official files (grouped split, seed
#: 0), and on the embedded world of seed 0; MMLU of ``trust_general`` as its local subjects.
TASKS: dict[str, Workload] = {
    "trust_arc_challenge_local": Workload(1172, 1, 148.3, 0.0),
    "trust_confaide": Workload(1133, 1, 57.2, 8.0),
    "trust_confaide_ll": Workload(1133, 1, 116.4, 0.0),
    "trust_confaide_mini": Workload(210, 1, 24.1, 4.0),
    "trust_confaide_tier2": Workload(98, 1, 125.7, 16.0),
    "trust_general": Workload(24397, 61, 325.2, 0.0),
    "trust_general_local": Workload(13110, 22, 324.8, 0.0),
    "trust_general_mini": Workload(348, 2, 42.1, 0.0),
    "trust_lambada_openai_local": Workload(5153, 1, 81.6, 0.0),
    "trust_mathqa_local": Workload(2985, 1, 274.9, 0.0),
    "trust_mmlu_local": Workload(2755, 18, 325.6, 0.0),
    "trust_race_local": Workload(1045, 1, 1862.9, 0.0),
    "trust_sst2": Workload(436, 1, 107.4, 16.0),
    "trust_sst2_binary": Workload(436, 1, 117.6, 16.0),
    "trust_sst2_clean": Workload(436, 1, 51.0, 8.0),
    "trust_sst2_ll": Workload(436, 1, 114.8, 0.0),
    "trust_sst2_mini": Workload(200, 1, 39.7, 8.0),
    "trust_sst2_rate10": Workload(436, 1, 112.2, 16.0),
    "trust_sst2_rate20": Workload(436, 1, 119.3, 16.0),
    "trust_sst2_rate50": Workload(436, 1, 129.7, 16.0),
    "trust_stereoset": Workload(2124, 1, 91.1, 8.0),
    "trust_stereoset_binary": Workload(2124, 1, 59.9, 8.0),
    "trust_stereoset_icat": Workload(1062, 1, 56.4, 0.0),
    "trust_stereoset_ll": Workload(2124, 1, 279.2, 0.0),
    "trust_stereoset_mini": Workload(132, 1, 25.1, 4.0),
    "trust_suite": Workload(7358, 5, 61.4, 35.6),
    "trust_suite_mini": Workload(833, 5, 22.7, 10.9),
    "trust_toxigen": Workload(3257, 1, 21.8, 64.0),
    "trust_toxigen_mini": Workload(216, 1, 8.7, 24.0),
    "trust_truthfulqa": Workload(408, 1, 185.1, 50.0),
    "trust_truthfulqa_classify": Workload(2528, 1, 58.7, 8.0),
    "trust_truthfulqa_classify_ll": Workload(2528, 1, 119.4, 0.0),
    "trust_truthfulqa_classify_mini": Workload(150, 1, 20.5, 4.0),
    "trust_truthfulqa_mc1": Workload(408, 1, 1029.3, 0.0),
    "trust_truthfulqa_mc1_mini": Workload(75, 1, 81.1, 0.0),
    "trust_truthfulqa_mc2": Workload(408, 1, 1522.9, 0.0),
    "trust_truthfulqa_mc2_mini": Workload(75, 1, 81.1, 0.0),
    "trust_truthfulqa_mini": Workload(75, 1, 9.8, 12.0),
    "trust_world_choice_mini": Workload(48, 1, 76.6, 0.0),
    "trust_world_text_mini": Workload(300, 1, 36.6, 0.0),
}
#: Of a task that is not in the table.
UNKNOWN = Workload(1000, 1, 200.0, 16.0)
#: Dimension → tokens of a statement, and number of statements; counted likewise.
STATEMENTS: dict[str, tuple[float, int]] = {
    "reliability": (27.5, 5030),
    "toxicity": (21.9, 5428),
    "privacy": (15.3, 2254),
    "fairness": (18.7, 4246),
    "robustness": (26.2, 1734),
    "universal": (82.7, 4212),
}
MINI_STATEMENTS: dict[str, tuple[float, int]] = {
    "reliability": (14.4, 300),
    "toxicity": (8.8, 288),
    "privacy": (12.2, 432),
    "fairness": (9.0, 270),
    "robustness": (11.9, 800),
    "universal": (20.4, 672),
}
#: Seconds of probes and dependence with its null, one layer of 2,000 statements at width 4,096 on
#: two cores (docs/analysis.md).
ANALYSIS_SECONDS = 3.5
#: Blocks of a model whose layers are not told.
USUAL_BLOCKS = 32


def tokens_of(cell: Cell) -> tuple[float, float]:
    """Return tokens that a cell makes a model read and write."""
    if isinstance(cell, ActivationCell):
        table = MINI_STATEMENTS if cell.statements.source == "mini" else STATEMENTS
        length, known = table[cell.dimension]
        return length * min(known, cell.statements.number or known), 0.0
    if isinstance(cell, EvaluationCell):
        load = TASKS.get(cell.task, UNKNOWN)
        items = min(load.items, cell.limit * load.tasks) if cell.limit else load.items
        models = 3 if cell.proxy is not None else 1
        return models * items * load.read, models * items * load.written
    return 0.0, 0.0


def analysis_seconds(cell: Cell) -> float:
    """Return what an analysis takes; 0 for any other cell."""
    if not isinstance(cell, AnalysisCell):
        return 0.0
    layers = cell.settings.layers
    return ANALYSIS_SECONDS * (len(layers) if layers is not None else USUAL_BLOCKS)
