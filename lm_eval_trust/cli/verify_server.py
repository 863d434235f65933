"""``lm-eval-trust verify-server``: does this running engine apply this steering?"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from lm_eval_trust.cli.options import next_step


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "verify-server",
        help="check whether a running OpenAI-compatible server applies a steering",
        description=(
            "Ask a server (vLLM with the plugin or a baked folder, llama.cpp with a control "
            "vector, …) for token log-probabilities. Compute them here as steered, unsteered and "
            "with common mistakes, and report which one the server does."
        ),
        epilog=(
            "exit codes: 0 it applies the steering, 1 it does not, 2 wrong usage or a steering too "
            "weak to recognise, 3 the server does not answer"
        ),
    )
    parser.add_argument("url", help="address of the server, e.g. http://127.0.0.1:8000/v1")
    parser.add_argument(
        "--steering", required=True, metavar="FILE.yaml", help="the steering it should apply"
    )
    parser.add_argument(
        "--model", required=True, metavar="MODEL[@REVISION]", help="the model it runs"
    )
    parser.add_argument("--name", help="model name to ask for (default: the first it lists)")
    parser.add_argument("--prompts", type=int, default=12, choices=range(1, 13), metavar="1-12")
    parser.add_argument("--tokens", type=int, default=8, choices=range(1, 65), metavar="1-64")
    parser.add_argument(
        "--key-variable", default="OPENAI_API_KEY", help="environment variable with the API key"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the verdict as JSON")
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    from lm_eval_trust.core.storage import atomic_path
    from lm_eval_trust.engine.verify import verify_server
    from lm_eval_trust.steering.spec import combined_plan, read_steering_file

    found = verify_server(
        args.url,
        combined_plan(read_steering_file(args.steering)),
        args.model,
        name=args.name,
        key=os.environ.get(args.key_variable),
        prompts=args.prompts,
        tokens=args.tokens,
    )
    print(found.sentence)
    for label, distance in found.distances.items():
        print(f"  {distance:8.4f} nats a token  {label}")
    if args.out:
        with atomic_path(args.out) as path:
            path.write_text(json.dumps(vars(found), indent=2) + "\n", encoding="utf-8")
    if not found.applied:
        next_step("lm-eval-trust", "serve", args.model, "--steering", args.steering, "--dry-run")
        return 1
    server = ("--model_args", f"base_url={args.url}/completions,model={args.name or args.model}")
    next_step("lm_eval", "--model", "local-completions", *server, "--tasks", "trust_suite")
    return 0
