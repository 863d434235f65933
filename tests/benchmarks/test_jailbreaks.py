"""Sets of harmful requests from a Hub on localhost, and what is said without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub import Hub, Repository, hub_server

from lm_eval_trust.benchmarks.files import DATA_VARIABLE
from lm_eval_trust.benchmarks.jailbreaks import BEHAVIOURS, FORBIDDEN
from lm_eval_trust.benchmarks.load import load_rows
from lm_eval_trust.core.errors import InputError, MissingDataError

CARD = """---
configs:
- config_name: behaviors
  data_files:
  - {split: harmful, path: data/harmful.csv}
  - {split: benign, path: data/benign.csv}
---
"""


def behaviours(goal: str) -> bytes:
    lines = [f"{i},{goal} boat {i},Sure,Boat {i},Boats,Original" for i in range(6)]
    return "\n".join(["Index,Goal,Target,Behavior,Category,Source", *lines, ""]).encode()


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with hub_server() as found:
        files = {
            "README.md": CARD.encode(),
            "data/harmful.csv": behaviours("Sink"),
            "data/benign.csv": behaviours("Paint"),
        }
        found.datasets["JailbreakBench/JBB-Behaviors"] = Repository({"main": files})
        prompts = "prompt,category\n" + "".join(f"Hide the oar {i},Theft\n" for i in range(8))
        found.datasets["walledai/StrongREJECT"] = Repository(
            {"main": {"train.csv": prompts.encode()}, "other": {"train.csv": b"text\nx\n"}}
        )
        yield found


CODE = """
import sys
from lm_eval_trust.benchmarks.load import load_rows
from lm_eval_trust.core.errors import TrustError
for form in sys.argv[1:]:
    try:
        rows = load_rows(form, split="full")
        print(form, len(rows), len({r["group_id"] for r in rows}), rows[0]["category"])
    except TrustError as error:
        print(type(error).__name__, error)
"""
FORMS = ("jailbreakbench_behaviors", "jailbreakbench_harmful", "strongreject_prompts")


def load(cache: Path, endpoint: str, *forms: str, **environment: str) -> str:
    own = {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(cache / "hub"),
        "LM_EVAL_TRUST_CACHE": str(cache / "own"),
        **environment,
    }
    kept = {k: v for k, v in os.environ.items() if k != DATA_VARIABLE}
    words = [sys.executable, "-c", CODE, *forms]
    done = subprocess.run(words, env=kept | own, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_both_sets_come_from_the_hub_once(hub: Hub, tmp_path: Path) -> None:
    expected = [
        "jailbreakbench_behaviors 12 6 Boats",
        "jailbreakbench_harmful 6 6 Boats",
        "strongreject_prompts 8 8 Theft",
    ]
    assert load(tmp_path, hub.address, *FORMS).splitlines() == expected
    offline = load(tmp_path, "http://localhost:9", *FORMS, HF_HUB_OFFLINE="1")
    assert offline.splitlines() == expected


@pytest.mark.slow
def test_what_the_hub_lacks_is_named(hub: Hub, tmp_path: Path) -> None:
    form, variable = "strongreject_prompts", "LM_EVAL_TRUST_STRONGREJECT_REVISION"
    other = load(tmp_path / "a", hub.address, form, **{variable: "other"})
    assert other.startswith("ExternalError") and "no column 'prompt'" in other
    missing = load(tmp_path / "b", hub.address, form, **{variable: "v9"})
    assert missing.startswith("InputError") and f"has no revision 'v9'; set {variable}" in missing
    hub.closed.add("walledai/StrongREJECT")
    closed = load(tmp_path / "c", hub.address, form)
    hub.closed.clear()
    assert "walledai/StrongREJECT" in closed and "Error" in closed


def test_without_network_the_set_is_named_with_the_ways_to_it(
    monkeypatch: pytest.MonkeyPatch, own_cache: None
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    for form, file, name in (
        ("jailbreakbench_harmful", BEHAVIOURS, "JailbreakBench/JBB-Behaviors"),
        ("strongreject_prompts", FORBIDDEN, "walledai/StrongREJECT"),
    ):
        with pytest.raises(MissingDataError) as caught:
            load_rows(form)
        assert file in str(caught.value) and name in str(caught.value)
        assert "HF_HUB_OFFLINE forbids fetching it" in str(caught.value)
        assert len(str(caught.value)) < 700


def test_a_label_outside_the_scheme_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / BEHAVIOURS
    path.parent.mkdir()
    row = {"index": 1, "question": "?", "behavior": "b", "category": "c", "label": "odd"}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"line 1 has the label 'odd'; expected unsafe or safe"):
        load_rows("jailbreakbench_behaviors")
