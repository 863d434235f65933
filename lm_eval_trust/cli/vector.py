"""``lm-eval-trust vector``: build, show, share, export and import steering vectors."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_trust.benchmarks.registry import DATA_SOURCES, find_dimension
from lm_eval_trust.benchmarks.statements import USER_TURN
from lm_eval_trust.cli.options import add_overwrite, count, natural, next_step, refuse_foreign_file
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.spec import choices_for

if TYPE_CHECKING:
    from lm_eval_trust.steering.vectors import SteeringVector

_Commands = Any


def add_parser(subparsers: _Commands) -> None:
    """Add ``vector`` with its commands."""
    parser = subparsers.add_parser(
        "vector", help="build, show, share, export and import steering vectors"
    )
    commands = parser.add_subparsers(dest="vector_command", required=True, metavar="COMMAND")
    _add_build(commands)
    _add_show(commands)
    _add_export(commands)
    _add_import(commands)
    _add_threshold(commands)
    _add_push(commands)
    _add_pull(commands)


def _add_build(commands: _Commands) -> None:
    parser = commands.add_parser("build", help="build a vector from a model and labelled data")
    parser.add_argument("--model", required=True, metavar="MODEL[@REVISION]", help="source model")
    parser.add_argument("--dimension", required=True, help="a dimension or its benchmark")
    parser.add_argument(
        "--layers", required=True, help="0-based decoder blocks: 10-20, 12,14,16 or 12+14"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.safetensors")
    parser.add_argument("--method", default="mass_mean", help=choices_for("method"))
    parser.add_argument(
        "--source",
        default="official",
        metavar="NAME|FILE",
        help=f"data source: {', '.join(DATA_SOURCES)}, or a CSV or JSONL file with statement and "
        "label (official)",
    )
    parser.add_argument("--data-seed", type=natural, default=0, metavar="INT", help="seed (0)")
    parser.add_argument("--split", default="grouped", help=choices_for("split"))
    parser.add_argument("--split-seed", type=natural, default=0, metavar="INT", help="seed (0)")
    parser.add_argument("--part", default="train", help="train (default) or development")
    parser.add_argument(
        "--chat-template",
        nargs="?",
        const=USER_TURN,
        metavar="TEXT",
        help="write statements by the tokenizer's chat template, as the assistant's turn: after "
        f"their question, or after TEXT if they answer none (default: {USER_TURN!r}); they are "
        "read at their own last token, not at the template's",
    )
    parser.add_argument(
        "--heads",
        type=count,
        metavar="K",
        help="steer the K attention heads whose probes are most accurate on the validation part, "
        "before their output projection, instead of the blocks' outputs",
    )
    add_overwrite(parser)
    parser.add_argument("--dtype", help="default: float32 on CPU, the checkpoint's own elsewhere")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, or auto to spread over all")
    parser.set_defaults(func=run_build)


def _add_show(commands: _Commands) -> None:
    parser = commands.add_parser("show", help="print layers, lengths and provenance of a vector")
    parser.add_argument("vector", type=Path, metavar="FILE|NAME")
    parser.set_defaults(func=run_show)


def _add_export(commands: _Commands) -> None:
    parser = commands.add_parser("export", help="write a vector for another tool")
    parser.add_argument("vector", type=Path, metavar="FILE|NAME")
    parser.add_argument(
        "--format",
        default="lm_eval",
        help="lm_eval (default): the .pt of its model `steered`; gguf: llama.cpp's control "
        "vector; repeng: the same for repeng, block 0 included. All add at every position",
    )
    parser.add_argument("--layer", required=True, help="layers to steer, e.g. 15 or 12+14")
    parser.add_argument("--alpha", type=float, default=1.0, help="strength (default: 1)")
    parser.add_argument("--scale", default="projection_std", help=choices_for("scale"))
    parser.add_argument(
        "--action", default="add", help="an action that adds the same to every state (default: add)"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.pt|FILE.gguf")
    add_overwrite(parser)
    parser.set_defaults(func=run_export)


def _add_import(commands: _Commands) -> None:
    parser = commands.add_parser(
        "import",
        help="read a .pt of lm-eval, steering-vectors or the paper's release, a .gguf of llama.cpp "
        "or repeng, a folder of pyreft, or a feature of a sparse autoencoder",
    )
    parser.add_argument(
        "vector", nargs="?", type=Path, metavar="FILE.pt|FILE.gguf|FOLDER", help="unless --sae"
    )
    parser.add_argument(
        "--sae",
        type=Path,
        metavar="FOLDER|FILE",
        help="folder of SAELens (cfg.json, sae_weights.safetensors), or safetensors with W_dec",
    )
    parser.add_argument("--feature", type=natural, metavar="N", help="its feature, counted from 0")
    parser.add_argument(
        "--layer",
        type=natural,
        metavar="L",
        help="0-based decoder block whose output the feature belongs to (not needed for a folder)",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.safetensors")
    add_overwrite(parser)
    parser.set_defaults(func=run_import)


def _add_threshold(commands: _Commands) -> None:
    parser = commands.add_parser(
        "threshold",
        help="suggest the threshold of a condition",
        description="Print the threshold of `when` that best separates the statements to steer "
        "from the others, by F1 on the validation part.",
    )
    parser.add_argument(
        "--model", required=True, metavar="MODEL[@REVISION]", help="model that reads the statements"
    )
    parser.add_argument("--vector", required=True, type=Path, metavar="FILE|NAME", help="condition")
    parser.add_argument("--layer", required=True, type=natural, help="0-based decoder block")
    parser.add_argument("--dimension", required=True, help="a dimension or its benchmark")
    parser.add_argument(
        "--source", default="official", metavar="NAME|FILE", help="as for vector build (official)"
    )
    parser.add_argument(
        "--steer",
        default="untrustworthy",
        choices=["untrustworthy", "trustworthy"],
        help="which statements to steer (default: untrustworthy)",
    )
    parser.add_argument("--data-seed", type=natural, default=0, metavar="INT", help="seed (0)")
    parser.add_argument("--split", default="grouped", help=choices_for("split"))
    parser.add_argument("--split-seed", type=natural, default=0, metavar="INT", help="seed (0)")
    parser.add_argument("--dtype", help="default: float32 on CPU, the checkpoint's own elsewhere")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, or auto to spread over all")
    parser.set_defaults(func=run_threshold)


def _add_push(commands: _Commands) -> None:
    parser = commands.add_parser(
        "push",
        help="upload a vector to the Hugging Face Hub, with a card",
        description="Upload a vector's safetensors file to a repository of the Hugging Face Hub, "
        "with a README.md that says where it comes from, how to use it, and what was measured. Log "
        "in first with `hf auth login`.",
    )
    parser.add_argument("vector", type=Path, metavar="FILE.safetensors")
    parser.add_argument("repository", metavar="OWNER/NAME", help="created if it does not exist")
    parser.add_argument("--private", action="store_true", help="create a private repository")
    parser.add_argument(
        "--revision", default="main", metavar="BRANCH", help="branch, created if need be (main)"
    )
    parser.add_argument("--message", default="", help="of the commit (default: Upload FILE)")
    parser.add_argument(
        "--results",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="measured effects for the card: folders of sweep or audit, files of check --json",
    )
    parser.set_defaults(func=run_push)


def _add_pull(commands: _Commands) -> None:
    parser = commands.add_parser(
        "pull",
        help="download a vector from the Hugging Face Hub",
        description="Write a vector of the Hugging Face Hub to a file. Its provenance then says "
        "which commit it came from. Commands also take the name itself wherever they take a file.",
    )
    parser.add_argument(
        "name",
        metavar="OWNER/NAME[@REVISION][:FILE]",
        help="FILE only if the repository has several vectors",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.safetensors")
    add_overwrite(parser)
    parser.set_defaults(func=run_pull)


def run_push(args: argparse.Namespace) -> int:
    """Push a vector, and print its pinned name."""
    from lm_eval_trust.sharing.effects import read_effects
    from lm_eval_trust.sharing.push import Push, push_vector

    push = Push(args.vector, args.repository, args.private, args.revision, args.message)
    vector = push.vector
    effects = [effect for path in args.results for effect in read_effects(path, vector)]
    name = push_vector(replace(push, effects=effects))
    print(f"pushed {name}")
    print(f"use it: --model_args vector={name.repository}:{name.file},layer=…")
    return 0


def run_pull(args: argparse.Namespace) -> int:
    """Write a vector of the Hub to a file."""
    from lm_eval_trust.steering.hub import load_from_hub
    from lm_eval_trust.steering.hub_names import hub_name
    from lm_eval_trust.steering.vector_files import check_ending

    name = hub_name(args.name, Path("/nowhere"))
    if name is None:
        raise InputError(
            f"{args.name!r} is not a name of the Hub; expected OWNER/NAME[@REVISION][:FILE]."
        )
    check_ending(args.out)
    _refuse_foreign_out(args)
    vector = load_from_hub(name)
    vector.save(args.out)
    print(f"{args.out}: {vector.name}, layers {', '.join(map(str, sorted(vector.layers)))}")
    _next_sweep(args.out, _layers_of(vector))
    return 0


def run_threshold(args: argparse.Namespace) -> int:
    """Print the threshold, as a steering file has it, and how well it does."""
    import torch

    from lm_eval_trust.benchmarks.load import find_statements
    from lm_eval_trust.models.activation_store import load_or_extract
    from lm_eval_trust.models.sources import load_source
    from lm_eval_trust.steering.conditions import When
    from lm_eval_trust.steering.thresholds import best_threshold

    statements = find_statements(args.dimension, data_source=args.source, data_seed=args.data_seed)
    condition = When(str(args.vector), 0.0, args.layer).read(args.layer)
    partition = statements.partition(split=args.split, seed=args.split_seed)
    held_out = statements.select(partition.validation)
    model, tokenizer, identity = load_source(args.model, dtype=args.dtype, device=args.device)
    states = load_or_extract(
        model, tokenizer, held_out.texts, layers=[args.layer], identity=identity
    )
    trustworthy = held_out.labels == held_out.dimension.trustworthy_label
    wanted = trustworthy if args.steer == "trustworthy" else ~trustworthy
    found = best_threshold(condition.similarity(torch.from_numpy(states[:, 0])).numpy(), wanted)
    when = When(str(args.vector), round(found.value, 6), args.layer, found.above).recipe()
    print(f"when: {json.dumps(when)}")
    print(
        f"F1 {found.f1:.3f}, precision {found.precision:.3f}, recall {found.recall:.3f} on "
        f"{len(held_out)} statements of the validation part, {int(wanted.sum())} of them to steer"
    )
    given = ",".join(f"{name}={value}" for name, value in when.items())
    steered = ("--vector", "VECTOR", "--layers", "LAYERS", "--tasks", _task(args))
    next_step("lm-eval-trust", "sweep", *steered, "--when", given, "--out", "sweep")
    return 0


def run_build(args: argparse.Namespace) -> int:
    """Build a vector and write it."""
    from lm_eval_trust.api.vectors import build_vector
    from lm_eval_trust.models.layers import parse_layers
    from lm_eval_trust.steering.vector_files import check_ending

    check_ending(args.out)
    _refuse_foreign_out(args)
    vector = build_vector(
        args.model,
        args.dimension,
        layers=parse_layers(args.layers),
        method=args.method,
        data_source=args.source,
        data_seed=args.data_seed,
        split=args.split,
        split_seed=args.split_seed,
        part=args.part,
        chat_template=args.chat_template,
        heads=args.heads,
        dtype=args.dtype,
        device=args.device,
    )
    vector.save(args.out)
    layers = _tell_heads(args, vector) if args.heads else _tell_evidence(args, vector)
    _next_sweep(args.out, layers, _task(args), args.model)
    return 0


def _tell_evidence(args: argparse.Namespace, vector: SteeringVector) -> str:
    """Print what predicts that a vector steers; return its layers."""
    from lm_eval_trust.steering.evidence import doubts, from_record, table

    assert vector.provenance is not None
    used = len(vector.provenance.items)
    print(f"{args.out}: {len(vector.layers)} layers of width {vector.width} from {used} statements")
    evidence = from_record(vector.provenance.evidence)
    print(table(evidence))
    for doubt in doubts(evidence):
        print(f"warning: {doubt}", file=sys.stderr)
    return str(args.layers)


def _tell_heads(args: argparse.Namespace, vector: SteeringVector) -> str:
    """Print the heads that were chosen; return their layers, to be steered together."""
    from lm_eval_trust.steering.head_vectors import HEADS_SETTING

    assert vector.provenance is not None
    for layer, numbers in vector.provenance.settings[HEADS_SETTING].items():
        print(f"layer {layer}: heads {', '.join(map(str, numbers))}")
    layers = "+".join(map(str, vector.layers))
    print(f"{args.out}: steer with layer={layers}")
    return layers


def run_show(args: argparse.Namespace) -> int:
    """Print a vector."""
    from lm_eval_trust.steering.vectors import load_vector

    vector = load_vector(args.vector)
    print(vector.describe())
    _next_sweep(args.vector, _layers_of(vector))
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Write a vector in another tool's format."""
    from lm_eval_trust.models.layers import parse_layers
    from lm_eval_trust.steering.foreign_vectors import export_vector
    from lm_eval_trust.steering.vectors import load_vector

    _refuse_foreign_out(args)
    usage = export_vector(
        load_vector(args.vector),
        args.out,
        tool=args.format,
        layers=parse_layers(args.layer),
        alpha=args.alpha,
        scale=args.scale,
        action=args.action,
    )
    print(f"{args.out}: {usage}")
    if args.format == "lm_eval":
        model = ("--model_args", f"pretrained=MODEL,steer_path={args.out}")
        next_step("lm_eval", "--model", "steered", *model, "--tasks", "trust_suite")
    else:
        given = ("--steering", "STEERING.yaml", "--model", "MODEL")
        next_step("lm-eval-trust", "verify-server", "URL", *given)
    return 0


def run_import(args: argparse.Namespace) -> int:
    """Write another tool's vector in our own format."""
    from lm_eval_trust.steering.sae import read_feature
    from lm_eval_trust.steering.vector_files import check_ending
    from lm_eval_trust.steering.vectors import load_vector

    if (args.vector is None) == (args.sae is None) or (args.sae is None) != (args.feature is None):
        raise InputError(
            "Give either a vector file or a folder of pyreft, or --sae FOLDER with --feature N."
        )
    if args.sae is None and args.layer is not None:
        raise InputError("--layer belongs to --sae; other files name their layers themselves.")
    check_ending(args.out)
    _refuse_foreign_out(args)
    if args.sae is None:
        vector = load_vector(args.vector)
    else:
        vector = read_feature(args.sae, args.feature, layer=args.layer)
    vector.save(args.out)
    applied = "action=reft" if any(each.parts for each in vector.layers.values()) else "scale=none"
    print(f"{args.out}: layers {', '.join(map(str, sorted(vector.layers)))}; apply with {applied}")
    _next_sweep(args.out, _layers_of(vector))
    return 0


def _layers_of(vector: SteeringVector) -> str:
    return ",".join(map(str, sorted(vector.layers)))


def _task(args: argparse.Namespace) -> str:
    task = find_dimension(args.dimension).task or "TASKS"
    return f"{task}_mini" if args.source == "mini" else task


def _next_sweep(vector: Path, layers: str, task: str = "TASKS", model: str = "MODEL") -> None:
    where = ("--model_args", f"pretrained={model}", "--vector", vector, "--layers", layers)
    next_step("lm-eval-trust", "sweep", *where, "--tasks", task, "--out", "sweep")


def _refuse_foreign_out(args: argparse.Namespace) -> None:
    from lm_eval_trust.steering.vectors import load_vector

    if not args.overwrite:
        refuse_foreign_file(args.out, load_vector, "steering vector")
