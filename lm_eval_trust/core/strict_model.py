"""Base of what files of settings hold: unknown keys, nulls and numbers that are none are errors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from lm_eval_trust.core.errors import InputError


class StrictModel(BaseModel):
    """Settings that are read from a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_null(cls, value: Any) -> Any:
        if value is None:
            raise InputError("there is no value; give one, or leave the key out.")
        return value
