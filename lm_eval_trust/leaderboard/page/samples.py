"""A run's samples as the page stores them: a small index, and texts in compressed chunks."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import Sample, SavedRun, saved_value
from lm_eval_trust.leaderboard.identity import DATA_SEEDS, settings_of

Index = dict[str, Any]


class SampleSets:
    """Sets of samples, one for each run, task and filter.

    Attributes:
        indices: Id of a set → seeds of its data, ids and metrics of its items, ids of the chunks
            with its texts.
        chunks: The texts.
    """

    def __init__(self) -> None:
        self.indices: dict[str, Index] = {}
        self.chunks = Chunks()
        self._known: dict[tuple[str, str], dict[str, str]] = {}

    def add(self, run: SavedRun) -> dict[str, dict[str, str]]:
        """Store a run's samples; return task → filter → id of the set.

        Raises:
            InputError: A file of samples is damaged.
        """
        return {task: self._task(run, task) for task in run.tasks}

    def _task(self, run: SavedRun, task: str) -> dict[str, str]:
        key = (str(run.path.resolve()), task)
        if key not in self._known:
            of_filter: dict[str, list[Sample]] = {}
            for sample in run.samples(task):
                of_filter.setdefault(str(sample.get("filter", "none")), []).append(sample)
            settings = settings_of(run)[task]
            seeds = [settings.get(name) for name in DATA_SEEDS]
            try:
                self._known[key] = {k: self._keep(rows, seeds) for k, rows in of_filter.items()}
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{run.samples_file(task)} is not a file of the harness's samples: {error}"
                ) from error
        return self._known[key]

    def _keep(self, samples: Sequence[Sample], seeds: Sequence[Any]) -> str:
        name = f"set-{len(self.indices)}"
        answers = [(answer_of(sample), read_as(sample)) for sample in samples]
        self.indices[name] = {
            "seeds": ",".join(map(str, seeds)),
            "chunk": CHUNK,
            "size": len(samples),
            "ids": _ids(samples),
            "metrics": _metrics(samples),
            "hashes": _hashes(answer for answer, _ in answers),
            "prompts": self.chunks.add([(prompt_of(s), target_of(s)) for s in samples]),
            "answers": self.chunks.add(answers),
        }
        return name


def _ids(samples: Sequence[Sample]) -> list[int] | None:
    """Return the items' ids; ``None`` if they are 0, 1, 2, …, as for a whole task."""
    ids = [int(sample["doc_id"]) for sample in samples]
    return None if ids == list(range(len(ids))) else ids


def _hashes(answers: Iterable[str]) -> str:
    """Return the answers' CRC-32 (little-endian, base64), by which changed answers are found."""
    encoded = (answer.encode("utf-8", "surrogatepass") for answer in answers)
    values = np.fromiter(map(zlib.crc32, encoded), dtype="<u4")
    return base64.b64encode(values.tobytes()).decode("ascii")


def _metrics(samples: Sequence[Sample]) -> dict[str, list[float | None]]:
    """Return each numeric metric's values, ``None`` for a sample without."""
    names = dict.fromkeys(name for sample in samples for name in sample.get("metrics", ()))
    columns = {name: [_number(sample.get(name)) for sample in samples] for name in names}
    return {name: values for name, values in columns.items() if any(v is not None for v in values)}


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else round(float(value), 6)


_LIKELIEST, _OTHER = "▸ ", "  "
#: Separates the texts of a sample with several requests.
_BETWEEN = "\n———\n"
#: Fields of a judge's record that are not its verdict.
_NO_VERDICT = ("answer", "text", "judge")


def prompt_of(sample: Sample) -> str:
    """Return the distinct prompts of a sample's requests; its row if none was saved."""
    prompts = dict.fromkeys(_text(request[0]) for request in _requests(sample) if request)
    return _BETWEEN.join(prompts) if prompts else _text(sample.get("doc", ""))


def target_of(sample: Sample) -> str:
    """Return the expected answer."""
    return _text(sample.get("target", ""))


def answer_of(sample: Sample) -> str:
    """Return the model's answer: its text, or the choices with their log-likelihoods."""
    replies = _replies(sample)
    if replies and all(_is_likelihood(reply) for reply in replies):
        return _choices([_choice(request) for request in _requests(sample)], replies)
    return _BETWEEN.join(_text(reply) for reply in replies)


def read_as(sample: Sample) -> str:
    """Return what the task's filter read from the answer; empty if that is the answer itself."""
    if all(_is_likelihood(reply) for reply in _replies(sample)):
        return ""
    found = sample.get("filtered_resps", [])
    texts = [_reading(each) for each in (found if isinstance(found, list) else [found])]
    return "" if _BETWEEN.join(texts).strip() == answer_of(sample).strip() else " · ".join(texts)


def _replies(sample: Sample) -> list[Any]:
    """Return the first reply to each request; a whole text's likelihood as a list, like a choice's.

    Requests for the likelihood of a whole text have one argument; those for generation have two,
    and their replies are texts even if they look like numbers.
    """
    replies = [_first(replies) for replies in sample.get("resps", [])]
    requests, alone = _requests(sample), [[reply] for reply in replies]
    whole = len(requests) == len(replies) and all(len(request) == 1 for request in requests)
    return alone if whole and all(_is_likelihood(reply) for reply in alone) else replies


def _reading(found: Any) -> str:
    verdict = _verdict(found)
    if verdict is None:
        return _text(found)
    kept = ((k, v) for k, v in verdict.items() if k not in _NO_VERDICT)
    return ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in kept)


def _verdict(found: Any) -> Mapping[str, Any] | None:
    """Return a judge's record of an answer, which the harness saves as the text of a dict."""
    if isinstance(found, str) and found.startswith("{'"):
        try:
            found = saved_value(found)
        except ValueError:
            return None
    return found if isinstance(found, Mapping) else None


def _requests(sample: Sample) -> list[list[Any]]:
    """Return each request's arguments, which the harness saves as a list or as a mapping."""
    saved = sample.get("arguments") or []
    found = list(saved.values()) if isinstance(saved, Mapping) else list(saved)
    return [list(each.values()) if isinstance(each, Mapping) else list(each) for each in found]


def _choices(choices: Sequence[str], replies: Sequence[Any]) -> str:
    values = [float(reply[0]) for reply in replies]
    named = [*choices, *[""] * (len(values) - len(choices))]
    if len(values) == 1:
        return f"{named[0]}\nlog-likelihood {values[0]:.3f}".strip()
    best = max(values)
    return "\n".join(
        f"{_LIKELIEST if value == best else _OTHER}{choice.strip()}  {value:.3f}"
        for choice, value in zip(named, values, strict=False)
    )


def _choice(request: Sequence[Any]) -> str:
    return request[1] if len(request) > 1 and isinstance(request[1], str) else ""


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) and values else values


def _is_likelihood(reply: Any) -> bool:
    """Whether a reply is a log-likelihood, alone or with whether it is the greedy continuation.

    The harness saves the pair as two strings.
    """
    if not isinstance(reply, list) or not reply or len(reply) > 2:
        return False
    try:
        float(reply[0])
    except (TypeError, ValueError):
        return False
    return len(reply) == 1 or str(reply[1]) in ("True", "False")


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


#: Halves of surrogate pairs, which UTF-8 cannot hold and JSON can.
LONE = re.compile("[\ud800-\udfff]")
#: Samples in a chunk, which the browser decodes at once.
CHUNK = 200


class Chunks:
    """Chunks by the hash of their content, so rows with the same prompts share chunks."""

    def __init__(self) -> None:
        self._encoded: dict[str, str] = {}

    def add(self, values: Sequence[Any]) -> list[str]:
        """Store a series; return the ids of its chunks in order.

        Args:
            values: JSON values.
        """
        return [self._add(values[start : start + CHUNK]) for start in range(0, len(values), CHUNK)]

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield each chunk's id and its gzip-compressed JSON in base64."""
        yield from self._encoded.items()

    def _add(self, values: Sequence[Any]) -> str:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False)
        raw = LONE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()
        name = hashlib.sha256(raw).hexdigest()[:16]
        if name not in self._encoded:
            self._encoded[name] = encode(raw)
        return name


def encode(raw: bytes) -> str:
    """Return bytes as gzip in base64, the same text each time."""
    return base64.b64encode(gzip.compress(raw, compresslevel=6, mtime=0)).decode("ascii")
