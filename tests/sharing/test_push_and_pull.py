from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants
from support.hub import ALWAYS, Fault, Hub, Repository
from support.vectors import tide_vector

from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.sharing import push as pushing
from lm_eval_trust.sharing.push import Push, push_vector
from lm_eval_trust.steering import hub as hub_vectors
from lm_eval_trust.steering.spec import SteeringSpec, read_steering_file, steering_yaml
from lm_eval_trust.steering.vectors import load_vector


def forget_commits() -> None:
    """Begin as a new process does."""
    hub_vectors._fetch.cache_clear()


def test_a_pushed_vector_is_read_by_its_name(hub: Hub, vector_file: Path) -> None:
    name = push_vector(Push(vector_file, "velmi/honest"))
    held = hub.models["velmi/honest"]
    assert held.files("main")["honest.safetensors"] == vector_file.read_bytes()
    assert name.revision == held.commit("main")
    assert hub.uploads.messages == ["Upload honest.safetensors"]
    vector = load_vector("velmi/honest")
    assert vector.name == f"velmi/honest@{held.commit('main')}:honest.safetensors"
    for index, layer in tide_vector().layers.items():
        assert torch.equal(vector.layer(index).direction, layer.direction)
        assert vector.layer(index).projection_std == layer.projection_std
    assert vector.provenance is not None
    assert vector.provenance.settings["hub"] == vector.name
    assert vector.provenance.items == ("t1", "t2", "t3")


def test_a_large_file_goes_by_lfs_and_is_not_sent_twice(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    tide_vector(width=9000).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    push_vector(Push(path, "velmi/wide"))
    push_vector(Push(path, "velmi/wide-too"))
    assert hub.asked.count(f"PUT /lfs/{digest}") == 1
    assert load_vector("velmi/wide").width == load_vector("velmi/wide-too").width == 9000


def test_the_command_line(
    hub: Hub, vector_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pulled.safetensors"
    push = ["vector", "push", str(vector_file), "velmi/honest", "--message", "First tide"]
    assert main(push) == 0
    assert main(["vector", "pull", "velmi/honest", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    commit = hub.models["velmi/honest"].commit("main")
    assert f"pushed velmi/honest@{commit}:honest.safetensors" in told
    assert hub.uploads.messages == ["First tide"]
    pulled = load_vector(out)
    assert pulled.provenance is not None
    assert pulled.provenance.settings["hub"] == f"velmi/honest@{commit}:honest.safetensors"
    assert main(["vector", "show", "velmi/honest"]) == 0
    assert "truthfulness" in capsys.readouterr().out


@pytest.mark.slow
def test_revisions_and_commits_stay_apart(hub: Hub, vector_file: Path, tmp_path: Path) -> None:
    first = push_vector(Push(vector_file, "velmi/honest"))
    tide_vector(seed=1).save(vector_file)
    second = push_vector(Push(vector_file, "velmi/honest", revision="trial"))
    assert first.revision != second.revision
    for name, seed in (
        (first, 0),
        (second, 1),
        ("velmi/honest@main", 0),
        ("velmi/honest@trial", 1),
    ):
        expected = tide_vector(seed=seed).layer(1).direction
        assert torch.equal(load_vector(str(name)).layer(1).direction, expected)
    third = push_vector(Push(vector_file, "velmi/honest"))
    assert torch.equal(load_vector(str(first)).layer(1).direction, tide_vector().layer(1).direction)
    assert third.revision != first.revision


def test_a_run_sees_one_commit_and_writes_it_down(
    hub: Hub, vector_file: Path, tmp_path: Path
) -> None:
    first = push_vector(Push(vector_file, "velmi/honest"))
    spec = SteeringSpec(vector="velmi/honest", layer=1)
    plan = spec.plan()
    tide_vector(seed=1).save(vector_file)
    push_vector(Push(vector_file, "velmi/honest"))
    assert spec.plan().fingerprint == plan.fingerprint
    assert spec.recipe()["vector"] == str(first)
    assert plan.steps[0].origin == str(first)
    assert plan.built_from[0].settings["hub"] == str(first)
    (tmp_path / "s.yaml").write_text(steering_yaml([spec], tmp_path))
    (read,) = read_steering_file(tmp_path / "s.yaml")
    assert read.vector == str(first)
    assert read.plan().fingerprint == plan.fingerprint


def test_names_in_steering_files_and_conditions(
    hub: Hub, vector_file: Path, tmp_path: Path
) -> None:
    name = push_vector(Push(vector_file, "velmi/honest"))
    file = tmp_path / "s.yaml"
    entry = {
        "vector": "velmi/honest",
        "layer": 2,
        "when": {"vector": "velmi/honest:honest.safetensors", "threshold": 0.2, "layer": 1},
    }
    file.write_text(yaml.safe_dump({"steering": [entry]}))
    (spec,) = read_steering_file(file)
    assert spec.plan().conditions[0].origin == "velmi/honest:honest.safetensors"
    assert spec.recipe()["when"]["vector"] == str(name)
    assert spec.describe().startswith("velmi--honest-layer2")
    assert "/" not in spec.describe()


def test_several_vectors_in_one_repository(hub: Hub, vector_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "calm.safetensors"
    tide_vector(seed=1).save(other)
    push_vector(Push(vector_file, "velmi/tides-of-mind"))
    push_vector(Push(other, "velmi/tides-of-mind"))
    with pytest.raises(InputError, match=r"several vectors: calm.*velmi/tides-of-mind:calm"):
        load_vector("velmi/tides-of-mind@main")
    found = load_vector("velmi/tides-of-mind:calm.safetensors")
    assert torch.equal(found.layer(1).direction, tide_vector(seed=1).layer(1).direction)
    card = hub.models["velmi/tides-of-mind"].files("main")["README.md"].decode()
    assert card.count("### Use it") == 2
    assert card.count("\n---\n") == 1


def test_offline_what_is_cached_is_used(
    hub: Hub, vector_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = push_vector(Push(vector_file, "velmi/honest"))
    load_vector("velmi/honest")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    forget_commits()
    asked = len(hub.asked)
    assert load_vector("velmi/honest").name == str(name)
    assert load_vector(str(name)).name == str(name)
    assert len(hub.asked) == asked
    with pytest.raises(ExternalError, match=r"HF_HUB_OFFLINE is set.*vector pull velmi/other"):
        load_vector("velmi/other")
    with pytest.raises(ExternalError, match="unset it to push"):
        push_vector(Push(vector_file, "velmi/honest"))


def test_a_hub_that_does_not_answer(
    hub: Hub, vector_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = push_vector(Push(vector_file, "velmi/honest"))
    load_vector("velmi/honest")
    forget_commits()
    hub.faults.append(Fault("*", times=ALWAYS, status=503))
    hub.faults.append(Fault("*", times=ALWAYS, status=503, command="HEAD"))
    assert load_vector("velmi/honest").name == str(name)
    with pytest.raises(ExternalError, match="velmi/other"):
        load_vector("velmi/other")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config.json": b"{}", "model.safetensors": b"x"}, "holds a model"),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, "holds a model"),
        ({"steer.pt": b"x"}, "hf download velmi/thing steer.pt.*vector import"),
        ({"README.md": b"#"}, "holds no .safetensors file"),
        ({"v.safetensors": b"not safetensors"}, "not a whole safetensors file"),
    ],
)
def test_repositories_that_are_no_vector(hub: Hub, files: dict[str, bytes], said: str) -> None:
    hub.models["velmi/thing"] = Repository({"main": files})
    with pytest.raises(InputError, match=said):
        load_vector("velmi/thing")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("velmi/nothing", "no vector file 'velmi/nothing', and no Hub repository"),
        ("velmi/honest@nowhen", "no branch, tag or commit 'nowhen'"),
        ("velmi/honest:gone.safetensors", "no such file"),
        ("velmi/honest:steer.pt", "vector import"),
        ("velmi/closed", "You may not do this"),
        ("velmi/../x", "no vector file"),
        ("v.safetensors", "There is no vector file v.safetensors"),
        ("sub/v.safetensors", "There is no vector file sub/v.safetensors"),
    ],
)
def test_names_that_lead_nowhere(hub: Hub, vector_file: Path, name: str, said: str) -> None:
    push_vector(Push(vector_file, "velmi/honest"))
    hub.models["velmi/closed"] = Repository({"main": {"v.safetensors": b"x"}})
    hub.closed.add("velmi/closed")
    with pytest.raises((InputError, ExternalError), match=said):
        load_vector(name)


def test_a_file_of_that_name_comes_first(
    hub: Hub, vector_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "velmi").mkdir()
    tide_vector(seed=3).save(tmp_path / "velmi" / "honest")
    assert load_vector("velmi/honest").name == "velmi/honest"
    assert not hub.asked


def test_private_repositories(hub: Hub, vector_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_vector(Push(vector_file, "velmi/secret", private=True))
    assert load_vector("velmi/secret").width == 16
    push_vector(Push(vector_file, "velmi/open"))
    with pytest.raises(InputError, match="exists and is public"):
        push_vector(Push(vector_file, "velmi/open", private=True))
    monkeypatch.setenv("HF_TOKEN", "")
    forget_commits()
    with pytest.raises(InputError, match="if it is private, log in"):
        load_vector("velmi/secret@main")


@pytest.mark.parametrize(
    ("token", "owner", "said"),
    [
        ("hf_wrong", "velmi", "does not accept your token"),
        ("", "velmi", "does not accept your token"),
        ("hf_velmi", "norse", "need a token with write access"),
    ],
)
def test_tokens_that_may_not_write(
    hub: Hub,
    vector_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    owner: str,
    said: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=said):
        push_vector(Push(vector_file, f"{owner}/honest"))
    assert not hub.models


def test_an_interrupted_upload_leaves_nothing(hub: Hub, vector_file: Path) -> None:
    hub.faults.append(Fault("/lfs/*", times=ALWAYS, status=500, command="PUT"))
    with pytest.raises(ExternalError, match=r"nothing was committed.*same command again"):
        push_vector(Push(vector_file, "velmi/honest"))
    assert list(hub.models["velmi/honest"].files("main")) == [".gitattributes"]
    hub.faults.clear()
    push_vector(Push(vector_file, "velmi/honest"))
    assert load_vector("velmi/honest").width == 16


def test_an_upload_goes_on_after_a_lost_connection(hub: Hub, vector_file: Path) -> None:
    hub.faults.append(Fault("/lfs/*", times=1, status=503, command="PUT"))
    push_vector(Push(vector_file, "velmi/honest"))
    assert load_vector("velmi/honest").width == 16


def test_a_commit_in_between_is_not_lost(
    hub: Hub, vector_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_vector(Push(vector_file, "velmi/honest"))

    def edited(*given: object) -> str:
        held = hub.models["velmi/honest"].revisions
        held["main"] = {**held["main"], "NOTES.md": b"a word"}
        return real(*given)  # type: ignore[arg-type]

    real = pushing.updated_card
    monkeypatch.setattr(pushing, "updated_card", edited)
    tide_vector(seed=1).save(vector_file)
    with pytest.raises(ExternalError, match="changed velmi/honest at the same time"):
        push_vector(Push(vector_file, "velmi/honest"))
    assert hub.models["velmi/honest"].files("main")["NOTES.md"] == b"a word"


@pytest.mark.parametrize(
    ("file", "repository", "said"),
    [
        ("v.pt", "velmi/x", "only those are pushed.*vector import"),
        ("v.gguf", "velmi/x", "vector import"),
        ("gone.safetensors", "velmi/x", "There is no vector file"),
        ("honest.safetensors", "velmi", "expected owner/name"),
        ("honest.safetensors", "velmi/x@main", "--revision"),
        ("honest.safetensors", "a/b/c", "expected owner/name"),
        ("broken.safetensors", "velmi/x", "not a whole safetensors file"),
    ],
)
def test_what_cannot_be_pushed(
    hub: Hub, vector_file: Path, tmp_path: Path, file: str, repository: str, said: str
) -> None:
    for name in ("v.pt", "v.gguf", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=said):
        push_vector(Push(tmp_path / file, repository))
    assert not hub.asked


def test_a_models_repository_is_left_alone(hub: Hub, vector_file: Path) -> None:
    hub.models["velmi/tides"] = Repository({"main": {"config.json": b"{}"}})
    with pytest.raises(InputError, match="holds a model"):
        push_vector(Push(vector_file, "velmi/tides"))
    assert list(hub.models["velmi/tides"].files("main")) == ["config.json"]
