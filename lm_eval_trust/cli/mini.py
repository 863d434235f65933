"""``lm-eval-trust mini``: print the folder of an embedded model, for tools that take one."""

from __future__ import annotations

import argparse
from typing import Any

from lm_eval_trust.cli.options import natural
from lm_eval_trust.core.errors import unknown_name
from lm_eval_trust.mini.world import BASE, MEMBERS, is_mini

_NAMES = ", ".join(MEMBERS)


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "mini",
        help="print the folder of an embedded model, for hf and other tools",
        description="Print the folder of a model of the MiniAmber family, which is trained on "
        "first use. For example: lm_eval --model hf --model_args "
        "pretrained=$(lm-eval-trust mini mini-chat) --tasks trust_suite_mini",
    )
    parser.add_argument(
        "name", nargs="?", default=BASE, metavar="NAME", help=f"{_NAMES} or mini@ckpt_012"
    )
    parser.add_argument(
        "--seed",
        type=natural,
        help="seed of the world; default: LM_EVAL_TRUST_MINI_SEED, or 0",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the folder."""
    import os

    from lm_eval_trust.mini.family import mini_model
    from lm_eval_trust.mini.world import SEED_VARIABLE

    if not is_mini(args.name):
        raise unknown_name("embedded model", args.name, MEMBERS)
    if args.seed is not None:
        os.environ[SEED_VARIABLE] = str(args.seed)
    print(mini_model(args.name))
    return 0
