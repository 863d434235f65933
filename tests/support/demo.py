"""A demo of seconds: the quick family, and few of everything that there are many of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lm_eval_trust.demo import cells
from lm_eval_trust.demo import pipeline as chain
from lm_eval_trust.mini import family, world

from .mini import QUICK


def shorten_demo(set_attribute: Callable[[Any, str, Any], None]) -> None:
    """Shorten the demo by ``setattr``, or by pytest's, which puts everything back."""
    set_attribute(family, "RECIPE", QUICK)
    set_attribute(world, "MIDDLE", "mini@ckpt_004")
    set_attribute(chain, "table_vectors", lambda middle: cells.table_vectors(middle)[:1])
    set_attribute(chain, "STRENGTHS", (1.0, 2.0))
    set_attribute(chain, "SWEPT", {"reliability": cells.SWEPT["reliability"]})
    set_attribute(chain, "SWEPT_ALPHAS", (0.0, 2.0))
    set_attribute(chain, "CORRELATED", ("reliability",))
    set_attribute(chain, "TUNED", {"lora": cells.TUNED["lora"]})
    set_attribute(cells, "PROXY_SHARES", cells.PROXY_SHARES[:2])
