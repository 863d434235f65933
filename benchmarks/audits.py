"""What audits say of the embedded world's own direction, and of random ones of the same length.

The direction of truth at ``mini@ckpt_014`` steers ``mini-chat``; then each of ``--directions``
random directions takes its place, with the same length, layer, strength and positions. All are
audited on the test part of the world's questions; the random ones are false alarms if shown.

    nice python -u benchmarks/audits.py --directions 20
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lm_eval_trust.audit.rules import Judged
from lm_eval_trust.audit.run import run_audit
from lm_eval_trust.audit.settings import Audit, Demands
from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.evaluate.controls import Controls
from lm_eval_trust.models.sources import load_source
from lm_eval_trust.steering.build import build_vector
from lm_eval_trust.steering.vectors import SteeringVector

SOURCE, LAYER, ALPHA = "mini@ckpt_014", 1, 0.875
TASK, OTHERS = "trust_truthfulqa_mini", ("trust_sst2_mini", "trust_world_choice_mini")


def planted() -> SteeringVector:
    model, tokenizer, identity = load_source(SOURCE, dtype="float32", device="cpu")
    statements = load_statements("reliability", data_source="mini")
    return build_vector(model, tokenizer, statements, layers=[LAYER], identity=identity)


def random_direction(vector: SteeringVector, seed: int) -> SteeringVector:
    of = vector.layer(LAYER)
    drawn = np.random.default_rng(seed).standard_normal(len(of.direction)).astype(np.float32)
    direction = torch.from_numpy(drawn)
    direction *= of.direction.norm() / direction.norm()
    return SteeringVector({LAYER: replace(of, direction=direction)}, None, name=f"random {seed}")


def audited(vector: SteeringVector, folder: Path, name: str, margin: float) -> Judged:
    folder.mkdir(parents=True, exist_ok=True)
    vector.save(folder / "v.safetensors")
    steering = folder / "steering.yaml"
    entry = f"{{vector: v.safetensors, layer: {LAYER}, alpha: {ALPHA}}}"
    steering.write_text(f"steering: [{entry}]\n", encoding="utf-8")
    audit = Audit(
        steering,
        "amber",
        {"pretrained": "mini-chat", "dtype": "float32", "device": "cpu", "batch_size": 32},
        tasks=(TASK,),
        suite=OTHERS,
        controls=Controls.parse("prompt,few-shot:3,random:8,sign"),
        demands=Demands(margin=margin),
    )
    with contextlib.redirect_stderr(io.StringIO()):
        found = run_audit(audit, folder / "out").judged
    outcomes = ", ".join(f"{f.title.split(': ')[-1]}: {f.outcome}" for f in found.findings)
    print(f"{name}: {found.verdict} ({outcomes})", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directions", type=int, default=20)
    parser.add_argument("--margin", type=float, default=0.2, help="few items show no smaller one")
    arguments = parser.parse_args()
    vector, started = planted(), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        audited(vector, Path(place) / "own", "the world's own direction", arguments.margin)
        found = [
            audited(
                random_direction(vector, n), Path(place) / str(n), f"random {n}", arguments.margin
            )
            for n in range(arguments.directions)
        ]
    verdicts = Counter(each.verdict for each in found)
    more = sum(
        f.group == "random" and f.outcome == "passed" for each in found for f in each.findings
    )
    print(f"Random directions: {dict(verdicts)}; more than other random ones: {more}")
    print(f"{time.monotonic() - started:.0f} s for {len(found) + 1} audits")


if __name__ == "__main__":
    main()
