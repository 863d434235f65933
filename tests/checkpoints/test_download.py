"""What happens to a checkpoint when the Hub misbehaves on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest
from support.hub import ALWAYS, Fault, Hub, Repository, stand_in_model

from lm_eval_trust.checkpoints.families import Checkpoint
from lm_eval_trust.checkpoints.store import CheckpointStore, MissingCheckpointError
from lm_eval_trust.core.errors import ExternalError, InputError

NAME, WEIGHTS = "velmi/tides", 200_000
Stores = Callable[..., CheckpointStore]
FILE = "/cdn/*/model.safetensors"


def check(store: CheckpointStore, checkpoint: Checkpoint) -> None:
    """Fetch a checkpoint and compare its files with the Hub's."""
    with store, store.local(checkpoint) as source:
        for name in ("config.json", "model.safetensors"):
            expected = stand_in_model(checkpoint.step, WEIGHTS)[name]
            assert (Path(source.location) / name).read_bytes() == expected


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("*velmi*", status=429, retry_after="0"), Fault("*velmi*", status=500)],
        [Fault("*/config.json", status=503, times=2)],
        [Fault(FILE, cut_at=50_000), Fault(FILE, cut_at=50_000), Fault(FILE, cut_at=10)],
        [Fault(FILE, wrong=True, times=2)],
        [Fault("*/config.json", wrong=True)],
        [Fault(FILE, silence=0.6)],
        [Fault("/api/*velmi*", silence=0.6)],
        [Fault(FILE, bytes_per_second=1e6)],
    ],
    ids=["429", "5xx", "cut", "wrong", "wrong small", "silence", "silent listing", "slow"],
)
def test_a_fault_that_passes(
    faults: list[Fault], hub: Hub, store: Stores, checkpoints: list[Checkpoint]
) -> None:
    hub.faults += faults
    check(store(timeout=0.3 if faults[0].silence else 5), checkpoints[1])
    assert [fault.times for fault in hub.faults] == [0] * len(faults)


def test_a_cut_download_goes_on_where_it_stopped(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint]
) -> None:
    hub.faults += [Fault(FILE, cut_at=50_000), Fault(FILE, cut_at=60_000)]
    check(store(), checkpoints[0])
    assert [first for _, first in hub.ranges] == [50_000, 110_000]
    assert hub.sent == WEIGHTS + len(stand_in_model(0, WEIGHTS)["config.json"])


def test_cuts_that_bring_something_each_are_no_reason_to_give_up(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint]
) -> None:
    hub.faults.append(Fault(FILE, cut_at=20_000, times=9))
    check(store(tries=2), checkpoints[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Fault("*velmi*", status=429, retry_after="1"),
        Fault("*velmi*", status=503, retry_after="a date"),
        Fault("*velmi*", status=429, rate_limit='"api";r=0;t=1'),
    ],
    ids=["seconds", "a date", "quota"],
)
def test_the_server_says_how_long_to_wait(
    fault: Fault, hub: Hub, store: Stores, checkpoints: list[Checkpoint]
) -> None:
    if fault.status == 503:
        fault.retry_after = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2))
    hub.faults.append(fault)
    start = time.monotonic()
    check(store(), checkpoints[0])
    assert time.monotonic() - start >= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (Fault(FILE, status=500), ExternalError, "did not answer for velmi/tides at step1"),
        (Fault(FILE, cut_at=0), ExternalError, "cannot be reached.*What has come is kept"),
        (Fault(FILE, silence=0.5), ExternalError, "cannot be reached.*timed out"),
        (Fault(FILE, bytes_per_second=300), ExternalError, "sent .* bytes in 0 seconds"),
        (Fault(FILE, wrong=True), ExternalError, "other bytes than its checksum .* 3 times"),
        (Fault("/api/*velmi*", status=401), InputError, "HF_TOKEN"),
        (Fault(FILE, status=404), ExternalError, "did not answer"),
        (Fault("/api/*velmi*", status=200), ExternalError, "is no Hub; check HF_ENDPOINT"),
    ],
    ids=["500", "cut", "silence", "drip", "wrong", "401", "404 of another server", "no Hub"],
)
def test_a_fault_that_stays(
    fault: Fault,
    error: type[Exception],
    message: str,
    hub: Hub,
    store: Stores,
    checkpoints: list[Checkpoint],
) -> None:
    fault.times = ALWAYS
    hub.faults.append(fault)
    hurried = store(timeout=0.3 if fault.silence or fault.bytes_per_second else 5)
    with pytest.raises(error, match=message), hurried, hurried.local(checkpoints[1]):
        pass


def test_wrong_bytes_are_not_kept(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    hub.faults.append(Fault(FILE, wrong=True, times=3))
    with pytest.raises(ExternalError), store() as opened, opened.local(checkpoints[1]):
        pass
    assert sum(path.stat().st_size for path in tmp_path.rglob("model*")) == 0
    hub.faults.clear()
    check(store(), checkpoints[1])


def test_what_is_gone_is_missing(hub: Hub, store: Stores, checkpoints: list[Checkpoint]) -> None:
    revisions = hub.models[NAME].revisions
    del revisions["step1"]
    revisions["step2"] = {"config.json": b"{}"}
    revisions["step3"] = {"model.safetensors": b"x"}
    with store() as opened:
        for checkpoint, why in zip(
            checkpoints[1:], ("no revision 'step1'", "no weights", r"no config\.json"), strict=True
        ):
            with pytest.raises(MissingCheckpointError, match=why), opened.local(checkpoint):
                pass
        with opened.local(checkpoints[0]):
            pass


def test_a_repository_that_is_closed_or_absent(
    hub: Hub, store: Stores, checkpoints: list[Checkpoint]
) -> None:
    hub.closed.add(NAME)
    absent = Checkpoint("x", 0, None, "velmi/waves", "main")
    with store() as opened:
        with pytest.raises(InputError, match="refuses velmi/tides"):
            opened.size(checkpoints[0])
        with pytest.raises(InputError, match="no Hub model 'velmi/waves'") as caught:
            opened.size(absent)
        assert not isinstance(caught.value, MissingCheckpointError)


def test_only_what_a_model_needs_is_fetched(hub: Hub, store: Stores) -> None:
    needed = {"config.json", "tokenizer.json", "model-00001-of-00001.safetensors"}
    needed |= {"lm_eval_trust.json", "generation_config.json", "model.safetensors.index.json"}
    other = {
        "README.md",
        "pytorch_model.bin",
        "optimizer.bin",
        "onnx/model.onnx",
        "logs/config.json",
    }
    pickled = {"config.json": b"{}", "pytorch_model.bin": b"w", "training_args.bin": b"t"}
    hub.models[NAME] = Repository({"new": {name: b"x" for name in needed | other}, "a/b": pickled})
    with store() as opened:
        with opened.local(Checkpoint("n", 0, None, NAME, "new")) as source:
            names = {path.name for path in Path(source.location).iterdir()}
            assert names == {*needed, "lm_eval_trust_download.json"}
        with opened.local(Checkpoint("o", 0, None, NAME, "a/b")) as source:
            names = {path.name for path in Path(source.location).iterdir()}
            assert names == {"config.json", "pytorch_model.bin", "lm_eval_trust_download.json"}
            assert source.identity.revision == "a/b"
