"""10,000 verdicts of a server that fails one request in twenty, and a judge that is killed.

    python benchmarks/judging.py

A process judges 10,000 answers over a server on localhost: 5 % of the requests are answered with
429 and ``Retry-After``, 500, 503, a cut connection, half a reply, a reply without the protocol's
fields, silence beyond the timeout, or without log-probabilities. It is killed with -9 at ten random
moments and started again. At the end every verdict must be the right one, every answer have been
judged, none more than once but for what was under way in a kill, and a further run ask nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.openai_server import Fault, OpenAI, openai_server

VERDICTS, SHARE, KILLS, CONCURRENCY = 10_000, 0.05, 10, 8
_JUDGE = """
import json, sys
from lm_eval_trust.judges.interface import Answer
from lm_eval_trust.judges.openai_judges import OpenAITruthJudge
from lm_eval_trust.judges.settings import JudgeSettings

settings = JudgeSettings(base_url=sys.argv[1], form="completions", timeout=2.0, concurrency=8)
answers = [Answer(f"Question {i}?", "Answer.", (), ()) for i in range(int(sys.argv[2]))]
verdicts = OpenAITruthJudge("m", settings).truth(answers)
print(json.dumps([verdict.accepted for verdict in verdicts]))
"""
KINDS = (
    Fault(status=429, retry_after="1"),
    Fault(status=500),
    Fault(status=503),
    Fault(cut=True),
    Fault(malformed=True),
    Fault(hollow=True),
    Fault(silence=2.5, status=500),
    Fault(bare=True),
)


def faults(draw: random.Random) -> list[Fault]:
    """Return what happens to each request in turn, ``Fault()`` for nothing."""
    pattern = [
        draw.choice(KINDS) if draw.random() < SHARE else Fault() for _ in range(4 * VERDICTS)
    ]
    return [Fault(**vars(fault)) for fault in pattern]


def truth(prompt: str) -> float:
    """Return the probability of yes: answers whose question's number has a 7 are true."""
    return 0.9 if "7" in prompt.split("?")[0] else 0.1


def start(server: OpenAI, cache: Path) -> subprocess.Popen[str]:
    """Start a process that judges."""
    return subprocess.Popen(
        [sys.executable, "-c", _JUDGE, server.address, str(VERDICTS)],
        env={**os.environ, "LM_EVAL_TRUST_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
    )


def kill_at(process: subprocess.Popen[str], server: OpenAI, number: int) -> bool:
    """Kill the process once so many answers are judged; tell whether it came to that."""
    while len(server.answered) < number:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    process.kill()
    process.wait()
    return True


def main() -> int:
    """Judge under faults and kills, and check every verdict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of kills and faults (%(default)s)")
    draw = random.Random(parser.parse_args().seed)
    kills = 0
    with openai_server() as server, tempfile.TemporaryDirectory() as folder:
        server.yes, server.faults = truth, faults(draw)
        began = time.monotonic()
        for number in sorted(draw.sample(range(VERDICTS), KILLS)):
            kills += kill_at(start(server, Path(folder)), server, number)
        output, _ = start(server, Path(folder)).communicate()
        seconds, requests = time.monotonic() - began, len(server.bodies)
        expected = ["7" in str(i) for i in range(VERDICTS)]
        right = output.strip() == str(expected).replace("T", "t").replace("F", "f")
        doubled = server.answered.total() - VERDICTS
        start(server, Path(folder)).communicate()
        print(f"{VERDICTS} verdicts, {kills} kills, {seconds:.0f} s, {requests} requests")
        print(f"judged: {len(server.answered)}; all verdicts right: {right}")
        print(f"asked for again after kills: {doubled} (at most {kills * CONCURRENCY})")
        print(f"requests of one more run: {len(server.bodies) - requests}")
        whole = len(server.answered) == VERDICTS and len(server.bodies) == requests
        return 0 if right and whole and 0 <= doubled <= kills * CONCURRENCY else 1


if __name__ == "__main__":
    sys.exit(main())
