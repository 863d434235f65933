"""``lm-eval-trust pretrain``: train a small Llama and save fine-grained checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_trust.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from lm_eval_trust.training.config import ModelConfig, TrainingConfig


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "pretrain",
        help="train a small Llama from nothing, with fine-grained checkpoints",
        description="Train a Llama on local text with Amber's schedule (warm-up, cosine, AdamW). "
        "An interrupted run goes on where it stopped; a damaged checkpoint is built again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--corpus", required=True, nargs="+", type=Path, metavar="FILE", help="text or .jsonl files"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--field", default="text", help="field of .jsonl lines")
    _add_model_options(parser.add_argument_group("model"))
    _add_training_options(parser.add_argument_group("training"))
    parser.set_defaults(func=run)


def _add_model_options(group: Any) -> None:
    group.add_argument("--tokenizer", metavar="FOLDER|NAME", help="made from the corpus if absent")
    group.add_argument("--vocabulary", type=int, default=4096, help="size of a made tokenizer")
    group.add_argument("--hidden-size", type=int, default=128, help="width")
    group.add_argument("--intermediate-size", type=int, default=352, help="feed-forward width")
    group.add_argument("--layers", type=int, default=6, help="decoder blocks")
    group.add_argument("--heads", type=int, default=4, help="attention heads")
    group.add_argument("--key-value-heads", type=int, default=4, help="heads of keys and values")
    group.add_argument("--max-length", type=int, default=512, help="longest input, in tokens")


def _add_training_options(group: Any) -> None:
    group.add_argument("--steps", type=int, default=1000, help="optimizer steps")
    group.add_argument("--batch-size", type=int, default=16, help="windows a step")
    group.add_argument("--window", type=int, default=128, help="tokens a window")
    group.add_argument("--learning-rate", type=float, default=2e-3, help="at its peak")
    group.add_argument(
        "--warmup-steps", type=int, help="steps of linear warm-up; a twentieth of all if absent"
    )
    group.add_argument(
        "--save-steps", metavar="0,1,2,4,…", help="steps to save; doubling, then evenly, if absent"
    )
    group.add_argument("--resume-every", type=int, default=200, help="steps between kept states")
    group.add_argument("--seed", type=int, default=0, help="of weights and order")
    group.add_argument("--threads", type=int, default=2, help="CPU threads")
    group.add_argument("--device", default="cpu", help="cpu or cuda")


def run(args: argparse.Namespace) -> int:
    """Train, and print where the checkpoints are."""
    from lm_eval_trust.training.documents import read_documents
    from lm_eval_trust.training.examples import pack_documents
    from lm_eval_trust.training.pretrain import Pretraining

    shape, config = _shape(args), _config(args)
    if config.window > shape.max_length:
        raise InputError(
            f"--window {config.window} is longer than --max-length {shape.max_length}."
        )
    documents = list(read_documents(args.corpus, field=args.field))
    tokenizer = _tokenizer(args, documents)
    examples = pack_documents(documents, tokenizer, config.window)
    names = Pretraining(
        shape, config, tokenizer, examples, name=args.out.name, device=args.device
    ).run(args.out)
    print(f"{args.out}: {len(names)} checkpoints, {names[0]} to {names[-1]}")
    return 0


def _shape(args: argparse.Namespace) -> ModelConfig:
    from lm_eval_trust.training.config import ModelConfig

    return ModelConfig(
        hidden_size=args.hidden_size,
        intermediate_size=args.intermediate_size,
        layers=args.layers,
        heads=args.heads,
        key_value_heads=args.key_value_heads,
        max_length=args.max_length,
    )


def _config(args: argparse.Namespace) -> TrainingConfig:
    from lm_eval_trust.training.config import TrainingConfig

    return TrainingConfig(
        steps=args.steps,
        batch_size=args.batch_size,
        window=args.window,
        peak_learning_rate=args.learning_rate,
        warmup_steps=args.steps // 20 if args.warmup_steps is None else args.warmup_steps,
        save_steps=_save_steps(args),
        resume_every=args.resume_every,
        seed=args.seed,
        threads=args.threads,
    )


def _save_steps(args: argparse.Namespace) -> tuple[int, ...]:
    from lm_eval_trust.training.save_steps import granular_steps

    if args.save_steps is None:
        tenth = max(1, args.steps // 10)
        return granular_steps(args.steps, early_until=tenth, every=tenth)
    try:
        return tuple(int(step) for step in args.save_steps.split(","))
    except ValueError:
        raise InputError(
            f"--save-steps {args.save_steps} is not a list of steps such as 0,1,2,4,8."
        ) from None


def _tokenizer(args: argparse.Namespace, documents: list[str]) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    from lm_eval_trust.training.tokenizer import build_tokenizer

    if args.tokenizer is None:
        return build_tokenizer(documents, size=args.vocabulary, max_length=args.max_length)
    try:
        tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(args.tokenizer)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"Cannot load the tokenizer {args.tokenizer}: {reason}") from error
    return tokenizer
