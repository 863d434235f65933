"""``lm-eval-trust pretrain``: train a Llama from scratch and save fine-grained checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lm_eval_trust.cli.options import add_log_to, count, natural, next_step
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.training.config import (
    PRESETS,
    ModelConfig,
    Preset,
    TrainingConfig,
    find_preset,
    granular_steps,
)

_PRESET_NOTES = "; ".join(f"{name}: {preset.note}" for name, preset in PRESETS.items())


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "pretrain",
        help="train a Llama from scratch, with fine-grained checkpoints",
        description="Train a Llama with Amber's schedule (warm-up, cosine, AdamW). An interrupted "
        "run continues where it stopped; a damaged checkpoint is rebuilt. On GPUs, and under "
        "`accelerate launch`, accelerate shares each batch among the processes.",
        epilog=f"Options not given are taken from the preset ({_PRESET_NOTES}).",
    )
    parser.add_argument(
        "--corpus",
        required=True,
        nargs="+",
        metavar="FILE|hub:NAME",
        help="text or .jsonl files, or one data set of the Hub, hub:owner/name[@revision], which "
        "is streamed",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    add_log_to(parser)
    parser.add_argument(
        "--field", default="text", help="field of .jsonl lines, column of a data set (text)"
    )
    parser.add_argument("--subset", help="configuration of a data set of the Hub")
    parser.add_argument("--split", default="train", help="split of a data set of the Hub (train)")
    parser.add_argument("--preset", default="small", help=f"{' or '.join(PRESETS)} (small)")
    _add_model_options(parser.add_argument_group("model"))
    _add_training_options(parser.add_argument_group("training"))
    parser.set_defaults(func=run)


def _add_model_options(group: Any) -> None:
    group.add_argument("--config", metavar="FOLDER|NAME", help="take the shape of this Llama")
    group.add_argument("--tokenizer", metavar="FOLDER|NAME", help="default: made from the files")
    group.add_argument("--vocabulary", type=count, help="size of a made tokenizer")
    group.add_argument("--hidden-size", type=count, help="width")
    group.add_argument("--intermediate-size", type=count, help="feed-forward width")
    group.add_argument("--layers", type=count, help="decoder blocks")
    group.add_argument("--heads", type=count, help="attention heads")
    group.add_argument("--key-value-heads", type=count, help="heads of keys and values")
    group.add_argument("--max-length", type=count, help="longest input, in tokens")


def _add_training_options(group: Any) -> None:
    group.add_argument("--steps", type=count, help="optimizer steps")
    group.add_argument("--batch-size", type=count, help="windows per step, over all processes")
    group.add_argument("--micro-batch", type=count, help="windows per forward pass, to save memory")
    group.add_argument("--window", type=count, help="tokens per window")
    group.add_argument("--learning-rate", type=float, help="peak learning rate")
    group.add_argument(
        "--warmup-steps",
        type=natural,
        help="steps of linear warm-up; a twentieth of --steps if given",
    )
    group.add_argument(
        "--save-steps", metavar="0,1,2,4,…", help="steps to save at; default: doubling, then even"
    )
    group.add_argument("--precision", help="float32, or bf16 for bfloat16 matrix products")
    group.add_argument(
        "--resume-every", type=count, default=200, help="steps between states to resume from (200)"
    )
    group.add_argument("--seed", type=natural, default=0, help="seed of weights and order (0)")
    group.add_argument("--threads", type=count, default=2, help="CPU threads (2)")
    group.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")


def run(args: argparse.Namespace) -> int:
    """Train, and print the names of the checkpoints."""
    from lm_eval_trust.training.backend import choose_backend
    from lm_eval_trust.training.pretrain import Pretraining
    from lm_eval_trust.training.streaming import open_corpus

    preset = find_preset(args.preset)
    if args.steps is not None and args.warmup_steps is None:
        args.warmup_steps = args.steps // 20
    for name, value in {**vars(preset.shape), **vars(preset)}.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    shape, config = _shape(args), _config(args, preset)
    if config.window > shape.max_length:
        raise InputError(
            f"--window {config.window} is longer than --max-length {shape.max_length}."
        )
    backend = choose_backend(config, args.device)
    tokenizer, examples = open_corpus(
        args.corpus,
        config.window,
        tokenizer=args.tokenizer,
        vocabulary=args.vocabulary,
        max_length=args.max_length,
        field=args.field,
        subset=args.subset,
        split=args.split,
    )
    names = Pretraining(
        shape, config, tokenizer, examples, args.out.name, args.device, backend
    ).run(args.out)
    if backend.rank == 0:
        print(f"{args.out}: {len(names)} checkpoints, {names[0]} to {names[-1]}")
        model = ("--model", args.out / names[-1], "--checkpoint", names[-1])
        next_step("lm-eval-trust", "activations", *model, "--out", "activations")
    return 0


def _shape(args: argparse.Namespace) -> ModelConfig:
    if args.config is not None:
        return ModelConfig.from_pretrained(args.config)
    return ModelConfig(
        hidden_size=args.hidden_size,
        intermediate_size=args.intermediate_size,
        layers=args.layers,
        heads=args.heads,
        key_value_heads=args.key_value_heads,
        max_length=args.max_length,
    )


def _config(args: argparse.Namespace, preset: Preset) -> TrainingConfig:
    return TrainingConfig(
        steps=args.steps,
        batch_size=args.batch_size,
        window=args.window,
        peak_learning_rate=args.learning_rate,
        warmup_steps=args.warmup_steps,
        save_steps=_save_steps(args, preset.checkpoints),
        resume_every=args.resume_every,
        seed=args.seed,
        threads=args.threads,
        micro_batch=args.micro_batch,
        precision=args.precision,
    )


def _save_steps(args: argparse.Namespace, checkpoints: int) -> tuple[int, ...]:
    if args.save_steps is None:
        every = max(1, args.steps // checkpoints)
        return granular_steps(args.steps, early_until=every, every=every)
    try:
        return tuple(int(step) for step in args.save_steps.split(","))
    except ValueError:
        raise InputError(
            f"--save-steps {args.save_steps} is not a list of steps such as 0,1,2,4,8."
        ) from None
