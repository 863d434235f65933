"""Tidy tables: types, merging, appending, damage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from lm_eval_trust.analysis.tables import (
    COLUMNS,
    Measurement,
    append,
    as_table,
    merge,
    read_table,
    write_table,
)
from lm_eval_trust.core.errors import InputError

ROW = Measurement("ckpt_003", 4, 1024, "privacy", 2, "probe_accuracy", 0.75, 0.7, 0.8, 300)
ROWS = [ROW, replace(ROW, layer=3, value=0.5), replace(ROW, checkpoint="ckpt_004", step=8)]


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    table = merge(as_table(ROWS), as_table([]))
    write_table(table, tmp_path / "probes")
    pd.testing.assert_frame_equal(read_table(tmp_path / "probes"), table)
    assert {name: str(kind) for name, kind in table.dtypes.items()} == COLUMNS
    assert list(pd.read_csv(tmp_path / "probes.csv").columns) == list(COLUMNS)


def test_appending_twice_adds_nothing(tmp_path: Path) -> None:
    append(tmp_path / "t", ROWS[:2])
    once = append(tmp_path / "t", ROWS[1:])
    again = append(tmp_path / "t", ROWS)
    pd.testing.assert_frame_equal(once, again)
    assert len(once) == 3


def test_two_values_for_one_measurement_are_refused(tmp_path: Path) -> None:
    append(tmp_path / "t", ROWS)
    before = (tmp_path / "t.parquet").read_bytes()
    with pytest.raises(InputError, match="Two values for one measurement: checkpoint ckpt_003"):
        append(tmp_path / "t", [replace(ROW, value=0.9)])
    assert (tmp_path / "t.parquet").read_bytes() == before
    append(tmp_path / "t", [replace(ROW, value=0.9, settings='{"C": 2}')])


def test_other_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected"):
        merge(as_table(ROWS), pd.DataFrame({"a": [1]}))
    with pytest.raises(InputError, match="Cannot read the table"):
        read_table(tmp_path / "none")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match="Cannot read the table"):
        read_table(tmp_path / "bad")
