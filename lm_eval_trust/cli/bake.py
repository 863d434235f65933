"""``lm-eval-trust bake``: write a steered model as a plain folder that any engine can serve."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.spec import choices_for

if TYPE_CHECKING:
    from lm_eval_trust.steering.plan import SteeringPlan

#: Options of a single vector; a steering file has its own.
_OF_A_VECTOR = ("layer", "alpha", "scale", "action", "positions")


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "bake",
        help="write a steered model as a plain folder",
        description="Write a model with its steering as biases, or with a LoRA adapter merged, as "
        "a plain Hugging Face folder, and compare its logits with the hooked model's. Only actions "
        "that add the same to every state, at positions=all, can be baked.",
    )
    parser.add_argument("--model", required=True, metavar="MODEL[@REVISION]", help="base model")
    parser.add_argument("--vector", metavar="FILE", help="steering vector")
    parser.add_argument("--layer", help="with --vector: decoder blocks, e.g. 15 or 12+14")
    parser.add_argument("--alpha", type=float, help="with --vector: strength (1)")
    parser.add_argument("--scale", help=f"with --vector: {choices_for('scale')}")
    parser.add_argument("--action", help="with --vector: default add")
    parser.add_argument("--positions", help="with --vector: only all (default)")
    parser.add_argument(
        "--steering", metavar="FILE.yaml", help="a steering file, instead of --vector"
    )
    parser.add_argument("--adapter", metavar="FOLDER_OR_NAME", help="LoRA adapter to merge")
    parser.add_argument(
        "--any-base", action="store_true", help="allow another base model than the adapter's own"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    parser.add_argument(
        "--dtype",
        default="auto",
        help="dtype of the weights: auto (the base's own; default), float32, bfloat16, float16",
    )
    parser.add_argument(
        "--device", help="device for the comparison (default: cuda if there is one)"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Bake, and print how closely the result agrees with the hooked model."""
    from lm_eval_trust.models.adapters import find_adapter
    from lm_eval_trust.models.sources import find_source
    from lm_eval_trust.steering.bake import Bake, bake

    task = Bake(
        source=find_source(args.model),
        plan=_plan(args),
        adapter=None if args.adapter is None else find_adapter(args.adapter),
        dtype=args.dtype,
        any_base=args.any_base,
    )
    result = bake(task, args.out, device=args.device)
    found = "exists already" if result.found else f"in {result.agreement.dtype}"
    print(f"{args.out}: {found}\n{result.agreement}")
    if result.merge is not None:
        print(f"merge of the adapter, before rounding: {result.merge}")
    print(f"serve it: vllm serve {args.out}")
    print(f"evaluate it: lm_eval --model hf --model_args pretrained={args.out} --tasks trust_suite")
    return 0


def _plan(args: argparse.Namespace) -> SteeringPlan:
    from lm_eval_trust.model_wrappers.arguments import plan_from_arguments

    given = {name: getattr(args, name) for name in _OF_A_VECTOR if getattr(args, name) is not None}
    if args.vector is not None:
        if "layer" not in given:
            raise InputError("--vector needs --layer, the decoder blocks to steer.")
        given = {"vector": args.vector, "positions": "all"} | given
    elif given and args.steering is None:
        raise InputError(f"--{min(given)} belongs to --vector FILE, which is not given.")
    return plan_from_arguments(given, args.steering)
