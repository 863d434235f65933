"""``lm-eval-trust demo``: the paper's whole chain on the embedded models."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from lm_eval_trust.cli.options import natural, next_step


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        help="run the paper's experiments on the embedded models, offline",
        description="Train the MiniAmber family on first use. Probe its checkpoints, measure "
        "their mutual information and build steering vectors. Evaluate the chat model as it is, "
        "steered and fine-tuned, show what steering costs, and proxy-tune checkpoints. Write all "
        "of it to one page. Needs neither network nor GPU. An interrupted run continues where it "
        "stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("demo-out"), metavar="FOLDER")
    parser.add_argument("--seed", type=natural, default=0, help="seed of the world and the models")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the chain and print its tables."""
    from lm_eval_trust.mini.world import SEED_VARIABLE

    os.environ[SEED_VARIABLE] = str(args.seed)
    from lm_eval_trust.demo.pipeline import Demo, demo_folder
    from lm_eval_trust.demo.report import format_table
    from lm_eval_trust.mini.family import mini_family
    from lm_eval_trust.mini.world import MIDDLE

    with demo_folder(args.out):
        demo = Demo(mini_family(), MIDDLE, args.out)
        for title, rows in demo.tables():
            print(f"\n{title}\n\n{format_table(rows)}", flush=True)
        print(f"\nTables, figures, vectors and the harness's results files are in {args.out}/")
        print(f"All of it on one page, with the samples: {demo.page()}")
    yours = ("--model_args", "pretrained=YOUR_MODEL", "--tasks", "trust_suite", "--limit", 20)
    next_step("lm_eval", "--model", "amber", *yours)
    return 0
