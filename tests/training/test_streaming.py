"""Streamed corpora: the same windows as packed ones, resumed exactly, with errors that speak."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest
from support.hub import Hub, Repository, hub_server

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.training.corpus import build_tokenizer, pack_documents
from lm_eval_trust.training.run_folder import checksums
from lm_eval_trust.training.streaming import StreamedExamples

TEXTS = [f"tale {i} of Oss " + "and the Velmi " * (i % 5) for i in range(40)]
TOKENIZER = build_tokenizer(TEXTS, size=320, max_length=64)


def streamed(texts: list[str], field: str = "text") -> StreamedExamples:
    rows = datasets.Dataset.from_dict({"text": texts}).to_iterable_dataset(
        num_shards=min(2, len(texts)) or 1
    )
    return StreamedExamples(rows, field, TOKENIZER, 16, "tales")


def test_windows_are_those_of_packed_documents_over_and_over() -> None:
    packed = pack_documents([*TEXTS, *TEXTS], TOKENIZER, 16)
    stream = streamed(TEXTS)
    for step in range((len(packed) - 1) // 4):  # the last window is not full yet
        inputs, labels = stream.batch(step, 4, seed=0)
        assert (inputs == packed.inputs[4 * step : 4 * step + 4]).all()
        assert (labels == packed.labels[4 * step : 4 * step + 4]).all()


@pytest.mark.parametrize("steps", [0, 1, 9, 30])
def test_a_state_is_a_place(steps: int) -> None:
    whole, other = streamed(TEXTS), streamed(TEXTS)
    for step in range(steps):
        whole.batch(step, 3, seed=0)
    state = whole.state()
    expected = [whole.batch(steps + more, 3, seed=0)[0] for more in range(12)]
    other.restore(state)
    found = [other.batch(steps + more, 3, seed=0)[0] for more in range(12)]
    assert np.array_equal(found, expected)
    other.restore({})
    assert np.array_equal(other.batch(0, 3, seed=0)[0], streamed(TEXTS).batch(0, 3, seed=0)[0])


def test_an_empty_set_and_a_missing_column_are_refused() -> None:
    nothing = datasets.IterableDataset.from_generator(lambda: iter(()))
    with pytest.raises(InputError, match="tales is empty"):
        StreamedExamples(nothing, "text", TOKENIZER, 16, "tales").batch(0, 1, seed=0)
    with pytest.raises(InputError, match=r"no text in 'body'; it has text.*--field"):
        streamed(TEXTS, field="body").batch(0, 1, seed=0)


def test_a_stream_that_breaks_keeps_what_was_trained() -> None:
    class Broken:
        def __iter__(self) -> Iterator[dict[str, str]]:
            yield {"text": "fine"}
            raise ConnectionError("reset by peer")

        def state_dict(self) -> dict[str, object]:
            return {}

        def load_state_dict(self, state_dict: dict[str, object]) -> None:
            pass

    stream = StreamedExamples(Broken(), "text", TOKENIZER, 16, "tales")
    with pytest.raises(ExternalError, match=r"failed: reset by peer.*run the command again"):
        stream.batch(0, 4, seed=0)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """A Hub with one data set of two files."""

    def lines(texts: list[str]) -> bytes:
        return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()

    files = {"data/train-0.jsonl": lines(TEXTS[:25]), "data/train-1.jsonl": lines(TEXTS[25:])}
    with hub_server() as found:
        found.datasets["velmi/tales"] = Repository({"main": files})
        yield found


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """The tokenizer's folder."""
    TOKENIZER.save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


SMALL = (
    "--hidden-size 16 --intermediate-size 32 --layers 2 --heads 2 --key-value-heads 2 "
    "--max-length 64 --window 16 --batch-size 4 --resume-every 3 --threads 1"
)


def environment(hub: Hub, home: Path) -> dict[str, str]:
    own = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home)}
    return {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", **own}


def command(hub: Hub, home: Path, corpus: str, out: Path, *options: str) -> subprocess.Popen[str]:
    program = Path(sys.executable).with_name("lm-eval-trust")
    words = [program, "pretrain", "--corpus", corpus, "--out", out, *SMALL.split(), *options]
    return subprocess.Popen(
        [str(word) for word in words],
        env=environment(hub, home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_set_of_the_hub_trains_and_a_killed_run_goes_on(
    hub: Hub, tmp_path: Path, tokenizer: Path
) -> None:
    def start(out: Path) -> subprocess.Popen[str]:
        options = ("--tokenizer", str(tokenizer), "--steps", "150", "--save-steps", "0,150")
        return command(hub, tmp_path / "home", "hub:velmi/tales@main", out, *options)

    cut, whole = tmp_path / "cut", tmp_path / "whole"
    process = start(cut)
    while not (cut / "resume.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (cut / "ckpt_001").exists()
    for folder in (cut, whole):
        output = start(folder)
        _, errors = output.communicate()
        assert output.returncode == 0, errors
    assert checksums(whole / "ckpt_001") == checksums(cut / "ckpt_001")
    losses = [json.loads(line) for line in (cut / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in losses] == list(range(1, 151))
    assert (cut / "losses.jsonl").read_bytes() == (whole / "losses.jsonl").read_bytes()
    settings = json.loads((cut / "manifest.json").read_text())["settings"]
    assert hub.datasets["velmi/tales"].commit("main") in settings["examples"]


LACKING = (
    ("hub:velmi/nothing", None, "train", "The Hub has no data set 'velmi/nothing'"),
    ("hub:velmi/tales@v9", None, "train", "velmi/tales has no revision 'v9'"),
    ("hub:velmi/tales", None, "dev", "dev"),
    ("hub:velmi/tales", "songs", "train", "songs"),
    ("hub:@main", None, "train", "names no data set"),
)
_OPEN = """
import json, sys
from transformers import AutoTokenizer
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.training.streaming import HubCorpus
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
for spec, subset, split, _ in json.loads(sys.argv[2]):
    try:
        HubCorpus.parse(spec, subset=subset, split=split, field="text").open(tokenizer, 16)
    except InputError as error:
        print(" ".join(str(error).split()))
"""


@pytest.mark.slow
def test_what_the_hub_lacks_is_named(hub: Hub, tmp_path: Path, tokenizer: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, str(tokenizer), json.dumps(LACKING)],
        env=environment(hub, tmp_path / "home"),
        capture_output=True,
        text=True,
    )
    errors = done.stdout.splitlines()
    assert len(errors) == len(LACKING), done.stderr
    for (*_, words), error in zip(LACKING, errors, strict=True):
        assert words in error


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_external(tmp_path: Path, tokenizer: Path) -> None:
    nowhere = Hub("http://127.0.0.1:9")
    done = command(
        nowhere,
        tmp_path / "home",
        "hub:velmi/tales",
        tmp_path / "out",
        "--tokenizer",
        str(tokenizer),
    )
    _, errors = done.communicate()
    assert done.returncode == 3, errors
    assert "Cannot open velmi/tales" in errors
