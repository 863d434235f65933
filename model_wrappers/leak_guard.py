"""The leak guard: nothing is evaluated on items that it was built from, unless asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lm_eval_trust.core.errors import LeakError
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.core.provenance import Provenance

#: Fields of other people's tasks that hold the text our groups are made from.
_TEXT_FIELDS = ("question", "sentence", "text", "context", "prompt", "statement")


def groups_of(doc: Mapping[str, Any]) -> set[str]:
    """Return the group ids of a task's document.

    Our own tasks carry ``group_id``; for other tasks the ids are computed from the fields that
    hold a question, a context or a sentence, so for instance the harness's own
    ``truthfulqa_mc1`` is guarded as well.
    """
    if isinstance(doc.get("group_id"), str):
        return {doc["group_id"]}
    texts = (doc.get(name) for name in _TEXT_FIELDS)
    return {group_id(text) for text in texts if isinstance(text, str)}


def leaked_groups(built_from: Iterable[Provenance], docs: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the groups that occur both in what was built and in what is to be evaluated."""
    used = {group for provenance in built_from for group in provenance.groups}
    return {group for doc in docs for group in groups_of(doc)} & used if used else set()


def refuse_leaks(
    built_from: Iterable[Provenance], docs: Iterable[Mapping[str, Any]], *, task: str
) -> None:
    """Raise when documents of ``task`` were used in building.

    Raises:
        LeakError: With the number of overlapping items and the way to allow it.
    """
    built_from, docs = list(built_from), list(docs)
    leaked = leaked_groups(built_from, docs)
    if not leaked:
        return
    items = sum(bool(groups_of(doc) & leaked) for doc in docs)
    sources = "; ".join(
        f"{_made_by(p.method)}: {p.dimension} {p.part} part, {p.split} split, seed {p.split_seed}"
        for p in built_from
        if leaked & set(p.groups)
    )
    raise LeakError(
        f"{items} of the {len(docs)} items of {task} belong to {len(leaked)} groups that the model "
        f"was made from ({sources}). Evaluate with the same split_seed and split, make it anew, or "
        f"pass allow_leak=true as a model argument."
    )


def _made_by(method: str) -> str:
    return {"lora": "LoRA adapter", "full": "fine-tuned weights"}.get(method, "steering vector")
