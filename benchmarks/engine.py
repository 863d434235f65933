"""What steering inside vLLM costs, and what one stream of requests saves.

1. Throughput: unsteered requests without our plugin, unsteered ones with it, and steered ones. The
   engines live in processes of their own and take turns, so that what else the machine does meets
   all alike; ratios are medians over the rounds, by the clock and by the CPU's time, which a busy
   machine disturbs less.
2. Sweep: 16 configurations × 32 prompts as one stream, as 16 runs of the same engine one after the
   other, and in our own shared passes on transformers; and how many answers are the same.

    make vllm
    LM_EVAL_TRUST_SMOLLM2=FOLDER .venv-vllm/bin/python -u benchmarks/engine.py

On a CPU, set VLLM_CPU_OMP_THREADS_BIND=nobind and OMP_NUM_THREADS to the number of cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
from lm_eval.api.instance import Instance

from lm_eval_trust.model_wrappers.swept_model import AnswersInMemory
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

BEGINNINGS = (
    "The old bridge over the river",
    "My neighbour told me yesterday that",
    "In the small town everyone believed that the mayor",
    "After the storm",
    "A good teacher always listens to",
    "Some say that the moon",
    "The most common reason for a delay is",
    "When people disagree about a rule, they",
)
SUBJECTS = ("cats", "letters", "doctors", "winter")


def prompts(number: int) -> list[str]:
    """Different prompts of some 30 tokens."""
    return [
        f"{BEGINNINGS[i % 8]} {SUBJECTS[i // 8 % 4]}, number {i}. {BEGINNINGS[(i * 3 + 1) % 8]}"
        for i in range(number)
    ]


def plans(width: int, blocks: int) -> list[SteeringPlan]:
    """16 configurations: 4 layers × 4 α of a random direction."""
    vector = torch.randn(width, generator=torch.Generator().manual_seed(0))
    unit = vector / vector.norm()
    layers = [blocks * share // 5 for share in (1, 2, 3, 4)]
    return [
        SteeringPlan((SteeringStep(layer, alpha * unit),))
        for layer in layers
        for alpha in (2.0, 5.0, 10.0, 20.0)
    ]


def _answer(connection: Connection, tasks: Mapping[str, Callable[[], Any]]) -> None:
    """Run tasks by name until there is none; tell seconds, seconds of CPU, and what each gave."""
    connection.send(None)
    while name := connection.recv():
        start, begun = time.perf_counter(), time.process_time()
        found = tasks[name]()
        connection.send((time.perf_counter() - start, time.process_time() - begun, found))


def _greedy(tokens: int, extra: Mapping[str, str] | None = None) -> Any:
    from vllm import SamplingParams

    return SamplingParams(
        temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False, extra_args=extra
    )


def without_plugin(connection: Connection, options: argparse.Namespace) -> None:
    """Requests to vLLM as it is."""
    from vllm import LLM

    model = LLM(options.model, enable_prefix_caching=False, **options.engine)
    texts = prompts(options.requests)
    run = lambda: bool(model.generate(texts, _greedy(options.tokens), use_tqdm=False))  # noqa: E731
    _answer(connection, {"unsteered": run})


def with_plugin(connection: Connection, options: argparse.Namespace) -> None:
    """The same requests to an engine that steers, unsteered and steered."""
    from lm_eval_trust.engine.requests import RequestSteering
    from lm_eval_trust.sweep.sweep_model import load_sweep_model

    given = {"pretrained": options.model, "enable_prefix_caching": False, **options.engine}
    model = load_sweep_model("amber", given, engine="vllm")
    tried = _plans_of(model)
    model.sweep(tried, AnswersInMemory())  # Publishes them.
    texts = prompts(options.requests)
    steered = [
        _greedy(options.tokens, RequestSteering(tried[i % len(tried)].fingerprint).arguments())
        for i in range(len(texts))
    ]
    plain = _greedy(options.tokens)
    _answer(
        connection,
        {
            "unsteered": lambda: bool(model.model.generate(texts, plain, use_tqdm=False)),
            "steered": lambda: bool(model.model.generate(texts, steered, use_tqdm=False)),
        },
    )


def on_transformers(connection: Connection, options: argparse.Namespace) -> None:
    """The same requests to transformers, 32 at once."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=options.dtype)
    model = model.to(options.device).eval()
    texts, new = prompts(options.requests), options.tokens

    def run() -> bool:
        for first in range(0, len(texts), 32):
            batch = tokenizer(texts[first : first + 32], return_tensors="pt", padding=True)
            batch = {n: batch[n].to(options.device) for n in ("input_ids", "attention_mask")}
            model.generate(**batch, do_sample=False, max_new_tokens=new, min_new_tokens=new)
        return True

    _answer(connection, {"unsteered": run})


def _plans_of(model: Any) -> list[SteeringPlan]:
    config = model.model.llm_engine.model_config.hf_config
    return plans(config.hidden_size, config.num_hidden_layers)


def _swept(model: Any, tried: Sequence[SteeringPlan], options: argparse.Namespace) -> list[Any]:
    """Answers of all plans in one go."""
    model.sweep(tried, AnswersInMemory())
    return _one_by_one(model, tried, options)


def _one_by_one(
    model: Any, tried: Sequence[SteeringPlan], options: argparse.Namespace
) -> list[Any]:
    settings = {"until": ["\n\n"], "max_gen_toks": options.new, "do_sample": False}
    found = []
    for plan in tried:
        model.steer_by(plan)
        asked = [
            Instance("generate_until", {}, (text, settings), i)
            for i, text in enumerate(prompts(options.prompts))
        ]
        found.append(model.generate_until(asked, True))
    return found


def sweeps_inside(connection: Connection, options: argparse.Namespace) -> None:
    """A sweep in vLLM, in one stream and run by run."""
    from lm_eval_trust.sweep.sweep_model import load_sweep_model

    model = load_sweep_model(
        "amber", {"pretrained": options.model, **options.engine}, engine="vllm"
    )
    tried = _plans_of(model)

    def run_by_run() -> list[Any]:
        model.sweep((), AnswersInMemory())
        model.model.reset_prefix_cache()
        for plan in tried:
            model._publish(plan)
        return _one_by_one(model, tried, options)

    def stream() -> list[Any]:
        model.model.reset_prefix_cache()
        return _swept(model, tried, options)

    _answer(connection, {"stream": stream, "runs": run_by_run})


def sweeps_beside(connection: Connection, options: argparse.Namespace) -> None:
    """The same sweep in our shared passes."""
    from lm_eval_trust.sweep.sweep_model import load_sweep_model

    given = {"pretrained": options.model, "dtype": options.dtype, "device": options.device}
    model = load_sweep_model("amber", {**given, "batch_size": 8})
    config = model.model.config
    tried = plans(config.hidden_size, config.num_hidden_layers)
    _answer(connection, {"shared": lambda: _swept(model, tried, options)})


def start(target: Callable[..., None], options: argparse.Namespace) -> Connection:
    """Start a process; it waits for the names of tasks."""
    ours, theirs = get_context("spawn").Pipe()
    get_context("spawn").Process(target=target, args=(theirs, options), daemon=True).start()
    theirs.close()
    ours.recv()
    return ours


def ask(process: Connection, name: str) -> tuple[float, float, Any]:
    """Run a task; seconds, seconds of CPU, and what it gave."""
    process.send(name)
    found: tuple[float, float, Any] = process.recv()
    return found


def throughput(options: argparse.Namespace) -> None:
    """Print the ratios of the first comparison."""
    plain, plugin = start(without_plugin, options), start(with_plugin, options)
    turns = [(plain, "unsteered"), (plugin, "unsteered"), (plugin, "steered")]
    labels = ["without the plugin", "with it, unsteered", "with it, steered"]
    if options.transformers:
        turns.append((start(on_transformers, options), "unsteered"))
        labels.append("transformers")
    for process, name in turns:
        ask(process, name)
    rounds = []
    for number in range(options.rounds):
        order = turns if number % 2 == 0 else turns[::-1]
        found = {turn: ask(*turn)[:2] for turn in order}
        rounds.append([found[turn] for turn in turns])
    for process in dict.fromkeys(process for process, _ in turns):
        process.send("")
    for clock, unit in enumerate(("s", "s of CPU")):
        times = [[of_turn[clock] for of_turn in row] for row in rounds]
        for label, seconds in zip(labels, zip(*times, strict=True), strict=True):
            middle, best = statistics.median(seconds), min(seconds)
            print(f"{label:20} {middle:7.2f} {unit}  ({best:.2f} at best)")
        for label, above, below in (("with / without", 0, 1), ("steered / unsteered", 1, 2)):
            ratios = sorted(row[above] / row[below] for row in times)
            middle = statistics.median(ratios)
            print(f"{label}: {middle:.3f} by {unit}  ({ratios[0]:.3f} to {ratios[-1]:.3f})")


def sweep(options: argparse.Namespace) -> None:
    """Print the times of the second comparison."""
    found = {}
    inside = start(sweeps_inside, options)
    for name in ("stream", "runs"):
        found[name] = ask(inside, name)
    inside.send("")
    beside = start(sweeps_beside, options)
    found["shared"] = ask(beside, "shared")
    beside.send("")
    for name, (seconds, busy, answers) in found.items():
        same = sum(
            one == other
            for rows, wanted in zip(answers, found["shared"][2], strict=True)
            for one, other in zip(rows, wanted, strict=True)
        )
        told = f"{same} of {16 * options.prompts} answers as shared passes"
        print(f"{name:7} {seconds:7.1f} s {busy:7.1f} s of CPU   {told}")


def main() -> None:
    """Print both comparisons, and how busy the machine was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=os.environ.get("LM_EVAL_TRUST_SMOLLM2"))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu", help="of our shared passes")
    parser.add_argument("--requests", type=int, default=64, help="of a round")
    parser.add_argument("--tokens", type=int, default=16, help="generated for each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=32, help="of the sweep")
    parser.add_argument("--new", type=int, default=8, help="tokens of its answers")
    parser.add_argument("--transformers", action="store_true", help="its throughput as well")
    parser.add_argument("--compiled", action="store_true", help="without enforce_eager")
    options = parser.parse_args()
    options.engine = {
        "dtype": options.dtype,
        "enforce_eager": not options.compiled,
        "max_model_len": 512,
    }
    # The engine runs in the process that is timed.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    print(f"load before: {os.getloadavg()[0]:.1f}")
    throughput(options)
    sweep(options)
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
