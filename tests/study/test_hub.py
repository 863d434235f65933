"""Checkpoints that come from a Hub: estimates, streaming within a budget, missing revisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from safetensors.torch import load_file
from support.hub import Fault, Hub, Repository, files_of, hub_server

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.study.estimate import describe, estimate
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.grid import Study
from lm_eval_trust.study.run import run_study

Open = Callable[..., Study]
NAME = "lab/run"
STUDY = """
study: streamed
family: {hub: lab/run, pattern: "step(?P<step>[0-9]+)", tokens_per_step: 10}
dimensions: [fairness]
data: {source: mini, statements: 30}
layers: 0
compute: [activations]
budget: {checkpoints: 2}
engine: {name: inline, threads: 1}
assume: {bandwidth: 1 MB/s, flops: 1e9, parameters: 1e6}
"""


@pytest.fixture
def hub(tiny_llama: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Four revisions of a model."""
    with hub_server() as hub:
        files = {f"step{i}": files_of(tiny_llama(seed=i)) for i in range(4)}
        hub.models[NAME] = Repository({"main": files["step3"], **files})
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub
        close_session()


def size(hub: Hub, revision: str) -> int:
    return sum(len(content) for content in hub.models[NAME].revisions[revision].values())


def test_an_estimate_knows_cells_bytes_disk_and_time(
    hub: Hub, open_study: Open, folder: StudyFolder
) -> None:
    found = estimate(open_study(STUDY), folder)
    assert dict(found.cells) == {"activations": 4}
    assert (found.jobs, found.checkpoints) == ((4, 0), 4)
    total = sum(size(hub, f"step{i}") for i in range(4))
    # The store's marker files are small.
    assert 0 <= found.download_bytes - total < 4000
    assert found.disk_bytes == pytest.approx(found.download_bytes / 2, rel=0.01)
    assert found.download_seconds == pytest.approx(found.download_bytes / 1e6)
    # 30 statements of 9 tokens, a million parameters, two operations each.
    assert found.compute_seconds == pytest.approx(4 * 2 * 1e6 * 30 * 9.0 / 1e9)
    assert found.wall_seconds == max(found.download_seconds, found.compute_seconds)
    assert "4 to compute, 0 finished: 4 activations" in describe(found)
    assert not folder.path.exists()


def test_a_budget_below_one_checkpoint_is_told_with_both_figures(
    hub: Hub, open_study: Open, folder: StudyFolder
) -> None:
    small = STUDY.replace("checkpoints: 2", "disk: 100 kB")
    with pytest.raises(InputError, match=r"line 8, budget.disk: .*takes .* kB.* 100.0 kB"):
        estimate(open_study(small), folder)


@pytest.mark.slow
def test_a_missing_revision_is_recorded_skipped_and_tried_again(
    hub: Hub, open_study: Open, folder: StudyFolder
) -> None:
    study = open_study(STUDY)
    kept = hub.models[NAME].revisions.pop("step1")
    assert estimate(study, folder).missing == ("step1",)
    outcome = run_study(study, folder)
    assert (outcome.computed, outcome.failed, outcome.exit_code) == (3, {}, 0)
    assert list(outcome.skipped) == list(folder.skipped()) == ["step1"]
    hub.models[NAME].revisions["step1"] = kept
    again = run_study(open_study(STUDY), folder)
    assert (again.computed, again.found, again.skipped) == (1, 3, {})
    assert folder.skipped() == {}


@pytest.mark.slow
def test_faults_change_no_cell_and_only_two_checkpoints_lie_there(
    hub: Hub, open_study: Open, folder: StudyFolder, tmp_path: Path
) -> None:
    study = open_study(STUDY)
    run_study(study, StudyFolder(tmp_path / "calm"))
    hub.faults = [
        Fault("*/step1/config.json", status=500),
        Fault("*/step2/model.safetensors", cut_at=1000),
        Fault("*/step3/model.safetensors", wrong=True),
    ]
    outcome = run_study(study, folder)
    assert outcome.computed == 4 and outcome.download_seconds > 0
    for cell in study.grid().cells:
        (one,) = folder.cell(cell).rglob("*.safetensors")
        (other,) = StudyFolder(tmp_path / "calm").cell(cell).rglob("*.safetensors")
        # safetensors writes the keys of the metadata in any order.
        first, second = load_file(one), load_file(other)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert not list((folder.path / "checkpoints").rglob("*.safetensors"))


@pytest.mark.slow
def test_a_revision_that_moves_while_the_study_runs_is_told(
    hub: Hub, open_study: Open, folder: StudyFolder
) -> None:
    study = open_study(STUDY)
    revisions = hub.models[NAME].revisions
    revisions["step1"] = revisions["step2"]
    outcome = run_study(study, folder)
    assert outcome.computed == 3
    assert "run the study again" in next(iter(outcome.failed.values()))
    assert run_study(open_study(STUDY), folder).computed == 1


def test_without_the_hub_a_study_goes_on_with_what_it_knew(
    hub: Hub, open_study: Open, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = STUDY.splitlines()
    lines[2] = "family: {name: amber}"
    amber = "\n".join([*lines, "checkpoints: [ckpt_001]"])
    files = hub.models[NAME].revisions["step1"]
    hub.models["LLM360/Amber"] = Repository({"main": files, "ckpt_001": files})
    study = open_study(amber)
    run_study(study, folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert open_study(amber).checkpoints == study.checkpoints
    with pytest.raises(ExternalError, match=r"line 3, family: .*HF_HUB_OFFLINE"):
        open_study(amber.replace("ckpt_001", "ckpt_002"))
