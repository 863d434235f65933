from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lm_eval_trust.benchmarks import files
from lm_eval_trust.benchmarks.benchmark import DataFile
from lm_eval_trust.benchmarks.files import (
    DATA_VARIABLE,
    catalogue,
    checksums,
    fetch,
    files_of,
    find_file,
    locate,
)
from lm_eval_trust.benchmarks.registry import DIMENSIONS, UNIVERSAL
from lm_eval_trust.core.errors import ExternalError, InputError, MissingDataError
from lm_eval_trust.core.storage import cache_dir

PATH = "orrery/moons.txt"
CONTENT = b"Tessa\nBrindle\nOld Marrow\n"
ADDRESS = "/observatory/orrery/0123abc/moons.txt"


@pytest.fixture
def moons(monkeypatch: pytest.MonkeyPatch) -> DataFile:
    """A file that only this test knows."""
    file = DataFile(PATH, hashlib.sha256(CONTENT).hexdigest(), ADDRESS[1:])
    _add(file, monkeypatch)
    return file


def _add(file: DataFile, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**catalogue(), file.path: file}
    monkeypatch.setattr(files, "catalogue", lambda: known)


def in_folder(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setenv(DATA_VARIABLE, str(folder))
    return path


def kept() -> list[Path]:
    return [path for path in cache_dir().rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_every_real_file_has_the_checksum_on_record(real_data: Path) -> None:
    for path, file in catalogue().items():
        if file.hub and not (real_data / path).exists():
            continue
        digest = hashlib.sha256((real_data / path).read_bytes()).hexdigest()
        assert file.sha256 in (None, digest), path
        assert locate(path) == real_data / path


def test_the_record_agrees_with_the_checksum_published_for_lambada(real_data: Path) -> None:
    published = re.findall(r"\b[0-9a-f]{64}\b", (real_data / "lambada/SOURCE.md").read_text())
    assert find_file("lambada/lambada_test.jsonl").sha256 in published


def test_every_file_says_where_it_is_from_or_is_known_to_be_local() -> None:
    local = {path for path, file in catalogue().items() if file.address is None}
    assert local == {
        "pku_saferlhf/pku_saferlhf_pairs.jsonl",
        "arc/arc_challenge_test.jsonl",
        "race/race_high_test.jsonl",
        "jailbreakbench/behaviors.jsonl",
        "strongreject/prompts.jsonl",
    }
    for file in catalogue().values():
        assert (file.sha256 is None) == (file.address is None)
        if file.address:
            assert re.fullmatch(r"[^/]+/[^/]+/[0-9a-f]{7,40}/.+", file.address)


def test_the_local_folder_comes_first(
    moons: DataFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_folder(tmp_path / "data", CONTENT, monkeypatch)
    assert locate(PATH) == path
    assert checksums([PATH]) == {PATH: moons.sha256}


def test_a_changed_local_file_is_refused(
    moons: DataFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_folder(tmp_path / "data", CONTENT + b"x", monkeypatch)
    with pytest.raises(InputError, match="fails its checksum") as caught:
        locate(PATH)
    assert str(path) in str(caught.value)
    assert str(moons.sha256) in str(caught.value)
    assert hashlib.sha256(CONTENT + b"x").hexdigest() in str(caught.value)


def test_a_file_that_changes_in_between_is_noticed(
    moons: DataFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_folder(tmp_path / "data", CONTENT, monkeypatch)
    assert locate(PATH) == path
    path.write_bytes(CONTENT[:-2])
    with pytest.raises(InputError, match="fails its checksum"):
        locate(PATH)


def test_missing_folder_and_missing_file_name_the_three_ways(
    moons: DataFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(MissingDataError, match="is not a folder") as caught:
        locate(PATH)
    for way in (DATA_VARIABLE, "lm-eval-trust data fetch", "LM_EVAL_TRUST_CACHE"):
        assert way in str(caught.value)
    (tmp_path / "nowhere").mkdir()
    with pytest.raises(MissingDataError, match=r"holds no orrery/moons\.txt"):
        locate(PATH)


def test_offline_nothing_is_fetched(moons: DataFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingDataError, match="HF_HUB_OFFLINE forbids"):
        locate(PATH)


def test_a_file_of_a_built_in_task_points_to_that_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(MissingDataError, match="lm_eval's own task arc_challenge"):
        locate("arc/arc_challenge_test.jsonl")


def test_unknown_file() -> None:
    with pytest.raises(InputError, match=r"Did you mean 'toxigen/toxiGen\.json'"):
        locate("toxigen/toxigen.json")


def test_a_benchmarks_files_are_its_own_and_the_released_ones() -> None:
    assert files_of("stereoset") == [
        "stereoset/intersentence.jsonl",
        "stereoset/intrasentence.jsonl",
        "tracingllm/stereoset.csv",
    ]
    assert "truthfulqa_binary/TruthfulQA.csv" in files_of("truthfulqa")
    everything = {path for d in (*DIMENSIONS, UNIVERSAL) for path in files_of(d.benchmark)}
    no_dimension = ("arc/", "mmlu/", "mathqa/", "race/", "lambada/", "xstest/", "bbq/")
    no_dimension += ("jailbreakbench/", "strongreject/")
    assert everything == {path for path in catalogue() if not path.startswith(no_dimension)}


def test_fetched_once_then_cached(moons: DataFile, server) -> None:
    server.contents[ADDRESS] = CONTENT
    assert locate(PATH).read_bytes() == CONTENT
    assert fetch(PATH) == locate(PATH)
    assert server.asked == [ADDRESS]


def test_the_fetched_file_is_converted_before_it_is_checked(
    monkeypatch: pytest.MonkeyPatch, server
) -> None:
    file = DataFile(PATH, hashlib.sha256(CONTENT).hexdigest(), ADDRESS[1:], bytes.title)
    _add(file, monkeypatch)
    server.contents[ADDRESS] = CONTENT.lower()
    assert locate(PATH).read_bytes() == CONTENT


def test_wrong_bytes_are_not_kept(moons: DataFile, server) -> None:
    server.contents[ADDRESS] = b"<html>Please sign in</html>"
    with pytest.raises(ExternalError, match="SHA-256") as caught:
        locate(PATH)
    assert str(moons.sha256) in str(caught.value)
    assert kept() == []


def test_a_revision_that_does_not_exist(moons: DataFile, server) -> None:
    with pytest.raises(ExternalError, match="404") as caught:
        locate(PATH)
    assert ADDRESS in str(caught.value)
    assert DATA_VARIABLE in str(caught.value)
    assert kept() == []


def test_a_broken_connection_leaves_nothing_and_can_be_repeated(moons: DataFile, server) -> None:
    server.contents[ADDRESS] = CONTENT
    server.cut.add(ADDRESS)
    with pytest.raises(ExternalError, match="broke off after 12 bytes"):
        locate(PATH)
    assert kept() == []
    server.cut.clear()
    assert locate(PATH).read_bytes() == CONTENT


def test_no_server(moons: DataFile, server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_EVAL_TRUST_GITHUB", "http://127.0.0.1:9")
    with pytest.raises(ExternalError, match="Cannot reach"):
        locate(PATH)


def test_another_layout_is_not_converted(monkeypatch: pytest.MonkeyPatch, server) -> None:
    real = find_file("stereoset/intersentence.jsonl")
    server.contents[f"/{real.address}"] = b'{"data": []}'
    with pytest.raises(ExternalError, match="another layout"):
        locate(real.path)


def test_a_cached_file_that_was_damaged_later_is_refused(moons: DataFile, server) -> None:
    server.contents[ADDRESS] = CONTENT
    locate(PATH).write_bytes(CONTENT[:5])
    with pytest.raises(InputError, match="fails its checksum"):
        locate(PATH)


@pytest.mark.slow
def test_two_processes_at_once_fetch_once(data_dir: Path, server) -> None:
    path = "confaide/tier_2_labels.txt"
    address = f"/{find_file(path).address}"
    server.contents[address] = (data_dir / path).read_bytes()
    code = (
        "from lm_eval_trust.benchmarks.files import locate; "
        f"print(locate({path!r}).read_text()[:4])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=300)[0].strip() for process in processes] == ["1.26"] * 2
    assert server.asked == [address]


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(data_dir: Path, server) -> None:
    path = "confaide/tier_2_labels.txt"
    content = (data_dir / path).read_bytes()
    server.contents[f"/{find_file(path).address}"] = content
    code = (
        "import resource\n"
        "from lm_eval_trust.benchmarks.files import locate\n"
        "from lm_eval_trust.core.errors import ExternalError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        f"    locate({path!r})\n"
        "except ExternalError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "Cannot write" in done.stdout, done.stderr
    assert kept() == []
    assert locate(path).read_bytes() == content
