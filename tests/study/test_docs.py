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
#: Amber's shape is that of Llama 7B: 6,738,415,616 weights of two bytes; that of OLMo 3 7B, by its
#: configuration, gives 7,298,011,136.
AMBER, OLMO = 2 * 6_738_415_616, 2 * 7_298_011_136


class Declared(bytes):
    """Content that says of itself to be as long as the weights are."""

    size: int

    def __new__(cls, size: int) -> Declared:
        found = super().__new__(cls, b"weights")
        found.size = size
        return found

    def __len__(self) -> int:
        return self.size


def weights(size: int) -> dict[str, bytes]:
    """Files of a model whose weights take so many bytes."""
    return {"config.json": b"{}", "model.safetensors": Declared(size)}


@pytest.fixture
def amber(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub with the names and sizes of Amber's checkpoints, OLMo 3's, and their tuned models."""
    with hub_server() as hub:
        files = weights(AMBER)
        names = ["main", *(f"ckpt_{i:03d}" for i in range(359))]
        hub.models["LLM360/Amber"] = Repository(dict.fromkeys(names, files))
        for name in ("LLM360/AmberChat", "LLM360/AmberSafe"):
            hub.models[name] = Repository({"main": files})
        olmo = weights(OLMO)
        steps = {
            1: (*range(0, 1_413_000, 1000), 1_413_814),
            2: (*range(1000, 47_001, 1000), 47_684),
        }
        steps[3] = (*range(1000, 11_001, 1000), 11_921)
        names = [f"stage{stage}-step{step}" for stage in steps for step in steps[stage]]
        hub.models["allenai/Olmo-3-1025-7B"] = Repository(dict.fromkeys(["main", *names], olmo))
        for name in ("", "-SFT", "-DPO"):
            hub.models[f"allenai/Olmo-3-7B-Think{name}"] = Repository({"main": olmo})
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield hub
        close_session()


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    sorted(path for path in STUDIES.glob("*.yaml") if not path.stem.startswith("mini-")),
    ids=lambda path: path.stem,
)
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
    large = (path for path in STUDIES.glob("*.yaml") if not path.stem.startswith("mini-"))
    names = {path.stem.partition("-")[2] for path in large}
    assert names == {path.stem.partition("-")[2] for path in STUDIES.glob("mini-*.yaml")}
