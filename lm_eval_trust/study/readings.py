"""How the checkpoints of a study read its statements: tokens, last tokens, chat templates."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from lm_eval_trust.core.hashing import content_id
from lm_eval_trust.study.cells import ActivationCell
from lm_eval_trust.study.folder import StudyFolder

logger = logging.getLogger(__name__)

COLUMNS = {
    "checkpoint": "string",
    "stage": "string",
    "step": "Int64",
    "dimension": "string",
    "seed": "int64",
    "tokens": "int64",
    "ids": "string",
    "last": "float64",
    "last_token": "string",
    "chat_template": "string",
}


def reading_record(tokenizer: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Return what tells whether another tokenizer reads these texts alike, as JSON-like values.

    ``ids`` is a digest of all token ids and ``tokens`` their number; ``last`` is the share of texts
    that end in the most frequent last token, and ``last_token`` that token: where it is 1, the
    tokenizer may have appended its own token, and activations are read there.
    ``chat_template`` is a digest of the template, empty if there is none.

    Args:
        tokenizer: A checkpoint's own.
        texts: The statements.
    """
    ids: list[list[int]] = []
    if texts:
        ids = tokenizer(list(texts), verbose=False)["input_ids"]
    ends = Counter(tokens[-1] for tokens in ids if tokens)
    last, number = ends.most_common(1)[0] if ends else (None, 0)
    template = getattr(tokenizer, "chat_template", None)
    return {
        "ids": content_id(*(" ".join(map(str, tokens)) for tokens in ids)),
        "tokens": sum(map(len, ids)),
        "last": number / max(1, len(texts)),
        "last_token": "" if last is None else str(tokenizer.convert_ids_to_tokens(last)),
        "chat_template": content_id(str(template)) if template else "",
    }


def reading_of(cell: ActivationCell, folder: StudyFolder) -> dict[str, Any]:
    """Return what :func:`reading_record` said.

    It is empty for a cell that is not finished, or of a release that did not record it.
    """
    record = folder.record(cell)
    found: dict[str, Any] = record["result"].get("reading", {}) if record else {}
    return found


def reading_table(cells: Sequence[ActivationCell], folder: StudyFolder) -> pd.DataFrame:
    """Return a row for each finished activation set, by dimension and step."""
    rows = [
        {
            "checkpoint": cell.model.name,
            "stage": cell.model.stage,
            "step": cell.model.step,
            "dimension": cell.dimension,
            "seed": cell.statements.seed,
            **found,
        }
        for cell in cells
        if not cell.wording and (found := reading_of(cell, folder))
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    order = ["seed", "dimension", "step", "checkpoint"]
    return table.sort_values(order, ignore_index=True, kind="stable")


def warn_of_readings(table: pd.DataFrame) -> None:
    """Say where checkpoints do not read alike, since their activations then differ by that too."""
    for message in _differences(table):
        logger.warning(message)


def _differences(table: pd.DataFrame) -> Iterator[str]:
    for (_, dimension), rows in table.groupby(["seed", "dimension"]):
        if rows["ids"].nunique() > 1:
            yield (
                f"Checkpoints read the statements of {dimension} as different tokens "
                f"({_changes(rows, 'ids')}): activations and probes differ by that as well."
            )
        if (rows["last"] == 1).any() and not (rows["last"] == 1).all():
            yield (
                f"Some tokenizers end every statement of {dimension} in one token "
                f"({_changes(rows, 'last_token')}), and activations are read there."
            )
    first = table.drop_duplicates("checkpoint")
    if first["chat_template"].nunique() > 1:
        yield (
            f"The chat template changes ({_changes(first, 'chat_template')}): statements are read "
            f"plain at each checkpoint; tasks that ask in a model's chat template are asked "
            f"differently from there on."
        )


def _changes(rows: pd.DataFrame, column: str) -> str:
    """Return from which checkpoint to which a column changes."""
    ordered = rows.sort_values("step")
    before = ordered.shift()
    changed = ordered[column].ne(before[column]) & before[column].notna()
    names = [
        f"{old} to {new}"
        for old, new in zip(
            before.loc[changed, "checkpoint"], ordered.loc[changed, "checkpoint"], strict=True
        )
    ]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
