"""What each family can do, each entry held against the independent loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.registry import get_model
from peft import PeftModel
from safetensors.torch import load_file
from transformers.pytorch_utils import Conv1D

from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.mini.benchmarks import MINI
from lm_eval_trust.models.activations import extract_activations
from lm_eval_trust.models.adapters import new_lora_adapter
from lm_eval_trust.models.sources import find_source, load_source
from lm_eval_trust.models.tokens import padded_batch
from lm_eval_trust.steering.bake import Bake, bake
from lm_eval_trust.steering.build import build_vector
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.sweep.sweep_model import load_sweep_model
from support.check_tables import EXACT
from support.conformance import (
    generation_requests,
    random_vector,
    rolling_requests,
    scoring_requests,
)
from support.families import FAMILIES, WIDTH, Loop, save_family
from support.models import build_tokenizer

#: The first three begin alike, beyond every window; lengths differ throughout.
PROMPTS = (
    "The miller of Ankoria said that the",
    "The miller of Ankoria",
    "The miller of Ankoria said that the river Tessel rose again",
    "a",
    "yes or no",
)
CONTINUATIONS = (" yes", " no, never", "!", "b", " both")
LAYER, ALPHA, NEW = 1, 3.0, 6
VECTOR = random_vector(WIDTH, (LAYER, LAYER + 1), norm=2.0, seed=1)
SHIFT = ALPHA * VECTOR.layer(LAYER).direction
CLOSE = 2e-3
ONE_BY_ONE = "exact, one by one"
#: Prompts of a batch: all, or those that begin alike, which a sweep reads once.
ALL, ALIKE = slice(None), slice(3)


class Trial:
    """One family on disk, with the independent loop beside it.

    Args:
        name: Of the family.
        folder: Where files may be written.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.tokenizer = build_tokenizer()
        self.model = save_family(name, folder / "model")
        self.vector = folder / "v.safetensors"
        VECTOR.save(self.vector)

    @cached_property
    def loop(self) -> Loop:
        return Loop(self.model, FAMILIES[self.name].blocks)

    @cached_property
    def tokens(self) -> list[list[int]]:
        return [self.tokenizer(prompt).input_ids for prompt in PROMPTS]

    def lm(self, kind: str, *, batch_size: int = 4, steered: bool = True, **arguments: Any) -> Any:
        steering = {"vector": str(self.vector), "layer": LAYER, "alpha": ALPHA, "scale": "none"}
        given = {"pretrained": str(self.model), "dtype": "float32"} | (steering if steered else {})
        return get_model(kind).create_from_arg_obj(
            given | arguments, {"batch_size": batch_size, "device": "cpu"}
        )


def generation(trial: Trial) -> None:
    lm = trial.lm("steered_amber")
    check_generation(trial, lm, trial.loop.greedy)
    check_steps(trial, lm, trial.loop.logits)


def check_generation(
    trial: Trial, lm: Any, greedy: Callable[..., Any], shift: Any = SHIFT, part: slice = ALL
) -> None:
    requests = generation_requests(PROMPTS[part], max_gen_toks=NEW)
    found = lm.generate_until(requests, disable_tqdm=True)
    expected = []
    for tokens in trial.tokens[part]:
        with trial.loop.shifted(LAYER, shift, len(tokens) - 1):
            expected.append(
                trial.tokenizer.decode(greedy(tokens, NEW)[0], skip_special_tokens=True)
            )
    assert [x.strip() for x in found] == [x.strip() for x in expected], (found, expected)


def check_steps(trial: Trial, lm: Any, logits: Callable[..., Any]) -> None:
    """Compare the logits of a padded batch's generation, of which tokens alone show too little."""
    masks_padding = lm._masks_padding
    for rows in [trial.tokens[:3]] if masks_padding else [[row] for row in trial.tokens[:3]]:
        batch = padded_batch(rows)
        width = batch["input_ids"].shape[1]
        with lm._steering(width - 1), torch.no_grad():
            found = lm.model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=NEW,
                min_new_tokens=NEW,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        for number, row in enumerate(rows):
            whole = [*row, *found.sequences[number, width:].tolist()]
            with trial.loop.shifted(LAYER, SHIFT, len(row) - 1):
                expected = logits(whole)[len(row) - 1 : -1]
            seen = torch.stack([step[number] for step in found.logits])
            off = float((seen - expected).abs().max())
            assert off < CLOSE, f"logits off by {off:.2g}"


def log_likelihood(trial: Trial) -> None:
    check_scores(trial, trial.lm("steered_amber"), trial.loop.logits)


def check_scores(
    trial: Trial, lm: Any, logits: Callable[..., Any], shift: Any = SHIFT, part: slice = ALL
) -> None:
    pairs = list(zip(PROMPTS, CONTINUATIONS, strict=True))[part]
    found = [s for s, _ in lm.loglikelihood(scoring_requests(pairs), disable_tqdm=True)]
    expected = [
        score_of(trial, logits, tokens, trial.tokenizer(more).input_ids, len(tokens) - 1, shift)
        for tokens, more in list(zip(trial.tokens, CONTINUATIONS, strict=True))[part]
    ]
    assert np.allclose(found, expected, atol=CLOSE), (found, expected)
    rolled = lm.loglikelihood_rolling(rolling_requests(PROMPTS[part]), disable_tqdm=True)
    expected = [score_of(trial, logits, [1], tokens, 0, shift) for tokens in trial.tokens[part]]
    assert np.allclose(rolled, expected, atol=CLOSE), (rolled, expected)


def score_of(trial: Trial, logits: Any, tokens: Any, more: Any, start: int, shift: Any) -> float:
    with trial.loop.shifted(LAYER, shift, start):
        scores = logits([*tokens, *more])[len(tokens) - 1 : -1].log_softmax(-1)
    return float(scores[range(len(more)), more].sum())


def sweep(trial: Trial) -> str:
    arguments = {
        "pretrained": str(trial.model),
        "dtype": "float32",
        "device": "cpu",
        "batch_size": 4,
    }
    lm = load_sweep_model("amber", arguments)
    plans = [
        SteeringPlan.from_vector(VECTOR, [LAYER], alpha=alpha, scale="none")
        for alpha in (ALPHA, 0.0, -ALPHA)
    ]
    for number, part in enumerate((ALIKE, ALL)):
        with KeyedStore(trial.folder / f"answers{number}", "sweep") as store:
            lm.sweep(plans, store)
            for plan, sign in zip(plans, (1, 0, -1), strict=True):
                lm.steer_by(plan)
                check_generation(trial, lm, trial.loop.greedy, sign * SHIFT, part)
                check_scores(trial, lm, trial.loop.logits, sign * SHIFT, part)
    return ONE_BY_ONE if lm.apart else EXACT


def loop_activations(
    trial: Trial, texts: Sequence[str] = PROMPTS, layers: Sequence[int] = (LAYER, LAYER + 1)
) -> Any:
    found: list[torch.Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        found.append((output[0] if isinstance(output, tuple) else output)[0, -1])

    for text in texts:
        tokens = trial.tokenizer(text).input_ids
        for layer in layers:
            handle = trial.loop.blocks[layer].register_forward_hook(keep)
            trial.loop.logits(tokens)
            handle.remove()
    return torch.stack(found).reshape(len(texts), len(layers), -1).numpy()


def activations(trial: Trial) -> None:
    model, tokenizer, _ = load_source(str(trial.model), dtype="float32", device="cpu")
    found = extract_activations(
        model, tokenizer, PROMPTS, layers=[LAYER, LAYER + 1], progress=False
    )
    assert np.allclose(found, loop_activations(trial), atol=CLOSE)


def vector_build(trial: Trial) -> None:
    statements = load_statements("reliability", data_source=MINI).sample(40)
    model, tokenizer, identity = load_source(str(trial.model), dtype="float32", device="cpu")
    found = build_vector(
        model, tokenizer, statements, layers=[LAYER], identity=identity, progress=False
    )
    used = statements.select(statements.partition(split="grouped", seed=0).part("train"))
    values = loop_activations(trial, used.texts, [LAYER])[:, 0].astype(np.float64)
    good = used.labels == used.dimension.trustworthy_label
    expected = values[good].mean(axis=0) - values[~good].mean(axis=0)
    assert np.allclose(found.layer(LAYER).direction.numpy(), expected, atol=CLOSE)


def baking(trial: Trial) -> None:
    plan = SteeringPlan.from_vector(VECTOR, [LAYER], alpha=ALPHA, scale="none", positions="all")
    out = trial.folder / "baked"
    bake(Bake(find_source(str(trial.model)), plan), out)
    from transformers import AutoModelForCausalLM

    baked = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    for tokens in trial.tokens:
        with trial.loop.shifted(LAYER, SHIFT, 0), torch.no_grad():
            off = (baked(torch.tensor([tokens])).logits[0] - trial.loop.logits(tokens)).abs().max()
        assert off < CLOSE, off


def lora(trial: Trial) -> None:
    folder = trial.folder / "adapter"
    torch.manual_seed(3)
    model = load_source(str(trial.model), dtype="float32", device="cpu")[0]
    wrapped = new_lora_adapter(model, rank=2, alpha=4, dropout=0.0, targets="all-linear")
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    wrapped.save_pretrained(folder)
    plain, trial.loop = trial.loop, Loop(trial.model, FAMILIES[trial.name].blocks)
    merge_by_hand(trial.loop, folder, scale=4 / 2)
    try:
        lm = trial.lm("lora_amber", adapter=str(folder))
        assert (plain.logits([5, 6, 7]) - trial.loop.logits([5, 6, 7])).abs().max() > 0.01
        check_generation(trial, lm, trial.loop.greedy)
        check_steps(trial, lm, trial.loop.logits)
        check_scores(trial, lm, trial.loop.logits)
    finally:
        trial.loop = plain


def merge_by_hand(loop: Loop, adapter: Path, *, scale: float) -> None:
    """Add an adapter's products to the weights of the blocks that its names count."""
    stored = load_file(adapter / "adapter_model.safetensors")
    if any(".experts." in name for name in stored):
        # Its matrices of all experts at once have an order of peft's own.
        PeftModel.from_pretrained(loop.model, adapter).merge_and_unload()
        return
    for name in (name for name in stored if name.endswith("lora_A.weight")):
        block, _, module = re.split(r"\.(?:layers|h|blocks)\.", name, maxsplit=1)[1].partition(".")
        layer = loop.blocks[int(block)].get_submodule(module.removesuffix(".lora_A.weight"))
        change = scale * stored[name.replace("lora_A", "lora_B")] @ stored[name]
        layer.weight.data += change.T if isinstance(layer, Conv1D) else change


def proxy(trial: Trial) -> None:
    expert = Loop(trial.model, FAMILIES[trial.name].blocks)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in expert.model.parameters():
            if parameter.dim() == 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
    expert.model.save_pretrained(trial.folder / "expert")
    trial.tokenizer.save_pretrained(trial.folder / "expert")
    lm = trial.lm(
        "proxy_amber",
        expert=str(trial.folder / "expert"),
        antiexpert=str(trial.model),
        proxy_alpha=0.7,
    )
    plain = Loop(trial.model, FAMILIES[trial.name].blocks)

    def logits(tokens: Any) -> torch.Tensor:
        return trial.loop.logits(tokens) + 0.7 * (expert.logits(tokens) - plain.logits(tokens))

    def greedy(tokens: Any, new: int) -> tuple[list[int], float]:
        found: list[int] = []
        while len(found) < new and 2 not in found:
            found.append(int(logits([*tokens, *found])[-1].argmax()))
        return found, 0.0

    check_generation(trial, lm, greedy)
    check_steps(trial, lm, logits)
    check_scores(trial, lm, logits)


CHECKS: dict[str, Callable[[Trial], str | None]] = {
    "generation": generation,
    "log-likelihood": log_likelihood,
    "sweep": sweep,
    "activations": activations,
    "vector build": vector_build,
    "bake": baking,
    "LoRA": lora,
    "proxy": proxy,
}
