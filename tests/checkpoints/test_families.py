"""What the families consist of."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants
from support.hub import Fault, Hub, Repository

from lm_eval_trust.checkpoints.families import (
    Checkpoint,
    FamilySettings,
    family_names,
    open_family,
)
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.mini.family import mini_family


def test_amber_has_360_checkpoints_and_the_last_is_main() -> None:
    found = open_family(FamilySettings(name="amber")).checkpoints
    assert len(found) == 360
    assert found[0] == Checkpoint("ckpt_000", 0, 3_497_583_333, "LLM360/Amber", "ckpt_000")
    assert found[358].revision == "ckpt_358"
    assert found[359] == Checkpoint("ckpt_359", 359, 1_259_130_000_000, "LLM360/Amber", "main")


def test_pythia_has_154_checkpoints_and_sees_300_billion_tokens() -> None:
    found = open_family(FamilySettings(name="pythia-1.4b-deduped")).checkpoints
    assert len(found) == 154
    assert [c.step for c in found[:13]] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000]
    assert found[-1] == Checkpoint(
        "step143000", 143_000, 299_892_736_000, "EleutherAI/pythia-1.4b-deduped", "step143000"
    )


def test_the_embedded_family_is_listed_without_being_trained() -> None:
    found = open_family(FamilySettings(name="mini")).checkpoints
    assert {c.name: c.step for c in found} == mini_family().checkpoints
    assert found[2] == Checkpoint("ckpt_002", 2, 2 * 16 * 32, "mini@ckpt_002", None)
    assert not (cache_dir() / "mini").exists()


def test_revisions_of_a_preset_are_asked_of_the_hub(hub: Hub) -> None:
    names = ["main", "stage1-step2000-tokens5B", "stage2-ingredient1-step9-tokens1B"]
    names += ["stage1-step1000-tokens3B"]
    hub.models["allenai/OLMo-2-0425-1B"] = Repository({name: {} for name in names})
    found = open_family(FamilySettings(name="olmo-2-1b")).checkpoints
    assert [(c.step, c.tokens, c.revision) for c in found] == [
        (1000, 3 * 10**9, "stage1-step1000-tokens3B"),
        (2000, 5 * 10**9, "stage1-step2000-tokens5B"),
    ]


def test_tokens_of_a_batch_make_tokens_of_steps(hub: Hub) -> None:
    hub.faults.append(Fault("*/refs", status=503))
    names = ("step-9", "step-10", "main")
    hub.models["HuggingFaceTB/SmolLM2-360M-intermediate-checkpoints"] = Repository(
        {name: {} for name in names}
    )
    known = open_family(FamilySettings(name="smollm2-360m", tokens_per_step=7)).checkpoints
    assert [(c.step, c.tokens) for c in known] == [(9, 63), (10, 70)]


def test_a_repository_by_a_pattern(hub: Hub) -> None:
    settings = FamilySettings(hub="velmi/tides", pattern=r"step(?P<step>[0-2])", tokens_per_step=5)
    family = open_family(settings)
    assert family.name == "velmi/tides"
    assert [(c.name, c.tokens) for c in family.checkpoints] == [
        ("step0", 0),
        ("step1", 5),
        ("step2", 10),
    ]


def test_a_folder_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for name in ("run-10", "run-9", "run-x", "notes-3"):
        (tmp_path / name).mkdir()
        if name != "notes-3":
            (tmp_path / name / "config.json").write_text("{}")
    found = open_family(FamilySettings(folder=str(tmp_path))).checkpoints
    assert found == (
        Checkpoint("run-9", 9, None, str(tmp_path / "run-9"), None),
        Checkpoint("run-10", 10, None, str(tmp_path / "run-10"), None),
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (FamilySettings(), "exactly one of name, hub, folder and file; given are none"),
        (FamilySettings(name="amber", hub="a/b"), "given are name and hub"),
        (FamilySettings(name="ambre"), "Did you mean 'amber'"),
        (FamilySettings(name="amber", pattern="x"), "leave out the pattern"),
        (FamilySettings(name="amber", tokens_per_step=3), "leave out tokens_per_step"),
        (FamilySettings(hub="a/b"), "Give a pattern"),
        (FamilySettings(hub="a/b", pattern="("), "no regular expression"),
        (FamilySettings(hub="a/b", pattern="x"), "no group for the step"),
        (FamilySettings(folder="nowhere"), "no folder nowhere"),
        (FamilySettings(folder=".", tokens_per_step=0), "at least 1"),
        (FamilySettings(folder="."), "No model in . is a checkpoint.*there are none"),
    ],
)
def test_settings_that_name_no_family(
    settings: FamilySettings, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        open_family(settings)


def test_names_of_the_hub_that_are_no_checkpoints(hub: Hub) -> None:
    with pytest.raises(InputError, match=r"No revision of velmi/tides.*step0, step1"):
        open_family(FamilySettings(hub="velmi/tides", pattern="(?P<step>[a-z]+)[0-9]{5}"))
    with pytest.raises(InputError, match="takes 'step' from 'step0'"):
        open_family(FamilySettings(hub="velmi/tides", pattern="(?P<step>[a-z]+)[0-9]"))
    with pytest.raises(InputError, match="takes 'st' from 'step0'; expected a number, with K"):
        open_family(FamilySettings(hub="velmi/tides", pattern="(?P<tokens>st)ep(?P<step>[0-9])"))
    with pytest.raises(InputError, match="no Hub model 'velmi/waves'"):
        open_family(FamilySettings(hub="velmi/waves", pattern="(?P<step>[0-9])"))


def test_offline_the_hub_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ExternalError, match="HF_HUB_OFFLINE is set; unset it"):
        open_family(FamilySettings(name="olmo-1b"))


def test_every_preset_has_a_name() -> None:
    assert len(set(family_names())) == len(family_names()) == 3 + 16 + 9 + 14
