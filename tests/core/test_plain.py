"""Values as JSON can hold them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from lm_eval_trust.core.plain import is_finite, plain


@dataclass(frozen=True)
class Point:
    x: float
    names: tuple[str, ...]


def test_what_json_cannot_hold_is_replaced() -> None:
    value = {
        1: Point(math.nan, ("a",)),
        "path": Path("a/b"),
        "kind": int,
        "no": None,
        "yes": True,
    }
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "1": {"x": None, "names": ["a"]},
        "path": "a/b",
        "kind": "<class 'int'>",
        "no": None,
        "yes": True,
    }


def test_finite_numbers() -> None:
    assert [is_finite(v) for v in (1, 0.5, True, math.inf, math.nan, "1", None)] == [
        *(True, True, True),
        *(False, False, False, False),
    ]
