"""``lm-eval-trust sweep``: search for the best layers, α, positions and vector."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lm_eval_trust.cli.options import add_log_to, count, natural, next_step
from lm_eval_trust.engine import ENGINES
from lm_eval_trust.steering.spec import choices_for
from lm_eval_trust.sweep import SEARCHES


def add_parser(subparsers: Any) -> None:
    """Add ``sweep``."""
    parser = subparsers.add_parser(
        "sweep",
        help="search layers, strengths and positions under a perplexity limit",
        description="Evaluate many configurations of steering at once, choose one on the "
        "validation part of the tasks, and report it on the test half. Prompts are read once for "
        "all configurations; answers are those of a plain run. An interrupted sweep continues "
        "where it stopped.",
    )
    parser.add_argument("--model", default="amber", help="amber, lora_amber, finetuned_amber")
    parser.add_argument(
        "--model_args", default="", metavar="KEY=VALUE,…", help="as for lm_eval, without steering"
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="vllm: all configurations in one stream of requests to vLLM; --model_args are then "
        "those of steered_vllm",
    )
    parser.add_argument(
        "--vector", required=True, nargs="+", metavar="FILE", help="vector files to try"
    )
    parser.add_argument(
        "--layers", required=True, help="10-20 or 12,14 one by one; 14+16 steers both at once"
    )
    parser.add_argument(
        "--alphas",
        nargs="+",
        default=["0.5,1,2,4"],
        metavar="NUMBER",
        help="strengths, with commas or spaces; negative ones with spaces (default: 0.5,1,2,4)",
    )
    parser.add_argument(
        "--positions", nargs="+", default=["generated"], help=choices_for("positions")
    )
    parser.add_argument("--action", default="add", help=choices_for("action"))
    parser.add_argument("--scale", default="projection_std", help=choices_for("scale"))
    parser.add_argument(
        "--when",
        metavar="KEY=VALUE,…",
        help="steer only rows whose state at the prompt's end resembles a vector: "
        "vector=FILE,threshold=COSINE and optionally layer=INT,above=false",
    )
    _add_measures(parser)
    _add_search(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    add_log_to(parser)
    parser.set_defaults(func=run)


def _add_measures(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is measured")
    group.add_argument("--tasks", required=True, help="comma-separated tasks or groups to improve")
    group.add_argument(
        "--metric", default="trust_score", help="metric of the tasks, higher is better"
    )
    group.add_argument("--limit", type=count, help="items per task, in each part")
    group.add_argument(
        "--metadata", nargs="+", default=[], metavar="KEY=VALUE", help="as for lm_eval"
    )
    group.add_argument(
        "--perplexity-task", help="task whose perplexity is the cost (default: LAMBADA)"
    )
    group.add_argument("--ability-tasks", default="", help="tasks whose score must stay")
    group.add_argument("--batch_size", type=count, default=8, help="prompts per batch (default: 8)")
    group.add_argument("--device", help="default: CUDA if there is one")


def _add_search(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search and limits")
    group.add_argument(
        "--search", default=SEARCHES[0], help=f"{' or '.join(SEARCHES)} (default: {SEARCHES[0]})"
    )
    group.add_argument(
        "--rounds", type=natural, default=2, help="rounds of refinement (default: 2)"
    )
    group.add_argument(
        "--perplexity-ratio",
        type=float,
        default=1.33,
        help="largest ratio to the unsteered perplexity (default: 1.33)",
    )
    group.add_argument("--max-perplexity", type=float, help="largest perplexity")
    group.add_argument(
        "--max-kl", type=float, help="largest mean KL divergence from the unsteered model, in nats"
    )
    group.add_argument(
        "--ability-floor",
        type=float,
        default=0.95,
        help="smallest share of the unsteered ability (default: 0.95)",
    )
    group.add_argument(
        "--keep",
        nargs="+",
        default=[],
        metavar="TASK:LOSS",
        help="side effects: how much worse each task of TASK may get, such as "
        "trust_safety:0.02, or TASK:METRIC:LOSS for one of its metrics",
    )
    group.add_argument(
        "--controls",
        default="",
        metavar="ARMS",
        help="arms that the choice has to beat on the test half: prompt, few-shot:5 (examples from "
        "the training part), random:8 (directions of the same length), shuffled (labels permuted), "
        "sign (−α), unsteered; with commas",
    )
    group.add_argument(
        "--control-prompt",
        metavar="TEXT",
        help="text of the prompt arm, or @FILE with it (default: the benchmark's own)",
    )
    group.add_argument(
        "--control-seed", type=natural, default=0, help="seed for drawing examples (default: 0)"
    )
    group.add_argument(
        "--control-source",
        metavar="MODEL",
        help="MODEL[@REVISION] that the vectors were built from, for the shuffled arm",
    )
    group.add_argument(
        "--preset", choices=["amber"], help="amber: perplexity up to 6.0, as in the paper"
    )


def run(args: argparse.Namespace) -> int:
    """Run the sweep and print its result."""
    from lm_eval_trust.sweep.run import run_sweep

    found, lines = run_sweep(_sweep(args), args.out)
    print(*lines, sep="\n")
    print(f"Tables, figures, examples and the steering file are in {args.out}.")
    if found.chosen is None:
        next_step("lm-eval-trust", "rank", "RANK.yaml", "--out", "ranking")
    else:
        model = ("--model", args.model, "--model_args", args.model_args)
        next_step("lm-eval-trust", "audit", args.out / "steering.yaml", *model, "--out", "audit")
    return 0


def _sweep(args: argparse.Namespace) -> Any:
    from lm_eval.utils import simple_parse_args_string

    from lm_eval_trust.evaluate.controls import Controls
    from lm_eval_trust.steering.conditions import When
    from lm_eval_trust.sweep.grid import (
        AMBER_PERPLEXITY,
        Grid,
        Keep,
        Limits,
        SweepSettings,
        default_perplexity_task,
        parse_numbers,
        parse_sweep_layers,
    )
    from lm_eval_trust.sweep.run import Sweep
    from lm_eval_trust.sweep.sweep_model import loading_arguments

    tasks = tuple(name for name in args.tasks.split(",") if name)
    highest = AMBER_PERPLEXITY if args.preset and not args.max_perplexity else args.max_perplexity
    settings = SweepSettings(
        tasks=tasks,
        perplexity_task=args.perplexity_task or default_perplexity_task(tasks),
        ability_tasks=tuple(name for name in args.ability_tasks.split(",") if name),
        metric=args.metric,
        limit=args.limit,
        limits=Limits(
            args.perplexity_ratio,
            highest,
            args.max_kl,
            args.ability_floor,
            tuple(Keep.parse(text) for each in args.keep for text in each.split(",") if text),
        ),
        search=args.search,
        rounds=args.rounds,
        metadata=simple_parse_args_string(",".join(args.metadata)),
        controls=Controls.parse(
            args.controls,
            prompt=args.control_prompt,
            source=args.control_source,
            seed=args.control_seed,
        ),
    )
    grid = Grid(
        vectors=tuple(args.vector),
        layers=parse_sweep_layers(args.layers),
        alphas=parse_numbers("--alphas", ",".join(args.alphas)),
        positions=tuple(args.positions),
        action=args.action,
        scale=args.scale,
        when=None if args.when is None else When.parse(simple_parse_args_string(args.when)),
    )
    arguments = loading_arguments(
        args.engine,
        simple_parse_args_string(args.model_args),
        batch_size=args.batch_size,
        device=args.device,
    )
    return Sweep(args.model, arguments, grid, settings, args.engine)
