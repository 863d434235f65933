"""Fit probes to the hidden states of one model, or of several checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lm_eval_trust.analysis.figures import looks
from lm_eval_trust.analysis.probing import ProbeSettings
from lm_eval_trust.api.display import card, new_axes
from lm_eval_trust.api.folders import FolderResult, WorkFolder
from lm_eval_trust.api.models import Model, loaded_model
from lm_eval_trust.api.vectors import default_data_source, layer_numbers
from lm_eval_trust.benchmarks.load import find_statements
from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.plain import plain
from lm_eval_trust.models.decoder_blocks import text_blocks
from lm_eval_trust.models.untrained import UNTRAINED
from lm_eval_trust.models.untrained import untrained as untrained_model
from lm_eval_trust.study.activation_sets import CheckpointInfo, collect
from lm_eval_trust.study.analyse import Analysis, analyse
from lm_eval_trust.study.measure import AnalysisSettings

Models = Model | str | Path | Sequence[Model | str | Path] | Mapping[str, Model | str | Path]
#: Measurements of each layer, in the table's order.
_MEASURED = (
    *("accuracy", "auroc", "majority", "mass_mean", "validation", "control", "selectivity"),
    "over_words",
)


class ProbingResult(FolderResult):
    """How well probes separate two labels, at every layer of every model.

    Attributes:
        folder: Activations, measurements and figures; ``save`` copies it.
    """

    def __init__(self, analysis: Analysis, folder: WorkFolder, models: Sequence[str]) -> None:
        super().__init__(folder)
        self._analysis = analysis
        self._models = models

    def __repr__(self) -> str:
        found = [
            f"{row.checkpoint}: {row.accuracy:.3f} at layer {row.layer}"
            for row in self.best.itertuples()
        ]
        return f"<ProbingResult: {'; '.join(found) or 'no layer could be chosen'}>"

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each dimension, model and layer.

        Columns: ``dimension``, ``model``, ``step``, ``layer``, ``accuracy`` on the test part with
        ``low`` and ``high`` (95 % interval over groups), ``auroc``, ``majority`` (always the more
        frequent label), ``mass_mean`` (another probe), ``validation`` (accuracy there), ``control``
        (mean accuracy on permuted labels), ``selectivity`` (accuracy minus that), ``over_words``
        (accuracy minus that of n-grams on the same items), ``n``.
        """
        measured = self._analysis.table
        keys = ["dimension", "checkpoint", "layer"]
        probes = measured[(measured["layer"] >= 0) & (measured["checkpoint"] != UNTRAINED)]
        named = probes.assign(name=probes["estimator"].str.removeprefix("probe_"))
        values = named[named["name"].isin(_MEASURED)].pivot_table(
            index=keys, columns="name", values="value", sort=False
        )
        accuracies = probes[probes["estimator"] == "probe_accuracy"].set_index(keys)
        ends = accuracies[["step", "low", "high", "n"]]
        joined = values.join(ends).reset_index().rename(columns={"checkpoint": "model"})
        first = ["dimension", "model", "step", "layer", "accuracy", "low", "high"]
        others = [name for name in (*_MEASURED, "n") if name in joined and name not in first]
        joined.columns.name = None
        return self._in_order(joined[[*first, *others]], "model")

    @property
    def best(self) -> pd.DataFrame:
        """A row for each dimension and model: its layer, chosen on the validation part.

        Next to the test accuracy there, what it has to exceed; see
        :data:`lm_eval_trust.analysis.probe_summary.COLUMNS`.
        """
        return self._in_order(self._analysis.probes, "checkpoint")

    def _in_order(self, rows: pd.DataFrame, column: str) -> pd.DataFrame:
        """Return rows by dimension, and by model as they were given where they have no steps."""
        given = rows[column].map({name: at for at, name in enumerate(self._models)})
        keys = ["dimension", "step", "_given"]
        ordered = rows.assign(_given=given).sort_values(keys, kind="stable")
        return ordered.drop(columns="_given").reset_index(drop=True)

    def plot(self, *, dimension: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw accuracy against the layer, a line for each model; return the axes.

        Bands are 95 % intervals; dashed lines are accuracies on permuted labels, and the dotted one
        is that of the more frequent label.

        Args:
            dimension: Which; by default the first.
            ax: Where to draw; by default on a new figure.

        Raises:
            InputError: There is no such dimension.
        """
        known = list(dict.fromkeys(self.table["dimension"]))
        if dimension is not None and dimension not in known:
            raise unknown_name("dimension", dimension, known)
        chosen = self.table[self.table["dimension"] == (dimension or known[0])]
        axes = ax or new_axes()
        for (model, rows), (colour, marker) in zip(
            chosen.groupby("model", sort=False), looks(), strict=False
        ):
            axes.plot(rows["layer"], rows["accuracy"], color=colour, marker=marker, label=model)
            axes.fill_between(rows["layer"], rows["low"], rows["high"], color=colour, alpha=0.15)
            if "control" in rows:
                axes.plot(rows["layer"], rows["control"], color=colour, ls="--", lw=0.8)
        axes.axhline(chosen["majority"].iloc[0], color="#888888", ls=":", label="majority")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("layer")
        axes.set_ylabel("probe accuracy, test part")
        axes.set_title(dimension or known[0])
        axes.legend(fontsize=7)
        return axes

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-like values."""
        found: dict[str, Any] = plain(
            {"layers": self.table.to_dict("records"), "best": self.best.to_dict("records")}
        )
        return found

    def _repr_html_(self) -> str:
        return card("Probes", {"best": repr(self)}, self.table)


@dataclass(frozen=True)
class _Asked:
    """What is read of every model.

    Attributes:
        statements: One set for each dimension.
        layers: 0-based decoder blocks; ``None`` for all.
        split: Kind of the partition.
        split_seed: Its seed.
        progress: Whether to show progress bars.
    """

    statements: Sequence[Statements]
    layers: Sequence[int] | None
    split: str
    split_seed: int
    progress: bool


def probe(
    models: Models,
    dimension: str | Sequence[str],
    *,
    layers: int | str | Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
    untrained: bool = False,
    samples: int | None = None,
    controls: int = 5,
    regularisations: Sequence[float] = (1.0,),
    data_source: str | None = None,
    data_seed: int = 0,
    split: str = "grouped",
    split_seed: int = 0,
    seed: int = 0,
    progress: bool = True,
    out: str | Path | None = None,
) -> ProbingResult:
    """Fit linear probes to hidden states, with the controls that their accuracy has to exceed.

    Args:
        models: A model, several checkpoints, or a mapping from names to models; those that are
            given by name are loaded one after the other.
        dimension: One or several dimensions or their benchmarks.
        layers: 0-based decoder blocks: ``15``, ``[14, 15]`` or ``"10-20"``; by default all.
        steps: Training step of each model; without steps, no model is taken for the first.
        untrained: Also probe a model of the last one's configuration with random weights.
        samples: Statements of each dimension at most.
        controls: Random labelings that the same probe is fitted to.
        regularisations: Values of C; of several, the best on the validation part is taken.
        data_source: As for :func:`~lm_eval_trust.api.vectors.build_vector`.
        data_seed: Seed of random choices in the data.
        split: ``grouped`` or ``random``.
        split_seed: Seed of the partition.
        seed: Seed of the random labelings.
        progress: Show progress bars.
        out: Folder for everything; by default a temporary one, see :meth:`ProbingResult.save`.

    Raises:
        InputError: A name is unknown, a layer is out of range, the numbers of steps and models
            differ, a model is steered, or there are too few statements for any probe.
        MissingDataError: A file of the data is missing.
        ExternalError: The Hub cannot be reached.
    """
    named = _named(models)
    if steps is not None and len(steps) != len(named):
        raise InputError(f"There are {len(named)} models and {len(steps)} steps; give one each.")
    wanted = None if layers is None else layer_numbers(layers)
    names = [dimension] if isinstance(dimension, str) else list(dimension)
    source = data_source or default_data_source(next(iter(named.values())))
    sets = [find_statements(n, data_source=source, data_seed=data_seed) for n in names]
    if samples is not None:
        sets = [found.sample(samples, seed=data_seed) for found in sets]
    folder = WorkFolder(out)
    asked = _Asked(sets, wanted, split, split_seed, progress)
    last = len(named) - 1
    for number, (name, model) in enumerate(named.items()):
        info = CheckpointInfo(name, None if steps is None else steps[number])
        _collect(folder.path / "activations", info, model, asked, untrained and number == last)
    settings = AnalysisSettings(
        probes=ProbeSettings(tuple(regularisations), controls, seed),
        measures=("probes",),
        layers=None if wanted is None else tuple(wanted),
    )
    analysis = analyse(folder.path / "activations", folder.path / "analysis", settings)
    if analysis.table.empty:
        raise InputError(
            f"No probe can be fitted on {', '.join(f'{len(s)} statements' for s in sets)}: the "
            f"partition leaves a part without both labels. Give more samples."
        )
    return ProbingResult(analysis, folder, list(named))


def _collect(
    folder: Path, info: CheckpointInfo, model: Model | str | Path, asked: _Asked, control: bool
) -> None:
    """Store the activations of one model, and those of an untrained one."""
    found = loaded_model(model)
    found.unsteered("Probing")
    module, identity = found.module, found.identity
    layers = text_blocks(module) if asked.layers is None else asked.layers
    with found.in_use():
        for checkpoint in [info, *([CheckpointInfo(UNTRAINED, 0, 0)] if control else [])]:
            if checkpoint.name == UNTRAINED:
                if not identity.lasts:
                    raise InputError(
                        f"untrained=True needs a model that is loaded by its name; {found.name} "
                        f"was given as an object."
                    )
                module, identity = untrained_model(module, identity)
            collect(
                folder,
                checkpoint,
                module,
                found.tokenizer,
                identity,
                asked.statements,
                layers=layers,
                split=asked.split,
                split_seed=asked.split_seed,
                progress=asked.progress,
            )


def _named(models: Models) -> dict[str, Model | str | Path]:
    """Return models by the names that tables have for them."""
    if isinstance(models, Mapping):
        named = dict(models)
    else:
        given = [models] if isinstance(models, (Model, str, Path)) else list(models)
        specs = [each.name if isinstance(each, Model) else str(each) for each in given]
        short = [_short(spec) for spec in specs]
        full = [spec.strip("/").replace("/", "--") for spec in specs]
        named = dict(zip(short if len(set(short)) == len(short) else full, given, strict=True))
        if len(named) < len(given):
            raise InputError(
                f"Two of the models have the same name ({', '.join(specs)}); name them by a "
                f"mapping: {{'first': …, 'second': …}}."
            )
    if not named:
        raise InputError("models is empty; give at least one.")
    if UNTRAINED in named:
        raise InputError(f"{UNTRAINED!r} is the name of the control; choose another.")
    return named


def _short(spec: str) -> str:
    name, _, revision = spec.partition("@")
    return revision or PurePath(name).name or name
