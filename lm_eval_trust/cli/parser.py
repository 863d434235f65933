"""The command line's parser: ``--debug`` for every command, versions, and hints after slips."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from typing import Any, NoReturn

from lm_eval_trust import __version__
from lm_eval_trust.core.errors import nearest

#: What an error depends on most often, for reports.
_LIBRARIES = ("lm_eval", "transformers", "torch")


class Parser(argparse.ArgumentParser):
    """A parser with ``--debug`` that suggests the nearest option, command or choice.

    Sub-parsers have the same class, so every command behaves this way.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "-" in self.prefix_chars:
            self.add_argument(
                "--debug",
                action="store_true",
                default=argparse.SUPPRESS,
                help="show the traceback of an error, and the log",
            )

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse, once all options are known ones.

        argparse itself reports missing arguments first, where ``--taks`` was given for ``--tasks``.
        """
        args = sys.argv[1:] if args is None else args
        self._refuse_unknown_option(args)
        return super().parse_known_args(args, namespace)

    def _refuse_unknown_option(self, args: Sequence[str]) -> None:
        own = list(args)
        if self._subparsers:  # The parser of the command looks at what follows its name.
            own = list(takewhile(lambda argument: argument.startswith("-"), own))
        slip = unknown_option(own, self._option_string_actions)
        if self._option_string_actions and slip:
            self.error(slip)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            what = "command" if isinstance(action, argparse._SubParsersAction) else "choice"
            raise argparse.ArgumentError(
                None if what == "command" else action,
                f"unknown {what} {_quoted(str(value))} (choose from {', '.join(known)})"
                f"{_hint(str(value), known)}",
            )


def unknown_option(args: Sequence[str], options: Iterable[str]) -> str:
    """Return what is wrong with the first long option that is no known one, nor begins one.

    Args:
        args: Arguments; what follows ``--`` is no option.
        options: The known ones.
    """
    known = [option for option in options if option.startswith("--")]
    for argument in takewhile(lambda argument: argument != "--", args):
        name = argument.partition("=")[0]
        if not name.startswith("--") or " " in name:
            continue
        if not any(option.startswith(name) for option in known):
            return f"unknown option {_quoted(name)}{_hint(name, known)}"
    return ""


class VersionAction(argparse.Action):
    """``--version``: this package's, Python's, and those of the libraries that matter most."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(
            option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **kwargs
        )

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        """Print them, and exit."""
        print(versions())
        parser.exit()


def versions() -> str:
    """Return a line for each version; nothing is imported for it."""
    lines = [f"lm-eval-trust {__version__}"]
    lines.extend(f"{name} {_installed(name)}" for name in _LIBRARIES)
    return "\n".join([*lines, f"Python {platform.python_version()}"])


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _hint(given: str, known: Iterable[str]) -> str:
    near = nearest(given, known)
    return f". Did you mean {near}?" if near else ""


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
