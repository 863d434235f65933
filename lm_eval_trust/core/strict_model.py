"""Base class of settings read from files: unknown keys, nulls and NaN or infinity are errors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from lm_eval_trust.core.errors import InputError


class StrictModel(BaseModel):
    """Settings read from a file, which says everything that it sets."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_null(cls, value: Any) -> Any:
        if value is None:
            raise InputError("there is no value; give one, or leave the key out.")
        return value
