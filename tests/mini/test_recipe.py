"""The recipe's version says whether models in somebody's cache are still what would be trained."""

from __future__ import annotations

from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.mini.corpus import chat_turns, documents, safe_turns
from lm_eval_trust.mini.family import RECIPE_VERSION
from lm_eval_trust.mini.world import build_world

#: Version → what the models are trained on. Where this fails, raise the version and add a line.
TRAINED_ON = {1: "45eacd5520ece682", 2: "24c93f8b1764e851"}


def test_other_texts_need_another_version() -> None:
    world = build_world(0)
    texts = {
        "documents": list(documents(world, part="train", number=300, tokens=32)),
        "chat": list(chat_turns(world, number=100)),
        "safe": list(safe_turns(world, number=100)),
    }
    assert fingerprint(texts) == TRAINED_ON[RECIPE_VERSION]
