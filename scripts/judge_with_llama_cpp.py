"""Judge TruthfulQA by a real OpenAI-compatible server: llama-cpp-python's, serving SmolLM2.

    pip install 'llama-cpp-python[server]'      (compiles; another interpreter's will do)
    python scripts/judge_with_llama_cpp.py [--limit 20] [--server-python PYTHON] [--out llama-out]

SmolLM2-135M-Instruct answers the questions; then its GGUF file, behind the server, judges the
answers: by completions with log-probabilities, and by chat. A second run of each must ask the
server nothing, and the probabilities must be near those of the same model as a local judge, which
runs the same weights in float32. A model of 135 million parameters is no good judge, and seldom
replies in a word: this shows that the way works, not that the verdicts are right.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from ast import literal_eval
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prepare_smollm2 import download

from lm_eval_trust.core.storage import cache_dir

NAME, TASK = "smollm2", "trust_truthfulqa"
BIN = Path(sys.executable).parent
#: How far a quantised model's probability of yes may lie from the float32 model's, on average.
NEAR = 0.05
_STARTING = 120.0


def main() -> int:
    """Answer, judge twice by each form, compare."""
    options = arguments()
    model = os.environ.get("LM_EVAL_TRUST_SMOLLM2")
    model = model or str(cache_dir() / "models" / "smollm2-135m-instruct")
    answers = options.out / "answers"
    ours(
        *("run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32"),
        *("--tasks", TASK, "--limit", str(options.limit), "--batch_size", "8"),
        *("--metadata", "truth_judge=reference", "--log_samples", "--output_path", str(answers)),
    )
    with tempfile.TemporaryDirectory() as scratch:
        gguf = options.gguf or download(Path(scratch))
        log = options.out / "server.log"
        with served(options.server_python, gguf, log) as address:
            found = {form: judged(answers, options.out, address, form, log) for form in FORMS}
    there = probabilities(options.out / "completions")
    here = probabilities(judge(answers, options.out / "local", f"hf:{model}"))
    distances = [
        abs(a - b) for a, b in zip(there, here, strict=True) if a is not None and b is not None
    ]
    distance = sum(distances) / max(len(distances), 1)
    print(
        f"\nP(yes) of {len(distances)} answers: mean distance from the local judge {distance:.4f}"
    )
    return 0 if all(found.values()) and distances and distance <= NEAR else 1


FORMS = ("completions", "chat")


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--limit", type=int, default=20, help="questions (20)")
    parser.add_argument("--gguf", type=Path, help="model file (default: from its PyPI wheel)")
    parser.add_argument("--server-python", default=sys.executable, help="has llama-cpp-python")
    parser.add_argument("--out", type=Path, default=Path("llama-out"), help="folder (llama-out)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def judged(answers: Path, out: Path, address: str, form: str, log: Path) -> bool:
    """Judge in a form, twice; tell whether all was judged and the second time asked nothing."""
    settings = [f"judge_base_url={address}", f"judge_form={form}", "judge_concurrency=1"]
    began = time.monotonic()
    judge(answers, out / form, f"openai:{NAME}", *settings)
    seconds, asked = time.monotonic() - began, requests(log)
    judge(answers, out / f"{form}-again", f"openai:{NAME}", *settings)
    again = requests(log) - asked
    scores = results(out / form)
    print(f"{form}: {seconds:.0f} s; requests of a second run: {again}")
    for name in ("truth", "info", "judge_unparsed"):
        print(f"  {name}: {scores[f'{name},none']:.3f}")
    return again == 0 and results(out / f"{form}-again") == scores


def judge(answers: Path, out: Path, judge_name: str, *settings: str) -> Path:
    """Judge the saved answers; return the folder."""
    metadata = ("--metadata", *settings) if settings else ()
    ours("judge", str(answers), "--truth-judge", judge_name, *metadata, "--out", str(out))
    return out


def ours(*words: str) -> None:
    """Run one of our commands; print and show it."""
    print("\n$ lm-eval-trust", *words, flush=True)
    subprocess.run([str(BIN / "lm-eval-trust"), *words], check=True)


def results(out: Path) -> dict[str, float]:
    """Return the latest scores below a folder."""
    latest = max(out.rglob("results_*.json"), key=lambda path: path.name)
    scores: dict[str, float] = json.loads(latest.read_text(encoding="utf-8"))["results"][TASK]
    return scores


def probabilities(out: Path) -> list[float | None]:
    """Return P(yes) of truth of each answer in the latest samples below a folder, if judged."""
    latest = max(out.rglob(f"samples_{TASK}_*.jsonl"), key=lambda path: path.name)
    lines = latest.read_text(encoding="utf-8").splitlines()
    verdicts = [literal_eval(json.loads(line)["filtered_resps"][0]) for line in lines]
    return [verdict["truth_score"] for verdict in verdicts]


def requests(log: Path) -> int:
    """Return how many verdicts the server has been asked for."""
    return log.read_text(encoding="utf-8", errors="replace").count("completions HTTP/1.1")


@contextmanager
def served(python: str, gguf: Path, log: Path) -> Iterator[str]:
    """Run llama-cpp-python's server and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias", NAME]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "2048"]
    command += ["--logits_all", "True"]  # what this server needs for log-probabilities
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}/v1"
            wait_for(address, process, log)
            yield address
        finally:
            process.terminate()
            process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers.

    Raises:
        SystemExit: It ended, or does not answer in two minutes.
    """
    end = time.monotonic() + _STARTING
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/models", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit(f"llama_cpp.server did not start; see {log}.")


if __name__ == "__main__":
    sys.exit(main())
