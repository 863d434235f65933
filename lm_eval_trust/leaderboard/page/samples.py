"""A run's samples as the page holds them: a small index, and texts in compressed chunks."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import Sample, SavedRun
from lm_eval_trust.leaderboard.page.compression import CHUNK, Chunks
from lm_eval_trust.leaderboard.page.sample_text import answer_of, prompt_of, read_as, target_of
from lm_eval_trust.leaderboard.settings import DATA_SEEDS, settings_of

Index = dict[str, Any]


class SampleSets:
    """Sets of samples: those of one run, task and filter, each once.

    Attributes:
        indices: Id of a set → seeds of its data, ids of its items, metrics of each, where the
            texts are.
        chunks: The texts.
    """

    def __init__(self) -> None:
        self.indices: dict[str, Index] = {}
        self.chunks = Chunks()
        self._known: dict[tuple[str, str], dict[str, str]] = {}

    def add(self, run: SavedRun) -> dict[str, dict[str, str]]:
        """Keep a run's samples; return task → filter → id of the set.

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
    """Return the items' ids; ``None`` where they just count from 0, as all samples of a task do."""
    ids = [int(sample["doc_id"]) for sample in samples]
    return None if ids == list(range(len(ids))) else ids


def _hashes(answers: Iterable[str]) -> str:
    """Return answers' CRC-32 as little-endian 32-bit numbers in base64, to tell changed ones."""
    encoded = (answer.encode("utf-8", "surrogatepass") for answer in answers)
    values = np.fromiter(map(zlib.crc32, encoded), dtype="<u4")
    return base64.b64encode(values.tobytes()).decode("ascii")


def _metrics(samples: Sequence[Sample]) -> dict[str, list[float | None]]:
    """Return each numeric metric's values, ``None`` where a sample has none."""
    names = dict.fromkeys(name for sample in samples for name in sample.get("metrics", ()))
    columns = {name: [_number(sample.get(name)) for sample in samples] for name in names}
    return {name: values for name, values in columns.items() if any(v is not None for v in values)}


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else round(float(value), 6)
