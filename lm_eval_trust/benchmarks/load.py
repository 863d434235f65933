"""The statements and the task rows of a benchmark, from any data source."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lm_eval_trust.benchmarks.benchmark import (
    OFFICIAL,
    TRUTHFULQA_LATER,
    BenchmarkData,
    DataSettings,
    Dimension,
    Row,
)
from lm_eval_trust.benchmarks.files import (
    DATA_VARIABLE,
    checksums,
    read_text,
    sha256_of,
    unpinned_files,
)
from lm_eval_trust.benchmarks.partition import SPLITS, partition
from lm_eval_trust.benchmarks.registry import (
    BENCHMARKS,
    DATA_SOURCES,
    benchmarks_by_form,
    find_dimension,
)
from lm_eval_trust.benchmarks.statements import Statement, Statements
from lm_eval_trust.core.errors import InputError, MissingDataError, unknown_name
from lm_eval_trust.core.hashing import fingerprint, group_id

#: Parts that tasks evaluate; the training part belongs to vectors and adapters.
EVALUATED_PARTS = ("test", "validation")


def load_statements(
    dimension: str | Dimension,
    *,
    data_source: str = OFFICIAL,
    data_seed: int = 0,
    perturbation_rate: float = 0.05,
    balanced: bool = True,
) -> Statements:
    """Return the statements of a dimension.

    Official sets are free of duplicates and of sentences that carry both labels, and balanced
    after the paper's Table 3: answers of each TruthfulQA question, one other candidate for each
    StereoSet stereotype, each SST-2 sentence as it is and perturbed, elsewhere to the size of the
    rarer label. Released sets (``tracingllm``) are as released, duplicates, balance and labels
    included; their ``dimension`` says what the labels really mean.

    Args:
        dimension: A dimension or its own or its benchmark's name; ``universal`` for PKU-SafeRLHF.
        data_source: ``official``, ``tracingllm``, or ``mini`` for the embedded world.
        data_seed: Seed of the choices.
        perturbation_rate: Share of letters whose case is flipped; robustness only.
        balanced: Cut official sets to equal numbers of statements per label.

    Returns:
        The statements in the order of the files. ``settings`` hold the arguments that matter
        and the SHA-256 of each file, or the seed of the embedded world.

    Raises:
        InputError: Unknown dimension or source, a set that was not released, a bad rate, a file
            that fails its checksum, or nothing left.
        MissingDataError: A file is not available.
    """
    found = find_dimension(dimension) if isinstance(dimension, str) else dimension
    settings = DataSettings(data_source, data_seed, perturbation_rate, balanced)
    source = DATA_SOURCES[data_source]
    data = data_of(found.benchmark, data_source)
    if data.statements is None:
        raise _missing("statements", found.benchmark, data_source, data)
    items = tuple(data.statements(settings))
    chosen = {name: getattr(settings, name) for name in data.settings} | source.record()
    if not source.own_groups:
        chosen["files"] = checksums(data.files)
    return Statements(
        dimension=source.meaning(found),
        data_source=data_source,
        items=items,
        settings=chosen,
        universe=universe(found.benchmark, (item.group for item in items), data_source=data_source),
    )


def data_state() -> str:
    """Return the identity of the data files in use now, as a key for in-process caches."""
    records = {name: source.record() for name, source in DATA_SOURCES.items()}
    folder = os.environ.get(DATA_VARIABLE, "")
    return fingerprint({"sources": records, "folder": folder, "files": unpinned_files()})


def data_of(benchmark: str, data_source: str) -> BenchmarkData:
    """Return a source's data for a benchmark.

    Raises:
        InputError: It has nothing, or one of them is unknown.
    """
    data = DATA_SOURCES[data_source].find(benchmark, BENCHMARKS[benchmark])
    if data is None:
        raise InputError(
            f"data_source={data_source} has nothing of the benchmark {benchmark}. Use another "
            f"data_source, for example {OFFICIAL}."
        )
    return data


def universe(
    benchmark: str, groups: Iterable[str], *, data_source: str = OFFICIAL
) -> tuple[frozenset[str], ...]:
    """Return the strata to split ``groups`` over: the benchmark's own, then all others, if any.

    Statements may lack groups (balance leaves some out) and the released files contain some groups
    only; splitting each set over its own groups would put a question on different sides. So all are
    split over the official groups, and groups that only another file has form a separate stratum.

    Args:
        benchmark: A benchmark's name, e.g. ``truthfulqa``.
        groups: Group ids of the items available.
        data_source: Where they come from; a source may have its own groups.
    """
    own = DATA_SOURCES[data_source].own_groups
    data = data_of(benchmark, data_source if own else OFFICIAL)
    known = frozenset(data.groups()) if data.groups is not None else frozenset()
    others = frozenset(groups) - known
    return (known, others) if others and not own else (known,)


def load_rows(
    form: str,
    *,
    data_source: str = "official",
    split: str = "grouped",
    split_seed: int = 0,
    part: str = "test",
    data_seed: int = 0,
    perturbation_rate: float = 0.05,
    truthfulqa_revision: str = TRUTHFULQA_LATER,
) -> list[dict[str, Any]]:
    """Return the rows of a task's form that are evaluated: by default the test half.

    The groups are split over the benchmark's universe, as the statements are, so no row of a
    grouped split shares a question, context or sentence with the development half of either
    source. The order is that of the content hashes: a prefix (``--limit``) is a random sample.

    Args:
        form: A form of a benchmark's rows, e.g. ``toxigen_generation``.
        data_source: ``official``, ``tracingllm``, or ``mini`` for the embedded world.
        split: ``grouped``, ``random`` (the paper's plain split over rows) or ``full`` (all rows).
        split_seed: Seed of the split.
        part: ``test``, or ``validation`` for choosing what is then reported on the test half.
        data_seed: Seed of candidates, balance and perturbed letters.
        perturbation_rate: Share of letters whose case is flipped; SST-2 only.
        truthfulqa_revision: ``later``, or ``v1`` for that of the harness's own tasks; TruthfulQA
            only.

    Returns:
        Rows with ``item_id`` (content hash), ``group_id``, ``category`` and the form's fields, of
        the same types in every row.

    Raises:
        InputError: Unknown form, source, split or part, a form that the source cannot make, a bad
            rate, a file that fails its checksum, or no rows left.
        MissingDataError: A file is not available.
    """
    if part not in EVALUATED_PARTS:
        raise unknown_name("part to evaluate", part, EVALUATED_PARTS)
    settings = DataSettings(
        data_source, data_seed, perturbation_rate, truthfulqa_revision=truthfulqa_revision
    )
    return _rows(form, settings, split, split_seed, part)


def load_examples(
    form: str,
    *,
    data_source: str = OFFICIAL,
    split: str = "grouped",
    split_seed: int = 0,
    data_seed: int = 0,
    perturbation_rate: float = 0.05,
    truthfulqa_revision: str = TRUTHFULQA_LATER,
) -> list[dict[str, Any]]:
    """Return the rows of a task's form in the training part, for examples in prompts.

    See :func:`load_rows` for the arguments, the rows and the errors; ``split=full`` leaves none.
    """
    settings = DataSettings(
        data_source, data_seed, perturbation_rate, truthfulqa_revision=truthfulqa_revision
    )
    return _rows(form, settings, split, split_seed, "train")


def _rows(
    form: str, settings: DataSettings, split: str, split_seed: int, part: str
) -> list[dict[str, Any]]:
    known = benchmarks_by_form()
    if form not in known:
        raise unknown_name("form", form, known)
    benchmark, data_source = known[form], settings.data_source
    if split not in (*SPLITS, "full"):
        raise unknown_name("split", split, (*SPLITS, "full"))
    if split == "full" and part != "test":
        raise InputError(f"split=full has no {part} part; choose split=grouped or split=random.")
    data = data_of(benchmark, data_source)
    if form not in data.forms:
        raise _missing(form, benchmark, data_source, data)
    if part == "train" and not data.training:
        raise InputError(f"{benchmark} has no training part to take examples from; ask without.")
    rows = _identified(form, data.forms[form](settings))
    if split != "full":
        groups = [str(row[data.dealt_by]) for row in rows]
        strata = universe(benchmark, groups, data_source=data_source)
        parts = partition(groups, split=split, seed=split_seed, universe=strata)
        chosen = "development" if part == "validation" and not data.training else part
        rows = [rows[position] for position in parts.part(chosen)]
    if not rows:
        raise InputError(
            f"No rows are left for {form} from {data_source} with split={split}, part={part}."
        )
    return sorted(rows, key=lambda row: str(row["item_id"]))


def _identified(form: str, rows: list[Row]) -> list[Row]:
    """Add each row's content hash; equal rows also get a number."""
    seen: Counter[str] = Counter()
    identified = []
    for row in rows:
        content = fingerprint({"form": form, **row})
        identified.append({"item_id": fingerprint({"row": content, "n": seen[content]}), **row})
        seen[content] += 1
    return identified


def _missing(what: str, benchmark: str, data_source: str, data: BenchmarkData) -> InputError:
    reason = data.missing.get(what, "it does not provide them.")
    return InputError(
        f"data_source={data_source} has no {what} of the benchmark {benchmark}: {reason} Use "
        f"data_source={OFFICIAL}."
    )


def find_statements(
    dimension: str, *, data_source: str = OFFICIAL, data_seed: int = 0
) -> Statements:
    """Return the statements of a dimension from a data source or a file.

    Args:
        dimension: See :func:`load_statements`.
        data_source: Name of a data source, or a CSV or JSONL file as
            :func:`read_statements_file` reads it.
        data_seed: Seed of the choices; a file is taken as it is.

    Raises:
        InputError: As these two.
        MissingDataError: The same.
    """
    if Path(data_source).suffix:
        return read_statements_file(data_source, dimension)
    return load_statements(dimension, data_source=data_source, data_seed=data_seed)


REQUIRED = ("statement", "label")


def read_statements_file(path: str | Path, dimension: str | Dimension) -> Statements:
    """Return the statements of a file.

    The file has the columns ``statement`` and ``label`` (0 or 1 as the dimension means it), and
    optionally ``group`` (what belongs together in a split; the statement itself by default) and
    ``category``.

    Args:
        path: A ``.csv`` with a header, or a ``.jsonl`` with one object per line; UTF-8.
        dimension: What the labels mean: a dimension or its name.

    Raises:
        MissingDataError: The file does not exist.
        InputError: Another ending, not UTF-8, malformed, a column missing, a label other than 0
            or 1, an empty statement, or no rows.
    """
    path = Path(path)
    found = find_dimension(dimension) if isinstance(dimension, str) else dimension
    if not path.is_file():
        raise MissingDataError(f"There is no file {path}; expected a CSV or JSONL of statements.")
    if path.suffix.lower() not in _READERS:
        raise unknown_name("kind of statements file", path.suffix, _READERS)
    rows = _READERS[path.suffix.lower()](path)
    items = tuple(_statement(row, f"{path}, row {number}") for number, row in enumerate(rows, 1))
    settings = {"files": {path.name: sha256_of(path.read_bytes())}}
    return Statements(found, str(path), items, settings)


def _read_csv(path: Path) -> list[Mapping[str, Any]]:
    try:
        return list(csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise InputError(f"{path} is not a well-formed CSV: {error}.") from error


def _read_jsonl(path: Path) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number} is not an object with statement and label.")
        rows.append(row)
    return rows


_READERS: dict[str, Callable[[Path], list[Mapping[str, Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
}


def _statement(row: Mapping[str, Any], where: str) -> Statement:
    missing = [name for name in REQUIRED if row.get(name) is None]
    if missing:
        have = ", ".join(str(name) for name in row)
        raise InputError(f"{where} lacks {' and '.join(missing)}; its columns are {have}.")
    text = str(row["statement"])
    if not text.strip():
        raise InputError(f"{where} has an empty statement; delete the row or fill it in.")
    label = str(row["label"]).strip()
    if label not in {"0", "1"}:
        raise InputError(f"{where} has the label {row['label']!r}; expected 0 or 1.")
    group, category = row.get("group"), row.get("category")
    return Statement(
        text=text,
        label=int(label),
        group=group_id(str(group) if group not in (None, "") else text),
        category=str(category) if category not in (None, "") else None,
    )
