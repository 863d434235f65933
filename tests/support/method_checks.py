"""What each way of steering can do, each entry held against an independent formulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.models.tokens import padded_batch
from lm_eval_trust.models.transformers_internals import CACHE
from lm_eval_trust.steering.bake import Bake, bake
from lm_eval_trust.steering.conditions import Condition
from lm_eval_trust.steering.foreign_vectors import export_vector
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector, load_vector
from lm_eval_trust.sweep.sweep_model import load_sweep_model
from support.check_tables import EXACT
from support.conformance import generation_requests, random_vector, scoring_requests
from support.families import save_family
from support.models import build_tokenizer
from support.reference import ReferenceModel

FAMILY, WIDTH, LAYER, NEW = "llama", 32, 2, 5
PROMPTS = ("The miller of Ankoria", "a", "yes or no", "The river Tessel is long, ")
CLOSE = 2e-3
ONE_BY_ONE, NOTHING = "exact, one by one", "–"
VECTOR = random_vector(WIDTH, (LAYER,), norm=4.0, seed=7)
_DRAWN = torch.randn(4, WIDTH // 4, generator=torch.Generator().manual_seed(3))
_DRAWN[[0, 2]] = 0
HEADS = SteeringVector({LAYER: LayerVector(2 * _DRAWN.flatten())}, name="heads", site="heads")


@dataclass(frozen=True)
class Method:
    """A way to steer.

    Attributes:
        vector: By which vector.
        alpha: How strongly.
        action: With which action.
        conditional: Whether only some prompts are steered.
    """

    vector: SteeringVector = VECTOR
    alpha: float = 0.7
    action: str = "add"
    conditional: bool = False


#: Name on the page → method.
METHODS: Mapping[str, Method] = {
    "add": Method(),
    "clamp": Method(action="clamp"),
    "ablate": Method(action="ablate"),
    "rotate": Method(action="rotate", alpha=25.0),
    "erase": Method(action="erase"),
    "reft": Method(action="reft"),
    "add, conditional": Method(conditional=True),
    "rotate, conditional": Method(action="rotate", alpha=25.0, conditional=True),
    "heads": Method(HEADS, alpha=2.0),
}


class Trial:
    """One method on a tiny Llama on disk, with its float64 formulation beside it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.method, self.folder = METHODS[name], folder
        self.path = save_family(FAMILY, folder / "model")
        self.model = AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32).eval()
        self.reference = ReferenceModel(self.model)
        tokenizer = build_tokenizer()
        self.prompts = [tokenizer(prompt).input_ids for prompt in PROMPTS]

    def plan(self, **changes: Any) -> SteeringPlan:
        method = self.method
        settings = {"alpha": method.alpha, "action": method.action, "scale": "none", **changes}
        when = self.condition if method.conditional else None
        return SteeringPlan.from_vector(method.vector, [LAYER], when=when, **settings)

    @cached_property
    def condition(self) -> Condition:
        """One that holds for some of the prompts, decided a block below."""
        unit = torch.nn.functional.normalize(torch.randn(WIDTH), dim=0).double()
        states = [
            self.reference.states(p, SteeringPlan(), len(p) - 1)[0][LAYER - 1][-1]
            for p in self.prompts
        ]
        cosines = sorted(float(state @ unit / state.norm()) for state in states)
        return Condition(LAYER - 1, unit.float(), (cosines[1] + cosines[2]) / 2)

    def expected(self, tokens: list[int], end: int) -> torch.Tensor:
        return self.reference.logits(tokens, self.plan(), end)

    def continued(self) -> list[list[int]]:
        """Prompts with the reference's greedy continuations."""
        return [p + self.reference.greedy(p, self.plan(), NEW) for p in self.prompts]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    off = float((found.double() - expected.double()).abs().max())
    assert off < CLOSE, f"logits off by {off:.2g}"


@torch.no_grad()
def reference(trial: Trial) -> None:
    for number, tokens in enumerate(trial.continued()):
        end = len(trial.prompts[number]) - 1
        with Steerer(trial.model, trial.plan()).apply(end):
            close(trial.model(torch.tensor([tokens])).logits[0], trial.expected(tokens, end))
    plain = [trial.reference.logits(p, SteeringPlan(), len(p) - 1)[-1] for p in trial.prompts]
    steered = [trial.expected(p, len(p) - 1)[-1] for p in trial.prompts]
    moved = [bool((a - b).abs().max() > 0.01) for a, b in zip(plain, steered, strict=True)]
    assert sum(moved) == (2 if trial.method.conditional else len(moved)), moved


@torch.no_grad()
def padding(trial: Trial) -> None:
    for side in ("left", "right"):
        batch = padded_batch(trial.prompts, side=side)
        with Steerer(trial.model, trial.plan()).apply():
            logits = trial.model(**batch).logits
        for row, tokens in enumerate(trial.prompts):
            real = batch["attention_mask"][row] == 1
            close(logits[row][real], trial.expected(tokens, len(tokens) - 1))


@torch.no_grad()
def cache(trial: Trial) -> None:
    for number, tokens in enumerate(trial.continued()):
        end, kept, pieces = len(trial.prompts[number]) - 1, None, []
        with Steerer(trial.model, trial.plan()).apply(end):
            for first in range(0, len(tokens), 2):
                part = torch.tensor([tokens[first : first + 2]])
                output = trial.model(part, use_cache=True, **{CACHE: kept})
                kept = output[CACHE]
                pieces.append(output.logits[0])
        close(torch.cat(pieces), trial.expected(tokens, end))


@torch.no_grad()
def generated(trial: Trial) -> None:
    """A generated batch gives the reference's tokens, and scores what generating it gave."""
    batch, settings = padded_batch(trial.prompts, side="left"), {"do_sample": False}
    width = batch["input_ids"].shape[1]
    steerer = Steerer(trial.model, trial.plan())
    with steerer.apply(width - 1):
        output = trial.model.generate(
            **batch,
            **settings,
            min_new_tokens=NEW,
            max_new_tokens=NEW,
            output_logits=True,
            return_dict_in_generate=True,
        )
    seen = torch.stack(output.logits, dim=1)
    for row, prompt in enumerate(trial.prompts):
        tokens = prompt + output.sequences[row, width:].tolist()
        with steerer.apply(torch.tensor([len(prompt) - 1])):
            scored = trial.model(torch.tensor([tokens])).logits[0, len(prompt) - 1 : -1]
        close(seen[row], scored)
        close(seen[row], trial.expected(tokens, len(prompt) - 1)[len(prompt) - 1 : -1])


def unsteered(trial: Trial) -> None:
    tokens = torch.tensor([trial.prompts[0]])
    with torch.no_grad():
        expected = trial.model(tokens).logits
        with Steerer(trial.model, trial.plan(alpha=0.0)).apply():
            assert torch.equal(trial.model(tokens).logits, expected)


def sweep(trial: Trial) -> str:
    arguments = {"pretrained": str(trial.path), "dtype": "float32", "device": "cpu"}
    lm = load_sweep_model("amber", arguments | {"batch_size": 4})
    strength = trial.method.alpha
    plans = [trial.plan(alpha=alpha) for alpha in (strength, 0.0, -strength)]
    requests = generation_requests(PROMPTS, max_gen_toks=NEW)
    pairs = [(prompt, " yes") for prompt in PROMPTS]
    tokenizer = AutoTokenizer.from_pretrained(trial.path)
    with KeyedStore(trial.folder / "answers", "sweep") as store:
        lm.sweep(plans, store)
        for plan in plans:
            lm.steer_by(plan)
            texts = lm.generate_until(requests, disable_tqdm=True)
            for prompt, text in zip(trial.prompts, texts, strict=True):
                tokens = trial.reference.greedy(prompt, plan, NEW)
                assert text == tokenizer.decode(tokens, skip_special_tokens=True)
            scores = lm.loglikelihood(scoring_requests(pairs), disable_tqdm=True)
            for pair, (value, _) in zip(pairs, scores, strict=True):
                expected, _ = trial.reference.score(*lm._encode_pair(*pair), plan)
                assert abs(value - expected) < CLOSE
    return ONE_BY_ONE if lm.apart else EXACT


def baking(trial: Trial) -> None:
    plan = trial.plan() if trial.method.conditional else trial.plan(positions="all")
    bake(Bake(find_source(str(trial.path)), plan), trial.folder / "baked")
    baked = AutoModelForCausalLM.from_pretrained(trial.folder / "baked", dtype=torch.float32)
    for tokens in trial.prompts:
        with torch.no_grad():
            expected = trial.reference.logits(tokens, plan, len(tokens) - 1)
            close(baked(torch.tensor([tokens])).logits[0], expected)


def export(trial: Trial) -> str:
    if trial.method.conditional:
        return NOTHING  # What is exported is a vector, which a condition is no part of.
    file, method = trial.folder / "v.gguf", trial.method
    settings = {"alpha": method.alpha, "scale": "none", "action": method.action}
    export_vector(method.vector, file, tool="gguf", layers=[LAYER], **settings)
    expected = method.alpha * method.vector.layer(LAYER).direction
    torch.testing.assert_close(load_vector(file).layer(LAYER).direction, expected)
    return EXACT


CHECKS: Mapping[str, Callable[[Trial], str | None]] = {
    "reference": reference,
    "batch and padding": padding,
    "cache": cache,
    "scored = generated": generated,
    "α = 0": unsteered,
    "sweep": sweep,
    "bake": baking,
    "export": export,
}
