"""What a sample says, as text: prompt, target, answer, and what the answer was read as."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

Sample = Mapping[str, Any]
_LIKELIEST, _OTHER = "▸ ", "  "
#: Stands between the texts of a sample with several requests.
_BETWEEN = "\n———\n"
#: What a judge's record repeats: the answer, and who judged.
_NO_VERDICT = ("answer", "text", "judge")


def prompt_of(sample: Sample) -> str:
    """Return the prompts of a sample's requests, each once; its row where none was saved."""
    prompts = dict.fromkeys(_text(request[0]) for request in _requests(sample) if request)
    return _BETWEEN.join(prompts) if prompts else _text(sample.get("doc", ""))


def target_of(sample: Sample) -> str:
    """Return what the task expects."""
    return _text(sample.get("target", ""))


def answer_of(sample: Sample) -> str:
    """Return what the model answered: its text, or the choices with their log-likelihoods."""
    replies = _replies(sample)
    if replies and all(_is_likelihood(reply) for reply in replies):
        return _choices([_choice(request) for request in _requests(sample)], replies)
    return _BETWEEN.join(_text(reply) for reply in replies)


def read_as(sample: Sample) -> str:
    """Return what the task's filter made of the answer; empty where that is the answer itself."""
    if all(_is_likelihood(reply) for reply in _replies(sample)):
        return ""
    found = sample.get("filtered_resps", [])
    texts = [_reading(each) for each in (found if isinstance(found, list) else [found])]
    return "" if _BETWEEN.join(texts).strip() == answer_of(sample).strip() else " · ".join(texts)


def _replies(sample: Sample) -> list[Any]:
    """Return the first reply to each request; a whole text's likelihood as a list, like a choice's.

    Such requests have one argument, unlike generation, where a number is a text.
    """
    replies = [_first(replies) for replies in sample.get("resps", [])]
    requests, alone = _requests(sample), [[reply] for reply in replies]
    whole = len(requests) == len(replies) and all(len(request) == 1 for request in requests)
    return alone if whole and all(_is_likelihood(reply) for reply in alone) else replies


def _reading(found: Any) -> str:
    verdict = _verdict(found)
    if verdict is None:
        return _text(found)
    kept = ((k, v) for k, v in verdict.items() if k not in _NO_VERDICT)
    return ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in kept)


def _verdict(found: Any) -> Mapping[str, Any] | None:
    """Return a judge's record of an answer, which the harness saves as a printed dictionary."""
    if isinstance(found, str) and found.startswith("{'"):
        try:
            found = ast.literal_eval(found)
        except (ValueError, SyntaxError):
            return None
    return found if isinstance(found, Mapping) else None


def _requests(sample: Sample) -> list[list[Any]]:
    """Return each request's arguments; the harness saves them as a list or as a mapping."""
    saved = sample.get("arguments") or []
    found = list(saved.values()) if isinstance(saved, Mapping) else list(saved)
    return [list(each.values()) if isinstance(each, Mapping) else list(each) for each in found]


def _choices(choices: Sequence[str], replies: Sequence[Any]) -> str:
    values = [float(reply[0]) for reply in replies]
    named = [*choices, *[""] * (len(values) - len(choices))]
    if len(values) == 1:
        return f"{named[0]}\nlog-likelihood {values[0]:.3f}".strip()
    best = max(values)
    return "\n".join(
        f"{_LIKELIEST if value == best else _OTHER}{choice.strip()}  {value:.3f}"
        for choice, value in zip(named, values, strict=False)
    )


def _choice(request: Sequence[Any]) -> str:
    return request[1] if len(request) > 1 and isinstance(request[1], str) else ""


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) and values else values


def _is_likelihood(reply: Any) -> bool:
    """Whether a reply is a log-likelihood, with or without whether it is the greedy one.

    The harness saves the pair as two strings.
    """
    if not isinstance(reply, list) or not reply or len(reply) > 2:
        return False
    try:
        float(reply[0])
    except (TypeError, ValueError):
        return False
    return len(reply) == 1 or str(reply[1]) in ("True", "False")


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
