"""Flows of several stages: presets, files, and the order of their checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hub import Hub, Repository

from lm_eval_trust.checkpoints.checkpoint import Checkpoint, Naming
from lm_eval_trust.checkpoints.families import FAMILIES, FamilySettings, open_family
from lm_eval_trust.checkpoints.flows import FLOWS, LOOKED_UP
from lm_eval_trust.checkpoints.stages import Stage, joined
from lm_eval_trust.core.errors import InputError

OLMO = "allenai/Olmo-3-1025-7B"


def repository(*names: str) -> Repository:
    return Repository({name: {} for name in ("main", *names)})


@pytest.fixture
def olmo(hub: Hub) -> Hub:
    """Some of OLMo 3's branches, in the order in which the Hub may list them."""
    hub.models[OLMO] = repository(
        "stage3-step11921",
        "stage2-step1000",
        "stage1-step1413814",
        "stage1-step1000",
        "stage2-step0",
        "stage1-step0",
        "stage2-step47684",
    )
    return hub


def test_olmo_3_counts_steps_and_tokens_over_its_stages(olmo: Hub) -> None:
    found = open_family(FamilySettings(name="olmo-3-7b-think")).checkpoints
    assert [(c.name, c.stage, c.step) for c in found] == [
        ("stage1-step0", "pretraining", 0),
        ("stage1-step1000", "pretraining", 1000),
        ("stage1-step1413814", "pretraining", 1413814),
        ("stage2-step1000", "midtraining", 1414814),
        ("stage2-step47684", "midtraining", 1461498),
        ("stage3-step11921", "long-context", 1473419),
        ("sft", "sft", 1473420),
        ("dpo", "dpo", 1473421),
        ("rlvr", "rlvr", 1473422),
    ]
    # The card: 5.93T, and 100B and 50B more.
    trillions = [c.tokens / 1e12 for c in found[2:6] if c.tokens]
    assert trillions == pytest.approx([5.93, 5.932, 6.03, 6.08], abs=0.005)
    assert found[6].tokens is None
    assert [c.location for c in found[6:]] == [
        "allenai/Olmo-3-7B-Think-SFT",
        "allenai/Olmo-3-7B-Think-DPO",
        "allenai/Olmo-3-7B-Think",
    ]


def test_stages_are_chosen_by_name(olmo: Hub) -> None:
    family = open_family(FamilySettings(name="olmo-3-7b-instruct"))

    def names(rule: str) -> list[str]:
        return [checkpoint.name for checkpoint in family.choose(rule)]

    assert names("midtraining") == ["stage2-step1000", "stage2-step47684"]
    assert names("sft..rlvr") == ["sft", "dpo", "rlvr"]
    assert names("pretraining every 2, dpo") == ["stage1-step0", "stage1-step1413814", "dpo"]
    assert names("midtraining..long-context")[-1] == "stage3-step11921"
    with pytest.raises(InputError, match=r"'sfd'.*Did you mean 'sft'"):
        family.choose("sfd")
    with pytest.raises(InputError, match="runs backwards"):
        family.choose("rlvr..sft")


def test_log_counts_a_stages_own_steps() -> None:
    first = tuple(Checkpoint(f"a{n}", n, None, "a", "r") for n in range(0, 1001, 100))
    second = tuple(Checkpoint(f"b{n}", n, None, "b", "r") for n in (1, 10, 100, 1000))
    stages = [Stage("a", known=lambda: first), Stage("b", known=lambda: second)]
    from lm_eval_trust.checkpoints.families import CheckpointFamily

    family = CheckpointFamily("f", joined(stages, lambda stage: stage.known()))  # type: ignore[misc]
    # By the flow's own steps, 1,001 to 2,000, the middle would lie at 1,415.
    assert [c.name for c in family.choose("b log 4")] == ["b1", "b10", "b100", "b1000"]
    assert [c.name for c in family.choose("log 2")] == ["a0", "b1000"]


def test_smollm_3_whose_steps_count_through(hub: Hub) -> None:
    hub.models["HuggingFaceTB/SmolLM3-3B-checkpoints"] = repository(
        "stage1-step-40000",
        "stage2-step-3480000",
        "stage3-step-4720000",
        "lc-4k-to-32k-step-4000",
        "lc-32k-to-64k-step-4000",
        "it-SFT",
    )
    found = open_family(FamilySettings(name="smollm3-3b-flow")).checkpoints
    assert [c.step for c in found] == [
        *(40000, 3480000, 4720000, 4724000, 4728000),
        *range(4728001, 4728005),
    ]
    assert [c.tokens for c in found[:5]] == [c.step * 2_359_296 for c in found[:5]]
    assert [c.revision for c in found[5:]] == ["it-mid-training", "it-SFT", "it-soup-APO", "main"]


def test_olmoe_goes_on_from_a_checkpoint_that_is_not_its_last(hub: Hub) -> None:
    names = ("step1000-tokens4B", "step1200000-tokens5033B", "step1220000-tokens5117B")
    hub.models["allenai/OLMoE-1B-7B-0924"] = repository(*names)
    found = open_family(FamilySettings(name="olmoe-1b-7b")).checkpoints
    assert [c.name for c in found] == [*names[:2], "midtraining", "sft", "dpo"]
    assert found[2].tokens == 5133 * 10**9


def test_marin_is_known_without_the_hub() -> None:
    found = open_family(FamilySettings(name="marin-8b")).checkpoints
    assert [(c.name, c.stage, (c.tokens or 0) // 10**9) for c in found[:4]] == [
        ("kestrel", "pretraining", 2700),
        ("ocelot", "pretraining", 3780),
        ("jellyfish", "first-cooldown", 4780),
        ("phoenix", "reheated", 11100),
    ]
    assert [c.step for c in found] == list(range(1, 8))


def test_amber_with_what_was_tuned_from_it() -> None:
    found = open_family(FamilySettings(name="amber-flow")).checkpoints
    assert found[:360] == tuple(
        Checkpoint(c.name, c.step, c.tokens, c.location, c.revision, "pretraining")
        for c in open_family(FamilySettings(name="amber")).checkpoints
    )
    assert found[360:] == (
        Checkpoint("sft", 360, None, "LLM360/AmberChat", "main", "sft"),
        Checkpoint("dpo", 361, None, "LLM360/AmberSafe", "main", "dpo"),
    )


def test_every_flow_names_its_source_and_day() -> None:
    for name in FLOWS:
        preset = FAMILIES[name]
        assert preset.source and preset.looked_up == LOOKED_UP and preset.stages
        assert " → " in preset.summary


FILE = """
family: my-run
source: our own logs
stages:
  - {stage: pretraining, folder: run, pattern: "step(?P<step>[0-9]+)", tokens_per_step: 1000}
  - {stage: annealing, hub: velmi/tides, pattern: "step(?P<step>[0-9]+)", until: 1}
  - {stage: sft, model: velmi/chat@v2, tokens: 1.5M}
  - {stage: dpo, model: mini-chat, name: aligned}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A family's file beside the folder that it names."""
    for step in (10, 20):
        (tmp_path / "run" / f"step{step}").mkdir(parents=True)
        (tmp_path / "run" / f"step{step}" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "family.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_family_of_ones_own_is_a_file(own: Path, hub: Hub) -> None:
    family = open_family(FamilySettings(file=str(own)))
    assert family.name == "my-run"
    assert family.checkpoints == (
        Checkpoint("step10", 10, 10_000, "run/step10", None, "pretraining"),
        Checkpoint("step20", 20, 20_000, "run/step20", None, "pretraining"),
        Checkpoint("step1", 21, None, "velmi/tides", "step1", "annealing"),
        Checkpoint("sft", 22, None, "velmi/chat", "v2", "sft"),
        Checkpoint("aligned", 23, None, "mini-chat", None, "dpo"),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("until: 1", "untill: 1", r"line 6, stages.1.untill"),
        ("until: 1", "until: 1, folder: run", r"line 6.*exactly one of hub, folder and model"),
        ("tokens: 1.5M", "tokens: many", r"line 7.*'many' is no amount"),
        ("tokens: 1.5M", "until: 3", r"line 7.*`until` does not belong to a stage with `model`"),
        (", until: 1", ", tokens: 3B", r"line 6.*`tokens` does not belong to a stage with `hub`"),
        ('hub: velmi/tides, pattern: "step(?P<step>[0-9]+)"', "hub: a/b", "needs a pattern"),
        ("until: 1", "running: true", "stage annealing of velmi/tides has no checkpoint after"),
        ("name: aligned", "name: sft", "Two checkpoints of the flow are called sft"),
        ("stages:\n", "stages: []\nmore:\n", "line 4"),
    ],
)
def test_a_file_that_is_wrong_is_refused(
    old: str, new: str, message: str, own: Path, hub: Hub
) -> None:
    assert old in FILE
    own.write_text(FILE.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        open_family(FamilySettings(file=str(own)))


def test_a_file_says_everything(own: Path) -> None:
    with pytest.raises(InputError, match="leave out pattern"):
        open_family(FamilySettings(file=str(own), pattern="x"))
    with pytest.raises(InputError, match=r"Cannot read the family nowhere.yaml"):
        open_family(FamilySettings(file="nowhere.yaml"))


def test_tokens_stay_unknown_once_they_are() -> None:
    stages = [
        Stage("a", known=lambda: (Checkpoint("a", 5, 50, "a", "r"),)),
        Stage("b", "b"),
        Stage("c", "c", tokens=7),
        Stage("d", "d", tokens=70, running=True),
        Stage("e", "e", tokens=1),
    ]
    found = joined(stages, lambda stage: stage.known())  # type: ignore[misc]
    assert [c.tokens for c in found] == [50, None, None, 70, 71]
    assert Naming("(?P<step>1)").tokens_per_step is None
