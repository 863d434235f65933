"""Training data for fine-tuning: conversations, of which the assistant's turns are learnt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.benchmarks.files import read_text
from lm_eval_trust.benchmarks.load import read_statements_file
from lm_eval_trust.benchmarks.statements import Statement, Statements
from lm_eval_trust.core.errors import InputError, MissingDataError, reason_of
from lm_eval_trust.core.hashing import content_id, group_id

ROLES = ("system", "user", "assistant")
#: Keys of a conversations file's objects: transformers' messages, or one exchange.
_MESSAGES, _PAIR = "messages", ("prompt", "completion")


@dataclass(frozen=True)
class Turn:
    """One message.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        content: The text.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """Turns, of which the assistant's are learnt; an assistant turn alone is plain text.

    Attributes:
        turns: The messages in order.
        group: Id of the question or text that it was made from.
        id: Id of the conversation.
    """

    turns: tuple[Turn, ...]
    group: str
    id: str

    def __post_init__(self) -> None:
        if not any(turn.role == "assistant" for turn in self.turns):
            raise InputError("A conversation without an assistant turn holds nothing to learn.")
        for turn in self.turns:
            if turn.role not in ROLES:
                raise InputError(f"Unknown role {turn.role!r}; expected {', '.join(ROLES)}.")
            if not turn.content.strip():
                raise InputError(f"A {turn.role} turn is empty.")


@dataclass(frozen=True)
class TuningData:
    """Conversations of a run, with where they come from.

    Attributes:
        train: Conversations to learn.
        validation: Conversations for early stopping; may be empty.
        dimension: Name of the dimension, or ``custom``.
        data_source: Name of the data source, or the path of a file.
        split: How the data are split: ``grouped`` or ``random``.
        split_seed: Seed of the split.
        part: The part of the data that was used: ``train``, or ``all`` for a file.
        settings: Further settings that the data depend on.
    """

    train: tuple[Conversation, ...]
    validation: tuple[Conversation, ...]
    dimension: str
    data_source: str
    split: str
    split_seed: int
    part: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not self.train:
            raise InputError(f"No conversation of {self.data_source} is left to train on.")


def trustworthy_conversations(
    statements: Statements, *, split: str = "grouped", split_seed: int = 0
) -> TuningData:
    """Return the statements of the trustworthy side of a dimension's development half.

    The training part is learnt and the validation part decides when to stop; the test half, which
    the tasks evaluate on, is left out.

    Raises:
        InputError: As :meth:`~lm_eval_trust.benchmarks.statements.Statements.partition`, or no
            conversation is left.
    """
    parts = statements.partition(split=split, seed=split_seed)
    train, validation = (
        tuple(_of_statement(item) for item in _trustworthy(statements.select(part)))
        for part in (parts.train, parts.validation)
    )
    return TuningData(
        train=train,
        validation=validation,
        dimension=statements.dimension.name,
        data_source=statements.data_source,
        split=split,
        split_seed=split_seed,
        part="train",
        settings=statements.settings,
    )


def all_but_a_tenth(
    conversations: Sequence[Conversation], *, dimension: str, path: Path, seed: int = 0
) -> TuningData:
    """Return a file's conversations with a tenth of the groups held out for validation.

    Args:
        conversations: All conversations of the file.
        dimension: Name of the dimension, or ``custom``.
        path: The file.
        seed: Seed of the choice.
    """
    groups = sorted({c.group for c in conversations}, key=lambda group: content_id(seed, group))
    held_out = set(groups[: len(groups) // 10])
    return TuningData(
        train=tuple(c for c in conversations if c.group not in held_out),
        validation=tuple(c for c in conversations if c.group in held_out),
        dimension=dimension,
        data_source=str(path),
        split="grouped",
        split_seed=seed,
        part="all",
        settings={"content": content_id(*(c.id for c in conversations))},
    )


def read_tuning_data(path: Path, dimension: str | None, *, seed: int = 0) -> TuningData:
    """Return the conversations of a file, or the trustworthy ones of its labelled statements.

    Args:
        path: A JSONL file of conversations, or a CSV or JSONL file of statements.
        dimension: Dimension of the statements, which defines what their labels mean.
        seed: Seed of the choice of the groups that are held out for validation.

    Raises:
        InputError: The file cannot be read as either.
    """
    if dimension is None or holds_conversations(path):
        found = read_conversations(path)
        return all_but_a_tenth(found, dimension="custom", path=path, seed=seed)
    statements = read_statements_file(path, dimension)
    found = [_of_statement(item) for item in _trustworthy(statements)]
    return all_but_a_tenth(found, dimension=statements.dimension.name, path=path, seed=seed)


def read_conversations(path: Path) -> list[Conversation]:
    """Return the conversations of a JSONL file.

    Each line is an object with ``messages`` (objects with ``role`` and ``content``), or with
    ``prompt`` and ``completion``.

    Raises:
        MissingDataError: The file does not exist.
        InputError: Not UTF-8, a line that is not such an object, an unknown role, an empty turn,
            or a conversation without an assistant turn.
    """
    if not path.is_file():
        raise MissingDataError(f"There is no file {path}; expected a JSONL of conversations.")
    found = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(_of_turns(_turns(json.loads(line))))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}, line {number}: {reason_of(error)}") from error
    return found


def holds_conversations(path: Path) -> bool:
    """Tell whether a file's first line is a conversation rather than a labelled statement."""
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        return False
    first = next((line for line in read_text(path).split("\n") if line.strip()), "")
    try:
        found = json.loads(first)
    except ValueError:
        return False
    return isinstance(found, dict) and bool({_MESSAGES, *_PAIR} & set(found))


def _turns(line: Any) -> tuple[Turn, ...]:
    if not isinstance(line, dict):
        raise InputError("expected an object with messages, or with prompt and completion.")
    if _MESSAGES in line:
        return tuple(Turn(str(m["role"]), str(m["content"])) for m in line[_MESSAGES])
    missing = [name for name in _PAIR if name not in line]
    if missing:
        raise InputError(f"lacks {' and '.join(missing)}; it holds {', '.join(line) or 'nothing'}.")
    return Turn("user", str(line["prompt"])), Turn("assistant", str(line["completion"]))


def _of_turns(turns: tuple[Turn, ...]) -> Conversation:
    asked = next((turn for turn in turns if turn.role == "user"), turns[0] if turns else None)
    group = group_id(asked.content if asked else "")
    return Conversation(turns, group, content_id(*(f"{t.role}\x1e{t.content}" for t in turns)))


def _trustworthy(statements: Statements) -> list[Statement]:
    wanted = statements.dimension.trustworthy_label
    return [item for item in statements.items if item.label == wanted]


def _of_statement(item: Statement) -> Conversation:
    if item.exchange is None:
        turns: tuple[Turn, ...] = (Turn("assistant", item.text),)
    else:
        question = Turn("user", item.exchange.question)
        turns = (question, Turn("assistant", item.exchange.answer))
    return Conversation(turns, item.group, item.id)
