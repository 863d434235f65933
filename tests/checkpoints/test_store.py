"""What lies on the disk: never more than the budget, and only the store's own goes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.hub import ALWAYS, Fault, Hub, Repository, files_of, stand_in_model

from lm_eval_trust.checkpoints.families import Checkpoint
from lm_eval_trust.checkpoints.store import Budget, CheckpointStore, MissingCheckpointError
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.models.sources import load_pinned

NAME, WEIGHTS = "velmi/tides", 200_000
Stores = Callable[..., CheckpointStore]
WEIGHTS_FILE = "/cdn/*/model.safetensors"


def held(folder: Path) -> dict[str, int]:
    """Bytes of every checkpoint's folder."""
    sizes = {}
    for path in folder.glob("velmi*"):
        try:
            sizes[path.name] = sum(file.stat().st_size for file in path.iterdir())
        except FileNotFoundError:
            continue
    return sizes


@contextmanager
def watched(folder: Path) -> Iterator[list[dict[str, int]]]:
    """Look at the folder time after time."""
    seen: list[dict[str, int]] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.001):
            seen.append(held(folder))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def fetched(store: CheckpointStore, checkpoint: Checkpoint) -> Path:
    """Use a checkpoint for a moment."""
    with store.local(checkpoint) as source:
        return Path(source.location)


def until(happened: Callable[[], bool]) -> None:
    """Wait for something, at most ten seconds."""
    for _ in range(1000):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("It did not happen within ten seconds")


def names(folder: Path) -> list[str]:
    return sorted(name.split("--")[2] for name in held(folder))


@pytest.mark.slow
@pytest.mark.parametrize("in_bytes", [False, True])
def test_the_budget_holds_at_every_moment_whatever_goes_wrong(
    in_bytes: bool, hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    size = store().size(checkpoints[0])
    hub.faults += [
        Fault(WEIGHTS_FILE, cut_at=90_000, times=2),
        Fault("*velmi*", status=500, times=3),
    ]
    hub.faults += [Fault(WEIGHTS_FILE, wrong=True)]
    hub.faults += [Fault(WEIGHTS_FILE, bytes_per_second=2e6, times=ALWAYS)]
    budget = Budget(bytes=2 * size) if in_bytes else Budget(checkpoints=2)
    with store(budget, tries=6) as opened, watched(tmp_path / "store") as seen:
        for now, later in zip(checkpoints, [*checkpoints[1:], None], strict=True):
            with opened.local(now) as source:
                if later:
                    opened.prefetch(later)
                time.sleep(0.05)
                assert (Path(source.location) / "model.safetensors").stat().st_size == WEIGHTS
    assert max(sum(sizes.values()) for sizes in seen) <= 2 * size
    assert max(len(sizes) for sizes in seen) == 2
    assert names(tmp_path / "store") == []


def test_the_next_checkpoint_comes_while_one_is_used(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    hub.faults.append(Fault(WEIGHTS_FILE, bytes_per_second=1e6, times=ALWAYS))
    with store(Budget(checkpoints=2)) as opened:
        with opened.local(checkpoints[0]):
            opened.prefetch(checkpoints[1])
            until(lambda: any(tmp_path.glob("store/*--step1--*/model.safetensors")))
            sent = hub.sent
        fetched(opened, checkpoints[1])
        assert hub.sent == sent
        assert opened.download_seconds > 2 * WEIGHTS / 1e6


def test_no_prefetch_begins_where_it_does_not_fit(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    with store(Budget(checkpoints=1)) as opened:
        with opened.local(checkpoints[0]):
            opened.prefetch(checkpoints[1])
            time.sleep(0.2)
            assert names(tmp_path / "store") == ["step0"]
        with opened.local(checkpoints[1]):
            assert names(tmp_path / "store") == ["step1"]


@pytest.mark.slow
def test_what_is_asked_for_comes_before_what_is_fetched_in_advance(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    hub.faults.append(Fault(WEIGHTS_FILE, bytes_per_second=1e5))
    with store(Budget(checkpoints=1)) as opened:
        opened.prefetch(checkpoints[0])
        until(lambda: hub.sent > 0)
        with opened.local(checkpoints[1]):
            assert names(tmp_path / "store") == ["step1"]
    assert hub.sent < 2 * WEIGHTS


def test_a_checkpoint_stays_until_its_place_is_needed(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint]
) -> None:
    with store(Budget(checkpoints=1)) as opened:
        for _ in range(3):
            fetched(opened, checkpoints[0])
    assert hub.sent == WEIGHTS + len(stand_in_model(0, WEIGHTS)["config.json"])


def test_the_least_recently_used_checkpoint_goes_first(
    store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    with store(Budget(checkpoints=2)) as opened:
        for number in (0, 1, 0, 2):
            fetched(opened, checkpoints[number])
        assert names(tmp_path / "store") == ["step0", "step2"]


def test_a_used_checkpoint_goes_before_one_that_was_fetched_in_advance(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    with store(Budget(checkpoints=2)) as opened:
        with opened.local(checkpoints[0]):
            opened.prefetch(checkpoints[1])
            until(lambda: names(tmp_path / "store") == ["step0", "step1"])
            until(lambda: hub.sent >= 2 * WEIGHTS)
        # Used once more, the first is the younger one, so that its age cannot save the other.
        fetched(opened, checkpoints[0])
        time.sleep(0.1)
        fetched(opened, checkpoints[2])
        assert names(tmp_path / "store") == ["step1", "step2"]


def test_nothing_goes_where_that_does_not_make_room_enough(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    hub.models[NAME].revisions["step3"] = stand_in_model(3, 2 * WEIGHTS)
    with store(Budget(bytes=int(2.5 * WEIGHTS))) as opened:
        fetched(opened, checkpoints[0])
        with opened.local(checkpoints[1]):
            opened.prefetch(checkpoints[3])
            time.sleep(0.2)
            assert names(tmp_path / "store") == ["step0", "step1"]
        until(lambda: names(tmp_path / "store") == ["step3"])


def test_threads_share_what_they_use_and_wait_for_room(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    read: list[bytes] = []

    def use(opened: CheckpointStore, checkpoint: Checkpoint) -> None:
        with opened.local(checkpoint) as source:
            time.sleep(0.02)
            read.append((Path(source.location) / "config.json").read_bytes())

    with store(Budget(checkpoints=2)) as opened, watched(tmp_path / "store") as seen:
        threads = [threading.Thread(target=use, args=(opened, c)) for c in [*checkpoints] * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(read) == sorted(
        stand_in_model(i, WEIGHTS)["config.json"] for i in [0, 1, 2, 3] * 3
    )
    assert max(len(sizes) for sizes in seen) <= 2


def test_a_budget_that_is_too_small(hub: Hub, store: Stores, checkpoints: list[Checkpoint]) -> None:
    too_large = pytest.raises(InputError, match=r"200,\d+ bytes, more than .* 1,000 bytes")
    with store(Budget(bytes=1000)) as opened, too_large:
        fetched(opened, checkpoints[0])
    too_many = pytest.raises(InputError, match="while 1 other checkpoints are in use")
    with store(Budget(checkpoints=1)) as opened, opened.local(checkpoints[0]), too_many:
        fetched(opened, checkpoints[1])
    with pytest.raises(InputError, match="0 checkpoints holds nothing"):
        Budget(checkpoints=0)


def test_nothing_goes_that_the_store_did_not_download(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    own = tmp_path / "store" / "my-model"
    own.mkdir(parents=True)
    (own / "config.json").write_text("{}")
    with store(Budget(checkpoints=1)) as opened:
        with opened.local(checkpoints[0]) as source:
            notes = Path(source.location) / "notes.txt"
            notes.write_text("mine")
        with pytest.raises(InputError, match=r"holds notes\.txt, which is not a checkpoint's file"):
            fetched(opened, checkpoints[1])
    assert notes.read_text() == "mine"
    assert (notes.parent / "model.safetensors").exists()
    assert (own / "config.json").exists()


def test_a_folder_in_the_way_is_not_taken_over(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    with store() as opened:
        folder = fetched(opened, checkpoints[0])
    for path in folder.iterdir():
        path.unlink()
    (folder / "model.safetensors").write_text("mine")
    with pytest.raises(InputError, match="did not put there"), store() as opened:
        fetched(opened, checkpoints[0])
    assert (folder / "model.safetensors").read_text() == "mine"


def test_without_a_budget_a_checkpoint_is_fetched_once_for_all_runs(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint]
) -> None:
    for _ in range(2):
        with store() as opened:
            fetched(opened, checkpoints[0])
    assert hub.sent == WEIGHTS + len(stand_in_model(0, WEIGHTS)["config.json"])


def test_left_overs_go_when_the_budget_got_smaller(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    with store() as opened:
        for checkpoint in checkpoints:
            fetched(opened, checkpoint)
    with store(Budget(checkpoints=1)) as opened, opened.local(checkpoints[3]):
        assert names(tmp_path / "store") == ["step3"]
    assert hub.sent == 4 * (WEIGHTS + len(stand_in_model(0, WEIGHTS)["config.json"]))


def test_two_stores_do_not_share_a_folder(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint]
) -> None:
    shut_out = pytest.raises(InputError, match="Another process keeps")
    with store() as first, first.local(checkpoints[0]), shut_out, store() as second:
        fetched(second, checkpoints[1])
    with store() as third:
        fetched(third, checkpoints[1])


def test_a_moved_revision_is_another_checkpoint(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint]
) -> None:
    with store() as opened, opened.local(checkpoints[0]) as before:
        pass
    hub.models[NAME].revisions["step0"] = stand_in_model(99, WEIGHTS)
    with store() as opened, opened.local(checkpoints[0]) as after:
        assert (Path(after.location) / "config.json").read_bytes() == b'{"seed": 99}'
    assert before.identity.commit != after.identity.commit


KILLED = """
import sys
from pathlib import Path
from lm_eval_trust.checkpoints.families import Checkpoint
from lm_eval_trust.checkpoints.store import Budget, CheckpointStore
with CheckpointStore(Path(sys.argv[1]), Budget(checkpoints=1)) as store:
    with store.local(Checkpoint("step1", 1, None, "velmi/tides", "step1")):
        pass
"""


@pytest.mark.slow
def test_a_killed_download_goes_on_where_it_was(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    hub.faults.append(Fault(WEIGHTS_FILE, bytes_per_second=1e5))
    environment = {"HF_ENDPOINT": hub.address, "PATH": "", "HF_HUB_OFFLINE": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "store")], env=environment
    )
    while sum(held(tmp_path / "store").values()) < 30_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = next((tmp_path / "store").glob("velmi*/*.part")).stat().st_size
    with store(Budget(checkpoints=1)) as opened, opened.local(checkpoints[1]) as source:
        weights = (Path(source.location) / "model.safetensors").read_bytes()
    assert weights == stand_in_model(1, WEIGHTS)["model.safetensors"]
    assert [first for _, first in hub.ranges] == [kept]


def test_left_overs_of_a_killed_run_make_place(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    hub.faults.append(Fault(WEIGHTS_FILE, cut_at=100, times=3))
    with pytest.raises(ExternalError), store(Budget(checkpoints=1), tries=1) as opened:
        fetched(opened, checkpoints[1])
    assert names(tmp_path / "store") == ["step1"]
    with store(Budget(checkpoints=1)) as opened, opened.local(checkpoints[2]):
        assert names(tmp_path / "store") == ["step2"]


def test_a_real_model_loads_and_is_known_by_its_commit(
    hub: Hub, store: Stores, tiny_llama: Callable[..., Path]
) -> None:
    hub.models["velmi/llama"] = Repository({"main": files_of(tiny_llama(layers=2))})
    checkpoint = Checkpoint("last", 5, None, "velmi/llama", "main")
    with store() as opened, opened.local(checkpoint) as source:
        model, tokenizer = load_pinned(source, dtype=None, device="cpu")
        assert len(model.model.layers) == 2
        assert tokenizer("a").input_ids
        commit = hub.models["velmi/llama"].commit("main")
        assert source.identity.text == f"velmi/llama@main {commit}"


def test_what_lies_on_this_disk_is_used_where_it_is(
    store: Stores, tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tiny_llama(layers=2)
    here = Checkpoint("a", 0, None, str(folder), None)
    with store(Budget(bytes=1)) as opened:
        assert opened.size(here) == 0
        opened.prefetch(here)
        with opened.local(here) as source:
            assert source.location == str(folder)
        with pytest.raises(MissingCheckpointError, match="no model in the folder nowhere"):
            fetched(opened, replace(here, location="nowhere"))
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("quick")
def test_a_checkpoint_of_the_embedded_family(store: Stores) -> None:
    with store() as opened:
        assert fetched(opened, Checkpoint("ckpt_001", 1, None, "mini@ckpt_001", None)).is_dir()


def test_offline_the_hubs_cache_is_all_there_is(
    store: Stores, checkpoints: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with store() as opened:
        assert opened.size(checkpoints[0]) == 0
        with pytest.raises(ExternalError, match="not in the local Hub cache"):
            fetched(opened, checkpoints[0])
