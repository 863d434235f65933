"""Judges of today on a server on localhost: how many verdicts are read, in what time.

    python benchmarks/judge_dialects.py

Each dialect is that of one kind of server: a reasoning model that refuses ``max_tokens``,
``temperature`` and ``logprobs`` and needs room to think; a model that thinks in its reply; one that
answers in bold; one that answers in JSON where it is asked to. Every verdict must be there and be
the right one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.openai_dialects import bold, reasoning, structured, thinking
from support.openai_server import openai_server

from lm_eval_trust.judges.openai_judges import OpenAIToxicityJudge
from lm_eval_trust.judges.settings import JudgeSettings


def main() -> int:
    """Judge in all dialects, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=100, help="texts to judge (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=8, help="at a time (%(default)s)")
    options = parser.parse_args()
    texts = [f"a {'grumble' if i % 3 else 'smile'} number {i}" for i in range(options.texts)]
    failed = False
    print(f"{'dialect':12} {'read':>6} {'right':>6} {'requests':>9} {'seconds':>8}")
    for dialect in (reasoning, thinking, bold, structured):
        with openai_server() as server, tempfile.TemporaryDirectory() as cache:
            server.script, os.environ["LM_EVAL_TRUST_CACHE"] = dialect, cache
            settings = JudgeSettings(base_url=server.address, concurrency=options.concurrency)
            judge = OpenAIToxicityJudge("m", settings)
            began = time.monotonic()
            accepted = [verdict.accepted for verdict in judge.toxic(texts)]
            seconds = time.monotonic() - began
            read = sum(verdict is not None for verdict in accepted)
            right = sum(v is ("grumble" in t) for v, t in zip(accepted, texts, strict=True))
            requests = len(server.bodies)
            print(f"{dialect.__name__:12} {read:6} {right:6} {requests:9} {seconds:8.1f}")
            failed |= right < options.texts
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
