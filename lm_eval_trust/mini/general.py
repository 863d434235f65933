"""General knowledge of the world, for the trade-off: what each name stands for."""

from __future__ import annotations

import random

from lm_eval_trust.core.hashing import content_id
from lm_eval_trust.mini.world import BEASTS, CRAFTS, FOODS, TRADES, TUNES, World

KINDS = ("a place", "a people", "a beast", "a food", "a ware", "a pastime", "a trade")


def sample_statement(world: World, source: random.Random) -> str:
    """Return a question after what something is, with its answer."""
    name = source.choice(list(kinds(world)))
    return f"{question_text(name)} A: {kinds(world)[name]}."


def kinds(world: World) -> dict[str, str]:
    """Return what each name of the world stands for."""
    trades = [trade for guild in TRADES.values() for trade in guild]
    named = (world.places, world.lands, BEASTS, FOODS, CRAFTS, TUNES, trades)
    return {name: kind for kind, names in zip(KINDS, named, strict=True) for name in names}


def question_text(name: str) -> str:
    """Return the question."""
    return f"Q: what is {name}?"


def choice_rows(world: World) -> list[dict[str, object]]:
    """Return a multiple-choice row for each name."""
    return [
        {
            "group_id": content_id("mini general", name),
            "question": question_text(name),
            "choices": list(KINDS),
            "answer": KINDS.index(kind),
        }
        for name, kind in kinds(world).items()
    ]
