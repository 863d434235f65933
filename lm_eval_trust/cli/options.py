"""What commands share: types of options, what ``--out`` may replace, and the next step."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from lm_eval_trust.core.errors import InputError


def count(text: str) -> int:
    """Return a whole number of at least 1."""
    return _at_least(1, text)


def natural(text: str) -> int:
    """Return a whole number of at least 0, such as a seed."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number of at least {least}")
    return value


def add_log_to(parser: argparse.ArgumentParser) -> None:
    """Add ``--log-to`` to a command that runs for long."""
    parser.add_argument(
        "--log-to",
        metavar="KIND:PLACE",
        help="also send figures to TensorBoard (tensorboard:FOLDER) or Weights & Biases "
        "(wandb:PROJECT) while it runs",
    )


def log_of(args: argparse.Namespace) -> AbstractContextManager[None]:
    """Return the context in which a command's figures go to its ``--log-to``, if it has one.

    Of several processes that train together the first one reports.

    Raises:
        InputError: The target has another form, or its package is not installed.
        ExternalError: It cannot be opened.
    """
    target = getattr(args, "log_to", None)
    if target is None or os.environ.get("RANK", "0") != "0":
        return nullcontext()
    from lm_eval_trust.core.run_log import logging_to

    hidden = ("func", "log_to", "debug")
    settings = {k: v for k, v in vars(args).items() if v is not None and k not in hidden}
    return logging_to(target, args.out.name, settings)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add ``--overwrite`` to a command that writes one file."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace --out, whatever file it is"
    )


def refuse_foreign_file(path: Path, is_ours: Callable[[Path], object], what: str) -> None:
    """Raise if a file that would be replaced is not of the kind that the command writes.

    Args:
        path: Where the command writes.
        is_ours: Reads a file of that kind; raises :class:`InputError` for others.
        what: What it is called, for the message.

    Raises:
        InputError: It is another file, or a folder.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; --out names a file.")
    if not path.exists():
        return
    try:
        is_ours(path)
    except InputError:
        raise InputError(
            f"{path} exists and is no {what}; choose another name, or replace it with --overwrite."
        ) from None


def next_step(*command: object) -> None:
    """Print the command that usually follows.

    It goes to standard error, since programs read standard output.

    Args:
        command: Its words; what you have to fill in is in capitals.
    """
    print(f"Next: {shlex.join(map(str, command))}", file=sys.stderr)
