"""How a tokenizer reads statements, so two checkpoints' readings can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lm_eval_trust.core.hashing import content_id


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
