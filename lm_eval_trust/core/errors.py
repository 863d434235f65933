"""Errors that speak to the user: what was given, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TrustError(Exception):
    """Any error whose message is meant for the user; ``exit_code`` is the command line's."""

    exit_code = 2


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
    return " ".join(str(error).split())[:longest] or type(error).__name__


#: A longer table than this is not printed whole in an error.
_PRINTED_NAMES = 20


def unknown_name(kind: str, given: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that is not in a table, with the nearest name as a hint."""
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if len(names) <= _PRINTED_NAMES:
        return InputError(f"Unknown {kind} {given!r}; known are {', '.join(names)}.{hint}")
    similar = difflib.get_close_matches(given, names, n=5, cutoff=0.2) or names[:5]
    return InputError(
        f"Unknown {kind} {given!r}, none of {len(names)}; similar are {', '.join(similar)}.{hint}"
    )
