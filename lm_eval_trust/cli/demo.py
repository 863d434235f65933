"""``lm-eval-trust demo``: the paper's whole chain on the embedded models."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        help="the paper's chain on the embedded models, offline",
        description="Train the MiniAmber family on first use, probe its checkpoints and measure "
        "their mutual information, build steering vectors, evaluate the chat model as it is, "
        "steered and fine-tuned, show what steering costs, proxy-tune checkpoints, and write it "
        "all on one page. Needs neither network nor GPU. An interrupted run continues where it "
        "stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("demo-out"), metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world and the models")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the chain and print its tables."""
    import os

    from lm_eval_trust.mini.world import SEED_VARIABLE

    os.environ[SEED_VARIABLE] = str(args.seed)
    from lm_eval_trust.demo.pipeline import Demo
    from lm_eval_trust.demo.plan import PERPLEXITY_LIMIT
    from lm_eval_trust.demo.report import checkpoint_summary, phase_summary
    from lm_eval_trust.mini.family import mini_family
    from lm_eval_trust.mini.members import MIDDLE, MIDDLE_LAYER

    demo = Demo(mini_family(), MIDDLE, args.out)
    demo.train()
    analysis = demo.analyse()
    for title, estimator in (
        ("Probe accuracy of the middle blocks, test half", "probe_accuracy"),
        ("I(T,X), nHSIC of the middle blocks with the first", "nhsic_tx"),
        ("I(T,Y), nHSIC of the middle blocks with the label", "nhsic_ty"),
    ):
        _show(title, checkpoint_summary(analysis.table, estimator))
    if not analysis.phases.empty:
        _show(
            "Phases: slopes before and after the turn of I(T,X), an e-fold of steps",
            phase_summary(analysis.phases),
        )
    _show(
        f"trust_suite_mini and trust_general_mini; steered at block {MIDDLE_LAYER}, the largest α "
        f"with at most {PERPLEXITY_LIMIT:g} times the perplexity",
        demo.compare(),
    )
    _show(
        "Strength of steering: change against α = 0 with its 95 % interval, and perplexity",
        demo.sweep(),
    )
    _show(
        "Probe accuracy of checkpoints against the trust score of mini-chat steered by them, α = 1",
        demo.correlate(),
    )
    _show(
        "Is a statement true? Checkpoints as they are, and proxy-tuned by mini-chat less mini",
        demo.proxy(),
    )
    print(f"\nTables, figures, vectors and the harness's results files are in {args.out}/")
    print(f"All of it on one page, with the samples: {demo.page()}")
    return 0


def _show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    from lm_eval_trust.demo.report import format_table

    print(f"\n{title}\n\n{format_table(rows)}", flush=True)
