"""``lm-eval-trust activations``: store the activations of a model for analysis."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lm_eval_trust.benchmarks.registry import DATA_SOURCES
from lm_eval_trust.cli.options import count, natural, next_step
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.spec import choices_for


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "activations",
        help="store a model's activations for `analyze`",
        description="Read the statements of dimensions with a model and store the last token's "
        "activations as FOLDER/CHECKPOINT/DIMENSION.safetensors. Run it once per checkpoint; "
        "existing sets are kept.",
    )
    parser.add_argument("--model", required=True, metavar="MODEL[@REVISION]")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    parser.add_argument(
        "--dimensions", default="all", metavar="NAME[,NAME]", help="default: all five of the paper"
    )
    parser.add_argument(
        "--layers", help="0-based blocks such as 0,6,12; default all; I(T, X) needs block 0"
    )
    parser.add_argument(
        "--source", default="official", help=f"data source: {', '.join(DATA_SOURCES)} (official)"
    )
    parser.add_argument("--samples", type=count, help="statements per dimension; default all")
    parser.add_argument("--checkpoint", help="name in the tables; default the revision")
    parser.add_argument("--step", type=natural, help="training step, which orders checkpoints")
    parser.add_argument("--tokens", type=natural, help="tokens seen, for the tables")
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="use random weights in this architecture instead, as a control; stored under the "
        "checkpoint `untrained`",
    )
    parser.add_argument("--split", default="grouped", help=choices_for("split"))
    parser.add_argument("--split-seed", type=natural, default=0, help="seed of the split (0)")
    parser.add_argument(
        "--data-seed",
        type=natural,
        default=0,
        help="seed of random choices in the data (0)",
    )
    parser.add_argument("--dtype", help="default: float32 on CPU, the checkpoint's own elsewhere")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, or auto to spread over all")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Store the missing sets."""
    from lm_eval_trust.benchmarks.load import load_statements
    from lm_eval_trust.benchmarks.registry import DIMENSIONS, find_dimension
    from lm_eval_trust.models.decoder_blocks import text_blocks
    from lm_eval_trust.models.layers import parse_layers
    from lm_eval_trust.models.sources import find_source, load_pinned
    from lm_eval_trust.models.untrained import UNTRAINED, untrained
    from lm_eval_trust.study.activation_sets import CheckpointInfo, collect

    names = [d.name for d in DIMENSIONS] if args.dimensions == "all" else args.dimensions.split(",")
    dimensions = [find_dimension(name) for name in names]
    statements = [
        load_statements(d, data_source=args.source, data_seed=args.data_seed) for d in dimensions
    ]
    if args.samples is not None:
        statements = [found.sample(args.samples, seed=args.data_seed) for found in statements]
    name = args.checkpoint or args.model.partition("@")[2] or "main"
    if name == UNTRAINED:
        raise InputError(f"--checkpoint {name} is the name of the control; choose another.")
    checkpoint = CheckpointInfo(name, args.step, args.tokens)
    source = find_source(args.model)
    model, tokenizer = load_pinned(source, dtype=args.dtype, device=args.device)
    layers = parse_layers(args.layers) if args.layers else text_blocks(model)
    identity = source.identity
    if args.untrained:
        checkpoint = CheckpointInfo(UNTRAINED, 0, 0)
        model, identity = untrained(model, identity)
    paths = collect(
        args.out,
        checkpoint,
        model,
        tokenizer,
        identity,
        statements,
        layers=layers,
        split=args.split,
        split_seed=args.split_seed,
    )
    for path in paths:
        print(path)
    next_step("lm-eval-trust", "analyze", args.out, "--out", f"{args.out}-analysis")
    return 0
