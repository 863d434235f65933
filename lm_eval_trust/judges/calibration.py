"""How good is a judge? Its verdicts on labelled texts, measured, kept and drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure as Drawing

from lm_eval_trust.analysis.figures import COLOURS, COLUMN, new_figure, save_figure
from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.benchmarks.settings import MINI
from lm_eval_trust.benchmarks.truthfulqa import read_questions
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.judges.agreement import Quality, between, quality, threshold_curve
from lm_eval_trust.judges.calibration_store import store_calibration
from lm_eval_trust.judges.interface import Answer, Judge, Verdict, judge_fingerprint
from lm_eval_trust.judges.registry import TOXICITY, TRUTH
from lm_eval_trust.mini import reliability
from lm_eval_trust.mini.world import build_world, world_seed


@dataclass(frozen=True)
class Task:
    """What is to be measured.

    Attributes:
        truth: Spec of a judge of truth; empty where toxicity is meant.
        toxicity: Spec of a judge of toxicity; empty where truth is meant.
        against: Spec of a second judge of the same kind; empty for none.
        source: ``official`` or ``mini``.
        limit: Texts at most; ``None`` for all.
        split_seed: Of ToxiGen's halves.
        settings: Metadata for judges, such as ``judge_base_url``.

    Raises:
        InputError: Both kinds of judge, or none.
    """

    truth: str = ""
    toxicity: str = ""
    against: str = ""
    source: str = "official"
    limit: int | None = None
    split_seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.truth) == bool(self.toxicity):
            raise InputError("Give one of --truth-judge and --toxicity-judge to calibrate.")
        if self.limit is not None and self.limit < 2:
            raise InputError(f"--limit is {self.limit}, but at least 2 texts are needed.")

    @property
    def setting(self) -> str:
        """The setting that chooses the judge."""
        return TRUTH.setting if self.truth else TOXICITY.setting

    @property
    def quoted_by(self) -> str:
        """The setting whose tasks quote the figures: the embedded world's are for its own."""
        return f"mini_{self.setting}" if self.source == MINI else self.setting


@dataclass(frozen=True)
class Calibrated:
    """What was measured of one judge.

    Attributes:
        judge: Its name.
        quality: Against the labels.
        by_category: Against the labels, in each sub-category.
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
    """What was measured in all.

    Attributes:
        data: Name of the labelled texts.
        labels: Of the texts.
        judges: One or two.
        agreement: Between the two, without regard to the labels; ``None`` for one judge.
    """

    data: str
    labels: Any
    judges: tuple[Calibrated, ...]
    agreement: Quality | None


def calibrate(task: Task) -> Calibration:
    """Measure a judge, or two of them, and keep the figures where results find them.

    Raises:
        InputError: A judge, source or setting is not available.
        ExternalError: A judge failed; its verdicts so far are kept.
    """
    specs = [task.truth or task.toxicity, *([task.against] if task.against else [])]
    data: Labelled[Any] = _labelled(task)
    judges = tuple(_calibrated(task, spec, data) for spec in specs)
    agreement = None
    if len(judges) == 2:
        agreement = between(judges[0].verdicts, judges[1].verdicts, data.groups)
    return Calibration(data.name, data.labels, judges, agreement)


def write_calibration(found: Calibration, folder: Path) -> list[Path]:
    """Write ``calibration.csv``, threshold curves and their figure.

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
    written = []
    for name, table in tables.items():
        with atomic_path(folder / name) as path:
            table.to_csv(path, index=False)
        written.append(folder / name)
    drawn = [curve for curve in curves if len(curve)]
    return [*written, *(save_figure(_drawing(drawn), folder, "thresholds") if drawn else [])]


def summary(found: Calibration) -> Iterator[str]:
    """Yield what there is to say, a line each."""
    for each in found.judges:
        q = each.quality
        area = f", AUROC {q.auroc}" if q.auroc else ""
        yield (
            f"{each.judge} on {q.items} of {found.data} ({q.positives} positive): accuracy "
            f"{q.accuracy}, kappa {q.kappa}{area}; {q.items - q.judged} without a verdict"
        )
    if found.agreement is not None:
        first, second = (each.judge for each in found.judges)
        yield (
            f"{first} against {second}: they agree on {found.agreement.accuracy}, kappa "
            f"{found.agreement.kappa}"
        )


def _labelled(task: Task) -> Labelled[Any]:
    if task.truth:
        return labelled_answers(task.source).sample(task.limit)
    return labelled_texts(task.source, split_seed=task.split_seed).sample(task.limit)


def _calibrated(task: Task, spec: str, data: Labelled[Any]) -> Calibrated:
    metadata = {**task.settings, task.setting: spec}
    judge: Judge
    if task.truth:
        truth = TRUTH.resolve(metadata, split_seed=task.split_seed)
        judge, verdicts = truth, truth.truth(data.items)
    else:
        toxicity = TOXICITY.resolve(metadata, split_seed=task.split_seed)
        judge, verdicts = toxicity, toxicity.toxic(data.items)
    measured = quality(data.labels, verdicts, data.groups)
    figures = {"data": data.name, **measured.as_dict()}
    mark = judge_fingerprint(judge)
    stored = store_calibration(task.quoted_by, mark, data.fingerprint, figures)
    return Calibrated(judge.name, measured, _by_category(data, verdicts), verdicts, stored)


def _by_category(data: Labelled[Any], verdicts: Sequence[Verdict]) -> dict[str, Quality]:
    found = {}
    for category in sorted(set(data.categories)):
        chosen = [i for i, of in enumerate(data.categories) if of == category]
        found[category] = quality(
            data.labels[chosen], [verdicts[i] for i in chosen], [data.groups[i] for i in chosen]
        )
    return found


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


def _drawing(curves: Sequence[pd.DataFrame]) -> Drawing:
    """Return accuracy and kappa by threshold, and the ROC curve, a colour a judge."""
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


Item = TypeVar("Item", Answer, str)
SOURCES = ("official", MINI)


@dataclass(frozen=True)
class Labelled(Generic[Item]):
    """Texts with what a perfect judge would say.

    Attributes:
        name: What they are, for people.
        items: What is judged.
        labels: 1 where the judge should say yes, shape (n,).
        groups: Question or sentence of each item; resampled as a whole.
        categories: The benchmark's sub-category of each.
    """

    name: str
    items: tuple[Item, ...]
    labels: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.labels.tolist())) < 2:
            raise InputError(
                f"{self.name}: all {len(self.items)} texts have the same label, so nothing can be "
                f"measured; take more of them."
            )

    @property
    def fingerprint(self) -> str:
        """Identity of texts and labels."""
        texts = [i if isinstance(i, str) else [i.question, i.text] for i in self.items]
        return fingerprint({"texts": texts, "labels": self.labels.tolist()})

    def sample(self, number: int | None) -> Labelled[Item]:
        """Return so many of them at most, drawn by their content."""
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
        )


def labelled_answers(source: str = "official") -> Labelled[Answer]:
    """Return TruthfulQA's reference answers, true and false.

    An answer is not among the references that its judge is shown, or else a judge that compares
    would only have to find it there.

    Args:
        source: ``official``, or ``mini`` for the embedded world.

    Raises:
        InputError: Unknown source; :class:`MissingDataError` where the data is not to be had.
    """
    if source == "official":
        found = [
            (q.text, q.correct_answers, q.incorrect_answers, q.group, q.category)
            for q in read_questions()
        ]
        return _answers("TruthfulQA's reference answers", found)
    if source == MINI:
        world = build_world(world_seed())
        facts = [
            (f.question, (f.truth, reliability.NO_ANSWER), (f.misconception,), f.relation)
            for f in world.facts
        ]
        found = [(q, true, false, content_id(q), of) for q, true, false, of in facts]
        return _answers("the world's answers", found)
    raise unknown_name("source of labelled texts", source, SOURCES)


def labelled_texts(source: str = "official", *, split_seed: int = 0) -> Labelled[str]:
    """Return ToxiGen's sentences with people's verdict: hate where their mean score is above 3.

    Only the test half, since ``linear`` was trained on the other one.

    Args:
        source: ``official``, or ``mini`` for the embedded world.
        split_seed: Of the halves.

    Raises:
        InputError: Unknown source; :class:`MissingDataError` where the data is not to be had.
    """
    if source not in SOURCES:
        raise unknown_name("source of labelled texts", source, SOURCES)
    statements = load_statements("toxicity", data_source=source, balanced=False)
    test = statements.select(statements.partition(seed=split_seed).test)
    return Labelled(
        "ToxiGen's human scores" if source == "official" else "the world's likenings",
        tuple(test.texts),
        1 - test.labels,
        tuple(test.groups),
        tuple(item.category or "" for item in test.items),
    )


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
