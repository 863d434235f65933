"""Settings of judges that are models, and the names behind ``hf:`` and ``openai:``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lm_eval_trust.core.errors import InputError, unknown_name

PREFIX = "judge_"
FORMS = ("completions", "chat", "moderation", "classes")
QUANTIZATIONS = ("8bit", "4bit")


@dataclass(frozen=True)
class JudgeSettings:
    """How judges that are models are reached and run.

    Each setting is the key ``judge_NAME`` of ``--metadata``, or the variable
    ``LM_EVAL_TRUST_JUDGE_NAME``.

    Attributes:
        base_url: Address of an OpenAI-compatible server, with its ``/v1``; by default
            ``OPENAI_BASE_URL``, otherwise OpenAI's own.
        form: ``completions`` (fine-tuned judges), ``chat`` (rubric), ``moderation`` or ``classes``
            (rubric with three labels); by default what fits the judge.
        concurrency: Requests in flight at once.
        timeout: Seconds in which a reply has to be there whole.
        longest_wait: Seconds that a server can ask to wait by ``Retry-After``.
        structured: Whether a chat's verdict is asked for as JSON of a schema, where the server
            offers that: ``yes`` or ``no``.
        reply_tokens: Most tokens of a chat's reply; one that is cut gets more room, up to this.
        tries: Attempts at a request before a temporary failure counts as final.
        max_requests: Requests that one judge may send in one run, retries included.
        max_cost: What they may cost altogether, in the currency of the prices.
        price_input: Price of a million input tokens.
        price_output: Price of a million output tokens.
        device: Torch device of a local judge; by default a GPU with enough free memory, otherwise
            the CPU.
        dtype: Its dtype; by default float32 on the CPU and the model's own elsewhere.
        quantization: ``8bit`` or ``4bit``, by bitsandbytes.
        batch_size: Texts in a local judge's batch.
        toxic_label: Name or number of a classifier's toxic label, if its label names do not say.
        refusal_label: The same of the label of refusals.
    """

    base_url: str = ""
    form: str = ""
    concurrency: int = 8
    timeout: float = 60.0
    tries: int = 6
    longest_wait: float = 120.0
    structured: str = "yes"
    reply_tokens: int = 8192
    max_requests: int | None = None
    max_cost: float | None = None
    price_input: float | None = None
    price_output: float | None = None
    device: str = ""
    dtype: str = ""
    quantization: str = ""
    batch_size: int = 16
    toxic_label: str = ""
    refusal_label: str = ""

    def __post_init__(self) -> None:
        _check_choice("form", self.form, FORMS)
        _check_choice("quantization", self.quantization, QUANTIZATIONS)
        _check_choice("structured", self.structured, ("yes", "no"))
        for name in ("concurrency", "timeout", "tries", "batch_size", "reply_tokens"):
            _check_positive(name, getattr(self, name))
        for name in ("longest_wait", "max_requests", "max_cost", "price_input", "price_output"):
            if getattr(self, name) is not None:
                _check_not_negative(name, getattr(self, name))
        if self.max_cost is not None and None in (self.price_input, self.price_output):
            raise InputError(
                "judge_max_cost needs judge_price_input and judge_price_output, the prices of a "
                "million tokens; 0 for a local server."
            )
        _check_address(self.base_url)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the settings' names, as ``--metadata`` has them."""
        return tuple(PREFIX + field.name for field in fields(cls))

    @property
    def of_verdicts(self) -> dict[str, str]:
        """The settings that verdicts may depend on, without those that are not set."""
        names = ("base_url", "form", "dtype", "quantization", "toxic_label", "refusal_label")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    @classmethod
    def from_sources(cls, metadata: Mapping[str, Any]) -> JudgeSettings:
        """Combine ``metadata`` with the environment; ``metadata`` takes precedence.

        Raises:
            InputError: A value is not allowed, there is no such setting, or a key was given.
        """
        known = {field.name for field in fields(cls)}
        given = {k.removeprefix(PREFIX): v for k, v in metadata.items() if k.startswith(PREFIX)}
        for name in given.keys() - known:
            if "key" in name or "token" in name:
                raise InputError(
                    f"{PREFIX}{name} is not accepted: keys come from the environment "
                    f"(OPENAI_API_KEY), because metadata is written to results files."
                )
            raise unknown_name("judge setting", PREFIX + name, cls.names())
        asked = {**_from_environment(known), **given}
        return cls(**{name: _converted(name, value) for name, value in asked.items()})


def _from_environment(known: set[str]) -> dict[str, str]:
    names = {name: f"LM_EVAL_TRUST_JUDGE_{name.upper()}" for name in known}
    found = {name: os.environ[key] for name, key in names.items() if os.environ.get(key)}
    if os.environ.get("OPENAI_BASE_URL"):
        found.setdefault("base_url", os.environ["OPENAI_BASE_URL"])
    return found


_NUMBERS: dict[str, type[int] | type[float]] = {
    **dict.fromkeys(("concurrency", "tries", "max_requests", "batch_size", "reply_tokens"), int),
    **dict.fromkeys(("timeout", "longest_wait", "max_cost", "price_input", "price_output"), float),
}


def _converted(name: str, value: Any) -> Any:
    kind = _NUMBERS.get(name)
    if kind is None:
        return str(value)
    try:
        number = kind(str(value))
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"{PREFIX}{name} is {value!r}; {what} is needed.") from None
    return number


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value and value not in known:
        raise unknown_name(PREFIX + name, value, known)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise InputError(f"{PREFIX}{name} is {value!r}; it has to be above 0 and finite.")


def _check_not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise InputError(f"{PREFIX}{name} is {value!r}; it has to be finite and not below 0.")


def _check_address(address: str) -> None:
    """Refuse an address that contains credentials, without showing them."""
    if not address:
        return
    parts = urlsplit(address)
    if parts.username or parts.password or parts.query:
        raise InputError(
            "judge_base_url contains a user, a password or a query; give the plain address, and "
            "the key as OPENAI_API_KEY, which is never written to a file."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"judge_base_url is {address!r}; an address such as http://localhost:8000/v1 is needed."
        )


#: ``+`` for command lines on which commas separate settings.
_SEPARATORS = (",", "+")


def split_models(models: str) -> tuple[str, str]:
    """Return the models of truth and of informativeness; a single one serves as both.

    Raises:
        InputError: More than two, or an empty name.
    """
    if Path(models).expanduser().is_dir():
        return models, models
    for separator in _SEPARATORS:
        if separator in models:
            parts = [part.strip() for part in models.split(separator)]
            if len(parts) != 2 or not all(parts):
                raise InputError(
                    f"{models!r} names {len(parts)} models; a judge has one, or one of truth and "
                    f"one of informativeness, joined by a plus sign."
                )
            return parts[0], parts[1]
    return models, models


def joined(models: str) -> str:
    """Return the models in the spelling that judges' names use."""
    return ",".join(dict.fromkeys(split_models(models)))
