"""Other steering libraries beside ours, in one run: what they take, and what holds.

All get the same model, pairs and vector (added to the output of one block at all positions), in one
process with the same torch. Times are the least of some repetitions, as multiples of ours. What is
asked of each, with the largest difference of log-probabilities of next tokens:

- batch: a prompt alone, and among others of other lengths;
- side: a batch padded on the left, and on the right;
- cache: what is generated with a cache, and without one;
- scored = generated: the generated tokens' log-probabilities while they are generated, and when the
  same text is read at once;
- alpha 0: the model without the library.

    python benchmarks/peers.py --venv .venv-peers --model $SMOLLM2

makes an environment with the libraries at the pinned versions on top of this one's packages, and
runs there. They are installed without their requirements, since these exclude each other and what
this package needs (transformers below 5, NumPy below 2).
"""

from __future__ import annotations

import argparse
import os
import subprocess  # nosec B404
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

PINS = {
    "steering-vectors": "0.12.2",
    "repeng": "0.4.0",
    "nnsight": "0.8.1",
    "pyreft": "0.1.0",
    "pyvene": "0.1.8",
}
LAYER, ALPHA, NEW_TOKENS, TEXTS = 15, 1.0, 12, 8
PROMPTS = (
    "Q: What is the capital of France?\nA:",
    "Q: If it is cold outside, what does that tell us about global warming?\nA:",
    "Tell me",
    "Q: Who was the first person on the moon, and in which year did that happen?\nA: It was",
)
Rows = Sequence[Sequence[int]]


def prepared(place: Path) -> Path:
    """Return the Python of an environment with the libraries on top of this one's packages."""
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
        own = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        packages = sysconfig.get_path("purelib")
        (place / own / "this.pth").write_text(f"import site; site.addsitedir({packages!r})\n")
        wanted = [f"{name}=={release}" for name, release in PINS.items()]
        command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", *wanted]
        subprocess.run(command, check=True)  # nosec B603
    return python


class Peer:
    """A library with a model that it steers; the base is the model without any.

    Attributes:
        name: Of the library.
        package: As it is installed.
    """

    name, package = "no steering", "transformers"

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    def build(self, pairs: Sequence[tuple[str, str]]) -> Any:
        """Build a vector of the block from pairs of texts; ``None`` of a library without a way."""
        return None

    def steering(self, vector: Any, alpha: float) -> AbstractContextManager[Any]:
        """Steer the model inside, by adding a vector times alpha."""
        return nullcontext()

    def forward(self, **inputs: Any) -> Any:
        """Return logits, (rows, tokens, vocabulary)."""
        return self.model(**inputs).logits

    def generate(self, **inputs: Any) -> Any:
        """Return what ``generate`` of transformers does."""
        return self.model.generate(**inputs)


class Ours(Peer):
    name, package = "lm_eval_trust", "lm_eval_trust"
    positions = "all"

    def build(self, pairs: Sequence[tuple[str, str]]) -> Any:
        import torch

        from lm_eval_trust.models.activations import extract_activations

        texts = [text for pair in pairs for text in pair]
        found = extract_activations(
            self.model, self.tokenizer, texts, layers=[LAYER], progress=False
        )
        return torch.tensor(found[0::2, 0].mean(0) - found[1::2, 0].mean(0))

    @contextmanager
    def steering(self, vector: Any, alpha: float) -> Iterator[None]:
        from lm_eval_trust.steering.hooks import Steerer
        from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

        step = SteeringStep(LAYER, vector, alpha, positions=self.positions)
        with Steerer(self.model, SteeringPlan((step,))).apply():
            yield


class HarnessSteered(Peer):
    name, package = "lm-eval (steered)", "lm_eval"

    @contextmanager
    def steering(self, vector: Any, alpha: float) -> Iterator[None]:
        from functools import partial

        from lm_eval.models.hf_steered import SteeredModel, steer

        add = partial(SteeredModel.add, vector=vector * alpha, head_index=None)
        with steer(self.model, {f"layers.{LAYER}": add}):
            yield


class SteeringVectors(Peer):
    name, package = "steering-vectors", "steering-vectors"

    def build(self, pairs: Sequence[tuple[str, str]]) -> Any:
        from steering_vectors import train_steering_vector

        return train_steering_vector(
            self.model, self.tokenizer, list(pairs), layers=[LAYER], batch_size=TEXTS // 2
        ).layer_activations[LAYER]

    def steering(self, vector: Any, alpha: float) -> AbstractContextManager[Any]:
        from steering_vectors import SteeringVector

        found: AbstractContextManager[Any] = SteeringVector({LAYER: vector}).apply(
            self.model, multiplier=alpha
        )
        return found


class Repeng(Peer):
    name, package = "repeng", "repeng"

    def __init__(self, model: Any, tokenizer: Any) -> None:
        import numpy as np

        np.float_ = np.float64  # type: ignore[attr-defined]  # It is written for NumPy below 2.
        super().__init__(model, tokenizer)

    def build(self, pairs: Sequence[tuple[str, str]]) -> Any:
        import torch
        from repeng import ControlVector, DatasetEntry

        found = ControlVector.train(
            self.model,
            self.tokenizer,
            [DatasetEntry(*pair) for pair in pairs],
            hidden_layers=[LAYER],
            batch_size=TEXTS,
        )
        return torch.tensor(found.directions[LAYER])

    @contextmanager
    def steering(self, vector: Any, alpha: float) -> Iterator[None]:
        from repeng import ControlModel

        wrapped = ControlModel(self.model, [LAYER])
        wrapped.set_raw_control({LAYER: vector * alpha})
        try:
            yield
        finally:
            wrapped.unwrap()


class Nnsight(Peer):
    name, package = "nnsight", "nnsight"

    def __init__(self, model: Any, tokenizer: Any) -> None:
        from nnsight import LanguageModel

        super().__init__(model, tokenizer)
        self.wrapped, self.added = LanguageModel(model, tokenizer=tokenizer), None

    def build(self, pairs: Sequence[tuple[str, str]]) -> Any:
        import torch

        sides = []
        for side in zip(*pairs, strict=True):
            states = []
            for start in range(0, len(side), TEXTS):
                inputs = self.tokenizer(
                    list(side[start : start + TEXTS]), return_tensors="pt", padding=True
                )
                with torch.no_grad(), self.wrapped.trace(dict(inputs)):
                    found = self.wrapped.model.layers[LAYER].output[:, -1].save()
                states.append(found)
            sides.append(torch.cat(states).mean(0))
        return sides[0] - sides[1]

    @contextmanager
    def steering(self, vector: Any, alpha: float) -> Iterator[None]:
        self.added = vector * alpha
        yield
        self.added = None

    def forward(self, **inputs: Any) -> Any:
        added = self.added
        with self.wrapped.trace(inputs):
            if added is not None:
                self.wrapped.model.layers[LAYER].output[:] += added
            logits = self.wrapped.lm_head.output.save()
        return logits

    def generate(self, **inputs: Any) -> Any:
        added = self.added
        given = {name: inputs.pop(name) for name in ("input_ids", "attention_mask")}
        with self.wrapped.generate(given, **inputs) as tracer:
            for _ in tracer.iter[0:NEW_TOKENS]:
                if added is not None:
                    self.wrapped.model.layers[LAYER].output[:] += added
            found = tracer.result.save()
        return found


class Pyreft(Peer):
    name, package = "pyreft", "pyreft"

    @contextmanager
    def steering(self, vector: Any, alpha: float) -> Iterator[None]:
        import pyreft
        import pyvene
        import torch

        class Add(pyvene.SourcelessIntervention):  # type: ignore[misc]
            """Adds a constant, in the place of a trained intervention."""

            def __init__(self, **kwargs: Any) -> None:
                super().__init__(**kwargs, keep_last_dim=True)
                self.added = torch.nn.Parameter(vector * alpha)

            def forward(self, base: Any, source: Any = None, subspaces: Any = None) -> Any:
                return base + self.added

        place = {"layer": LAYER, "component": "block_output", "low_rank_dimension": 1}
        made = Add(embed_dim=len(vector))
        config = pyreft.ReftConfig(representations=[{**place, "intervention": made}])
        own = self.model
        self.wrapped = pyreft.get_reft_model(own, config, disable_model_grads=False)
        try:
            yield
        finally:
            self.wrapped._cleanup_states()
            del self.wrapped

    def _places(self, inputs: Any) -> dict[str, tuple[None, Any]]:
        rows, width = inputs["input_ids"].shape
        return {"sources->base": (None, [[list(range(width))] * rows])}

    def forward(self, **inputs: Any) -> Any:
        if not hasattr(self, "wrapped"):
            return super().forward(**inputs)
        return self.wrapped(inputs, unit_locations=self._places(inputs))[1].logits

    def generate(self, **inputs: Any) -> Any:
        if not hasattr(self, "wrapped"):
            return super().generate(**inputs)
        given = {name: inputs.pop(name) for name in ("input_ids", "attention_mask")}
        return self.wrapped.generate(
            given, unit_locations=self._places(given), intervene_on_prompt=True, **inputs
        )[1]


PEERS = (Peer, Ours, HarnessSteered, SteeringVectors, Repeng, Nnsight, Pyreft)


def padded(rows: Rows, pad: int, side: str) -> dict[str, Any]:
    """Return rows of tokens as a batch that is padded on one side."""
    import torch

    width = max(map(len, rows))
    gaps = [[pad] * (width - len(row)) for row in rows]
    holes = [[0] * len(gap) for gap in gaps]
    real = [[1] * len(row) for row in rows]
    pairs = zip(gaps, rows, strict=True), zip(holes, real, strict=True)
    tokens, mask = ([[*a, *b] if side == "left" else [*b, *a] for a, b in pair] for pair in pairs)
    mask_tensor = torch.tensor(mask)
    return {
        "input_ids": torch.tensor(tokens),
        "attention_mask": mask_tensor,
        "position_ids": (mask_tensor.cumsum(1) - 1).clamp(min=0),
    }


def read(peer: Peer, rows: Rows, side: str = "left") -> list[Any]:
    """Return the log-probabilities after each real token of each row."""
    import torch

    batch = padded(rows, peer.tokenizer.pad_token_id, side)
    with torch.no_grad():
        logits = peer.forward(**batch).log_softmax(-1)
    return [each[mask == 1] for each, mask in zip(logits, batch["attention_mask"], strict=True)]


def written(peer: Peer, rows: Rows, *, cache: bool = True) -> tuple[Any, Any]:
    """Return generated tokens, and the log-probability of each when it was generated."""
    import torch

    batch = padded(rows, peer.tokenizer.pad_token_id, "left")
    del batch["position_ids"]
    settings = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}
    with torch.no_grad():
        found = peer.generate(
            **batch,
            **settings,
            use_cache=cache,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=peer.tokenizer.pad_token_id,
        )
    new = found.sequences[:, batch["input_ids"].shape[1] :]
    scores = torch.stack(list(found.logits), dim=1).log_softmax(-1)
    return new, scores.gather(2, new[..., None])[..., 0]


def answers(peer: Peer, plain: Peer, rows: Rows, vector: Any) -> dict[str, str]:
    """Put the questions to a library."""
    import torch

    def largest(first: Sequence[Any], second: Sequence[Any]) -> str:
        differences = [float((a - b).abs().max()) for a, b in zip(first, second, strict=True)]
        return f"{max(differences):.1g}"

    def apart() -> str:
        together = read(peer, rows)
        return largest([read(peer, [row])[0] for row in rows], together)

    def cached() -> str:
        (one, scores), (other, again) = written(peer, rows), written(peer, rows, cache=False)
        same = int((one == other).all(dim=1).sum())
        return largest(scores, again) if same == len(rows) else f"{same} of {len(rows)} alike"

    def scored() -> str:
        row = rows[:1]
        new, generated = written(peer, row)
        whole = read(peer, [[*row[0], *new[0].tolist()]])[0][len(row[0]) - 1 : -1]
        return largest([whole.gather(1, new[0][:, None])[:, 0]], generated)

    def nothing() -> str:
        with peer.steering(vector, 0.0):
            return largest(read(peer, rows), read(plain, rows))

    def steers() -> str:
        return largest(read(peer, rows), unsteered)

    found: dict[str, str] = {}
    unsteered = read(plain, rows)
    questions: dict[str, Callable[[], str]] = {
        "steers by": steers,
        "batch": apart,
        "side": lambda: largest(read(peer, rows), read(peer, rows, "right")),
        "cache": cached,
        "scored = generated": scored,
    }
    with torch.no_grad():
        for name, ask in questions.items():
            found[name] = _tried(lambda ask=ask: _inside(peer, vector, ask))
        found["alpha 0"] = _tried(nothing)
    return found


def _inside(peer: Peer, vector: Any, ask: Callable[[], str]) -> str:
    with peer.steering(vector, ALPHA):
        return ask()


def _tried(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except Exception as error:  # A library may fail in any way, which is its answer.
        return f"{type(error).__name__}: {str(error).splitlines()[0][:90] if str(error) else ''}"


def least(call: Callable[[], Any], repetitions: int) -> float:
    """Return the least processor time of some calls, in seconds."""
    times = []
    for _ in range(repetitions):
        begun = time.process_time()
        call()
        times.append(time.process_time() - begun)
    return min(times)


def times_of(
    peer: Peer, pairs: Sequence[tuple[str, str]], rows: Rows, vector: Any, repetitions: int
) -> tuple[float | None, float | None]:
    """Return seconds of building a vector and of steered generation; ``None`` where it fails."""

    def steered() -> None:
        with peer.steering(vector, ALPHA):
            written(peer, rows)

    found: list[float | None] = []
    for call in (lambda: peer.build(pairs), steered):
        if call is not steered and type(peer).build is Peer.build:
            found.append(None)
            continue
        try:
            found.append(least(call, repetitions))
        except Exception:  # As above; the table has a dash.
            found.append(None)
    return found[0], found[1]


def measure(model_name: str, number: int, repetitions: int, libraries: Sequence[str]) -> None:
    """Print the table of some libraries, or of all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model_name, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def fresh() -> Any:
        loaded = AutoModelForCausalLM.from_pretrained(model_name, dtype=torch.float32)
        return loaded.eval()

    pairs = _pairs(number)
    rows = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    plain = Peer(fresh(), tokenizer)
    vector = Ours(plain.model, tokenizer).build(pairs)
    columns = ("steers by", "batch", "side", "cache", "scored = generated", "alpha 0")
    print(
        "| library | version | " + " | ".join(columns) + " | vector, times ours | "
        "steered text, times ours |\n|" + "---|" * (len(columns) + 4),
        flush=True,
    )
    ours: tuple[float | None, float | None] = (None, None)
    others = [k for k in PEERS if k is not Ours and (not libraries or k.name in libraries)]
    for kind in (Ours, *others):
        peer = kind(fresh(), tokenizer)
        found = answers(peer, plain, rows, vector)
        taken = times_of(peer, pairs, rows, vector, repetitions)
        ours = taken if kind is Ours else ours
        ratios = [
            "-" if a is None or b is None else f"{a / b:.2f}"
            for a, b in zip(taken, ours, strict=True)
        ]
        cells = [kind.name, version(kind.package), *(found[c] for c in columns), *ratios]
        print("| " + " | ".join(cells) + " |", flush=True)


def _pairs(number: int) -> list[tuple[str, str]]:
    """Return true and false statements about the same questions."""
    from lm_eval_trust.benchmarks.load import load_statements

    sides: dict[str, dict[int, str]] = {}
    for item in load_statements("truthfulqa").items:
        sides.setdefault(item.group, {}).setdefault(int(item.label), item.text)
    whole = [(each[1], each[0]) for each in sides.values() if len(each) == 2]
    return whole[:number]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venv", type=Path, help="environment to make, and to run in")
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--libraries", nargs="*", default=[], help="beside ours; all by default")
    options = parser.parse_args()
    if options.venv is not None:
        python = prepared(options.venv)
        rest = ["--model", options.model, "--pairs", str(options.pairs)]
        rest += ["--repetitions", str(options.repetitions), "--libraries", *options.libraries]
        os.execv(python, [str(python), __file__, *rest])  # nosec B606
    measure(options.model, options.pairs, options.repetitions, options.libraries)


if __name__ == "__main__":
    main()
