"""How far a study is, and what a run came to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.grid import Study
from lm_eval_trust.study.human_units import format_seconds
from lm_eval_trust.study.run import Outcome


def describe_status(study: Study, folder: StudyFolder) -> str:
    """Return finished, failed and left cells of each kind, the time so far, and what is left."""
    skipped = folder.skipped()
    cells = study.grid(skipped).cells
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    records = []
    for cell in cells:
        record = folder.record(cell)
        state = "finished" if record else "failed" if folder.failure(cell) else "left"
        counts[cell.kind][state] += 1
        if record:
            records.append(record)
    lines = [f"{'':12} finished   failed     left"]
    lines += [
        f"{kind:12} {n['finished']:8,} {n['failed']:8,} {n['left']:8,}"
        for kind, n in counts.items()
    ]
    lines += [f"skipped: {name} ({reason})" for name, reason in sorted(skipped.items())]
    seconds = mean_seconds(study, folder)
    if records:
        ends = [float(record["finished"]) for record in records]
        spent = max(ends) - min(r["finished"] - r["seconds"] for r in records)
        left = sum(seconds.get(kind, 0.0) * (n["left"] + n["failed"]) for kind, n in counts.items())
        workers = study.spec.engine.workers or 1
        lines.append(
            f"{format_seconds(spent)} from the first cell's beginning to the last one's end; about "
            f"{format_seconds(left / workers)} of computing left with {workers} "
            f"worker{'s' if workers > 1 else ''}, downloads aside."
        )
    return "\n".join(lines)


def mean_seconds(study: Study, folder: StudyFolder) -> dict[str, float]:
    """Return the mean time of each kind's finished cells."""
    times: dict[str, list[float]] = defaultdict(list)
    for cell in study.grid(folder.skipped()).cells:
        record = folder.record(cell)
        if record is not None:
            times[cell.kind].append(float(record["seconds"]))
    return {kind: sum(values) / len(values) for kind, values in times.items()}


def describe_outcome(outcome: Outcome) -> str:
    """Return what a run did, and what failed, a line each."""
    lines = [
        f"{outcome.computed:,} cells computed, {outcome.found:,} were there, "
        f"{len(outcome.failed):,} failed, {len(outcome.skipped):,} checkpoints skipped, in "
        f"{format_seconds(outcome.wall_seconds)}."
    ]
    lines += _listed("failed", outcome.failed) + _listed("skipped", outcome.skipped)
    return "\n".join(lines)


def _listed(what: str, reasons: Mapping[str, str], most: int = 20) -> list[str]:
    lines = [f"{what}: {name}: {reason}" for name, reason in list(reasons.items())[:most]]
    if len(reasons) > most:
        lines.append(f"{what}: {len(reasons) - most} more; see the study's folder.")
    return lines
