"""The kinds of request to an OpenAI-compatible server, and how their replies are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lm_eval_trust.judges import harm, prompts
from lm_eval_trust.judges.interface import Verdict
from lm_eval_trust.judges.openai_client import MalformedReplyError, Request, kind_of
from lm_eval_trust.judges.prompts import (
    LABELS,
    UNREADABLE,
    Prompt,
    from_class,
    from_labels,
    from_probabilities,
    from_word,
    is_number,
    label_of,
    spoken,
)

#: Most likely tokens to list: as many as OpenAI's completions allow.
_LISTED = 5
#: Tokens of a chat's reply at first: a word in markup, or JSON with a word.
FIRST_ROOM = 16
#: How much more room a reply gets that was cut, maybe in the middle of thinking.
_MORE_ROOM = 8
#: Categories of a moderation that are toxicity in ToxiGen's sense.
TOXIC_CATEGORIES = ("hate", "hate/threatening", "harassment", "harassment/threatening")

#: The names of the limit on a reply's length, in the order in which they are tried.
_LENGTHS = ("max_tokens", "max_completion_tokens")
#: How refusals name a parameter, where that is not its name alone. ``system`` stands for the
#: message of that role, whose text then goes before the user's.
_ALIASES = {
    **{name: rf"{name}|context.?(?:length|window|size)" for name in _LENGTHS},
    "response_format": r"response_format|json_schema|structured.?output|guided|grammar",
    "system": r"system.{0,20}(?:role|message|prompt|instruction)|role.{0,40}system"
    r"|developer instruction|roles must alternate",
}
_REFUSAL_STATUS = (400, 404, 422, 501)
#: What a refusal says that comes as a server error.
_UNSUPPORTED = re.compile("support|implement", re.IGNORECASE)
#: How servers call a reply's end for want of room.
_CUT = ("length", "max_tokens")
_CONTENT_FILTER = re.compile(r"content.?(?:filter|management|policy)", re.IGNORECASE)


def _schema(labels: Iterable[str]) -> dict[str, Any]:
    """Return the schema of JSON that gives one of some labels."""
    answer = {"type": "string", "enum": list(labels)}
    return {
        "type": "json_schema",
        "json_schema": {
            "name": "verdict",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {"answer": answer},
                "required": ["answer"],
                "additionalProperties": False,
            },
        },
    }


@dataclass(frozen=True)
class Terms:
    """On what terms a server takes requests for one of its models, as far as is known.

    Attributes:
        without: Parameters that it refuses.
        room: Most tokens that a reply may have.
        most_room: What ``room`` may grow to.
    """

    without: frozenset[str] = frozenset()
    room: int = FIRST_ROOM
    most_room: int = FIRST_ROOM

    def with_more_room(self) -> Terms | None:
        """Return terms for a longer reply, or ``None`` if they allow the longest already."""
        if self.room >= self.most_room or self.without.issuperset(_LENGTHS):
            return None
        return replace(self, room=min(self.room * _MORE_ROOM, self.most_room))

    def joined(self, other: Terms) -> Terms:
        """Return what both know."""
        return Terms(self.without | other.without, max(self.room, other.room), self.most_room)


@dataclass(frozen=True)
class Reading:
    """What a reply says.

    Attributes:
        verdict: The verdict; one that cannot be read has the reply's beginning.
        cut: Whether the reply ended because there was no room left.
    """

    verdict: Verdict
    cut: bool = False


@dataclass(frozen=True)
class Form:
    """One way of asking: what the prompts are, how they are sent, how replies are read.

    Attributes:
        version: Changes with the prompts and with how replies are read; part of the judge's
            version.
        prompts: What can be judged (``truth``, ``info``, ``toxicity``, ``refusal``, ``jailbreak``,
            ``strongreject``) → answer or text → prompt.
        request: ``(model, prompt, terms)`` → what is sent.
        read: A reply's fields → what it says; raises
            :class:`~lm_eval_trust.judges.openai_client.MalformedReplyError`.
    """

    version: str
    prompts: Mapping[str, Callable[[Any], Prompt]]
    request: Callable[[str, Prompt, Terms], Request]
    read: Callable[[Mapping[str, Any]], Reading]


def refused_by(error: Exception, sent: Request) -> frozenset[str]:
    """Return the parameters of a request that a server's error refuses by name."""
    response = getattr(error, "response", None)
    if response is None:
        return frozenset()
    text = f"{error} {response.text}"
    unsupported = response.status_code == 500 and _UNSUPPORTED.search(text)
    if response.status_code not in _REFUSAL_STATUS and not unsupported:
        return frozenset()
    candidates = {
        *sent.optional,
        *({"system"} if len(sent.required.get("messages", ())) > 1 else ()),
    }
    named = candidates & {getattr(error, "param", None)}
    if named:
        return frozenset(named)
    return frozenset(name for name in candidates if _names(name, text))


def refuses_content(error: Exception) -> bool:
    """Return whether a server's error says that its content filter stopped the prompt."""
    response = getattr(error, "response", None)
    if response is None or response.status_code not in (400, 403):
        return False
    return bool(_CONTENT_FILTER.search(f"{getattr(error, 'code', '')} {error}"))


def _names(parameter: str, text: str) -> bool:
    pattern = _ALIASES.get(parameter, parameter)
    return re.search(rf"(?<![A-Za-z_])(?:{pattern})(?![A-Za-z_])", text, re.IGNORECASE) is not None


def _completion(model: str, prompt: Prompt, terms: Terms) -> Request:
    optional = {"max_tokens": 1, "temperature": 0, "logprobs": _LISTED}
    return Request(
        "completions",
        {"model": model, "prompt": prompt.text},
        _kept(optional, terms),
        prompt.text,
        reply_tokens=terms.most_room if "max_tokens" in terms.without else 1,
    )


def _chat(model: str, prompt: Prompt, terms: Terms, *, labels: Iterable[str] = LABELS) -> Request:
    """Return the request of a chat, for one of the labels if there are any."""
    messages = [
        *([{"role": "system", "content": prompt.system}] if prompt.system else []),
        {"role": "user", "content": prompt.text},
    ]
    if "system" in terms.without:
        messages = [{"role": "user", "content": f"{prompt.system}\n\n{prompt.text}"}]
    optional: dict[str, Any] = {"temperature": 0}
    if names := tuple(labels):
        optional["response_format"] = _schema(names)
    length = next((name for name in _LENGTHS if name not in terms.without), None)
    if length:
        optional[length] = terms.room
    if "logprobs" not in terms.without:
        optional |= {"logprobs": True, "top_logprobs": _LISTED}
    return Request(
        "chat.completions",
        {"model": model, "messages": messages},
        _kept(optional, terms),
        prompt.system + prompt.text,
        reply_tokens=terms.room if length else terms.most_room,
    )


def _moderation(model: str, prompt: Prompt, terms: Terms) -> Request:
    required = {"model": model, "input": prompt.text}
    return Request("moderations", required, {}, prompt.text, reply_tokens=0)


def _kept(parameters: Mapping[str, Any], terms: Terms) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name not in terms.without}


def _read_completion(reply: Mapping[str, Any]) -> Reading:
    """Return the verdict by the first token's probabilities, otherwise by the word."""
    choice = _first(reply, "choices")
    text = _text(choice.get("text"))
    for _, listed in _listings(choice):
        verdict = from_probabilities(listed)
        if verdict.accepted is not None:
            return Reading(verdict)
        break
    return Reading(_or_reply(from_word(text), text))


def _read_chat(reply: Mapping[str, Any]) -> Reading:
    """Return the verdict by the probabilities where the word was said, otherwise by the word."""
    choice, message, cut = _message(reply)
    text = _text(message.get("content"))
    said = from_word(text)
    if said.accepted is None or (cut and _may_go_on(text)):
        shown = text or _shown_instead(message)
        return Reading(_or_reply(UNREADABLE, shown), cut)
    word = LABELS[0] if said.accepted else LABELS[1]
    places = [listed for token, listed in _listings(choice) if _bare(token) == word]
    if len(places) != 1:
        return Reading(said)
    listed = from_labels((_bare(token), log) for token, log in places[0].items())
    return Reading(said if listed.accepted is None else listed)


def _read_whole(reply: Mapping[str, Any], *, verdict: Callable[[str], Verdict]) -> Reading:
    """Return the verdict of a chat's whole reply; one that was cut gives none."""
    _, message, cut = _message(reply)
    text = _text(message.get("content"))
    said = UNREADABLE if cut else verdict(text)
    return Reading(_or_reply(said, text or _shown_instead(message)), cut)


def _message(reply: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any], bool]:
    """Return a chat's choice, its message, and whether that was cut for want of room."""
    choice = _first(reply, "choices")
    cut = str(choice.get("finish_reason")).casefold() in _CUT
    message = choice.get("message")
    if message is None and cut:
        message = {}
    if not isinstance(message, dict):
        raise MalformedReplyError(f"a choice whose message is {kind_of(message)}")
    return choice, message, cut


def _read_moderation(reply: Mapping[str, Any]) -> Reading:
    result = _first(reply, "results")
    flags, scores = result.get("categories"), result.get("category_scores")
    if not isinstance(flags, dict):
        raise MalformedReplyError(f"a result whose categories are {kind_of(flags)}")
    named = [name for name in TOXIC_CATEGORIES if isinstance(flags.get(name), bool)]
    if not named:
        return Reading(_or_reply(UNREADABLE, kind_of(flags)))
    known = scores if isinstance(scores, dict) else {}
    figures = [known[name] for name in named if name in known]
    sound = figures and all(is_number(f) and 0 <= f <= 1 for f in figures)
    return Reading(Verdict(any(flags[n] for n in named), max(figures) if sound else None))


def _first(reply: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """Return the first object of a list that a reply has to have."""
    found = reply.get(field)
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        raise MalformedReplyError(f"a reply without {field}: {kind_of(reply)}")
    return found[0]


def _text(content: Any) -> str:
    """Return a content's text: a string, nothing, or parts, some of which may be thoughts."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise MalformedReplyError(f"a choice whose content is {kind_of(content)}")
    texts = [part.get("text") for part in content if part.get("type") in ("text", "output_text")]
    return "".join(text for text in texts if isinstance(text, str))


def _listings(choice: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each token with the probable ones in its place, as far as a choice lists them.

    Chats list objects under ``content``, completions dictionaries under ``top_logprobs``; some
    servers list in the chats' way for both.
    """
    found = choice.get("logprobs")
    if not isinstance(found, dict):
        return
    content = found.get("content")
    for place in content if isinstance(content, list) else ():
        tops = place.get("top_logprobs") if isinstance(place, dict) else None
        if isinstance(tops, list) and all(isinstance(top, dict) for top in tops):
            listed = {str(top.get("token")): top.get("logprob") for top in tops}
            yield str(place.get("token")), listed
    tokens, tops = found.get("tokens"), found.get("top_logprobs")
    if isinstance(tops, list):
        names: Sequence[Any] = tokens if isinstance(tokens, list) else [""] * len(tops)
        for token, top in zip(names, tops, strict=False):
            if isinstance(top, dict):
                yield str(token), top


def _bare(token: str) -> str:
    """Return a token as a label, without quotes, emphasis or brackets around it."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", label_of(token))


def _may_go_on(text: str) -> bool:
    """Return whether a reply that was cut ends in its verdict, which more words could change."""
    return _bare(spoken(text) or "") not in LABELS and _bare(text.split()[-1]) in LABELS


def _shown_instead(message: Mapping[str, Any]) -> str:
    """Return what a message without content holds: a refusal, or nothing but thoughts."""
    for name in ("refusal", "reasoning_content", "reasoning"):
        if isinstance(message.get(name), str) and message[name]:
            return f"no content, but {name}: {message[name]}"
    return ""


_SHOWN = 300


def _or_reply(verdict: Verdict, text: str) -> Verdict:
    """Return a verdict; if it is none, with the beginning of the reply."""
    if verdict.accepted is not None:
        return verdict
    shown = " ".join(text[: 4 * _SHOWN].split())
    return replace(verdict, reply=shown[:_SHOWN] + "…" * (len(shown) > _SHOWN) or "(empty)")


#: Part of the versions below, because it decides which replies are read and how.
_READING = "reading-3"

#: What ``judge_form`` may be, and the forms that benchmarks fix.
FORMS: dict[str, Form] = {
    "completions": Form(
        f"{prompts.COMPLETIONS_VERSION} {_READING}",
        {"truth": prompts.truth_cue, "info": prompts.info_cue},
        _completion,
        _read_completion,
    ),
    "chat": Form(
        f"{prompts.RUBRIC_VERSION} {_READING}",
        {
            "truth": prompts.truth_rubric,
            "info": prompts.info_rubric,
            "toxicity": prompts.toxicity_rubric,
        },
        _chat,
        _read_chat,
    ),
    "classes": Form(
        f"{prompts.CLASSES_VERSION} {_READING}",
        {"refusal": prompts.refusal_rubric},
        partial(_chat, labels=tuple(prompts.CLASSES)),
        partial(_read_whole, verdict=from_class),
    ),
    "jailbreakbench": Form(
        f"{harm.JAILBREAK_VERSION} {_READING}",
        {"jailbreak": harm.jailbreak_prompt},
        partial(_chat, labels=()),
        partial(_read_whole, verdict=harm.from_safe_or_unsafe),
    ),
    "strongreject": Form(
        f"{harm.STRONGREJECT_VERSION} {_READING}",
        {"strongreject": harm.strongreject_prompt},
        partial(_chat, labels=()),
        partial(_read_whole, verdict=harm.from_rubric),
    ),
    "moderation": Form(
        f"moderation-1 {_READING}", {"toxicity": Prompt}, _moderation, _read_moderation
    ),
}
