"""What is measured on an activation set: probes with their controls, and mutual information."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from lm_eval_trust.analysis.hsic import linear_cka
from lm_eval_trust.analysis.information import (
    InformationPlane,
    InformationSettings,
    LayerInformation,
)
from lm_eval_trust.analysis.multiplicity import max_statistic
from lm_eval_trust.analysis.probing import ProbeResult, ProbeSettings, probe
from lm_eval_trust.analysis.statistics import mean_interval
from lm_eval_trust.analysis.tables import Measurement
from lm_eval_trust.analysis.words import correct_by_words
from lm_eval_trust.benchmarks.surface import MATCHED, with_matched_capitals
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.untrained import UNTRAINED
from lm_eval_trust.study.activation_sets import ActivationSet

_LOG = logging.getLogger(__name__)
#: What can be measured: ``cka`` is the alignment to the final checkpoint.
MEASURES = ("probes", "information", "cka")
#: Changes when sets are measured in another way, so that old measurements are not taken for new.
VERSION = 7
#: Samples of the alignment to the final checkpoint, which is for orientation.
_CKA_SAMPLES = 500
_NO_LAYER = -1
#: Whose output is X of I(T, X).
INPUT_LAYER = 0
#: Layers that are measured at once, each of which takes about 0.5 GiB at the paper's size.
_MOST_AT_ONCE = 8
T = TypeVar("T")


@dataclass(frozen=True)
class AnalysisSettings:
    """What is computed.

    Attributes:
        probes: How probes are fitted and judged.
        information: Which dependence is measured; figures and phases show this one.
        further_sigmas: Other kernel widths, for the table.
        samples: Statements of each set that dependence is measured on, at most: whole groups,
            drawn once a dimension, so n is the same at all checkpoints.
        layers: Decoder blocks, or ``None`` for all that the sets hold.
        measures: Which of :data:`MEASURES`.
    """

    probes: ProbeSettings = field(default_factory=ProbeSettings)
    information: InformationSettings = field(
        default_factory=lambda: InformationSettings(precision="mixed")
    )
    further_sigmas: tuple[float, ...] = ()
    samples: int = 2000
    layers: tuple[int, ...] | None = None
    measures: tuple[str, ...] = MEASURES


def measure_set(
    found: ActivationSet, last: ActivationSet, settings: AnalysisSettings
) -> list[Measurement]:
    """Return a set's measurements; of an untrained model, its probes under their own names.

    Args:
        found: The set.
        last: The same dimension's set of the final checkpoint.
        settings: What is computed.

    Raises:
        InputError: A set lacks a layer, or has one whose values are not finite.
    """
    rows = _Rows(found)
    layers = found.layers if settings.layers is None else settings.layers
    probed = "probes" in settings.measures and not without_probes(found, settings.probes)
    if found.info.checkpoint == UNTRAINED:

        def untrained(layer: int) -> list[Measurement]:
            return list(rows.control("untrained", layer, _finite(found, layer), settings.probes))

        controls = _side_by_side(untrained, layers, settings) if probed else []
        return list(chain.from_iterable(controls))
    chosen = sampled_rows(found, settings.samples, settings.information.seed)
    informed = "information" in settings.measures and not without_information(found, settings)
    planes = _planes(found, chosen, settings) if informed else {}

    def trained(layer: int) -> tuple[list[Measurement], list[LayerInformation]]:
        values = _finite(found, layer)
        measured: list[Measurement] = []
        if probed:
            measured += rows.probe(layer, values, settings.probes)
            for control in found.controls:
                matched = _finite(found, layer, control)
                measured += rows.control(control, layer, matched, settings.probes)
        dependence = [plane.measure(_moved(values[chosen], settings)) for plane in planes.values()]
        if "cka" in settings.measures:
            few = chosen[:_CKA_SAMPLES]
            sides = [_moved(v[few], settings) for v in (values, _finite(last, layer))]
            constant = any(bool((side == side[:1]).all()) for side in sides)
            cka = math.nan if constant else linear_cka(*sides)
            measured.append(rows.row("cka_final", layer, cka, n=len(few)))
        return measured, dependence

    measured = list(rows.words()) if probed else []
    for control in found.controls if probed else ():
        measured += rows.words(control)
    of_layers = _side_by_side(trained, layers, settings)
    measured += chain.from_iterable(of_layer for of_layer, _ in of_layers)
    estimator = settings.information.estimator
    for number, record in enumerate(planes):
        results = [dependence[number] for _, dependence in of_layers]
        measured += rows.information(estimator, layers, results, len(chosen), record)
    return measured


def without_probes(found: ActivationSet, settings: ProbeSettings) -> str:
    """Return why a set's probes cannot be fitted, or an empty text.

    Args:
        found: The set.
        settings: How they would be fitted.
    """
    parts = found.parts
    for name, part in (("training", parts.train), ("test", parts.test)):
        number = len(np.unique(found.labels[part]))
        if number < 2:
            return f"the {name} part has {'one label only' if number else 'no statements'}"
    if len(settings.regularisations) > 1 and not len(parts.validation):
        return "the validation part, which chooses among values of C, has no statements"
    return ""


def without_information(found: ActivationSet, settings: AnalysisSettings) -> str:
    """Return why a set's I(T, X) and I(T, Y) cannot be measured, or an empty text."""
    rows = sampled_rows(found, settings.samples, settings.information.seed)
    if len(np.unique(found.labels[rows])) < 2:
        return f"its {len(rows)} statements have one label only"
    return ""


def warn_of_what_is_missing(found: ActivationSet, settings: AnalysisSettings) -> None:
    """Say what cannot be measured on a set, and what to do; the rest is measured.

    Args:
        found: Any set of a dimension; all have the same statements.
        settings: What is computed.
    """
    dimension, more = found.info.dimension, "Store more statements (--samples)."
    if "probes" in settings.measures:
        if reason := without_probes(found, settings.probes):
            _LOG.warning("%s: no probes are fitted: %s. %s", dimension, reason, more)
        elif not len(found.parts.validation):
            _LOG.warning(
                "%s: the validation part has no statements, so no layer can be chosen and the "
                "summary of probes has no row. %s",
                dimension,
                more,
            )
    if "information" in settings.measures:
        if reason := without_information(found, settings):
            _LOG.warning("%s: no I(T,X) and I(T,Y) are measured: %s.", dimension, reason)
        elif INPUT_LAYER not in found.layers:
            _LOG.warning(
                "%s: no I(T,X) is measured: %s holds blocks %s, and X is the output of block %d. "
                "Store it too (--layers %s).",
                dimension,
                found.path,
                ", ".join(map(str, found.layers)),
                INPUT_LAYER,
                ",".join(map(str, (INPUT_LAYER, *found.layers))),
            )


def _finite(found: ActivationSet, layer: int, control: str = "") -> npt.NDArray[np.float32]:
    """Read a layer.

    Raises:
        InputError: The set lacks it, or its values are not finite.
    """
    values = found.layer(layer, control)
    if not np.isfinite(values).all():
        raise InputError(
            f"{found.path}, block {layer}: activations are not finite. Store the set anew with a "
            f"wider number format (--dtype float32)."
        )
    return values


def _side_by_side(
    measure: Callable[[int], T], layers: Sequence[int], settings: AnalysisSettings
) -> list[T]:
    """Return what is measured at each layer; on a CPU, several layers at once.

    Of many steps, only the matrix products use several cores well.
    """
    cores = torch.get_num_threads()
    workers = min(cores, len(layers), _MOST_AT_ONCE)
    if workers < 2 or torch.device(settings.probes.device).type != "cpu":
        return [measure(layer) for layer in layers]
    torch.set_num_threads(cores // workers)
    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(measure, layers))
    finally:
        torch.set_num_threads(cores)


def sampled_rows(found: ActivationSet, number: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the positions of at most so many statements, in whole groups, ascending.

    Groups are taken in a random order as long as they fit; at least one is.
    """
    order = np.random.default_rng(seed).permutation(np.unique(found.groups))
    sizes = np.bincount(found.groups)[order].cumsum()
    kept = order[: max(1, int((sizes <= number).sum()))]
    return np.flatnonzero(np.isin(found.groups, kept))


def _planes(
    found: ActivationSet, rows: npt.NDArray[np.int64], settings: AnalysisSettings
) -> dict[str, InformationPlane]:
    """Return a plane for each kernel width, by its record."""
    chosen = settings.information
    # Without X, what is measured against another block is left out of the table.
    block = INPUT_LAYER if INPUT_LAYER in found.layers else min(found.layers)
    inputs = _moved(_finite(found, block)[rows], settings)
    labels, groups = found.labels[rows], found.groups[rows]
    return {
        information_record(measured): InformationPlane(inputs, labels, measured, groups=groups)
        for measured in (chosen, *(replace(chosen, sigma=s) for s in settings.further_sigmas))
    }


def _moved(values: Any, settings: AnalysisSettings) -> torch.Tensor:
    """Return activations on the device of the analysis."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(settings.probes.device)


def information_record(settings: InformationSettings) -> str:
    """Return what the table's column ``settings`` says of a measure of dependence."""
    record = {"sigma": settings.sigma, "epsilon": settings.epsilon}
    if settings.standardised_labels:
        record["standardised_labels"] = True
    return json.dumps(record)


@dataclass(frozen=True)
class _Rows:
    """The rows of one set."""

    found: ActivationSet

    def row(
        self,
        estimator: str,
        layer: int,
        value: float,
        ends: tuple[float, float] = (float("nan"), float("nan")),
        **further: Any,
    ) -> Measurement:
        info = self.found.info
        return Measurement(
            info.checkpoint,
            info.step,
            info.tokens,
            info.dimension,
            layer,
            estimator,
            float(value),
            float(ends[0]),
            float(ends[1]),
            **further,
        )

    def probe(self, layer: int, values: Any, settings: ProbeSettings) -> Iterator[Measurement]:
        """Yield a layer's probe, its baselines, and by how much it exceeds words."""
        result = self._fitted(values, settings)
        more: dict[str, Any] = {"n": result.n_test, "settings": _probe_record(result, settings)}
        yield self.row("probe_accuracy", layer, result.accuracy, (result.low, result.high), **more)
        for name, value in (
            ("auroc", result.auroc),
            ("mass_mean", result.mass_mean),
            ("majority", result.majority),
            ("validation", result.validation),
            ("validation_auroc", result.validation_auroc),
            ("control", result.control),
            ("selectivity", result.selectivity),
        ):
            if value is not None:
                yield self.row(f"probe_{name}", layer, value, **more)
        yield from self._over_words("probe", layer, result, more)

    def words(self, control: str = "") -> Iterator[Measurement]:
        """Yield the accuracy of n-grams of the statements, or of a control's version of them."""
        if texts := self._texts(control):
            told, prefix = self._told_by_words(texts), f"probe_{control}" if control else "probe"
            ends = self._interval(told)
            yield self.row(f"{prefix}_words", _NO_LAYER, told.mean(), ends, n=len(told))

    def control(
        self, name: str, layer: int, values: Any, settings: ProbeSettings
    ) -> Iterator[Measurement]:
        """Yield the same probe on a control's activations."""
        result = self._fitted(values, replace(settings, controls=0))
        more: dict[str, Any] = {"n": result.n_test, "settings": _probe_record(result, settings)}
        ends = result.low, result.high
        yield self.row(f"probe_{name}", layer, result.accuracy, ends, **more)
        yield self.row(f"probe_{name}_validation", layer, result.validation, **more)
        yield self.row(f"probe_{name}_validation_auroc", layer, result.validation_auroc, **more)
        if name in self.found.controls:
            yield from self._over_words(f"probe_{name}", layer, result, more)

    def information(
        self,
        estimator: str,
        layers: Sequence[int],
        results: Sequence[LayerInformation],
        n: int,
        record: str,
    ) -> Iterator[Measurement]:
        """Yield I(T, X) and I(T, Y) of all layers, their p corrected for the number of layers.

        Block 0's I(T, X) is that of X with itself, which is no question: it has a value but no p,
        and does not count among the layers.
        """
        sides = {"ty": {at: r.label for at, r in zip(layers, results, strict=True)}}
        if INPUT_LAYER in self.found.layers:
            sides = {"tx": {at: r.input for at, r in zip(layers, results, strict=True)}, **sides}
        for side, nulls in sides.items():
            asked = [at for at in nulls if (side, at) != ("tx", INPUT_LAYER)]
            corrected = dict(zip(asked, max_statistic([nulls[at] for at in asked]), strict=True))
            for layer, null in nulls.items():
                p = {
                    "p": null.p,
                    "p_smallest": null.smallest_p,
                    "p_layers": corrected.get(layer, math.nan),
                }
                yield self.row(
                    f"{estimator}_{side}",
                    layer,
                    null.value,
                    (null.mean, null.quantile95),
                    n=n,
                    settings=record,
                    **(p if layer in corrected else {}),
                )

    def _fitted(self, values: Any, settings: ProbeSettings) -> ProbeResult:
        parts = self.found.parts
        return probe(
            values,
            self.found.labels,
            train=parts.train,
            test=parts.test,
            validation=parts.validation,
            groups=[str(group) for group in self.found.groups],
            settings=settings,
        )

    def _over_words(
        self, prefix: str, layer: int, result: ProbeResult, more: dict[str, Any]
    ) -> Iterator[Measurement]:
        """Yield by how much a probe exceeds n-grams of the texts that it reads."""
        control = prefix.removeprefix("probe").removeprefix("_")
        if texts := self._texts(control):
            gain = result.correct.astype(float) - self._told_by_words(texts)
            ends = self._interval(gain)
            yield self.row(f"{prefix}_over_words", layer, gain.mean(), ends, **more)

    def _texts(self, control: str) -> tuple[str, ...]:
        """Return the statements or a control's version of them; nothing if they are not known."""
        if not control:
            return self.found.texts
        return _control_texts(control, self.found.texts, tuple(self.found.groups.tolist()))

    def _told_by_words(self, texts: tuple[str, ...]) -> npt.NDArray[np.float64]:
        found, parts = self.found, self.found.parts
        positions = (parts.train, parts.test, parts.validation)
        plain = (tuple(part.tolist()) for part in (found.labels, *positions))
        return _told_by_words(texts, *plain)

    def _interval(self, values: npt.NDArray[np.float64]) -> tuple[float, float]:
        return mean_interval(values, self.found.groups[self.found.parts.test].tolist())


@lru_cache(maxsize=8)
def _control_texts(
    control: str, texts: tuple[str, ...], groups: tuple[int, ...]
) -> tuple[str, ...]:
    return tuple(with_matched_capitals(texts, groups)) if control == MATCHED else ()


@lru_cache(maxsize=8)
def _told_by_words(
    texts: tuple[str, ...], labels: tuple[int, ...], *parts: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Return whether n-grams tell each test item; the same at all checkpoints."""
    train, test, validation = (np.array(part, dtype=np.int64) for part in parts)
    told = correct_by_words(texts, np.array(labels), train=train, test=test, validation=validation)
    return told.astype(np.float64)


def _probe_record(result: ProbeResult, settings: ProbeSettings) -> str:
    return json.dumps({"C": result.regularisation, "controls": settings.controls})
