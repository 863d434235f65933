"""What proxy-tuning costs: decoding with the ensemble against its three models one by one.

The same prompts, 64 new tokens each, in turns in one process; then the peak memory of processes
of their own: each of the three models alone, and the ensemble whose expert is a LoRA adapter of
the base and whose anti-expert is the base itself.

    LM_EVAL_TRUST_SMOLLM2=FOLDER python benchmarks/proxy.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lm_eval_trust.models.proxy import Part, ProxyTunedModel
from lm_eval_trust.models.proxy_parts import PartLoader, find_part

PROMPTS = (
    "The river Tessel rises in the hills of Bram and",
    "Q: Who rules the city of Ankoria?\nA:",
    "In winter the Velmi walk north, because",
    "The oldest house in Ossia stands on",
)
NEW_TOKENS = 64


def decode(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> float:
    """Seconds of greedy decoding."""
    start = time.perf_counter()
    model.generate(**inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)
    return time.perf_counter() - start


def load(folder: str) -> PreTrainedModel:
    """A model in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def tokens(folder: str) -> dict[str, torch.Tensor]:
    """The prompts as one batch, padded on the left."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return dict(tokenizer(list(PROMPTS), return_tensors="pt", padding=True))


def random_adapter(folder: str, target: Path) -> Path:
    """A LoRA adapter of rank 16 on all linear layers."""
    torch.manual_seed(0)
    config = LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(load(folder), config).save_pretrained(target)
    return target


def shared_ensemble(folder: str, adapter: str) -> ProxyTunedModel:
    """An ensemble of one model in memory: base and anti-expert, with an adapter as expert."""
    sources = {"base": find_part(folder), "expert": find_part(adapter), "anti": find_part(folder)}
    parts = PartLoader("float32").load(sources, dict.fromkeys(sources, "cpu"))
    return ProxyTunedModel(*parts).eval()


def compare_times(folder: str, runs: int) -> None:
    """Print medians and the ratio of the ensemble to the sum of its parts."""
    inputs = tokens(folder)
    parts = [load(folder) for _ in range(3)]
    ensemble = ProxyTunedModel(*map(Part, parts)).eval()
    for model in (*parts, ensemble):
        decode(model, inputs)
    alone: list[float] = []
    together: list[float] = []
    for _ in range(runs):
        alone.append(sum(decode(part, inputs) for part in parts))
        together.append(decode(ensemble, inputs))
    one, other = statistics.median(alone), statistics.median(together)
    print(f"three models one by one {one:6.2f} s  of " + " ".join(f"{t:.2f}" for t in alone))
    print(f"the ensemble            {other:6.2f} s  of " + " ".join(f"{t:.2f}" for t in together))
    print(f"ensemble / sum of its parts = {other / one:.3f}")


def peak_memory(*arguments: str) -> float:
    """Peak memory in GiB of a process of its own that does what the arguments say."""
    command = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) / 2**20


def run_child(arguments: list[str]) -> None:
    """Decode with one model or the shared ensemble, or with nothing; print the peak in KiB."""
    what, *folders = arguments
    if what != "nothing":
        model = load(folders[0]) if what == "model" else shared_ensemble(*folders)
        decode(model, tokens(folders[0]))
    # Not getrusage: a child inherits the peak of the process that it was forked from.
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def compare_memory(folder: str) -> None:
    """Print peaks above that of the libraries alone, and their ratio."""
    with tempfile.TemporaryDirectory() as place:
        adapter = random_adapter(folder, Path(place) / "adapter")
        nothing = peak_memory("nothing")
        model = peak_memory("model", folder) - nothing
        ensemble = peak_memory("ensemble", folder, str(adapter)) - nothing
    print(
        f"libraries {nothing:.2f} GiB; one model {model:.2f}, shared ensemble {ensemble:.2f} more"
    )
    print(f"shared ensemble / three models = {ensemble / (3 * model):.3f}")


def main() -> None:
    """Print what proxy-tuning costs in time and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=os.environ.get("LM_EVAL_TRUST_SMOLLM2"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(options.child)
        return
    compare_times(options.model, options.runs)
    compare_memory(options.model)


if __name__ == "__main__":
    main()
