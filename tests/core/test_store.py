"""A store keeps what was put there: between processes, contexts, kills and damages."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.store import KeyedStore


def test_values_come_back(tmp_path: Path) -> None:
    values = {"a": [1.5, True], "b": None, "": {"text": "…\ud800"}, "c/d": "x" * 100_000}
    with KeyedStore(tmp_path / "new" / "file", "context") as store:
        store.put_many(values.items())
    with KeyedStore(tmp_path / "new" / "file", "context") as store:
        assert store.get_many([*values, "absent"]) == values
        assert store.get("a") == [1.5, True]
        assert store.get("absent") is None


def test_many_keys_are_found(tmp_path: Path) -> None:
    with KeyedStore(tmp_path / "file", "context") as store:
        store.put_many((str(n), n) for n in range(3000))
        assert store.get_many([str(n) for n in range(4000)]) == {str(n): n for n in range(3000)}


def test_contexts_do_not_share(tmp_path: Path) -> None:
    with KeyedStore(tmp_path / "file", "one") as one, KeyedStore(tmp_path / "file", "two") as two:
        one.put("key", 1)
        assert two.get("key") is None
        two.put("key", 2)
        assert one.get("key") == 1


def test_a_later_value_replaces_an_earlier(tmp_path: Path) -> None:
    with KeyedStore(tmp_path / "file", "context") as store:
        store.put("key", 1)
        store.put("key", 2)
        assert store.get("key") == 2


def test_a_failing_value_keeps_nothing_of_its_transaction(tmp_path: Path) -> None:
    with KeyedStore(tmp_path / "file", "context") as store:
        with pytest.raises(TypeError):
            store.put_many([("good", 1), ("bad", object())])
        assert store.get("good") is None
        store.put("good", 1)
        assert store.get("good") == 1


def test_a_changed_value_counts_as_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with KeyedStore(tmp_path / "file", "context", content="verdicts") as store:
        store.put_many([("first", 0.25), ("second", 0.5)])
    with sqlite3.connect(tmp_path / "file") as raw:
        raw.execute("UPDATE entries SET value = '0.75' WHERE key = 'first'")
    raw.close()
    with KeyedStore(tmp_path / "file", "context", content="verdicts") as store:
        assert store.get_many(["first", "second"]) == {"second": 0.5}
    assert "verdicts" in caplog.text


@pytest.mark.parametrize("content", [b"no database at all, but long enough" * 10, None])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ExternalError, match=r"Cannot open the verdicts in .*file"):
        KeyedStore(path, "context", content="verdicts")


def _open_at_once(path: Path, times: int) -> None:
    def use(number: int) -> None:
        with KeyedStore(path, "context") as store:
            store.put(str(number), number)

    with ThreadPoolExecutor(times) as threads:
        list(threads.map(use, range(times)))
    with KeyedStore(path, "context") as store:
        assert store.get_many([str(n) for n in range(times)]) == {str(n): n for n in range(times)}


def test_a_new_file_is_opened_by_many_at_once(tmp_path: Path) -> None:
    for number in range(10):
        _open_at_once(tmp_path / str(number), 12)


def test_several_processes_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lm_eval_trust.core.store import KeyedStore\n"
        "for n in range(20):\n"
        "    with KeyedStore(Path(sys.argv[1]), 'context') as store:\n"
        "        store.put(f'{sys.argv[2]}-{n}', n)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    with KeyedStore(tmp_path / "file", "context") as store:
        wanted = {f"{number}-{n}": n for number in range(4) for n in range(20)}
        assert store.get_many(list(wanted)) == wanted
