"""A benchmark's file: in the user's folder, in the cache, or fetched once; and reading it.

Our own download rather than pooch: the bytes may be converted before they are checked, a data
folder set by the user takes precedence, and every failure lists the ways to get the file.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import http.client
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from lm_eval_trust.benchmarks.benchmark import DataFile
from lm_eval_trust.core.errors import ExternalError, InputError, MissingDataError, unknown_name
from lm_eval_trust.core.file_digest import file_digest
from lm_eval_trust.core.storage import CACHE_VARIABLE, build_once, cache_dir

DATA_VARIABLE = "LM_EVAL_TRUST_DATA"
#: Names another server with GitHub's layout, e.g. a mirror inside a firewall.
BASE_VARIABLE = "LM_EVAL_TRUST_GITHUB"
GITHUB = "https://raw.githubusercontent.com"
TIMEOUT_SECONDS = 60
#: Folder of the paper's released files, each named after its benchmark.
RELEASED = "tracingllm"


@functools.cache
def catalogue() -> Mapping[str, DataFile]:
    """Return every known file by its path: those of all benchmarks and the released ones."""
    from lm_eval_trust.benchmarks import tracingllm
    from lm_eval_trust.benchmarks.registry import BENCHMARKS

    own = [file for entry in BENCHMARKS.values() for file in entry.files]
    return {file.path: file for file in (*own, *tracingllm.FILES)}


def find_file(path: str) -> DataFile:
    """Return the entry of ``path``.

    Raises:
        InputError: No such file is known.
    """
    if path not in catalogue():
        raise unknown_name("data file", path, catalogue())
    return catalogue()[path]


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def locate(path: str) -> Path:
    """Return where the file lies, fetched if need be, with the checksum that it must have.

    With ``LM_EVAL_TRUST_DATA`` set, only that folder is read; otherwise the cache, filled from the
    file's origin on first use unless ``HF_HUB_OFFLINE`` forbids it.

    Args:
        path: A path of the catalogue, e.g. ``toxigen/toxiGen.json``.

    Raises:
        MissingDataError: The file is not available; the message lists the ways to it.
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
    return {path: file_digest(locate(path)) for path in paths}


def files_of(benchmark: str) -> list[str]:
    """Return the catalogue's paths of one benchmark: its own files and the released ones."""
    from lm_eval_trust.benchmarks.registry import BENCHMARKS

    own = {file.path for file in BENCHMARKS[benchmark].files}
    released = f"{RELEASED}/{benchmark}"
    return [path for path in catalogue() if path in own or path.startswith(released)]


def unpinned_files() -> dict[str, str]:
    """Return the digests of the existing files whose content is not fixed by a checksum."""
    folder = os.environ.get(DATA_VARIABLE)
    root = Path(folder) if folder else cache_dir() / "data"
    loose = (root / path for path, file in catalogue().items() if file.sha256 is None)
    return {str(path.relative_to(root)): file_digest(path) for path in loose if path.is_file()}


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
    if file.address is None and file.fetch is None:
        raise MissingDataError(f"No address is known to fetch {file.path} from. {_ways(file)}")
    if is_offline():
        raise MissingDataError(
            f"{file.path} is not in {cached.parent} and HF_HUB_OFFLINE forbids fetching it. "
            f"{_ways(file)}"
        )
    try:
        return build_once(cached, file.fetch or functools.partial(download, file))
    except ExternalError as error:
        raise ExternalError(f"{error} {_ways(file)}") from error


def _ways(file: DataFile) -> str:
    ways = (
        f"Ways to {file.path}: (1) set {DATA_VARIABLE} to a folder that holds it; "
        f"(2) leave it unset and, with network, run `lm-eval-trust data fetch`; "
        f"(3) set {CACHE_VARIABLE} to a cache that was filled elsewhere."
    )
    if file.hub:
        ways += (
            f" It is made from the data set {file.hub} of the Hugging Face Hub, which a first use "
            f"with network fetches."
        )
    if file.built_in:
        return (
            f"{file.path} comes from a local folder only: set {DATA_VARIABLE}, or use lm_eval's "
            f"own task {file.built_in}, which loads it from the Hub or its cache."
        )
    return ways


def _verify(file: DataFile, found: Path) -> None:
    if file.sha256 is None:
        return
    actual = file_digest(found)
    if actual != file.sha256:
        raise InputError(
            f"{found} fails its checksum: SHA-256 {actual}, expected {file.sha256}. It is "
            f"another version, changed or incomplete; replace it by the original."
        )


def download(file: DataFile, path: Path) -> None:
    """Write ``file`` to ``path``: fetched, converted and checked against its checksum.

    Raises:
        ExternalError: The server refused, closed the connection early, or sent unexpected bytes.
    """
    base = os.environ.get(BASE_VARIABLE, GITHUB).rstrip("/")
    address = f"{base}/{file.address}"
    content = _converted(file, _get(address), address)
    actual = sha256_of(content)
    if actual != file.sha256:
        raise ExternalError(
            f"{address} is not the {file.path} that is expected: its SHA-256 is {actual} instead "
            f"of {file.sha256}. Nothing was kept; put a right copy into LM_EVAL_TRUST_DATA."
        )
    path.write_bytes(content)


def _get(address: str) -> bytes:
    try:
        # Addresses are the catalogue's own, and what comes is compared with its checksum.
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as response:  # nosec B310
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        raise ExternalError(
            f"{address} answered {error.code} {error.reason}; the file or its revision does not "
            f"exist there, or access is refused."
        ) from error
    except http.client.IncompleteRead as error:
        raise ExternalError(
            f"The connection to {address} broke off after {len(error.partial)} bytes; nothing was "
            f"kept. Try again."
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ExternalError(f"Cannot reach {address}: {reason}.") from error


def _converted(file: DataFile, content: bytes, address: str) -> bytes:
    if file.convert is None:
        return content
    try:
        return file.convert(content)
    except (ValueError, KeyError, TypeError) as error:
        raise ExternalError(
            f"{address} has another layout than the one that {file.path} is made from ({error!r})."
        ) from error


def read_text(path: Path) -> str:
    """Return a file's text without a byte-order mark.

    Raises:
        InputError: The file is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}. Save it as UTF-8.") from error


class Row(dict[str, Any]):
    """A row of a user's file, which names file and line where it lacks a key.

    Args:
        content: The row.
        place: File and line.
    """

    def __init__(self, content: Mapping[str, Any], place: str) -> None:
        super().__init__(content)
        self.place = place

    def __missing__(self, key: str) -> Any:
        raise InputError(f"{self.place} lacks {key!r}; it has {', '.join(map(str, self))}.")

    def one_of(self, key: str, allowed: Collection[str]) -> str:
        """Return a value that has to be one of some.

        Raises:
            InputError: It is another, or missing; file and line are named.
        """
        value = self[key]
        if value not in allowed:
            raise InputError(
                f"{self.place} has the {key} {value!r}; expected {' or '.join(allowed)}."
            )
        return str(value)


def read_csv(path: str) -> list[Row]:
    """Return the rows of a catalogue's CSV, every cell as text.

    Raises:
        InputError: A row has more or fewer cells than the header.
    """
    file = locate(path)
    return _table(file, csv.DictReader(io.StringIO(read_text(file), newline="")))


def read_tsv(path: str) -> list[Row]:
    """Return the rows of an unquoted TSV such as GLUE's, every cell as text.

    Raises:
        InputError: A row has more or fewer cells than the header.
    """
    file = locate(path)
    lines = read_text(file).split("\n")
    return _table(file, csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def _table(file: Path, reader: csv.DictReader[str]) -> list[Row]:
    rows: list[Row] = []
    for row in reader:
        place = f"{file}, line {reader.line_num}"
        if None in row or None in row.values():
            columns = len(reader.fieldnames or ())
            raise InputError(f"{place} has another number of cells than the header's {columns}.")
        rows.append(Row(row, place))
    return rows


def read_json(path: str) -> Any:
    """Return the value of a catalogue's JSON file.

    Raises:
        InputError: It is no JSON; the line is named.
    """
    file = locate(path)
    value = _parsed(read_text(file), str(file))
    if isinstance(value, list):
        return [
            Row(each, f"{file}, entry {n}") if isinstance(each, dict) else each
            for n, each in enumerate(value, start=1)
        ]
    return Row(value, str(file)) if isinstance(value, dict) else value


def read_jsonl(path: str) -> list[Row]:
    """Return the objects of a catalogue's JSON-lines file.

    Raises:
        InputError: A line is no JSON object; it is named.
    """
    return jsonl_of(locate(path))


def jsonl_of(file: Path) -> list[Row]:
    """Return the objects of any JSON-lines file; they name their line where they lack a key.

    Raises:
        InputError: As :func:`read_jsonl`, or the file cannot be read.
    """
    rows: list[Row] = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        value = _parsed(line, str(file), first=number)
        if not isinstance(value, dict):
            raise InputError(f"{file}, line {number} is no JSON object.")
        rows.append(Row(value, f"{file}, line {number}"))
    return rows


def _parsed(text: str, file: str, first: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first + error.lineno - 1
        raise InputError(f"{file}, line {line} is not JSON: {error.msg}.") from error
    except RecursionError as error:
        raise InputError(f"{file} is nested too deeply to be read.") from error


def read_lines(path: str) -> list[str]:
    """Return a text file's lines, the last one with or without a line break."""
    return read_text(locate(path)).rstrip("\n").split("\n")
