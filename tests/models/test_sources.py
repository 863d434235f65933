from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from support.localhost import serve

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.loading import loading_errors
from lm_eval_trust.models.sources import find_source, load_source, resolve_dtype

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tiny_llama: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama(), tmp_path / "weaver"))


def test_a_folder_is_loaded_ready_to_read(folder: Path) -> None:
    model, tokenizer, identity = load_source(str(folder), device="cpu")
    assert model.dtype == torch.float32 and not model.training
    assert tokenizer("abc")["input_ids"]
    assert identity == find_source(str(folder)).identity
    assert identity.name == "weaver" and identity.commit == ""


def test_a_folders_revision_is_its_content(folder: Path, tmp_path: Path) -> None:
    revision = find_source(str(folder)).identity.revision
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "weaver")
    assert find_source(str(copy)).identity.revision == revision
    (folder / "README.md").write_text("About this model.")
    assert find_source(str(folder)).identity.revision == revision


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_one_byte_makes_another_revision(folder: Path, name: str) -> None:
    revision = find_source(str(folder)).identity.revision
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert find_source(str(folder)).identity.revision != revision


@pytest.mark.parametrize(
    "spec", ["./missing", "/missing/model", "~/missing", "a/b/c", "", "@ckpt_001"]
)
def test_a_missing_folder_is_named(spec: str) -> None:
    with pytest.raises(InputError, match=f"no model folder {spec!r}"):
        find_source(spec)


def test_a_folder_without_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        find_source(str(tmp_path))


def test_a_folder_has_no_revisions(folder: Path) -> None:
    with pytest.raises(InputError, match=r"has no revisions; leave out @ckpt_1"):
        find_source(f"{folder}@ckpt_1")


def test_a_folder_whose_weights_are_cut_short_is_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"Cannot load weights from .*model\.safetensors"):
        load_source(str(folder), device="cpu")


def test_unknown_dtypes_and_devices_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'float32'"):
        load_source(str(folder), dtype="flaot32", device="cpu")
    with pytest.raises(InputError, match="'gpu9' is not a device"):
        load_source(str(folder), device="gpu9")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(InputError, match="device='cuda' is not a device of this machine"):
        load_source(str(folder), device="cuda")


@pytest.mark.parametrize(
    ("dtype", "device", "resolved"),
    [
        (None, "cpu", "float32"),
        (None, "cuda:1", "auto"),
        ("bfloat16", "cpu", "bfloat16"),
        ("torch.float16", None, "float16"),
    ],
)
def test_the_dtype_depends_on_the_device(
    dtype: str | None, device: str | None, resolved: str
) -> None:
    assert resolve_dtype(dtype, device) == resolved


class _Hub(BaseHTTPRequestHandler):
    """The few answers of the Hub that finding a model needs: one model with one revision."""

    config = json.dumps({"model_type": "llama"}).encode()

    def do_HEAD(self) -> None:
        if not self.path.startswith("/orvendale/weaver/"):
            code = "GatedRepo" if self.path.startswith("/orvendale/gated/") else "RepoNotFound"
            return self._answer(403 if code == "GatedRepo" else 404, {"X-Error-Code": code})
        if "/resolve/ckpt_007/" not in self.path:
            return self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        self._answer(200, {"X-Repo-Commit": COMMIT, "ETag": '"1"'})

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.config)

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.config) if status == 200 else 0))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    with serve(_Hub) as address:
        yield address


def find_on(
    hub: str, home: Path, *specs: str, offline: bool = False, hurry: bool = False
) -> list[str]:
    """Find models in a process of its own, since the Hub's client reads its settings once."""
    script = (
        "import contextlib, sys\n"
        "from lm_eval_trust.core.retry import hurried\n"
        "from lm_eval_trust.models.sources import find_source\n"
        f"with hurried() if {hurry} else contextlib.nullcontext():\n"
        "    for spec in sys.argv[1:]:\n"
        "        try: print(find_source(spec).arguments)\n"
        "        except Exception as error: print(type(error).__name__, error)\n"
    )
    environment = os.environ | {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *specs],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("hurry", [False, True])
def test_hub_revisions_are_pinned_and_missing_ones_explained(
    hub: str, tmp_path: Path, hurry: bool
) -> None:
    found, revision, repository, gated, name = find_on(
        hub,
        tmp_path,
        "orvendale/weaver@ckpt_007",
        "orvendale/weaver@ckpt_008",
        "orvendale/missing",
        "orvendale/gated",
        "orvendale/-bad-",
        hurry=hurry,
    )
    assert found == str({"revision": COMMIT})
    assert revision.startswith("InputError orvendale/weaver has no revision 'ckpt_008'")
    assert repository.startswith("InputError There is no model folder and no Hub model")
    assert gated.startswith("InputError orvendale/gated is gated")
    assert name.startswith("InputError orvendale/-bad- at main cannot be used")


@pytest.mark.slow
def test_offline_only_what_was_fetched_is_found(hub: str, tmp_path: Path) -> None:
    find_on(hub, tmp_path, "orvendale/weaver@ckpt_007")
    found, missing = find_on(
        hub, tmp_path, "orvendale/weaver@ckpt_007", "orvendale/weaver@ckpt_008", offline=True
    )
    assert found == str({"revision": COMMIT})
    assert missing.startswith("ExternalError") and "HF_HUB_OFFLINE is set" in missing


@pytest.mark.slow
def test_in_a_hurry_a_hub_that_does_not_answer_is_tried_once(hub: str, tmp_path: Path) -> None:
    find_on(hub, tmp_path, "orvendale/weaver@ckpt_007")
    specs = ("orvendale/weaver@ckpt_007", *(f"orvendale/weaver@{number}" for number in range(4)))
    began = time.monotonic()
    found, *missing = find_on("http://127.0.0.1:9", tmp_path, *specs, hurry=True)
    # The client alone would try each of the four for 23 seconds.
    assert time.monotonic() - began < 60
    assert found == str({"revision": COMMIT})
    assert all("the Hub cannot be reached" in message for message in missing)


@pytest.mark.parametrize("error", [OSError, ValueError, KeyError, SafetensorError])
def test_what_loading_raises_becomes_one_message(error: type[Exception]) -> None:
    with (
        pytest.raises(InputError, match=r"^Cannot load the loom from /x: .{3,200}$"),
        loading_errors("the loom from /x"),
    ):
        raise error("a\n  long story " * 40)


def test_our_own_errors_and_other_bugs_pass() -> None:
    with pytest.raises(InputError, match=r"^ours$"), loading_errors("the loom"):
        raise InputError("ours")
    with pytest.raises(TypeError, match="theirs"), loading_errors("the loom"):
        raise TypeError("theirs")
    with (
        pytest.raises(InputError, match=r"^Cannot load the loom: theirs$"),
        loading_errors("the loom", TypeError),
    ):
        raise TypeError("theirs")
