"""`sweep`, `rank` and `check` on vLLM give the reports that they give on transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from support.conformance import random_vector

from lm_eval_trust.cli import main

pytest.importorskip("vllm", reason="`make vllm` makes the environment with vLLM")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

ENGINE = {"enforce_eager": True, "max_model_len": 1024, "num_gpu_blocks_override": 64}
ENGINES = ("transformers", "vllm")


@pytest.fixture
def model(tiny_llama: Callable[..., Path]) -> Path:
    """A model whose heads are as large as the CPU build needs them."""
    return tiny_llama(hidden=64, heads=2, key_value_heads=2, max_length=1024)


@pytest.fixture
def vector(tmp_path: Path) -> Path:
    file = tmp_path / "v.safetensors"
    random_vector(64, (0, 1), norm=2.0, seed=3).save(file)
    return file


def _arguments(engine: str, model: Path) -> dict[str, Any]:
    return {"pretrained": str(model), "dtype": "float32"} | (ENGINE if engine == "vllm" else {})


def _on(engine: str, model: Path) -> list[str]:
    given = ",".join(f"{name}={value}" for name, value in _arguments(engine, model).items())
    device = ["--device", "cpu"] if engine == "transformers" else []
    return ["--engine", engine, "--model_args", given, *device]


def _same(tables: list[pd.DataFrame], within: float = 2e-3) -> None:
    pd.testing.assert_frame_equal(*tables, check_exact=False, rtol=within, atol=within)


def test_a_sweep(model: Path, vector: Path, tmp_path: Path) -> None:
    for engine in ENGINES:
        command = [
            *("sweep", *_on(engine, model), "--vector", str(vector), "--layers", "0-1"),
            *("--alphas", "-1", "1", "8", "--tasks", "trust_truthfulqa_mini", "--limit", "8"),
            *("--rounds", "1", "--max-kl", "5", "--perplexity-ratio", "50"),
            *("--controls", "prompt,random:3", "--out", str(tmp_path / engine)),
        ]
        assert main(command) == 0
    _same([pd.read_csv(tmp_path / engine / "sweep.csv") for engine in ENGINES])
    files = [
        {path.relative_to(tmp_path / engine).name for path in (tmp_path / engine).glob("*.*")}
        for engine in ENGINES
    ]
    assert files[0] == files[1]


def test_a_ranking(model: Path, vector: Path, tmp_path: Path) -> None:
    for engine in ENGINES:
        panel = {"tasks": ["trust_truthfulqa_mc2_mini"], "metric": "acc", "prompt": False}
        content = {
            "model_args": _arguments(engine, model),
            "engine": engine,
            "limit": 8,
            "text": {"passages": 4},
            "methods": [],
            "layers": [0, 1],
            "costs": [0.01],
            "scale": "unit",
            "alpha_limit": 50,
            "controls": {"random": 3, "shuffled": 0},
            "dimensions": {"panel": {**panel, "vectors": {"ours": str(vector)}}},
        }
        file = tmp_path / f"{engine}.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        assert main(["rank", str(file), "--out", str(tmp_path / engine)]) == 0
    for name in ("ranking", "strengths"):
        _same([pd.read_csv(tmp_path / engine / f"{name}.csv") for engine in ENGINES])


def test_a_check(model: Path, vector: Path, tmp_path: Path) -> None:
    found = []
    for engine in ENGINES:
        content = {
            "model_args": _arguments(engine, model),
            "engine": engine,
            "steering": [{"vector": str(vector), "layer": 1, "alpha": 2}],
            "limit": 8,
            "rules": {
                "trust_truthfulqa_mc2_mini": {"acc": {"max_drop": 0.5, "beats": {"random": 19}}},
                "trust_truthfulqa_mini": {"answered": {"min": 0}},
            },
        }
        file = tmp_path / f"{engine}.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        report, cache = tmp_path / f"{engine}.json", tmp_path / engine
        main(["check", str(file), "--cache", str(cache), "--json", str(report)])
        found.append(json.loads(report.read_text(encoding="utf-8")))
    of_each = [
        {
            (verdict["task"], verdict["rule"]["kind"]): (verdict["value"], verdict["outcome"])
            for check in report["checks"]
            for verdict in check["verdicts"]
        }
        for report in found
    ]
    assert len(of_each[0]) == 3
    assert of_each[0].keys() == of_each[1].keys()
    for key, (value, outcome) in of_each[0].items():
        assert of_each[1][key] == (pytest.approx(value, abs=1e-4), outcome)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--when", "vector=V,threshold=0.1"], "`when:`"),
        (["--device", "cpu"], "vLLM takes no device"),
        (["--model", "proxy_amber"], "model to sweep"),
        (["--model_args", "pretrained=mini-chat,attn_implementation=eager"], "attn_implementation"),
        (["--model_args", "pretrained=mini-chat", "--action", "rotate"], "enforce_eager=True"),
    ],
)
def test_what_vllm_cannot_do_is_refused_before_loading(
    model: Path,
    vector: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: list[str],
    words: str,
) -> None:
    monkeypatch.setattr("lm_eval.models.vllm_causallms.LLM", None)
    command = [
        *("sweep", *_on("vllm", model), "--vector", str(vector), "--layers", "0-1"),
        *("--tasks", "trust_truthfulqa_mini", "--limit", "8", "--out", str(tmp_path / "out")),
        *(part.replace("=V,", f"={vector},") for part in change),
    ]
    assert main(command) == 2
    assert words in capsys.readouterr().err
