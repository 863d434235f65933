"""The record in a baked model's folder: reuse, and the leak guard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lm_eval.api.instance import Instance
from support.baking import some_plan

from lm_eval_trust.core.errors import ExternalError, InputError, LeakError
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.model_wrappers.amber import Amber
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.steering.bake import Bake, bake
from lm_eval_trust.steering.plan import SteeringPlan


def test_the_same_bake_is_found_and_another_one_refused(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    source, out = find_source(str(tiny_llama())), tmp_path / "baked"
    first = bake(Bake(source, some_plan()), out)
    written = (out / "model.safetensors").stat().st_mtime_ns
    again = bake(Bake(source, some_plan()), out)
    assert again.found and again.agreement == first.agreement
    assert (out / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(InputError, match=r"another baked model \(different: steering\)"):
        bake(Bake(source, some_plan(alpha=3)), out)
    with pytest.raises(InputError, match=r"different: dtype"):
        bake(Bake(source, some_plan(), dtype="float16"), out)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("lost", [True, False])
def test_a_bake_whose_files_changed_is_not_found_again(
    tiny_llama: Callable[..., Path], tmp_path: Path, name: str, lost: bool
) -> None:
    task, out = Bake(find_source(str(tiny_llama())), some_plan()), tmp_path / "baked"
    bake(task, out)
    if lost:
        (out / name).unlink()
    else:
        (out / name).write_bytes((out / name).read_bytes() + b" ")
    with pytest.raises(InputError, match=r"no longer what was verified|holds no config\.json"):
        bake(task, out)


def test_a_link_to_a_folder_is_written_through(
    tiny_llama: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Bake(find_source(str(tiny_llama())), some_plan())
    for name in ("linked", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("linked")
    bake(task, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "linked" / "config.json").is_file()
    monkeypatch.chdir(tmp_path / "here")
    bake(task, Path("."))
    assert (tmp_path / "here" / "config.json").is_file()


def test_a_folder_of_something_else_stays(tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    task = Bake(find_source(str(tiny_llama())), some_plan())
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "plan.txt").write_text("plant onions")
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "notes", tmp_path / "file", tiny_llama()):
        with pytest.raises(InputError, match="is there already and is no baked model"):
            bake(task, out)
    with pytest.raises(ExternalError, match="Cannot write"):
        bake(task, tmp_path / "file" / "below")
    (tmp_path / "empty").mkdir()
    assert not bake(task, tmp_path / "empty").found


def test_the_leak_guard_knows_what_a_baked_model_is_made_from(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    question = "Who built the lighthouse of Velmar?"
    seen = Provenance(
        "weaver",
        "1",
        "truthfulness",
        "official",
        "grouped",
        0,
        "train",
        "pca",
        ("a",),
        (group_id(question),),
    )
    vectors = some_plan().built_from
    plan = SteeringPlan(some_plan().steps, (*vectors, seen))
    bake(Bake(find_source(str(tiny_llama())), plan), tmp_path / "baked")
    record = Provenance.of_folder(tmp_path / "baked")
    assert record is not None and record.dimension == "fairness+truthfulness"
    assert set(record.groups) == {"g", "h", group_id(question)} and record.items == ("a", "b")
    assert [each["split_seed"] for each in record.settings["made_from"]] == [3, 0]
    asked = [Instance("loglikelihood", {"question": question}, (question, " Nobody"), 0)]
    settings = {"pretrained": str(tmp_path / "baked"), "device": "cpu"}
    with pytest.raises(LeakError, match="allow_leak=true"):
        Amber(**settings).loglikelihood(asked)
    assert len(Amber(**settings, allow_leak=True).loglikelihood(asked)) == 1


def test_a_vector_of_unknown_origin_leaves_an_empty_record(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    plan = SteeringPlan(some_plan().steps)
    bake(Bake(find_source(str(tiny_llama())), plan), tmp_path / "baked")
    record = Provenance.of_folder(tmp_path / "baked")
    assert record is not None
    assert (record.method, record.dimension, record.groups) == ("baked", "unknown", ())
