"""The studies of the documentation: those of Amber are as it says, those of the mini family run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from support.hub import Hub, Repository, hub_server

from lm_eval_trust.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
STUDIES = DOCS / "studies"
#: Amber's shape is that of Llama 7B: 6,738,415,616 weights of two bytes.
WEIGHTS = 2 * 6_738_415_616


class Declared(bytes):
    """Content that says of itself to be as long as the weights are."""

    def __len__(self) -> int:
        return WEIGHTS


@pytest.fixture
def amber(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub with the names and sizes of Amber's 360 checkpoints and of its tuned models."""
    with hub_server() as hub:
        files = {"config.json": b"{}", "model.safetensors": Declared(b"weights")}
        names = ["main", *(f"ckpt_{i:03d}" for i in range(359))]
        hub.models["LLM360/Amber"] = Repository(dict.fromkeys(names, files))
        for name in ("LLM360/AmberChat", "LLM360/AmberSafe"):
            hub.models[name] = Repository({"main": files})
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield hub
        close_session()


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(STUDIES.glob("amber-*.yaml")), ids=lambda path: path.stem)
def test_a_dry_run_says_what_the_documentation_says(
    file: Path, amber: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", str(file), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    indented = "".join(f"    {line}\n" for line in printed.splitlines())
    assert indented in (DOCS / "studies.md").read_text(encoding="utf-8"), printed


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(STUDIES.glob("mini-*.yaml")), ids=lambda path: path.stem)
def test_a_study_of_the_mini_family_runs(
    file: Path, quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["study", str(file), "--out", str(out), "--engine", "inline"]) == 0
    assert " 0 failed" in capsys.readouterr().out
    assert list((out / "export").rglob("*.csv")) and list((out / "export").rglob("*.png"))


def test_each_study_has_its_twin() -> None:
    names = {path.stem.partition("-")[2] for path in STUDIES.glob("amber-*.yaml")}
    assert names == {path.stem.partition("-")[2] for path in STUDIES.glob("mini-*.yaml")}
