from __future__ import annotations

from pathlib import Path

import pandas as pd
from support.events import read_scalars

from lm_eval_trust.core.run_log import logging_to
from lm_eval_trust.study.export import COLUMNS, _report


def test_scores_of_checkpoints_go_to_tensorboard(tmp_path: Path) -> None:
    plain = {"evaluation": "main", "variant": "plain", "seed": 0, "task": "t", "metric": "acc"}
    steered = plain | {"variant": "steered", "source": "ckpt_1", "layer": "3", "alpha": 2.0}
    rows = [
        plain | {"step": 100, "value": 0.25},
        plain | {"step": 200, "value": 0.5},
        # Rows come entry by entry, so that steps go back.
        steered | {"step": 100, "value": 0.75},
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    with logging_to(f"tensorboard:{tmp_path}", "study", {}):
        _report(table)
    found = read_scalars(tmp_path / "study")
    assert found["main/plain/t/acc"] == [(100, 0.25), (200, 0.5)]
    (other,) = found.keys() - {"main/plain/t/acc"}
    assert "ckpt_1" in other
    assert found[other] == [(100, 0.75)]
