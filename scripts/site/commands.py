"""The command line's reference: what ``--help`` prints, a section a command."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from lm_eval_trust.cli import build_parser

_WIDTH = 92


def help_pages() -> str:
    """Return the help of every command as Markdown."""
    return "\n\n".join(
        f"{'#' * (1 + command.depth)} {command.name}\n\n"
        f"{command.summary[:1].upper()}{command.summary[1:]}.\n\n"
        f"```text\n{_help(command.parser)}```"
        for command in walk(build_parser())
    )


@dataclass(frozen=True)
class Command:
    """A command as the reference shows it.

    Attributes:
        name: Without the program, e.g. ``vector build``.
        depth: How many words the name has.
        summary: What its parent's help says of it.
        parser: Of its arguments.
    """

    name: str
    depth: int
    summary: str
    parser: argparse.ArgumentParser


def walk(parser: argparse.ArgumentParser, *names: str) -> Iterator[Command]:
    """Yield all commands below a parser, parents first."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        summaries = {choice.dest: str(choice.help) for choice in action._choices_actions}
        for name, child in action.choices.items():
            path = (*names, name)
            yield Command(" ".join(path), len(path), summaries[name], child)
            yield from walk(child, *path)


def _help(parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = functools.partial(parser.formatter_class, width=_WIDTH)  # type: ignore[assignment]
    parser.color = False  # type: ignore[attr-defined]  # of Python 3.14
    return parser.format_help()
