"""``--cache_requests`` must not hand out the prompts of other data or of other settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

#: A process of its own: the harness reads its cache folder once, on import.
SCRIPT = """
import json, sys
import lm_eval
from support.harness import Scripted, manager

runs = []
for metadata, gen_kwargs in json.loads(sys.argv[1]):
    loaded = manager(**metadata).load(["trust_confaide"])
    loaded["tasks"]["trust_confaide"].set_config("generation_kwargs", gen_kwargs, update=True)
    results = lm_eval.evaluate(lm=Scripted(), task_dict=loaded, limit=6, cache_requests=True)
    runs.append(
        [[s["doc"]["statement"], *s["arguments"][0]] for s in results["samples"]["trust_confaide"]]
    )
print(json.dumps(runs))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
def test_each_run_gets_its_own_prompts(tmp_path: Path) -> None:
    asked: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"split_seed": 1}, {}),
        ({"split": "full"}, {}),
        ({}, {"max_gen_toks": 3}),
        ({}, {}),
    ]
    environment = {
        **os.environ,
        "LM_HARNESS_CACHE_PATH": str(tmp_path / "requests"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(asked)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    runs = json.loads(output.splitlines()[-1])
    for run in runs:
        assert len(run) == 6
        assert all(statement in prompt for statement, prompt, _ in run)
    assert len({json.dumps([s for s, _, _ in run]) for run in runs[:3]}) == 3
    assert runs[4] == runs[0]
    assert [run[0][2]["max_gen_toks"] for run in (runs[0], runs[3])] == [8, 3]
    assert len(list((tmp_path / "requests").iterdir())) == 4
