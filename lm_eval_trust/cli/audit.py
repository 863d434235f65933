"""``lm-eval-trust audit``: one steering on trial."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lm_eval_trust.cli.options import count, natural, next_step

NOT_SHOWN = 1


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "audit",
        help="test one steering against controls and side effects, with a verdict",
        description="Evaluate a steering on the test part of the tasks that it should improve. "
        "Compare it with a prompt and its rewordings, examples, random directions and its "
        "opposite, and check every other task of the suite. Then write one page with a verdict: "
        "shown, not shown or harmful. An interrupted audit continues where it stopped. Exit code "
        "0: shown; 1: not shown, or harmful.",
    )
    parser.add_argument(
        "steering", type=Path, metavar="STEERING.yaml", help="steering file, as sweep writes it"
    )
    parser.add_argument("--model", default="amber", help="amber, lora_amber, finetuned_amber")
    parser.add_argument(
        "--model_args", default="", metavar="KEY=VALUE,…", help="as for lm_eval, without steering"
    )
    parser.add_argument(
        "--tasks",
        default="",
        help="tasks to improve, comma-separated (default: the task of the vector's dimension)",
    )
    parser.add_argument(
        "--suite",
        default="",
        help="tasks or groups that must not become worse (default: trust_suite and "
        "trust_safety, or the embedded world's)",
    )
    parser.add_argument(
        "--metric", default="", help="metric of --tasks (default: trust_score, or acc)"
    )
    parser.add_argument("--limit", type=count, help="items per task")
    parser.add_argument(
        "--metadata", nargs="+", default=[], metavar="KEY=VALUE", help="as for lm_eval"
    )
    parser.add_argument(
        "--batch_size", type=count, default=8, help="prompts per batch (default: 8)"
    )
    parser.add_argument("--device", help="default: CUDA if there is one")
    _add_controls(parser)
    _add_demands(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    parser.set_defaults(func=run)


def _add_controls(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("controls")
    group.add_argument(
        "--controls",
        default="prompt,few-shot:5,random:8,sign",
        metavar="ARMS",
        help="as for sweep; without random arms nothing can be shown (default: %(default)s)",
    )
    group.add_argument(
        "--control-prompt",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="control prompt and its rewordings, or @FILE (default: the benchmark's own)",
    )
    group.add_argument("--control-source", metavar="MODEL", help="as for sweep")
    group.add_argument(
        "--control-seed", type=natural, default=0, help="seed for drawing examples (default: 0)"
    )


def _add_demands(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits of the rules")
    group.add_argument(
        "--margin",
        type=float,
        default=0.05,
        help="largest acceptable loss on a task of the suite (default: 0.05)",
    )
    group.add_argument(
        "--perplexity-ratio",
        type=float,
        default=1.33,
        help="largest acceptable ratio to the unsteered perplexity (default: 1.33)",
    )
    group.add_argument(
        "--most-wrong",
        type=float,
        default=0.25,
        help="largest acceptable share of items moved the wrong way (default: 0.25)",
    )
    group.add_argument(
        "--confidence", type=float, default=0.95, help="confidence of the intervals (default: 0.95)"
    )
    group.add_argument(
        "--tried",
        type=count,
        help="number of configurations that the steering was chosen from (default: those in the "
        "sweep.csv next to it, or 1)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the audit and print its verdict."""
    from lm_eval_trust.audit.reports import PAGE, lines, write_reports
    from lm_eval_trust.audit.rules import SHOWN
    from lm_eval_trust.audit.run import run_audit

    audited = run_audit(_audit(args), args.out)
    write_reports(audited, args.out)
    print(*lines(audited), sep="\n")
    print(f"The page is {args.out / PAGE}.")
    if audited.judged.verdict == SHOWN:
        next_step(
            "lm-eval-trust",
            "bake",
            "--model",
            "MODEL",
            "--steering",
            args.steering,
            "--out",
            "baked",
        )
        return 0
    vectors = ("--vector", "VECTOR", "--layers", "LAYERS", "--tasks", "TASKS")
    next_step("lm-eval-trust", "sweep", *vectors, "--out", "sweep")
    return NOT_SHOWN


def _audit(args: argparse.Namespace) -> Any:
    import torch
    from lm_eval.utils import simple_parse_args_string

    from lm_eval_trust.audit.settings import Audit, Demands
    from lm_eval_trust.evaluate.controls import Controls, read_prompt

    prompt, *rewordings = args.control_prompt or [None]
    return Audit(
        steering=args.steering,
        model=args.model,
        arguments={
            "device": args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            "batch_size": args.batch_size,
            **simple_parse_args_string(args.model_args),
        },
        tasks=tuple(name for name in args.tasks.split(",") if name),
        suite=tuple(name for name in args.suite.split(",") if name),
        metric=args.metric,
        limit=args.limit,
        metadata=simple_parse_args_string(",".join(args.metadata)),
        controls=Controls.parse(
            args.controls, prompt=prompt, source=args.control_source, seed=args.control_seed
        ),
        rewordings=tuple(read_prompt(text) for text in rewordings),
        tried=args.tried,
        demands=Demands(args.margin, args.perplexity_ratio, args.most_wrong, args.confidence),
    )
