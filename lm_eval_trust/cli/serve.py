"""``lm-eval-trust serve``: vLLM's OpenAI server with named steering configurations."""

from __future__ import annotations

import argparse
import shlex
from contextlib import nullcontext
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "serve",
        help="start an OpenAI server (vLLM) with named steering configurations",
        description=(
            "Start vLLM's OpenAI server with the model as it is and with named configurations. "
            'Clients ask for one with model="NAME" or extra_body={"steering": "NAME"}. They '
            "cannot send other steering."
        ),
        epilog=(
            "example: lm-eval-trust serve mini-chat --steering honest=steering.yaml "
            "--vllm='--dtype float32 --enforce-eager'"
        ),
    )
    parser.add_argument("model", help="model folder or Hub name; mini-chat, …")
    parser.add_argument(
        "--steering",
        action="append",
        default=[],
        metavar="[NAME=]FILE.yaml",
        help="a configuration, named after its file by default; repeat for more",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: only this machine)"
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, print the command, and stop"
    )
    parser.add_argument(
        "--vllm",
        default="",
        metavar="ARGUMENTS",
        help='arguments of `vllm serve`, as one text: --vllm="…"',
    )
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    from lm_eval_trust.core.retry import hurried
    from lm_eval_trust.engine.serve import Server, serve

    arguments = tuple(shlex.split(args.vllm))
    server = Server(args.model, tuple(args.steering), args.host, args.port, arguments)
    with hurried() if args.dry_run else nullcontext():
        return serve(server, dry_run=args.dry_run)
