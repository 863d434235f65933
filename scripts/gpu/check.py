"""Exactness and speed on one GPU, in under eight minutes; see ``check.sh``.

Weights are random and made on the device, in the shape of Amber (a 7B Llama) for the speed of
reading and generating, and in that of a 1B model where a folder has to be loaded. Speeds are
medians of repeated runs; utilisation is 2 FLOP for each weight and token over the card's dense
bfloat16 peak.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import LlamaConfig, LlamaForCausalLM

from lm_eval_trust.analysis.information import InformationPlane, InformationSettings
from lm_eval_trust.analysis.probing import ProbeSettings, probe
from lm_eval_trust.benchmarks.partition import partition
from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.model_wrappers.steerable import SteerableLM
from lm_eval_trust.models.activations import extract_activations
from lm_eval_trust.models.proxy import Part, ProxyTunedModel
from lm_eval_trust.models.sources import find_source, load_source
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep
from lm_eval_trust.sweep.sweep_model import load_sweep_model
from lm_eval_trust.training.conversations import read_tuning_data
from lm_eval_trust.training.corpus import build_tokenizer
from lm_eval_trust.training.finetune import Finetuning
from lm_eval_trust.training.finetune_config import preset_config

#: Dense bfloat16 peaks of the makers' data sheets, in TFLOP/s.
PEAKS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312, "L40S": 362}
#: Checkpoints × layers × dimensions of the paper's whole analysis.
CELLS = 360 * 32 * 5
WORDS = ("river", "hill", "stone", "gate", "winter", "market", "road", "bridge", "tower", "mill")
REPEATS = 3


@dataclass(frozen=True)
class Sizes:
    """Shapes of everything that is run.

    Attributes:
        large: Width, inner width, blocks and heads of the 7B model.
        small: The same of the model that is saved to a folder.
        texts: Statements that are read.
        words: Words of each.
        batch: Prompts that are answered together.
        tokens: New tokens of each answer.
        plans: Configurations of a sweep.
        samples: Statements of an analysis.
    """

    large: tuple[int, int, int, int] = (4096, 11008, 32, 32)
    small: tuple[int, int, int, int] = (2048, 5632, 16, 16)
    texts: int = 512
    words: int = 200
    batch: int = 32
    tokens: int = 64
    plans: int = 16
    samples: int = 2000


DRY = Sizes((64, 128, 2, 4), (64, 128, 2, 4), 8, 12, 4, 4, 3, 120)


class Check:
    """The measurements, each a method that returns what it found.

    Args:
        sizes: Shapes.
        device: A torch device.
        folder: For models that are saved.
    """

    def __init__(self, sizes: Sizes, device: str, folder: Path) -> None:
        self.sizes, self.device, self.folder = sizes, device, folder
        self.texts = sentences(sizes.texts, sizes.words)
        self.tokenizer = build_tokenizer(self.texts, size=400, max_length=2048)

    def precision(self) -> dict[str, Any]:
        """Steered logits in half precision against float32, and what steering adds to a block."""
        exact, found = self._model(self.sizes.small, torch.float32), {}
        batch = self._batch(self.texts[:4])
        reference = self._steered_logits(exact, batch)
        for dtype in (torch.bfloat16, torch.float16):
            model = self._model(self.sizes.small, torch.float32).to(dtype)
            logits = self._steered_logits(model, batch).float()
            plain = model(**batch).logits.float()
            found[str(dtype)] = {
                "relative error": relative(logits, reference),
                "relative error of the model itself": relative(plain, exact(**batch).logits),
            }
        return found

    def device_map(self) -> dict[str, Any]:
        """Activations of a model that is spread over all devices against one on a single device."""
        chosen, layers = self.texts[:8], range(self.sizes.small[2])
        one, spread = (
            extract_activations(model, tokenizer, chosen, layers=layers, progress=False)
            for model, tokenizer, _ in (
                load_source(str(self.saved()), dtype="float32", device=device)
                for device in (self.device, "auto")
            )
        )
        return {"largest difference": float(np.abs(one - spread).max())}

    def extraction(self) -> dict[str, Any]:
        """Statements read in a second with the 7B shape, and the share of the card's peak."""
        model = self._model(self.sizes.large, self._half())
        layers = range(self.sizes.large[2])

        def read() -> None:
            extract_activations(model, self.tokenizer, self.texts, layers=layers, progress=False)

        seconds = self._seconds(read)
        tokens = sum(len(self.tokenizer(text)["input_ids"]) for text in self.texts)
        weights = sum(p.numel() for p in model.model.layers.parameters())
        flop = 2.0 * weights * tokens / seconds
        peak = peak_of(self.device)
        return {
            "statements a second": len(self.texts) / seconds,
            "tokens a second": tokens / seconds,
            "TFLOP a second": flop / 1e12,
            "share of the peak": flop / peak if peak else None,
        }

    def generation(self) -> dict[str, Any]:
        """Time of steered answers over that of the harness's own ``hf``, same weights."""
        model = self._model(self.sizes.large, self._half())
        common = {"tokenizer": self.tokenizer, "batch_size": self.sizes.batch}
        plain = HFLM(pretrained=model, **common)
        steered = SteerableLM(pretrained=model, **common)
        # So small that answers stay the same and both generate equally many tokens.
        steered.steer_by(self._plans(self.sizes.large, [1e-12])[0])
        wanted = self._requests()
        answers = [lm.generate_until(wanted, disable_tqdm=True) for lm in (plain, steered)]
        times: list[list[float]] = [[], []]
        for _ in range(REPEATS):
            for lm, of_lm in zip((plain, steered), times, strict=True):
                of_lm.append(self._timed(lambda lm=lm: lm.generate_until(wanted, True)))
        hf, ours = map(statistics.median, times)
        made = self.sizes.batch * self.sizes.tokens
        return {
            "tokens a second, hf": made / hf,
            "tokens a second, steered": made / ours,
            "steered / hf": ours / hf,
            "answers equal": answers[0] == answers[1],
        }

    def sweep(self) -> dict[str, Any]:
        """Time of as many single evaluations over that of one sweep."""
        arguments = {"pretrained": str(self.saved()), "device": self.device, "batch_size": 8}
        lm = load_sweep_model("amber", {**arguments, "dtype": self._dtype()})
        plans = self._plans(self.sizes.small, [0.25 * n for n in range(1, 1 + self.sizes.plans)])
        wanted = self._requests()

        def all_of_them() -> list[list[str]]:
            found = []
            for plan in plans:
                lm.steer_by(plan)
                found.append(lm.generate_until(wanted, disable_tqdm=True))
            return found

        start = self._now()
        plain = all_of_them()
        between = self._now()
        store = KeyedStore(self.folder / "answers.sqlite", "sweep")
        lm.sweep(plans, store)
        swept = all_of_them()
        end = self._now()
        store.close()
        pairs = [pair for one in zip(plain, swept, strict=True) for pair in zip(*one, strict=True)]
        return {
            "single / sweep": (between - start) / (end - between),
            "answers equal": sum(one == other for one, other in pairs),
            "answers": len(pairs),
        }

    def proxy(self) -> dict[str, Any]:
        """Time of decoding by an ensemble over that of its three models one after the other."""
        parts = [self._model(self.sizes.small, self._half()) for _ in range(3)]
        ensemble = ProxyTunedModel(*map(Part, parts)).eval()
        batch = self._batch(self.texts[: self.sizes.batch])
        length = {"max_new_tokens": self.sizes.tokens, "min_new_tokens": self.sizes.tokens}

        def decode(model: Any) -> Callable[[], Any]:
            return lambda: model.generate(**batch, **length, do_sample=False)

        alone = sum(self._seconds(decode(part)) for part in parts)
        return {"ensemble / parts": self._seconds(decode(ensemble)) / alone}

    def analysis(self) -> dict[str, Any]:
        """A cell of the paper's analysis on the device, its distance from the CPU's, and hours."""
        n, width = self.sizes.samples, self.sizes.large[0]
        random = np.random.default_rng(0)
        labels, groups = np.arange(n) % 2, [f"g{i // 2}" for i in range(n)]
        inputs, layer = random.normal(size=(2, n, width)).astype(np.float32)
        layer[:, :8] += 0.5 * (labels - 0.5)[:, None]
        parts = partition(groups)

        def cell(device: str) -> tuple[list[float], float]:
            x, t = (torch.from_numpy(values).to(device) for values in (inputs, layer))
            plane = InformationPlane(x, labels, InformationSettings(), groups=groups)
            settings = ProbeSettings(controls=5, device=device)

            def measure() -> list[float]:
                found = plane.measure(t)
                fitted = probe(
                    *(layer, labels),
                    train=parts.train,
                    test=parts.test,
                    validation=parts.validation,
                    groups=groups,
                    settings=settings,
                )
                nulls = (found.input, found.label)
                return [v for null in nulls for v in (null.value, null.mean)] + [fitted.accuracy]

            return measure(), self._seconds(measure)

        (there, seconds), (here, of_cpu) = cell(self.device), cell("cpu")
        return {
            "largest difference from the CPU": float(np.abs(np.subtract(there, here)).max()),
            "seconds a cell": seconds,
            "seconds a cell, CPU": of_cpu,
            "hours at the paper's size": seconds * CELLS / 3600,
        }

    def finetuning(self) -> dict[str, Any]:
        """Seconds and memory of one step of LoRA and of full fine-tuning, with checkpointing."""
        file = self.folder / "talks.jsonl"
        talks = [
            [{"role": "user", "content": text[:60]}, {"role": "assistant", "content": text[60:]}]
            for text in self.texts
        ]
        file.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
        found: dict[str, Any] = {}
        for method in ("lora", "full"):
            config = preset_config(
                "7b", method, max_steps=1, batch_size=4, micro_batch=4, gradient_checkpointing=True
            )
            if self.device != "cpu":
                torch.cuda.reset_peak_memory_stats()
            start = self._now()
            data, source = read_tuning_data(file, None), find_source(str(self.saved()))
            run = Finetuning(source, data, config, torch.device(self.device).type)
            result = run.run(self.folder / method)
            found[method] = {"seconds, loading included": self._now() - start}
            found[method] |= {"loss": result.first_loss}
            if self.device != "cpu":
                found[method]["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
        return found

    def saved(self) -> Path:
        """Return the folder of the smaller model, which is written once."""
        folder = self.folder / "model"
        if not folder.exists():
            self._model(self.sizes.small, self._half()).save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        return folder

    def _model(self, shape: tuple[int, int, int, int], dtype: torch.dtype) -> LlamaForCausalLM:
        width, inner, blocks, heads = shape
        config = LlamaConfig(
            vocab_size=len(self.tokenizer) if width < 1024 else 32000,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=blocks,
            num_attention_heads=heads,
            max_position_embeddings=2048,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(self.device):
                return LlamaForCausalLM(config).eval()
        finally:
            torch.set_default_dtype(before)

    def _plans(self, shape: tuple[int, int, int, int], alphas: list[float]) -> list[SteeringPlan]:
        width, _, blocks, _ = shape
        direction = torch.randn(width, generator=torch.Generator().manual_seed(0))
        return [SteeringPlan((SteeringStep(blocks // 2, direction, alpha=a),)) for a in alphas]

    def _steered_logits(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        (plan,) = self._plans(self.sizes.small, [1.0])
        lm = SteerableLM(pretrained=model, tokenizer=self.tokenizer, batch_size=4)
        lm.steer_by(plan)
        with lm._steering(0), torch.no_grad():
            logits: torch.Tensor = model(**batch).logits
        return logits

    def _batch(self, texts: list[str]) -> dict[str, torch.Tensor]:
        self.tokenizer.padding_side = "left"
        found = self.tokenizer(texts, return_tensors="pt", padding=True)
        return {name: found[name].to(self.device) for name in ("input_ids", "attention_mask")}

    def _requests(self) -> list[Instance]:
        terms = {"until": [], "max_gen_toks": self.sizes.tokens, "do_sample": False}
        texts = self.texts[: self.sizes.batch]
        return [Instance("generate_until", {}, (text, terms), i) for i, text in enumerate(texts)]

    def _seconds(self, run: Callable[[], Any]) -> float:
        run()
        return statistics.median(self._timed(run) for _ in range(REPEATS))

    def _timed(self, run: Callable[[], Any]) -> float:
        start = self._now()
        run()
        return self._now() - start

    def _now(self) -> float:
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _half(self) -> torch.dtype:
        return torch.float32 if self.device == "cpu" else torch.bfloat16

    def _dtype(self) -> str:
        return "float32" if self.device == "cpu" else "bfloat16"


#: In the order of the table.
CHECKS = (
    *("precision", "device_map", "extraction", "generation", "sweep", "proxy", "analysis"),
    "finetuning",
)


def sentences(number: int, words: int) -> list[str]:
    """Return texts of random words."""
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, size=words)) for _ in range(number)]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the norm of the difference over the norm."""
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def peak_of(device: str) -> float | None:
    """Return the card's dense bfloat16 peak in FLOP/s; ``None`` for one that is not listed."""
    if device == "cpu":
        return None
    name = torch.cuda.get_device_name(device)
    return next((1e12 * peak for part, peak in PEAKS.items() if part in name), None)


def flat(found: dict[str, Any], place: str = "") -> list[tuple[str, Any]]:
    """Return place and value of every figure."""
    rows: list[tuple[str, Any]] = []
    for name, value in found.items():
        inner = f"{place}: {name}" if place else name
        rows += flat(value, inner) if isinstance(value, dict) else [(inner, value)]
    return rows


def main() -> None:
    """Run all checks, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dry", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder (gpu-check)")
    parser.add_argument("--only", choices=CHECKS, nargs="+", default=CHECKS, help="some checks")
    options = parser.parse_args()
    if not options.dry and not torch.cuda.is_available():
        parser.error("there is no GPU here that PyTorch can use; --dry runs it in tiny shapes")
    device = "cpu" if options.dry else "cuda:0"
    card = "CPU, tiny shapes" if options.dry else torch.cuda.get_device_name(device)
    found: dict[str, Any] = {"device": card, "torch": torch.__version__}
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        check = Check(DRY if options.dry else Sizes(), device, Path(place))
        for name in options.only:
            start = time.perf_counter()
            found[name] = getattr(check, name)()
            found[name]["seconds of this check"] = time.perf_counter() - start
            if device != "cpu":
                torch.cuda.empty_cache()
            # After each check, so that what was measured is there if a later one fails.
            (options.out / "check.json").write_text(json.dumps(found, indent=2) + "\n")
    print("| figure | value |\n|---|---:|")
    for name, value in flat(found):
        print(f"| {name} | {f'{value:.4g}' if isinstance(value, float) else value} |")


if __name__ == "__main__":
    main()
