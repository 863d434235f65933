"""Find a benchmark's file: in the user's folder, in the cache, or by fetching it once."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

from lm_eval_trust.benchmarks import hub
from lm_eval_trust.benchmarks.catalogue import CATALOGUE, DataFile, find_file
from lm_eval_trust.benchmarks.download import download, sha256_of
from lm_eval_trust.core.errors import ExternalError, InputError, MissingDataError
from lm_eval_trust.core.storage import CACHE_VARIABLE, build_once, cache_dir

DATA_VARIABLE = "LM_EVAL_TRUST_DATA"
#: Folder of the paper's released files, each named after its benchmark.
RELEASED = "tracingllm"
_PKU = "pku_saferlhf/pku_saferlhf_pairs.jsonl"
#: Benchmarks that lm_eval loads by itself, so that a missing local file has a simple way out.
_BUILT_IN = {"arc": "arc_challenge", "race": "race"}


def locate(path: str) -> Path:
    """Return where the file lies, fetched if need be, with the checksum that it must have.

    With ``LM_EVAL_TRUST_DATA`` set that folder alone counts; otherwise the cache, filled from the
    file's origin on first use unless ``HF_HUB_OFFLINE`` forbids it.

    Args:
        path: A path of the catalogue, e.g. ``toxigen/toxiGen.json``.

    Raises:
        MissingDataError: The file is nowhere to be had; the message lists the ways to it.
        InputError: The file's bytes are not those expected.
        ExternalError: Fetching failed.
    """
    file = find_file(path)
    folder = os.environ.get(DATA_VARIABLE)
    found = _in_folder(file, Path(folder)) if folder else _in_cache(file)
    _verify(file, found)
    return found


def fetch(path: str) -> Path:
    """Return the file in the cache, fetched if it is not there yet; checksums as :func:`locate`.

    Raises:
        MissingDataError: Offline, or no origin is known for the file.
        ExternalError: Fetching failed.
    """
    file = find_file(path)
    found = _in_cache(file)
    _verify(file, found)
    return found


def checksums(paths: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of each file as it is read now, for the record."""
    return {path: _digest(locate(path)) for path in paths}


def files_of(benchmark: str) -> list[str]:
    """Return the catalogue's paths of one benchmark: its own files and the released ones."""
    return [
        path for path in CATALOGUE if path.startswith((f"{benchmark}/", f"{RELEASED}/{benchmark}"))
    ]


def is_offline() -> bool:
    """Tell whether ``HF_HUB_OFFLINE`` forbids the network, as it does for the Hub's clients."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in {"1", "ON", "YES", "TRUE"}


def _in_folder(file: DataFile, folder: Path) -> Path:
    if not folder.is_dir():
        raise MissingDataError(f"{DATA_VARIABLE}={folder} is not a folder. {_ways(file)}")
    found = folder / file.path
    if not found.is_file():
        raise MissingDataError(f"{DATA_VARIABLE}={folder} holds no {file.path}. {_ways(file)}")
    return found


def _in_cache(file: DataFile) -> Path:
    cached = cache_dir() / "data" / file.path
    if cached.exists():
        return cached
    if file.address is None and file.path != _PKU:
        raise MissingDataError(f"No address is known to fetch {file.path} from. {_ways(file)}")
    if is_offline():
        raise MissingDataError(
            f"{file.path} is not in {cached.parent} and HF_HUB_OFFLINE forbids fetching it. "
            f"{_ways(file)}"
        )
    try:
        return build_once(cached, hub.write_pairs if file.path == _PKU else _downloader(file))
    except ExternalError as error:
        raise ExternalError(f"{error} {_ways(file)}") from error


def _downloader(file: DataFile) -> functools.partial[None]:
    return functools.partial(download, file)


def _ways(file: DataFile) -> str:
    ways = (
        f"Ways to {file.path}: (1) set {DATA_VARIABLE} to a folder that holds it; "
        f"(2) leave it unset and, with network, run `lm-eval-trust data fetch`; "
        f"(3) set {CACHE_VARIABLE} to a cache that was filled elsewhere."
    )
    if file.benchmark in _BUILT_IN:
        return (
            f"{file.path} comes from a local folder only: set {DATA_VARIABLE}, or use lm_eval's "
            f"own task {_BUILT_IN[file.benchmark]}, which loads it from the Hub or its cache."
        )
    return ways


def _verify(file: DataFile, found: Path) -> None:
    if file.sha256 is None:
        return
    actual = _digest(found)
    if actual != file.sha256:
        raise InputError(
            f"{found} fails its checksum: SHA-256 {actual}, expected {file.sha256}. It was "
            f"changed or is incomplete; delete it or replace it by the original."
        )


def _digest(found: Path) -> str:
    status = found.stat()
    return _digest_of_state(str(found), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=256)
def _digest_of_state(path: str, mtime_ns: int, size: int) -> str:
    """Digest once for each state of a file; time and size are part of the key alone."""
    return sha256_of(Path(path).read_bytes())
