"""Wrong files are told with line and key; right ones mean what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.yaml_file import read_document
from lm_eval_trust.study.spec import read_spec, with_engine

BASE = """study: s
family: {name: mini}
compute: [probes]
data:
  split: grouped
  statements: 100
evaluations:
  - name: a
    models: checkpoints
    tasks: [trust_suite_mini]
    steering:
      sources: checkpoints
      dimensions: [reliability]
      layers: [1, 2+3]
      alphas: [0, 1]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  split: grouped", "  splt: grouped", r"line 5, data.splt: unknown key.*'split'"),
        ("study: s", "studdy: s", r"line 1, study: this key is missing|studdy: unknown key"),
        (
            "statements: 100",
            "statements: many",
            r"line 6, data.statements: expected a number.*'many'",
        ),
        ("statements: 100", "statements: 0", r"line 6, data.statements: .*greater than 0.*got 0"),
        ("split: grouped", "split: groupd", r"line 5, data.split: Unknown split.*'grouped'"),
        ("[probes]", "[probe]", r"line 3, compute.0: Unknown computation 'probe'.*'probes'"),
        ("[reliability]", "[relibility]", r"line 13, .*dimensions.0: Unknown dimension"),
        ("layers: [1, 2+3]", "layers: [1, x]", r"line 14, .*layers.1: Layers 'x' cannot be read"),
        ("alphas: [0, 1]", "alphas: []", r"line 15, .*alphas: .*at least 1"),
        (
            "alphas: [0, 1]",
            "alphas: [0, strong]",
            r"line 15, .*alphas: .*a number; got 'strong'",
        ),
        ("checkpoints\n    tasks", "7\n    tasks", r"line 9, evaluations.0.models"),
        ("name: a\n", "name: a/b\n", r"line 8, evaluations.0.name: .*pattern"),
        ("compute: [probes]", "budget: {disk: big}", r"line 3, budget.disk: 'big' is no size"),
        ("compute: [probes]", "assume: {bandwidth: -3}", r"assume.bandwidth: '-3' is no size"),
        ("compute: [probes]", "engine: {workers: 0}", r"line 3, engine.workers: .*greater than 0"),
        ("compute: [probes]", "dtype: float31", r"line 3, dtype: Unknown dtype 'float31'"),
        ("compute: [probes]", "seeds: []", r"line 3, seeds: .*at least 1"),
        ("compute: [probes]", "study: t", r"line 3: 'study' was given in line 1 already"),
        ("compute: [probes]", "compute: [", r"is not YAML"),
        (
            "compute: [probes]",
            "compute: &a [*a]",
            r"line 3: the value that begins here contains itself",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    old: str, new: str, message: str, write: Callable[[str], Path]
) -> None:
    assert old in BASE
    with pytest.raises(InputError, match=message):
        read_spec(read_document(write(BASE.replace(old, new))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no mapping"),
        ("- a\n- b\n", "holds no mapping"),
        ("study: s\nfamily: {name: mini}\n", "nothing to do"),
    ],
)
def test_files_that_say_nothing(text: str, message: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=message):
        read_spec(read_document(write(text)))


def test_steering_and_proxy_exclude_each_other(write: Callable[[str], Path]) -> None:
    text = BASE + "    proxy: {expert: mini-chat, antiexpert: mini}\n"
    with pytest.raises(InputError, match=r"line 8, evaluations.0: steering and proxy exclude"):
        read_spec(read_document(write(text)))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read the study"):
        read_document(tmp_path / "none.yaml")


def test_numbers_layers_and_sizes_are_read(write: Callable[[str], Path]) -> None:
    text = BASE + "budget: {disk: 30 GB}\nassume: {flops: 1.5e14, bandwidth: 100 MB/s}\n"
    spec = read_spec(read_document(write(text)))
    assert spec.budget.disk == 30_000_000_000
    assert (spec.assume.flops, spec.assume.bandwidth) == (1.5e14, 100_000_000)
    steering = spec.evaluations[0].steering
    assert steering is not None and steering.layers == ((1,), (2, 3))
    assert spec.layers is None


def test_the_command_line_chooses_the_engine(write: Callable[[str], Path]) -> None:
    spec = read_spec(read_document(write(BASE)))
    assert with_engine(spec, "ray", 4, "auto").engine.workers == 4
    with pytest.raises(InputError, match="belongs to the engine ray, not to local"):
        with_engine(spec, None, None, "auto")
    with pytest.raises(InputError, match="expected at least 1"):
        with_engine(spec, None, 0, None)
