"""Base class of settings read from files: nothing in them is ignored or taken as something else."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

from lm_eval_trust.core.errors import InputError

_NUMBERS = frozenset({int, float})


class StrictModel(BaseModel):
    """Settings read from a file, which says everything that it sets.

    Unknown keys, nulls, NaN and infinity are errors, and so are truth values and texts in place of
    numbers, which pydantic would convert; its strict mode is no way out, as it refuses lists for
    tuples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            raise InputError("there is no value; give one, or leave the key out.")
        field = cls.model_fields[str(info.field_name)]
        types = frozenset(_scalar_types(field.annotation, field.metadata))
        for scalar in _scalars(value):
            if isinstance(scalar, (bool, str)) and type(scalar) not in types and types & _NUMBERS:
                raise InputError(f"expected a number; got {str(scalar)[:60]!r}.")
        return value


def _scalars(value: Any) -> Iterator[Any]:
    """Yield the values in lists and mappings."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _scalars(part)
    elif isinstance(value, dict):
        yield from _scalars(list(value.values()))
    else:
        yield value


def _scalar_types(annotation: Any, notes: Collection[Any] = ()) -> Iterator[type]:
    """Yield the types of what a field contains; all of them for what has a reader of its own."""
    if annotation is Any or any(isinstance(note, BeforeValidator) for note in notes):
        yield from (bool, str)
    elif get_origin(annotation) is Annotated:
        yield from _scalar_types(annotation.__origin__, annotation.__metadata__)
    elif get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    elif get_args(annotation):
        for part in get_args(annotation)[get_origin(annotation) is dict :]:
            yield from _scalar_types(part)
    elif isinstance(annotation, type):
        yield annotation
