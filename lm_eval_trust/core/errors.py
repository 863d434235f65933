"""Errors that speak to the user: what was given, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: Longest message, in characters. What files, servers and users give is quoted in messages, and
#: can be of any length.
LONGEST_MESSAGE = 800
#: Characters that are kept of the end of a longer one, where it says what to do.
_END = 300


class TrustError(Exception):
    """Any error whose message is meant for the user; ``exit_code`` is the command line's.

    A longer message than :data:`LONGEST_MESSAGE` loses its middle, and what cannot be printed, such
    as control sequences of a terminal, is written as escapes.
    """

    exit_code = 2

    def __init__(self, message: object = "") -> None:
        super().__init__(_printable(_shortened(str(message), LONGEST_MESSAGE, _END)))


class InputError(TrustError, ValueError):
    """Wrong usage or input: an argument, a file, a configuration."""


class MissingDataError(InputError):
    """Data that is needed is neither in the local folder, nor cached, nor fetchable."""


class LeakError(InputError):
    """The items to evaluate overlap those that a vector, an adapter or a probe was built from."""


class ExternalError(TrustError):
    """Something outside failed: the network, the disk, a judge."""

    exit_code = 3


#: Longest reason of another library that is quoted, in characters.
_QUOTED = 200


def reason_of(error: BaseException, *, longest: int = _QUOTED) -> str:
    """Return another library's error message on one line, shortened, for use in one of ours."""
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):
        text = f"missing key {text}"
    return text[:longest] or type(error).__name__


def _shortened(text: str, longest: int, end: int) -> str:
    if len(text) <= longest:
        return text
    gap = " […] "
    return text[: longest - end - len(gap)] + gap + text[-end:]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


#: A longer table than this is not printed whole in an error.
_PRINTED_NAMES = 20
#: Longest given name that is compared with the known ones and quoted whole.
_LONGEST_NAME = 100


def nearest(given: str, known: Iterable[str]) -> str:
    """Return the known name that was probably meant; empty if none is near."""
    near = difflib.get_close_matches(given[:_LONGEST_NAME], list(known), n=1)
    return near[0] if near else ""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return the hint that ends a message about an unknown name; empty if no name is near."""
    near = nearest(given, known)
    return f" Did you mean {near!r}?" if near else ""


def unknown_name(kind: str, given: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that is not in a table, with the nearest name as a hint."""
    names = sorted(known)
    given = _shortened(given, _LONGEST_NAME, _LONGEST_NAME // 4)
    hint = did_you_mean(given, names)
    if len(names) <= _PRINTED_NAMES:
        return InputError(f"Unknown {kind} {given!r}; known are {', '.join(names)}.{hint}")
    similar = difflib.get_close_matches(given, names, n=5, cutoff=0.2) or names[:5]
    return InputError(
        f"Unknown {kind} {given!r}, none of {len(names)}; similar are {', '.join(similar)}.{hint}"
    )
