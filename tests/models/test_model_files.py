"""What a model's identity covers: all that is loaded, and nothing from elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.sources import find_source, load_source

INDEX = "model.safetensors.index.json"


@pytest.fixture
def sharded(tiny_llama: Callable[..., Path], tmp_path: Path) -> Path:
    """A model whose second half of tensors lies in a sub-folder."""
    folder = Path(shutil.copytree(tiny_llama(), tmp_path / "weaver"))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "parts").mkdir()
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "parts/b.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({n: tensors[n] for n in part}, folder / file, {"format": "pt"})
    places = {name: file for file, part in halves.items() for name in part}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def revision(folder: Path) -> str:
    return find_source(str(folder)).identity.revision


def point_to(folder: Path, name: str) -> None:
    index = json.loads((folder / INDEX).read_text())
    for tensor, file in index["weight_map"].items():
        if file == "parts/b.safetensors":
            index["weight_map"][tensor] = name
    (folder / INDEX).write_text(json.dumps(index))


def test_a_changed_shard_in_a_subfolder_is_another_model(sharded: Path) -> None:
    before = revision(sharded)
    shard = sharded / "parts" / "b.safetensors"
    tensors = {name: tensor + 1 for name, tensor in load_file(shard).items()}
    save_file(tensors, shard, {"format": "pt"})
    assert revision(sharded) != before


@pytest.mark.parametrize(
    "name",
    [
        INDEX,
        "generation_config.json",
        "chat_template.jinja",
        "chat_template.json",
        "additional_chat_templates/tool_use.jinja",
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
        "special_tokens_map.json",
        "tokenizer.model",
        "spiece.model",
        "modeling_weaver.py",
        "pytorch_model.bin",
    ],
)
def test_each_file_that_is_loaded_is_part_of_the_identity(sharded: Path, name: str) -> None:
    file = sharded / name
    file.parent.mkdir(exist_ok=True)
    if not file.exists():
        without = revision(sharded)
        file.write_bytes(b"{}")
        assert revision(sharded) != without
    before = revision(sharded)
    file.write_bytes(file.read_bytes() + b" ")
    assert revision(sharded) != before


@pytest.mark.parametrize("name", ["README.md", "lm_eval_trust.json", "results.json", "notes.txt"])
def test_other_files_are_not(sharded: Path, name: str) -> None:
    before = revision(sharded)
    (sharded / name).write_text("{}")
    assert revision(sharded) == before


@pytest.mark.parametrize("form", ["relative", "absolute", "linked file", "linked folder"])
def test_an_index_does_not_lead_out_of_the_folder(sharded: Path, form: str) -> None:
    outside = sharded.parent / "outside"
    shutil.move(sharded / "parts", outside)
    if form == "linked file":
        (sharded / "b.safetensors").symlink_to(outside / "b.safetensors")
        point_to(sharded, "b.safetensors")
    elif form == "linked folder":
        (sharded / "parts").symlink_to(outside)
    else:
        name = "../outside/b.safetensors" if form == "relative" else str(outside / "b.safetensors")
        point_to(sharded, name)
    for use in (find_source, lambda spec: load_source(spec, device="cpu")):
        with pytest.raises(
            InputError, match=rf"{INDEX} names '.*b\.safetensors', which is outside"
        ):
            use(str(sharded))


def test_the_links_of_the_hubs_cache_are_followed(sharded: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--orvendale--weaver"
    (cache / "blobs").mkdir(parents=True)
    snapshot = cache / "snapshots" / "0123abc"
    for number, file in enumerate(p for p in sharded.rglob("*") if p.is_file()):
        link = snapshot / file.relative_to(sharded)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, cache / "blobs" / str(number))
        link.symlink_to(cache / "blobs" / str(number))
    assert revision(snapshot) == revision(sharded)
    linked, _, _ = load_source(str(snapshot), device="cpu")
    plain, _, _ = load_source(str(sharded), device="cpu")
    assert all(map(torch.equal, linked.state_dict().values(), plain.state_dict().values()))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}']
)
def test_a_damaged_index_is_named(sharded: Path, content: str) -> None:
    (sharded / INDEX).write_text(content)
    with pytest.raises(InputError, match=rf"{INDEX} is no index of weights"):
        revision(sharded)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "parts" / "b.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"names 'parts/b\.safetensors', and there is no such file"
    ):
        revision(sharded)
