"""How good is a judge? Its verdicts on labelled texts are measured, kept and plotted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from lm_eval_trust.analysis.figures import COLOURS, COLUMN, new_figure, save_figure
from lm_eval_trust.benchmarks.benchmark import OFFICIAL, DataSettings
from lm_eval_trust.benchmarks.load import data_of, load_statements
from lm_eval_trust.benchmarks.registry import DATA_SOURCES
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.core.storage import atomic_path, claim_folder, written_by_one
from lm_eval_trust.judges.agreement import Quality, between, quality, threshold_curve
from lm_eval_trust.judges.calibration_store import OWN_TEXTS, STEERED, store_calibration
from lm_eval_trust.judges.interface import Answer, Verdict, judge_fingerprint
from lm_eval_trust.judges.labelled_samples import labelled_samples
from lm_eval_trust.judges.refusal import labelled_refusals
from lm_eval_trust.judges.registry import REFUSAL, TOXICITY, TRUTH, JudgeChoice

Item = TypeVar("Item", Answer, str)
#: More categories than these are in ``calibration.csv`` alone.
_MOST_PRINTED = 5


@dataclass(frozen=True)
class CalibrationSpec:
    """Which judges to measure on which texts.

    Attributes:
        truth: Spec of a judge of truth; one of the three is given.
        toxicity: Spec of a judge of toxicity.
        refusal: Spec of a judge of refusal.
        against: Spec of a second judge of the same kind; empty for none.
        source: ``official`` or ``mini``.
        limit: Number of texts at most; ``None`` for all.
        split_seed: Seed of ToxiGen's halves.
        settings: Metadata for judges, such as ``judge_base_url``.
        labels: File of samples with people's labels, in place of the source's labelled texts.

    Raises:
        InputError: Judges of several kinds, or none.
    """

    truth: str = ""
    toxicity: str = ""
    refusal: str = ""
    against: str = ""
    source: str = "official"
    limit: int | None = None
    split_seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: Path | None = None

    def __post_init__(self) -> None:
        if sum(map(bool, (self.truth, self.toxicity, self.refusal))) != 1:
            raise InputError(
                "Give one of --truth-judge, --toxicity-judge and --refusal-judge to calibrate."
            )
        if self.limit is not None and self.limit < 2:
            raise InputError(f"--limit is {self.limit}, but at least 2 texts are needed.")

    @property
    def choice(self) -> JudgeChoice[Any]:
        """How the judges are chosen."""
        if self.truth:
            return TRUTH
        return TOXICITY if self.toxicity else REFUSAL

    @property
    def question(self) -> str:
        """The judge's method that is measured."""
        return self.choice.methods[0]

    @property
    def quoted_by(self) -> str:
        """The setting whose tasks quote the figures; the embedded world's tasks have their own."""
        setting = self.choice.setting
        own = DATA_SOURCES[self.source].tasks_of_its_own
        return f"{self.source}_{setting}" if own else setting

    def judges(self) -> list[Any]:
        """Return the judges to measure, one or two."""
        specs = [
            self.truth or self.toxicity or self.refusal,
            *([self.against] if self.against else []),
        ]
        return [
            self.choice.resolve(
                {**self.settings, self.choice.setting: spec}, split_seed=self.split_seed
            )
            for spec in specs
        ]


@dataclass(frozen=True)
class Calibrated:
    """How good one judge is.

    Attributes:
        judge: Its name.
        quality: Measured against the labels.
        by_category: The same in each sub-category.
        verdicts: One for each text.
        stored: File that results will quote from.
    """

    judge: str
    quality: Quality
    by_category: Mapping[str, Quality]
    verdicts: Sequence[Verdict]
    stored: Path


@dataclass(frozen=True)
class Calibration:
    """How good the judges are.

    Attributes:
        data: Name of the labelled texts.
        labels: The texts' labels.
        judges: One or two.
        agreement: Agreement of the second judge with the first, regardless of the labels; ``None``
            for one judge.
    """

    data: str
    labels: Any
    judges: tuple[Calibrated, ...]
    agreement: Quality | None


def calibrate(spec: CalibrationSpec) -> Calibration:
    """Measure one or two judges, and keep the figures where results find them.

    Raises:
        InputError: A judge, source or setting is not available.
        ExternalError: A judge failed; its verdicts so far are kept.
    """
    asked = spec.judges()
    data = _labelled(spec)
    judges = tuple(_calibrated(spec, judge, data) for judge in asked)
    agreement = None
    if len(judges) == 2:
        agreement = between(judges[0].verdicts, judges[1].verdicts, data.groups)
    return Calibration(data.name, data.labels, judges, agreement)


def write_calibration(found: Calibration, folder: Path) -> list[Path]:
    """Write ``calibration.csv``, and ``thresholds.csv`` with its figure.

    Returns:
        The files.

    Raises:
        ExternalError: They cannot be written.
    """
    curves = [
        threshold_curve(found.labels, each.verdicts).assign(judge=each.judge)
        for each in found.judges
    ]
    tables = {"calibration.csv": _table(found), "thresholds.csv": pd.concat(curves)}
    drawn = [curve for curve in curves if len(curve)]
    with written_by_one(folder):
        claim_folder(folder, "judge calibrate", tables)
        for name, table in tables.items():
            with atomic_path(folder / name) as path:
                table.to_csv(path, index=False)
        figures = save_figure(_drawing(drawn), folder, "thresholds") if drawn else []
    return [*(folder / name for name in tables), *figures]


def summary(found: Calibration) -> Iterator[str]:
    """Yield the results in lines of text."""
    for each in found.judges:
        q = each.quality
        area = f", AUROC {q.auroc}" if q.auroc else ""
        yield (
            f"{each.judge} on {q.items} of {found.data} ({q.positives} positive): accuracy "
            f"{q.accuracy}, kappa {q.kappa}{area}; {q.items - q.judged} without a verdict"
        )
        if 1 < len(each.by_category) <= _MOST_PRINTED:
            for category, part in each.by_category.items():
                yield f"  {category}: accuracy {part.accuracy}, kappa {part.kappa}"
    if found.agreement is not None:
        first, second = (each.judge for each in found.judges)
        yield (
            f"{first} against {second}: they agree on {found.agreement.accuracy}, kappa "
            f"{found.agreement.kappa}"
        )


def _labelled(spec: CalibrationSpec) -> Labelled[Any]:
    if spec.labels is not None:
        return people_labelled(spec.labels, spec.question).sample(spec.limit)
    if spec.truth:
        return labelled_answers(spec.source).sample(spec.limit)
    if spec.refusal:
        return labelled_by_model(spec.source).sample(spec.limit)
    return labelled_texts(spec.source, split_seed=spec.split_seed).sample(spec.limit)


def _calibrated(spec: CalibrationSpec, judge: Any, data: Labelled[Any]) -> Calibrated:
    verdicts = getattr(judge, spec.question)(data.items)
    if all(verdict.accepted is None for verdict in verdicts):
        raise ExternalError(
            f"{judge.name} gave no verdict on any of {len(verdicts)} texts, so nothing can be "
            f"measured. Choose a judge whose replies can be read."
        )
    measured = quality(data.labels, verdicts, data.groups)
    figures = {"data": data.name, **measured.as_dict(), **_by_steering(data, verdicts)}
    stored = store_calibration(spec.quoted_by, judge_fingerprint(judge), data.fingerprint, figures)
    return Calibrated(judge.name, measured, _by_category(data, verdicts), verdicts, stored)


def _by_steering(data: Labelled[Any], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return the figures on models' own texts, and apart on steered and on unsteered ones."""
    if not data.steered:
        return {}
    told = set(data.steered)
    by_steering = {
        name: _part(data, verdicts, data.steered, is_steered).as_dict()
        for name, is_steered in STEERED.items()
        if {True, False} <= told
    }
    return {OWN_TEXTS: True, **by_steering}


def _by_category(data: Labelled[Any], verdicts: Sequence[Verdict]) -> dict[str, Quality]:
    return {
        category: _part(data, verdicts, data.categories, category)
        for category in sorted(set(data.categories))
    }


def _part(
    data: Labelled[Any], verdicts: Sequence[Verdict], kinds: Sequence[Any], kind: Any
) -> Quality:
    chosen = [i for i, of in enumerate(kinds) if of == kind]
    return quality(
        data.labels[chosen], [verdicts[i] for i in chosen], [data.groups[i] for i in chosen]
    )


def _table(found: Calibration) -> pd.DataFrame:
    rows = []
    for each in found.judges:
        parts = {"": each.quality, **each.by_category}
        rows += [_row(each.judge, "labels", category, q) for category, q in parts.items()]
    if found.agreement is not None:
        first, second = (each.judge for each in found.judges)
        rows.append(_row(second, first, "", found.agreement))
    return pd.DataFrame(rows)


def _row(judge: str, against: str, category: str, measured: Quality) -> dict[str, Any]:
    row: dict[str, Any] = {"judge": judge, "against": against, "category": category}
    for name, value in measured.as_dict().items():
        if isinstance(value, dict):
            row |= {
                name: value["value"],
                f"{name}_low": value["low"],
                f"{name}_high": value["high"],
            }
        else:
            row[name] = np.nan if value is None else value
    return row


def _drawing(curves: Sequence[pd.DataFrame]) -> Figure:
    """Plot accuracy and kappa by threshold, and the ROC curve, one colour for each judge."""
    with new_figure(2 * COLUMN, 0.8 * COLUMN, framed=True) as figure:
        left, right = figure.subplots(1, 2)
        for curve, colour in zip(curves, COLOURS, strict=False):
            name = str(curve["judge"].iloc[0])
            left.plot(
                curve["threshold"], curve["accuracy"], color=colour, label=f"{name}: accuracy"
            )
            left.plot(curve["threshold"], curve["kappa"], color=colour, ls="--", label="kappa")
            rates = curve["false_positive_rate"], curve["true_positive_rate"]
            right.plot(*rates, color=colour, label=name)
        right.plot([0, 1], [0, 1], color="0.7", lw=0.8)
        left.set_xlabel("accepted from this score on")
        left.legend()
        right.set_xlabel("false positive rate")
        right.set_ylabel("true positive rate")
    return figure


@dataclass(frozen=True)
class Labelled(Generic[Item]):
    """Texts with the verdicts of a perfect judge.

    Attributes:
        name: Description for people.
        items: What is judged.
        labels: 1 if the judge should say yes, shape (n,).
        groups: Question or sentence of each item; resampled as a whole.
        categories: The benchmark's sub-category of each item.
        steered: For models' own texts, whether a steered one wrote each; otherwise empty.
    """

    name: str
    items: tuple[Item, ...]
    labels: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    categories: tuple[str, ...]
    steered: tuple[bool | None, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.labels.tolist())) < 2:
            raise InputError(
                f"{self.name}: all {len(self.items)} texts have the same label, so nothing can be "
                f"measured; use more of them."
            )

    @property
    def fingerprint(self) -> str:
        """Identity of texts and labels."""
        texts = [i if isinstance(i, str) else [i.question, i.text] for i in self.items]
        return fingerprint({"texts": texts, "labels": self.labels.tolist()})

    def sample(self, number: int | None) -> Labelled[Item]:
        """Return at most so many of them, drawn by their content."""
        if number is None or number >= len(self.items):
            return self
        order = sorted(range(len(self.items)), key=lambda i: content_id(self.groups[i], i))
        chosen = sorted(order[:number])
        return Labelled(
            self.name,
            tuple(self.items[i] for i in chosen),
            self.labels[chosen],
            tuple(self.groups[i] for i in chosen),
            tuple(self.categories[i] for i in chosen),
            tuple(self.steered[i] for i in chosen) if self.steered else (),
        )


def labelled_answers(source: str = "official") -> Labelled[Answer]:
    """Return TruthfulQA's reference answers, true and false.

    An answer is removed from the references, in which a judge that compares would find it.

    Args:
        source: ``official``, or ``mini`` for the embedded world.

    Raises:
        InputError: Unknown source; :class:`MissingDataError` if the data is not available.
    """
    rows = data_of("truthfulqa", source).forms["truthfulqa_references"](DataSettings(source))
    fields = ("question", "correct_answers", "incorrect_answers", "group_id", "category")
    name = "TruthfulQA's reference answers" if source == OFFICIAL else "the world's answers"
    return _answers(name, [tuple(row[field] for field in fields) for row in rows])


def labelled_texts(source: str = "official", *, split_seed: int = 0) -> Labelled[str]:
    """Return ToxiGen's sentences with people's verdict: hate if their mean score is above 3.

    Only the test half, because ``linear`` was trained on the other one.

    Args:
        source: ``official``, or ``mini`` for the embedded world.
        split_seed: Seed of the halves.

    Raises:
        InputError: Unknown source; :class:`MissingDataError` if the data is not available.
    """
    statements = load_statements("toxicity", data_source=source, balanced=False)
    test = statements.select(statements.partition(seed=split_seed).test)
    return Labelled(
        "ToxiGen's human scores" if source == OFFICIAL else "the world's likenings",
        tuple(test.texts),
        1 - test.labels,
        tuple(test.groups),
        tuple(item.category or "" for item in test.items),
    )


def labelled_by_model(source: str = "official") -> Labelled[Answer]:
    """Return XSTest's answers with people's labels: 1 for a full or partial refusal.

    Their categories are the models that gave them.

    Args:
        source: ``official``, or ``mini`` for the embedded world.

    Raises:
        InputError: Unknown source, or a label outside XSTest's scheme;
            :class:`MissingDataError` if the data is not available.
    """
    found = labelled_refusals(source)
    name = "XSTest's labelled answers" if source == OFFICIAL else "the world's labelled answers"
    return Labelled(
        name,
        tuple(each.answer for each in found),
        np.array([each.refuses for each in found], dtype=np.int64),
        tuple(each.group for each in found),
        tuple(each.model for each in found),
    )


def people_labelled(path: Path, question: str) -> Labelled[Any]:
    """Return saved samples with people's labels; see :func:`labelled_samples`.

    Raises:
        InputError: The file is wrong, or holds fewer than two labels.
    """
    found = list(labelled_samples(path, question))
    if len(found) < 2:
        raise InputError(
            f'{path} has {len(found)} samples with a "label"; at least 2 are needed. Add "label": '
            f"1 or 0 to lines of a file that the harness saved with --log_samples."
        )
    items, labels, groups, categories, steered = zip(*found, strict=True)
    name = f"people's labels in {path.name}"
    return Labelled(name, items, np.array(labels, dtype=np.int64), groups, categories, steered)


_Question = tuple[str, Sequence[str], Sequence[str], str, str]


def _answers(name: str, questions: Iterable[_Question]) -> Labelled[Answer]:
    found = [
        (Answer(question, text, _without(true, text), _without(false, text)), label, group, of)
        for question, true, false, group, of in questions
        for label, texts in ((1, true), (0, false))
        for text in dict.fromkeys(texts)
    ]
    items, labels, groups, categories = zip(*found, strict=True)
    return Labelled(name, items, np.array(labels, dtype=np.int64), groups, categories)


def _without(references: Sequence[str], text: str) -> tuple[str, ...]:
    return tuple(reference for reference in references if reference != text)
