"""A YAML file whose every place has a line, so that what is wrong in it can be pointed at."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from lm_eval_trust.core.errors import ExternalError, InputError

Place = Sequence[str | int]
Declared = TypeVar("Declared", bound=BaseModel)


@dataclass(frozen=True)
class Document:
    """What a file says, and where.

    Attributes:
        path: The file.
        content: Its mapping.
        root: The node that it was made from.
    """

    path: Path
    content: Mapping[str, Any]
    root: yaml.Node

    def where(self, place: Place) -> str:
        """Return file, line and key of a place such as ``("data", "split")``.

        The line is that of the deepest part of the place that the file has.
        """
        line = self.root.start_mark.line + 1
        node: yaml.Node | None = self.root
        for part in place:
            line, node = _inside(node, part, line)
            if node is None:
                break
        key = ".".join(str(part) for part in place)
        return f"{self.path}, line {line}, {key}" if key else f"{self.path}, line {line}"

    def parse(self, model: type[Declared]) -> Declared:
        """Return what the file declares.

        Args:
            model: The keys that there are.

        Raises:
            InputError: With file, line and key of the first thing that is wrong, and the number of
                others.
        """
        try:
            return model.model_validate(self.content)
        except ValidationError as error:
            found = error.errors(include_url=False)
            first = found[0]
            others = f" ({len(found) - 1} more like this.)" if len(found) > 1 else ""
            raise InputError(
                f"{self.where(first['loc'])}: {_explain(model, first)}{others}"
            ) from error

    @contextmanager
    def at(self, *place: str | int) -> Iterator[None]:
        """Say of input errors and failures inside where in the file they come from."""
        try:
            yield
        except (InputError, ExternalError) as error:
            raise type(error)(f"{self.where(place)}: {error}") from error


def read_document(path: Path, kind: str = "study") -> Document:
    """Read a YAML file that holds a mapping.

    Args:
        path: The file.
        kind: What it describes, for messages.

    Raises:
        InputError: It cannot be read, is not YAML, holds a key twice, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the {kind} {path}: {error}.") from error
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if root is None or not isinstance(content, dict):
        raise InputError(
            f"{path} holds no mapping; expected the keys of a {kind}, each with a value."
        )
    document = Document(path, content, root)
    _refuse_doubles(document, root, within=())
    return document


def _inside(node: yaml.Node | None, part: str | int, line: int) -> tuple[int, yaml.Node | None]:
    """Return line and node of a part of a node; the line as it was where there is none."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found: yaml.Node = node.value[part]
        return found.start_mark.line + 1, found
    return line, None


def _refuse_doubles(document: Document, node: yaml.Node, within: tuple[yaml.Node, ...]) -> None:
    """Raise where a mapping has a key twice, or holds itself by an alias."""
    if any(node is outer for outer in within):
        raise InputError(
            f"{document.path}, line {node.start_mark.line + 1}: what begins here holds itself; "
            f"take the alias out."
        )
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise InputError(
                    f"{document.path}, line {line}: {key.value!r} stands in line "
                    f"{seen[key.value]} already; keep one."
                )
            seen[key.value] = line
            inner.append(value)
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    for value in inner:
        _refuse_doubles(document, value, (*within, node))


def _explain(declared: type[BaseModel], error: Any) -> str:
    if error["type"] == "extra_forbidden":
        known = list(_keys_at(declared, error["loc"][:-1]))
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"unknown key; known here are {', '.join(known)}.{hint}"
    if error["type"] == "missing":
        return "this key is missing."
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    shown = "" if isinstance(given, dict) or error["type"] == "value_error" else f"; got {given!r}"
    return f"{message}{shown}"


def _keys_at(model: type[BaseModel], place: Place) -> Iterator[str]:
    """Return the keys that are known at a place."""
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_models_in(model.model_fields[part].annotation), model)
    yield from model.model_fields


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
