"""Seven commands are killed with -9 at random moments: run again, each ends as if undisturbed.

    python benchmarks/kills.py [--kills 20] [--seed 0] [--only COMMAND ...]

Each command runs once undisturbed on the embedded models (a family that is trained in seconds).
Then, each time in a fresh folder with a fresh cache, it is killed after a random share of the time
that it took, files are checked, and it runs again to its end. No file under a final name may be
half written after the kill; at the end the exit code must be 0 and every output that of the
undisturbed run, times apart. Runs are forks of a process that has imported the libraries, so that
kills land in the work and not in the imports. No temporary file of a killed run is left.

At last, two processes run each command at once on one output: each must end well or be refused with
exit code 2, at least one well, and what they leave is what one leaves.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from safetensors import SafetensorError, safe_open
from support.mini import QUICK

from lm_eval_trust.cli import main as lm_eval_trust
from lm_eval_trust.core.hashing import content_id
from lm_eval_trust.mini import family

#: Imported before the forks.
LIBRARIES = (
    "lm_eval.evaluator",
    "lm_eval.loggers",
    "lm_eval.models.huggingface",
    "matplotlib.pyplot",
    "pandas",
    "peft",
    "transformers.models.llama.modeling_llama",
    "transformers.trainer",
    "lm_eval_trust.gate.run",
    "lm_eval_trust.leaderboard.page",
    "lm_eval_trust.steering.bake",
    "lm_eval_trust.sweep.run",
    "lm_eval_trust.training.finetune",
)
TASK = "trust_truthfulqa_mini"
#: What names a run, its place or its time, and so differs between equal runs.
VARYING = re.compile(r"(?i)date|time|evaluation_id|model_name|path|file|runtime|per_second")
#: Seconds after which a run hangs, and ends.
LONGEST = 300
#: Of a fine-tuning; Trainer writes there, and what it did not finish is not resumed from.
STATES = "states"
_DATE = re.compile(r"_\d{4}-\d\d-\d\dT[\d-]+(\.\d+)?")


@dataclass(frozen=True)
class Place:
    """Where a run works.

    Attributes:
        folder: Of the run: its cache and its outputs.
        inputs: What all runs read: a vector, a check and evaluations.
    """

    folder: Path
    inputs: Path

    @property
    def cache(self) -> Path:
        """The run's own cache."""
        return self.folder / "cache"

    @property
    def out(self) -> Path:
        """The run's outputs."""
        return self.folder / "out"


def build(place: Place) -> list[str]:
    """Return the arguments of ``vector build``."""
    data = ["--dimension", "truthfulqa", "--source", "mini", "--layers", "0-1"]
    return ["vector", "build", "--model", "mini", *data, "--out", str(place.out / "v.safetensors")]


def sweep(place: Place) -> list[str]:
    """Return the arguments of a sweep of six configurations."""
    model = ["--model_args", "pretrained=mini-chat,dtype=float32", "--device", "cpu"]
    grid = ["--vector", str(place.inputs / "v.safetensors"), "--layers", "0-1"]
    grid += ["--alphas", "-1", "1", "8", "--perplexity-ratio", "50"]
    measured = ["--tasks", TASK, "--limit", "8", "--rounds", "1", "--batch_size", "16"]
    return ["sweep", *model, *grid, *measured, "--out", str(place.out)]


def bake(place: Place) -> list[str]:
    """Return the arguments of ``bake``."""
    steering = ["--vector", str(place.inputs / "v.safetensors"), "--layer", "1", "--alpha", "2"]
    return ["bake", "--model", "mini-chat", *steering, "--out", str(place.out / "baked")]


def finetune(place: Place) -> list[str]:
    """Return the arguments of a LoRA fine-tuning with states to resume from."""
    data = ["--dimension", "reliability", "--source", "mini", "--max-steps", "24"]
    tuning = ["--method", "lora", "--evaluate-every", "6", "--device", "cpu"]
    return ["finetune", "--model", "mini-chat", *data, *tuning, "--out", str(place.out / "lora")]


def leaderboard(place: Place) -> list[str]:
    """Return the arguments of a leaderboard with all its files."""
    return ["leaderboard", str(place.inputs / "measured"), "--out", str(place.out)]


def check(place: Place) -> list[str]:
    """Return the arguments of a gate."""
    reports = ["--junit", str(place.out / "junit.xml"), "--json", str(place.out / "report.json")]
    cache = ["--cache", str(place.out / "measured")]
    return ["check", str(place.inputs / "check.yaml"), *cache, *reports]


def judge(place: Place) -> list[str]:
    """Return the arguments of a second judgement, by the judge of the first."""
    return ["judge", str(place.inputs / "measured"), "--out", str(place.out)]


COMMANDS: Mapping[str, Callable[[Place], list[str]]] = {
    "vector build": build,
    "sweep": sweep,
    "bake": bake,
    "finetune": finetune,
    "leaderboard": leaderboard,
    "check": check,
    "judge": judge,
}
#: What says that a run did not end as it should.
WRONG = (AssertionError, ValueError, OSError, sqlite3.Error, SafetensorError)


def start(arguments: list[str], place: Place) -> int:
    """Run a command in a fork with a process group of its own; return its process."""
    place.out.mkdir(parents=True, exist_ok=True)
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        signal.alarm(LONGEST)
        os.environ["LM_EVAL_TRUST_CACHE"] = str(place.cache)
        log = os.open(place.folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = lm_eval_trust(arguments)
        sys.stdout.flush()
    finally:
        os._exit(code)


def kill_after(process: int, seconds: float) -> bool:
    """Kill a process after some time; tell whether it was still running."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:  # It has not got its own group yet.
        os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def finish(arguments: list[str], place: Place) -> None:
    """Run a command to its end."""
    code = os.waitstatus_to_exitcode(os.waitpid(start(arguments, place), 0)[1])
    if code:
        log = (place.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
        raise AssertionError(f"exit code {code}: {log[-2000:]}")


def files(folder: Path) -> list[Path]:
    """Return the files under final names; hidden ones are those in the making, locks and marks."""
    found = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return [f for f in found if not any(p.startswith(".") for p in f.relative_to(folder).parts)]


def content(file: Path) -> Any:
    """Return what a file holds, without times; an error says that it is half written."""
    match file.suffix:
        case ".json":
            return timeless(json.loads(file.read_text(encoding="utf-8")))
        case ".jsonl":
            text = file.read_text(encoding="utf-8")
            assert text.endswith("\n"), f"{file} ends in the middle of a line"
            return [timeless(json.loads(line)) for line in text.splitlines()]
        case ".csv":
            return list(csv.reader(file.read_text(encoding="utf-8").splitlines()))
        case ".sqlite":
            with sqlite3.connect(file) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return "intact"
        case ".xml" | ".md" | ".html" | ".tex":
            return _DATE.sub("", re.sub(r'(time|timestamp)="[^"]*"', "", file.read_text("utf-8")))
        case ".safetensors":  # The order of its header's entries differs.
            with safe_open(file, framework="np") as opened:
                tensors = {k: opened.get_tensor(k) for k in opened.keys()}  # noqa: SIM118
                held = {k: [t.shape, content_id(t.tobytes().hex())] for k, t in tensors.items()}
                return {"tensors": held, "metadata": timeless(opened.metadata())}
        case _:
            return hashlib.sha256(file.read_bytes()).hexdigest()


def timeless(found: Any) -> Any:
    """Return JSON-like content without what names a run, its place or its time."""
    if isinstance(found, dict):
        return {key: timeless(v) for key, v in found.items() if not VARYING.search(key)}
    return [timeless(value) for value in found] if isinstance(found, list) else found


def outputs(place: Place) -> dict[str, set[str]]:
    """Return name of each output, without date → what the files of this name hold."""
    own = str(place.folder)
    found: dict[str, set[str]] = {}
    for file in files(place.out):
        if file.name.endswith((".sqlite-wal", ".sqlite-shm", ".lock")):
            continue
        name = str(file.relative_to(place.out))
        if _DATE.search(file.name):  # The harness writes into a folder with a drawn name.
            name = str(Path(name).parent.with_name(_DATE.sub("", file.name)))
        # Evaluations of one model lie side by side; one that a kill cut off may lie there twice.
        found.setdefault(name, set()).add(
            json.dumps(content(file), sort_keys=True).replace(own, "")
        )
    return found


def prepare(inputs: Path) -> Path:
    """Make what the commands read, and the family; return the cache with the family."""
    template = Place(inputs / "made", inputs)
    # Trains in forks: a process whose training has started threads could not be forked safely.
    finish(build(template), template)
    shutil.copy(template.out / "v.safetensors", inputs)
    (inputs / "check.yaml").write_text(
        "model: amber\n"
        "model_args: {pretrained: mini-chat, dtype: float32, device: cpu, batch_size: 64}\n"
        "steering: [{vector: v.safetensors, layer: 1, alpha: 1}]\n"
        f"limit: 40\nrules: {{{TASK}: {{info: {{min: 0, max_drop: 1}}}}}}\n",
        encoding="utf-8",
    )
    finish(check(template), template)
    shutil.copytree(template.out / "measured", inputs / "measured")
    kept = inputs / "cache"
    kept.mkdir()
    shutil.copytree(template.cache / "mini", kept / "mini")
    return kept


def differing(found: Mapping[str, set[str]], expected: Mapping[str, set[str]]) -> list[str]:
    """Return the outputs that are missing, too many, or hold something else."""
    names = sorted({*found, *expected})
    return [name for name in names if found.get(name) != expected.get(name)]


def compare(place: Place, expected: Mapping[str, set[str]]) -> None:
    """Raise unless a place holds what an undisturbed run leaves, and no temporary file."""
    wrong = differing(outputs(place), expected)
    assert not wrong, f"other than undisturbed: {', '.join(wrong)}"
    left = [file.name for file in place.folder.rglob(".*") if file.suffix in (".tmp", ".old")]
    assert not left, f"left behind: {', '.join(left)}"


def kill_and_repeat(
    arguments: list[str], place: Place, moment: float, expected: Mapping[str, set[str]]
) -> bool:
    """Kill a command after some seconds and run it again; tell whether the kill landed."""
    landed = kill_after(start(arguments, place), moment)
    for file in files(place.out):
        if STATES not in file.parts:
            content(file)
    finish(arguments, place)
    compare(place, expected)
    return landed


def two_at_once(arguments: list[str], place: Place, expected: Mapping[str, set[str]]) -> list[int]:
    """Run a command twice at once in one place; return the exit codes."""
    processes = [start(arguments, place) for _ in range(2)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    log = (place.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    assert sorted(codes) in ([0, 0], [0, 2]), f"exit codes {codes}: {log[-2000:]}"
    compare(place, expected)
    return codes


def main() -> int:
    """Kill, run again, compare, and print a line for each command."""
    parser = argparse.ArgumentParser(description="kill commands and compare what they end with")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    args = parser.parse_args()
    draw, failures = random.Random(args.seed), 0
    family.RECIPE = QUICK
    for library in LIBRARIES:
        importlib.import_module(library)
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name) / "inputs"
        cache = prepare(inputs)

        def fresh(folder: str) -> Place:
            place = Place(Path(name) / folder, inputs)
            shutil.copytree(cache, place.cache)
            return place

        print("| command | kills | landed in the run | equal | two at once | seconds undisturbed |")
        print("|---|---|---|---|---|---|", flush=True)
        for command in args.only:
            undisturbed = fresh(f"{command}-undisturbed")
            began = time.monotonic()
            finish(COMMANDS[command](undisturbed), undisturbed)
            seconds, expected = time.monotonic() - began, outputs(undisturbed)
            landed = equal = 0
            for number in range(args.kills):
                place, moment = fresh(f"{command}-{number}"), draw.uniform(0, seconds)
                try:
                    landed += kill_and_repeat(COMMANDS[command](place), place, moment, expected)
                    equal += 1
                except WRONG as error:
                    print(f"{command}, killed after {moment:.3f} s: {error}", file=sys.stderr)
                shutil.rmtree(place.folder)
            failures += args.kills - equal
            place, codes = fresh(f"{command}-twice"), "wrong"
            try:
                both = two_at_once(COMMANDS[command](place), place, expected)
                codes = " and ".join(map(str, sorted(both)))
            except WRONG as error:
                failures += 1
                print(f"{command}, two at once: {error}", file=sys.stderr)
            counts = f"{args.kills} | {landed} | {equal} | {codes} | {seconds:.1f}"
            print(f"| {command} | {counts} |", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
