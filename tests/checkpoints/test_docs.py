"""What the documentation shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.hub import Hub, Repository, stand_in_model

from lm_eval_trust.checkpoints.families import FamilySettings, family_names, open_family

TEXT = Path(__file__).parents[2].joinpath("docs", "checkpoints.md").read_text("utf-8")
LISTING, STREAMING = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_listing(capsys: pytest.CaptureFixture[str]) -> None:
    exec(LISTING, {})
    for line in capsys.readouterr().out.splitlines():
        assert f"    {line}\n" in TEXT


@pytest.mark.slow
def test_streaming(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = open_family(FamilySettings(name="pythia-70m")).choose("log 12")
    revisions = {str(c.revision): stand_in_model(c.step, 1000) for c in chosen[:-1]}
    hub.models["EleutherAI/pythia-70m"] = Repository(revisions)
    monkeypatch.chdir(tmp_path)
    exec(STREAMING, {})
    printed = capsys.readouterr().out.splitlines()
    for line, checkpoint in zip(printed, chosen[:-1], strict=False):
        assert line.startswith(f"EleutherAI/pythia-70m@{checkpoint.revision} ")
    assert printed[-2].startswith("skipped: EleutherAI/pythia-70m has no revision 'step143000'")


def test_every_preset_is_described() -> None:
    for name in family_names():
        size = name.removeprefix("pythia").removesuffix("-deduped")
        assert size in TEXT
