"""Probes and mutual information over the checkpoints of the embedded family."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from lm_eval_trust.analysis.information import InformationSettings
from lm_eval_trust.analysis.probing import ProbeSettings
from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.benchmarks.registry import DIMENSIONS
from lm_eval_trust.mini.benchmarks import MINI
from lm_eval_trust.mini.family import MiniFamily
from lm_eval_trust.mini.members import BASE
from lm_eval_trust.models.sources import load_source
from lm_eval_trust.study.activation_sets import CheckpointInfo, collect
from lm_eval_trust.study.analyse import Analysis, AnalysisSettings, analyse

#: Statements of each set that dependence is measured on, so that a laptop takes a minute.
_SAMPLES = 300
SETTINGS = AnalysisSettings(
    probes=ProbeSettings(controls=5), information=InformationSettings(), samples=_SAMPLES
)


def analyse_checkpoints(family: MiniFamily, sets: Path, out: Path) -> Analysis:
    """Store every checkpoint's activations of every dimension, and analyse them.

    Args:
        family: Whose checkpoints.
        sets: Folder of the activation sets.
        out: Folder of tables and figures.
    """
    statements = [load_statements(dimension, data_source=MINI) for dimension in DIMENSIONS]
    layers = range(family.recipe.shape.layers)
    checkpoints = tqdm(family.checkpoints.items(), "Reading statements", unit="checkpoint")
    for name, step in checkpoints:
        model, tokenizer, identity = load_source(f"{BASE}@{name}", dtype="float32", device="cpu")
        info = CheckpointInfo(name, step, family.tokens_seen(step))
        collect(sets, info, model, tokenizer, identity, statements, layers=layers, progress=False)
    return analyse(sets, out, SETTINGS)
