"""Activation sets on disk: what comes back, and what was changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from support.planted_sets import SETTINGS, change_a_byte, write

from lm_eval_trust.benchmarks.partition import partition
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.study.activation_sets import read_set
from lm_eval_trust.study.analyse import analyse


def test_a_set_comes_back_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    found = read_set(path)
    assert (found.info.checkpoint, found.info.step, found.layers) == ("ckpt_003", 16, (0, 2))
    parts = partition([f"g{i // 2}" for i in range(60)])
    assert np.array_equal(found.parts.train, parts.train)
    assert np.array_equal(found.parts.test, parts.test)
    assert found.layer(2).shape == (60, 5)
    with pytest.raises(InputError, match="no layer 1"):
        found.layer(1)


@pytest.mark.parametrize("position", [-1, -700])
def test_a_changed_byte_is_refused(tmp_path: Path, position: int) -> None:
    folder = tmp_path / "sets"
    path = write(folder, 3)
    change_a_byte(path, position)
    with pytest.raises(InputError, match=f"{path} was changed since it was made"):
        analyse(folder, tmp_path / "out", SETTINGS)


def test_a_changed_header_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"ckpt_003", b"ckpt_004"))
    with pytest.raises(InputError, match="was changed since it was made"):
        read_set(path)


def test_a_set_of_a_release_without_checksums_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    with safe_open(path, framework="np") as file:
        record = json.loads(file.metadata()["lm_eval_trust"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del record["checksums"]
    save_file(tensors, path, {"lm_eval_trust": json.dumps(record)})
    assert read_set(path).layer(2).shape == (60, 5)
