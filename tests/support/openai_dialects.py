"""Scripts for :mod:`support.openai_server`: chats as the servers of different models speak them.

A text with a *grumble* is toxic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: A request's body → status and JSON of the reply.
Script = Callable[[dict[str, Any]], tuple[int, Any]]
#: Tokens that a model which thinks needs for its thoughts.
THOUGHTS = 200


def word(body: dict[str, Any]) -> str:
    return "Yes" if "grumble" in body["messages"][-1]["content"] else "No"


def says(content: Any, **fields: Any) -> tuple[int, Any]:
    message = {"role": "assistant", "content": content, **fields.pop("message", {})}
    return 200, {"choices": [{"index": 0, "finish_reason": "stop", "message": message, **fields}]}


def refuses(name: str, message: str) -> tuple[int, Any]:
    return 400, {"error": {"message": message, "type": "invalid_request_error", "param": name}}


def reasoning(body: dict[str, Any]) -> tuple[int, Any]:
    """Speak as a model of reasons, which takes no limit by the old name and no sampling."""
    if "max_tokens" in body:
        return refuses(
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
        )
    if body.get("temperature", 1) != 1:
        return refuses("temperature", "Unsupported value: 'temperature' does not support 0.")
    if "logprobs" in body:
        return refuses("logprobs", "Unsupported parameter: 'logprobs'.")
    if body["max_completion_tokens"] < THOUGHTS:
        return says("", finish_reason="length", message={"reasoning_content": "Yes or no? I"})
    return says(word(body), message={"reasoning_content": "Yes, no, yes, no"})


def thinking(body: dict[str, Any]) -> tuple[int, Any]:
    """Think aloud before the word."""
    if body["max_tokens"] < THOUGHTS:
        return says("<think>\nOkay: yes", finish_reason="length")
    return says(f"<think>\nIs it? Yes. No.\n</think>\n\n{word(body)}")


def bold(body: dict[str, Any]) -> tuple[int, Any]:
    """Say the word in bold."""
    return says(f"**{word(body)}**")


def structured(body: dict[str, Any]) -> tuple[int, Any]:
    """Say the word as JSON where that is asked for, and chat where it is not."""
    if "response_format" in body:
        return says(f'{{"answer": "{word(body).lower()}"}}')
    return says("What an interesting question! It depends.")
