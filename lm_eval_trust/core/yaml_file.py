"""YAML files read strictly, with the line of every key for error messages.

PyYAML, which the harness brings along, resolves plain scalars by YAML 1.1, where ``1:30`` is the
number 90, ``010`` is 8 and ``no`` is false. Files are read by the core schema of YAML 1.2 instead
(https://yaml.org/spec/1.2.2/, section 10.3.2).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from lm_eval_trust.core.errors import ExternalError, InputError

Place = Sequence[str | int]
Declared = TypeVar("Declared", bound=BaseModel)

_DEEPEST = 50
#: Values of a file once its aliases are written out.
_LARGEST = 100_000


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), [*_first, ""]
    )


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


@dataclass(frozen=True)
class Document:
    """The content of a YAML file and its places.

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
        """Prefix errors raised in this block with file, line and key."""
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
        InputError: It cannot be read, is not YAML, has a key twice, is nested or multiplied by
            aliases beyond what a file of settings needs, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the {kind} {path}: {error}.") from error
    try:
        _refuse_depth(text, path)
        root = yaml.compose(text, _Loader)
        if root is not None:
            _refuse_size(root, path)
        content = yaml.load(text, _Loader)  # nosec B506: it is a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if root is None or not isinstance(content, dict):
        raise InputError(
            f"{path} holds no mapping; expected the keys of a {kind}, each with a value."
        )
    return Document(path, content, root)


def _inside(node: yaml.Node | None, part: str | int, line: int) -> tuple[int, yaml.Node | None]:
    """Return line and node of a part of a node; the line as it was if there is none."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found: yaml.Node = node.value[part]
        return found.start_mark.line + 1, found
    return line, None


def _refuse_depth(text: str, path: Path) -> None:
    """Raise before a deeply nested file exhausts the recursion of whatever reads it."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            line = event.start_mark.line + 1
            raise InputError(f"{path}, line {line}: nested deeper than {_DEEPEST} levels.")


def _refuse_size(root: yaml.Node, path: Path) -> None:
    """Raise if a mapping has a key twice, a value contains itself, or aliases multiply."""
    sizes: dict[int, int] = {}
    unfinished: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in unfinished:
            raise InputError(
                f"{path}, line {node.start_mark.line + 1}: the value that begins here contains "
                f"itself; remove the alias."
            )
        if id(node) not in sizes:
            unfinished.add(id(node))
            sizes[id(node)] = 1 + sum(map(size, _values(node, path)))
            unfinished.remove(id(node))
        return sizes[id(node)]

    if size(root) > _LARGEST:
        raise InputError(
            f"{path} holds more than {_LARGEST:,} values once its aliases are written out; "
            f"expected a file of settings."
        )


def _values(node: yaml.Node, path: Path) -> list[yaml.Node]:
    """Return the values in a node, whose keys have to differ."""
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if not isinstance(node, yaml.MappingNode):
        return []
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(f"{path}, line {line}: a key has to be a word, not a collection.")
        if key.value in lines:
            raise InputError(
                f"{path}, line {line}: {key.value!r} was given in line {lines[key.value]} already; "
                f"keep one."
            )
        lines[key.value] = line
    return [value for _, value in node.value]


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
