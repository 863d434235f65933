"""The Hub on localhost answers the Hub's own client."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RevisionNotFoundError
from support.hub import Hub, stand_in_model


def test_a_whole_revision_comes_as_it_is(hub: Hub, tmp_path: Path) -> None:
    folder = Path(snapshot_download("velmi/tides", revision="step1", local_dir=tmp_path / "x"))
    for name, content in stand_in_model(1, 200_000).items():
        assert (folder / name).read_bytes() == content


def test_large_files_are_listed_with_their_checksum(hub: Hub) -> None:
    tree = {entry.path: entry for entry in HfApi().list_repo_tree("velmi/tides", revision="step2")}
    info = HfApi().model_info("velmi/tides", revision="step2", files_metadata=True)
    siblings = {entry.rfilename: entry for entry in info.siblings or ()}
    for name in ("model.safetensors", "config.json"):
        assert tree[name].lfs == siblings[name].lfs
        assert tree[name].blob_id == siblings[name].blob_id
    assert tree["config.json"].lfs is None
    assert tree["model.safetensors"].lfs.size == 200_000


def test_refs_and_a_revision_that_is_missing(hub: Hub) -> None:
    refs = HfApi().list_repo_refs("velmi/tides")
    assert [branch.name for branch in refs.branches] == ["step0", "step1", "step2", "step3"]
    with pytest.raises(RevisionNotFoundError):
        HfApi().model_info("velmi/tides", revision="step9")
