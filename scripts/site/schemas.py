"""Tables of the keys of YAML files, read from the classes that check these files."""

from __future__ import annotations

import importlib
import types
from typing import Annotated, Any, Literal, get_args, get_origin

from arguments import described
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_NAMES = {
    "str": "text",
    "int": "integer",
    "float": "number",
    "bool": "true or false",
    "dict": "mapping",
    "tuple": "list",
    "Any": "see text",
}


def table(path: str) -> str:
    """Return the table of a file's keys with their types, defaults and meanings.

    Args:
        path: ``module.Class`` of a pydantic model, whose docstring describes each field.
    """
    module, _, name = path.rpartition(".")
    model: type[BaseModel] = getattr(importlib.import_module(module), name)
    meanings = {key: meaning for key, _, meaning in described(path)}
    missing = [key for key in model.model_fields if key not in meanings]
    assert not missing, f"{path} does not describe {', '.join(missing)}"
    rows = (
        f"| `{key}` | {_kind(field.annotation)} | {_default(field)} | {meanings[key]} |"
        for key, field in model.model_fields.items()
    )
    return "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])


def _kind(annotation: Any) -> str:
    """Return what a reader writes for a type."""
    if annotation is None or annotation is type(None):
        return ""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is types.UnionType or str(get_origin(annotation)) == "typing.Union":
        kinds = dict.fromkeys(filter(None, map(_kind, get_args(annotation))))
        return " or ".join(kinds)
    if get_origin(annotation) is tuple:
        return f"list of {_plural(_kind(get_args(annotation)[0]))}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping (below)"
    plain = get_origin(annotation) or annotation
    return _NAMES.get(getattr(plain, "__name__", str(plain)), "text")


def _plural(kind: str) -> str:
    plain = {"text": "texts", "integer": "integers", "number": "numbers", "mapping": "mappings"}
    return plain.get(kind, "lists" if kind.startswith("list") else kind)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ({}, ()) or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
