"""Every way in which the package writes meets a full disk: one kind of error, and no half file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file
from support.disk import nearly_full

from lm_eval_trust.analysis.figures import new_figure, save_figure
from lm_eval_trust.analysis.tables import write_table
from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.saved_runs import write_run
from lm_eval_trust.core.storage import atomic_folder, atomic_path, disk_errors, write_kept
from lm_eval_trust.core.store import KeyedStore

NUMBERS = np.random.default_rng(0).random((200, 100), dtype=np.float32)


def safetensors(out: Path) -> None:
    with atomic_path(out / "a.safetensors") as temporary:
        save_file({"a": NUMBERS}, temporary)


def pickled(out: Path) -> None:
    with atomic_path(out / "a.pt") as temporary:
        torch.save({"a": torch.from_numpy(NUMBERS)}, temporary)


def table(out: Path) -> None:
    write_table(pd.DataFrame(NUMBERS).add_prefix("column"), out / "table")


def figure(out: Path) -> None:
    with new_figure(10.0, 10.0) as drawn:
        drawn.subplots().imshow(NUMBERS)
    save_figure(drawn, out, "figure")


def kept(out: Path) -> None:
    write_kept(out / "a.json", NUMBERS.tolist())


def samples(out: Path) -> None:
    write_run(out, "2026-01-02", {}, {"task": [{"doc": "x" * 1000}] * 100})


def folder(out: Path) -> None:
    with atomic_folder(out / "model") as temporary:
        (temporary / "config.json").write_text("{}", encoding="utf-8")
        save_file({"a": NUMBERS}, temporary / "model.safetensors")


WRITERS = (safetensors, pickled, table, figure, kept, samples, folder)


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_told_and_leaves_nothing(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with nearly_full(), pytest.raises(ExternalError, match=r"Cannot write .*Free space there"):
        write(out)
    assert list(out.iterdir()) == []
    write(out)
    assert list(out.iterdir())


def test_a_full_disk_loses_no_kept_answer(tmp_path: Path) -> None:
    with KeyedStore(tmp_path / "answers.sqlite", "context") as store:
        store.put("first", "kept")
        with nearly_full(), pytest.raises(ExternalError, match="Cannot write the answers"):
            for number in range(50):
                store.put(str(number), "x" * 4000)
        assert store.get("first") == "kept"


def test_other_errors_of_the_block_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"), disk_errors(tmp_path):
        raise RuntimeError("a bug")
