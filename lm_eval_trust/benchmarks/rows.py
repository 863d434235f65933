"""The rows of a benchmark's tasks: one part of it, in an order that makes a prefix a sample."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lm_eval_trust.benchmarks.partition import SPLITS, partition
from lm_eval_trust.benchmarks.row_builders import FORMS, Row
from lm_eval_trust.benchmarks.settings import DataSettings
from lm_eval_trust.benchmarks.split_groups import universe
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.hashing import fingerprint

#: Parts that tasks evaluate; the training part belongs to vectors and adapters.
EVALUATED_PARTS = ("test", "validation")


def load_rows(
    form: str,
    *,
    data_source: str = "official",
    split: str = "grouped",
    split_seed: int = 0,
    part: str = "test",
    data_seed: int = 0,
    perturbation_rate: float = 0.05,
) -> list[dict[str, Any]]:
    """Return the rows of a task's form that are evaluated: by default the test half.

    The groups are split over the benchmark's universe, as the statements are, so no row of a
    grouped split shares a question, context or sentence with the development half of either
    source. The order is that of the content hashes: a prefix (``--limit``) is a random sample.

    Args:
        form: A name of :data:`~lm_eval_trust.benchmarks.row_builders.FORMS`, e.g.
            ``toxigen_generation``.
        data_source: ``official``, ``tracingllm``, or ``mini`` for the embedded world.
        split: ``grouped``, ``random`` (the paper's plain split over rows) or ``full`` (all rows).
        split_seed: Seed of the split.
        part: ``test``, or ``validation`` for choosing what is then reported on the test half.
        data_seed: Seed of candidates, balance and perturbed letters.
        perturbation_rate: Share of letters whose case is flipped; SST-2 only.

    Returns:
        Rows with ``item_id`` (content hash), ``group_id``, ``category`` and the form's fields, of
        the same types in every row.

    Raises:
        InputError: Unknown form, source, split or part, a form that the source cannot make, a bad
            rate, a file that fails its checksum, or no rows left.
        MissingDataError: A file is nowhere to be had.
    """
    if form not in FORMS:
        raise unknown_name("form", form, FORMS)
    if split not in (*SPLITS, "full"):
        raise unknown_name("split", split, (*SPLITS, "full"))
    if part not in EVALUATED_PARTS:
        raise unknown_name("part to evaluate", part, EVALUATED_PARTS)
    if split == "full" and part != "test":
        raise InputError(f"split=full has no {part} part; choose split=grouped or split=random.")
    settings = DataSettings(data_source, data_seed, perturbation_rate)
    rows = _identified(form, FORMS[form].build(form, settings))
    if split != "full":
        groups = [str(row["group_id"]) for row in rows]
        strata = universe(FORMS[form].benchmark, groups, data_source=data_source)
        parts = partition(groups, split=split, seed=split_seed, universe=strata)
        rows = [rows[position] for position in parts.part(part)]
    if not rows:
        raise InputError(
            f"No rows are left for {form} from {data_source} with split={split}, part={part}."
        )
    return sorted(rows, key=lambda row: str(row["item_id"]))


def _identified(form: str, rows: list[Row]) -> list[Row]:
    """Add the content hash of each row; equal rows are told apart by their number."""
    seen: Counter[str] = Counter()
    identified = []
    for row in rows:
        content = fingerprint({"form": form, **row})
        identified.append({"item_id": fingerprint({"row": content, "n": seen[content]}), **row})
        seen[content] += 1
    return identified
