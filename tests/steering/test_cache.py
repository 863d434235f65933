from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.benchmarks.registry import find_dimension
from lm_eval_trust.benchmarks.statements import Statement, Statements
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.steering import build as building
from lm_eval_trust.steering.build import build_vector, cached_vector
from lm_eval_trust.steering.vectors import SteeringVector


def towns(dimension: str, *, data_source: str = "official", data_seed: int = 0) -> Statements:
    items = tuple(
        Statement(f"Town {town + data_seed} lies {place}.", label, group_id(str(town)))
        for town in range(12)
        for label, place in enumerate(("in the hills", "by the sea"))
    )
    return Statements(find_dimension(dimension), data_source, items, {"data_seed": data_seed})


#: Runs in a process of its own, with the same statements; every loaded model leaves a line.
ASKS = """
import sys, time
sys.path.insert(0, {tests!r})
from test_cache import building, cached_vector, towns
real = building.load_pinned
def slowly(*args, **settings):
    with open({log!r}, "a") as log:
        log.write("loaded\\n")
    time.sleep(1)
    return real(*args, **settings)
building.load_statements, building.load_pinned = towns, slowly
print(float(cached_vector(dimension="toxicity", source={source!r}, layers=[1]).layer(1).target))
"""


class Loads:
    """Counts how often a model is loaded, which is once for each vector that is built."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *args: Any, **settings: Any) -> Any:
        self.count += 1
        return self.real(*args, **settings)

    real = staticmethod(building.load_pinned)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    counted = Loads()
    monkeypatch.setattr(building, "load_pinned", counted)
    monkeypatch.setattr(building, "load_statements", towns)
    return counted


@pytest.fixture
def source(tiny_llama: Callable[..., Path]) -> str:
    return str(tiny_llama())


def ask(source: str, **changes: Any) -> SteeringVector:
    settings: dict[str, Any] = {"dimension": "toxicity", "source": source, "layers": [1, 2]}
    return cached_vector(**settings | changes)


def entries() -> list[Path]:
    return sorted((cache_dir() / "vectors").glob("*.safetensors"))


def test_the_second_use_finds_the_first_ones_vector(loads: Loads, source: str) -> None:
    first, second = ask(source), ask(source, layers=[2, 1])
    assert loads.count == 1
    model = AutoModelForCausalLM.from_pretrained(source).eval()
    direct = build_vector(
        model,
        AutoTokenizer.from_pretrained(source),
        towns("toxicity"),
        layers=[1, 2],
        identity=find_source(source).identity,
        progress=False,
    )
    for vector in (first, second):
        assert vector.provenance == direct.provenance
        assert torch.equal(vector.layer(2).direction, direct.layer(2).direction)


@pytest.mark.parametrize(
    "change",
    [
        {"dimension": "fairness"},
        {"layers": [1]},
        {"method": "pca"},
        {"data_source": "tracingllm"},
        {"split": "random"},
        {"split_seed": 1},
        {"data_seed": 1},
        {"dtype": "auto"},
    ],
)
def test_another_request_is_another_entry(
    loads: Loads, source: str, change: dict[str, Any]
) -> None:
    ask(source)
    ask(source, **change)
    assert loads.count == 2 and len(entries()) == 2


def test_another_model_is_another_entry(loads: Loads, tiny_llama: Callable[..., Path]) -> None:
    ask(str(tiny_llama()))
    ask(str(tiny_llama(seed=1)))
    assert loads.count == 2


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_damaged_entry_is_built_again(
    loads: Loads, source: str, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    expected = ask(source)
    (entry,) = entries()
    entry.write_bytes(entry.read_bytes()[:kept])
    with caplog.at_level(logging.WARNING):
        found = ask(source)
    assert loads.count == 2 and "damaged" in caplog.text
    assert torch.equal(found.layer(1).direction, expected.layer(1).direction)


def test_a_full_disk_leaves_no_entry(
    loads: Loads, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(ExternalError, match="No space left on device"):
            ask(source)
    assert entries() == [] and not list(cache_dir().rglob("*.tmp"))
    assert ask(source).width == 32


def test_what_cannot_be_built_is_refused_and_leaves_no_entry(loads: Loads, source: str) -> None:
    with pytest.raises(InputError, match="Layer 7 is out of range"):
        ask(source, layers=[7])
    with pytest.raises(InputError, match="Unknown method"):
        ask(source, method="mean")
    with pytest.raises(InputError, match="no model folder"):
        ask(source + "-missing")
    assert entries() == []


@pytest.mark.slow
def test_two_processes_build_once(source: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = ASKS.format(tests=str(Path(__file__).parent), log=str(log), source=source)
    asking = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=300)[0] for process in asking]
    assert [process.returncode for process in asking] == [0, 0]
    assert answers[0] == answers[1] != ""
    assert log.read_text() == "loaded\n"
