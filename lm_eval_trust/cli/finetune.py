"""``lm-eval-trust finetune``: fine-tune all weights of a model, or a LoRA adapter."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_trust.benchmarks.registry import DATA_SOURCES
from lm_eval_trust.cli.options import add_log_to, count, natural
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.spec import choices_for

if TYPE_CHECKING:
    from lm_eval_trust.training.conversations import TuningData
    from lm_eval_trust.training.finetune_config import FinetuneConfig


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "finetune",
        help="fine-tune a model on trustworthy answers, all weights or LoRA",
        description="Train a model on the trustworthy side of a dimension's training part, or on "
        "a file. Only answers are learnt. Training stops when the validation loss no longer "
        "falls, and the best weights are kept. An interrupted run continues where it stopped.",
        epilog="Options not given are taken from the preset.",
    )
    parser.add_argument(
        "--model", required=True, metavar="MODEL[@REVISION]", help="model to start from"
    )
    parser.add_argument("--method", required=True, help="lora or full")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    add_log_to(parser)
    _add_data_options(parser.add_argument_group("data"))
    _add_training_options(parser.add_argument_group("training"))
    _add_lora_options(parser.add_argument_group("LoRA"))
    parser.set_defaults(func=run)


def _add_data_options(group: Any) -> None:
    group.add_argument("--dimension", help="a dimension or its benchmark, e.g. truthfulqa")
    group.add_argument(
        "--source", default="official", help=f"data source: {', '.join(DATA_SOURCES)} (official)"
    )
    group.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="instead of a benchmark: a JSONL of conversations (messages, or prompt and "
        "completion), or a CSV or JSONL of statements with --dimension for their labels",
    )
    group.add_argument(
        "--data-seed",
        type=natural,
        default=0,
        help="seed of random choices in the data (0)",
    )
    group.add_argument("--split", default="grouped", help=choices_for("split"))
    group.add_argument("--split-seed", type=natural, default=0, help="seed of the split (0)")
    group.add_argument(
        "--form", help="plain (Q: and A:, as the suite asks; default) or chat (template)"
    )
    group.add_argument("--max-length", type=count, help="longest conversation, in tokens")


def _add_training_options(group: Any) -> None:
    group.add_argument(
        "--preset", help="7b (one GPU) or mini; default: mini for mini models, 7b for others"
    )
    group.add_argument("--epochs", type=float, help="passes over the training part")
    group.add_argument("--max-steps", type=count, help="optimizer steps, instead of --epochs")
    group.add_argument("--batch-size", type=count, help="conversations per step")
    group.add_argument(
        "--micro-batch", type=count, help="conversations per forward pass, to save memory"
    )
    group.add_argument("--learning-rate", type=float, help="peak learning rate")
    group.add_argument("--weight-decay", type=float, help="weight decay")
    group.add_argument("--optimizer", help="one of transformers' names, e.g. adafactor")
    group.add_argument("--evaluate-every", type=count, help="steps between validation evaluations")
    group.add_argument(
        "--patience", type=count, help="evaluations without a better loss before stopping"
    )
    group.add_argument("--seed", type=natural, default=0, help="seed of new weights and order (0)")
    group.add_argument(
        "--gradient-checkpointing",
        action=argparse.BooleanOptionalAction,
        help="less memory for more time; default: on GPUs",
    )
    group.add_argument("--device", help="cpu or cuda; default: cuda if there is one")


def _add_lora_options(group: Any) -> None:
    group.add_argument("--lora-rank", type=count, help="rank of the adapter")
    group.add_argument("--lora-alpha", type=count, help="scale of the adapter, times its rank")
    group.add_argument("--lora-dropout", type=float, help="dropout before the adapter")
    group.add_argument(
        "--lora-targets", metavar="NAME,NAME", help="linear layers, e.g. q_proj,v_proj; default all"
    )


def run(args: argparse.Namespace) -> int:
    """Train, and print the losses and how to evaluate the result."""
    from lm_eval_trust.models.sources import find_source
    from lm_eval_trust.training.finetune import Finetuning

    config, data = _config(args), _data(args)
    source = find_source(args.model)
    result = Finetuning(source, data, config, args.device).run(args.out)
    print(
        f"{args.out}: {result.steps} steps, training loss {result.first_loss:.4f} to "
        f"{result.last_loss:.4f}"
    )
    if result.validation_after is not None:
        print(
            f"validation loss {result.validation_before:.4f} to {result.validation_after:.4f} at "
            f"step {result.kept_step}, whose weights were kept"
        )
    model, argument = (
        ("lora_amber", f"pretrained={args.model},adapter={args.out}")
        if config.method == "lora"
        else ("finetuned_amber", f"pretrained={args.out}")
    )
    print(f"evaluate it: lm_eval --model {model} --model_args {argument} --tasks trust_suite")
    return 0


def _config(args: argparse.Namespace) -> FinetuneConfig:
    from dataclasses import replace

    from lm_eval_trust.mini.world import is_mini
    from lm_eval_trust.training.finetune_config import preset_config

    preset = args.preset or ("mini" if is_mini(args.model) else "7b")
    config = preset_config(
        preset,
        args.method,
        max_length=args.max_length,
        epochs=args.epochs,
        max_steps=args.max_steps,
        batch_size=args.batch_size,
        micro_batch=args.micro_batch,
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        optimizer=args.optimizer,
        evaluate_every=args.evaluate_every,
        patience=args.patience,
        seed=args.seed,
        gradient_checkpointing=args.gradient_checkpointing,
    )
    lora = {
        "rank": args.lora_rank,
        "alpha": args.lora_alpha,
        "dropout": args.lora_dropout,
        "targets": tuple(args.lora_targets.split(",")) if args.lora_targets else None,
    }
    given = {name: value for name, value in lora.items() if value is not None}
    if given and args.method != "lora":
        raise InputError(f"--lora-{min(given)} belongs to --method lora.")
    form = replace(config.form, name=args.form) if args.form else config.form
    return replace(config, lora=replace(config.lora, **given), form=form)


def _data(args: argparse.Namespace) -> TuningData:
    from lm_eval_trust.benchmarks.load import load_statements
    from lm_eval_trust.training.conversations import read_tuning_data, trustworthy_conversations

    if args.data is not None:
        return read_tuning_data(args.data, args.dimension, seed=args.split_seed)
    if args.dimension is None:
        raise InputError("Give --dimension for a benchmark, or --data for a file of your own.")
    statements = load_statements(
        args.dimension, data_source=args.source, data_seed=args.data_seed, balanced=False
    )
    return trustworthy_conversations(statements, split=args.split, split_seed=args.split_seed)
