"""Steerings that are trained: ReFT-r1 and LoReFT, by the statements' own log-likelihood.

The model stays as it is; trained is what is added to one block's output at the last token before
a statement and at the statement's own, which are the positions that ``generated`` steers. The
first token of all is left out, since a prompt stands there and its state is unlike any other. Loss
is the mean negative log-likelihood of the trustworthy statements' tokens after these, given the
question where a statement answers one.

- **ReFT-r1** (Wu et al. 2025, arXiv 2501.17148, section 3): one unit direction w that detects by
  a = ReLU(⟨h, w⟩) and steers by the mean of the k largest a, times w. An L1 penalty keeps a small
  elsewhere in trustworthy statements and everywhere in the others. Here h is taken from the mean of
  all statements' last states: what all have in common would else decide whether w detects
  everything or nothing. Once trained, it steers by a constant: w times the mean strength in
  trustworthy statements.
- **LoReFT** (Wu et al. 2024, arXiv 2404.03592): h + Rᵀ(W h + b − R h), R with orthonormal rows.

Both start where they do no harm: w at the difference of class means, W at R and b at 0. Everything
is drawn from one seed, so a CPU repeats a training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lm_eval_trust.benchmarks.statements import Statements
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.models.activations import shared, stopping_after
from lm_eval_trust.models.chat import write_turns
from lm_eval_trust.models.decoder_blocks import decoder_blocks, decoder_of
from lm_eval_trust.models.tokens import encode, padded_batch
from lm_eval_trust.steering.methods import Labels, Trained

#: Steps of Adam, and trustworthy statements of each.
STEPS, BATCH = 40, 8
#: Tokens of a statement that ReFT-r1's strength is the mean of, as in its authors' experiments.
_LARGEST = 8
#: Weight of the L1 penalty on ReFT-r1's detections, in units of a hidden state's median length.
_PENALTY = 1.0
_RATE = {"reft_r1": 0.01, "loreft": 0.002}
RANK = 4
#: Trustworthy statements that ReFT-r1's constant strength is measured on, at most.
_MEASURED = 128


@dataclass(frozen=True)
class Lesson:
    """What a layer's steering is trained on.

    Attributes:
        model: In evaluation mode; its weights are left as they are.
        ids: Token ids of each statement with what comes before it.
        starts: Index of each statement's first own token.
        trustworthy: 1 for the trustworthy side, otherwise 0; shape (n,).
        layer: 0-based decoder block.
        states: Hidden states at the statements' last tokens, shape (n, hidden).
        progress: Show a progress bar on standard error.
    """

    model: nn.Module
    ids: Sequence[Sequence[int]]
    starts: Sequence[int]
    trustworthy: Labels
    layer: int
    states: npt.NDArray[np.float32]
    progress: bool = True

    def where(self, label: int) -> npt.NDArray[np.int64]:
        """Return the positions of the statements with a label of ``trustworthy``."""
        return np.flatnonzero(self.trustworthy == label)

    @property
    def length(self) -> float:
        """Median length of the hidden states."""
        return float(np.median(np.linalg.norm(self.states, axis=1)))


def lessons(
    model: nn.Module,
    tokenizer: Any,
    statements: Statements,
    *,
    chat_template: str | None = None,
    progress: bool = True,
) -> Callable[[int, npt.NDArray[np.float32]], Lesson]:
    """Return what makes a layer's lesson, given its number and hidden states.

    Args:
        model: In evaluation mode.
        tokenizer: Its tokenizer.
        statements: What is trained on; what stands before an answer is no part of it.
        chat_template: See :func:`lm_eval_trust.steering.build.build_vector`.
        progress: Show a progress bar on standard error.

    Returns:
        A function that raises InputError where a statement is too long, or a chat template cannot
        be used.
    """

    def make(layer: int, states: npt.NDArray[np.float32]) -> Lesson:
        texts, own = _written(tokenizer, statements, chat_template)
        pairs = zip(texts, own, strict=True)
        before = [text.removesuffix(o) if text.endswith(o) else "" for text, o in pairs]
        plain = chat_template is None
        ids, asked = (encode(model, tokenizer, each, special=plain) for each in (texts, before))
        # A token that joins a prompt and its statement is the statement's.
        starts = [shared(first, second) for first, second in zip(ids, asked, strict=True)]
        trustworthy = statements.labels == statements.dimension.trustworthy_label
        labels = trustworthy.astype(np.int64)
        return Lesson(model, ids, starts, labels, layer, states, progress)

    return make


def _written(
    tokenizer: Any, statements: Statements, chat_template: str | None
) -> tuple[list[str], list[str]]:
    """Return the texts that are read, and what of each is the statement itself."""
    if chat_template is None:
        items = statements.items
        return statements.texts, [i.exchange.answer if i.exchange else i.text for i in items]
    turns = [item.turns(chat_template) for item in statements.items]
    return write_turns(tokenizer, turns), [answer.strip() for _, answer in turns]


def train_reft_r1(lesson: Lesson) -> Trained:
    """Return ReFT-r1's direction, as long as its mean strength in trustworthy statements."""
    high, low = (lesson.states[lesson.where(label)].mean(axis=0) for label in (1, 0))
    middle = torch.from_numpy(lesson.states.mean(axis=0))
    change = _RankOne(torch.from_numpy(high - low), middle, lesson.length)
    _fit(lesson, change, rate=_RATE["reft_r1"], others=True)
    rows = _order(lesson.where(1))[:_MEASURED]
    strengths = []
    with torch.no_grad():
        for at in range(0, len(rows), BATCH):
            states, steered = _states(lesson, rows[at : at + BATCH])
            strengths.append(change.strength(change.detect(states, steered), steered))
    strength = float(torch.cat(strengths).mean())
    if strength == 0:
        raise InputError(
            f"reft_r1 finds nothing at layer {lesson.layer}: its direction detects none of the "
            f"trustworthy statements. Choose another layer or method."
        )
    return (strength * change.direction.detach()).double().numpy(), {}


def train_loreft(lesson: Lesson) -> Trained:
    """Return LoReFT's mean change at the trustworthy statements' last tokens, and its tensors."""
    width = lesson.states.shape[1]
    change = _LowRank(min(RANK, width), width, lesson.length)
    _fit(lesson, change, rate=_RATE["loreft"], others=False)
    with torch.no_grad():
        states = torch.from_numpy(lesson.states[lesson.where(1)])
        mean = change(states, torch.ones(len(states))).mean(dim=0)
        weight, bias = change.weight, change.bias * change.length
        parts = {"rotation": change.rotation, "weight": weight, "bias": bias}
    return mean.double().numpy(), {n: part.detach().double().numpy() for n, part in parts.items()}


class _RankOne(nn.Module):
    def __init__(self, start: torch.Tensor, middle: torch.Tensor, length: float) -> None:
        super().__init__()
        self.direction = nn.Parameter(nn.functional.normalize(start.float(), dim=0))
        self.middle, self.length = middle.float(), length

    def detect(self, states: torch.Tensor, steered: torch.Tensor) -> torch.Tensor:
        """Return a of each token, 0 where nothing is steered, shape (rows, places)."""
        return torch.relu((states - self.middle) @ self.direction) * steered

    def strength(self, found: torch.Tensor, steered: torch.Tensor) -> torch.Tensor:
        """Return the mean of the largest a of each row, shape (rows,)."""
        largest = found.topk(min(_LARGEST, found.shape[1]), dim=1).values
        return largest.sum(dim=1) / steered.sum(dim=1).clamp(1, _LARGEST)

    def forward(self, states: torch.Tensor, steered: torch.Tensor) -> torch.Tensor:
        strength = self.strength(self.detect(states, steered), steered)
        return strength[:, None, None] * self.direction

    def penalty(
        self, states: torch.Tensor, steered: torch.Tensor, others: torch.Tensor, there: torch.Tensor
    ) -> torch.Tensor:
        found, beside = self.detect(states, steered), self.detect(others, there)
        largest = found.topk(min(_LARGEST, found.shape[1]), dim=1).values
        left = (found.sum() - largest.sum()) / steered.sum() + beside.sum() / there.sum()
        return _PENALTY * left / self.length

    def constrain(self) -> None:
        self.direction.div_(self.direction.norm())


class _LowRank(nn.Module):
    def __init__(self, rank: int, width: int, length: float) -> None:
        super().__init__()
        start = torch.randn(rank, width, generator=torch.Generator().manual_seed(0))
        self.rotation = nn.Parameter(start)
        self.weight = nn.Parameter(torch.zeros(rank, width))
        # In units of the states' length, so that one rate serves all models.
        self.bias = nn.Parameter(torch.zeros(rank))
        self.length = length
        with torch.no_grad():
            self.constrain()

    def forward(self, states: torch.Tensor, steered: torch.Tensor) -> torch.Tensor:
        return (states @ self.weight.T + self.bias * self.length) @ self.rotation

    def constrain(self) -> None:
        found, upper = torch.linalg.qr(self.rotation.T)
        # The nearest sign, so that a step is no reflection.
        self.rotation.copy_((found * torch.sign(upper.diagonal())).T)


def _fit(lesson: Lesson, change: Any, *, rate: float, others: bool) -> None:
    """Train a change in place."""
    trustworthy, rest = (_order(lesson.where(label)) for label in (1, 0))
    optimiser = torch.optim.Adam(change.parameters(), lr=rate)
    title = f"Training layer {lesson.layer}"
    with _frozen(lesson.model), torch.enable_grad():
        for step in progress_bar(range(STEPS), title=title, unit="step", shown=lesson.progress):
            rows = _turn(trustworthy, step)
            optimiser.zero_grad()
            loss, states, steered = _likelihood(lesson, rows, change)
            if others:
                loss = loss + change.penalty(states, steered, *_states(lesson, _turn(rest, step)))
            if not torch.isfinite(loss):
                raise InputError(
                    f"Training at layer {lesson.layer} ends in a loss that is not finite; load the "
                    f"model with dtype=float32."
                )
            torch.autograd.backward(loss)
            optimiser.step()
            with torch.no_grad():
                change.constrain()


def _likelihood(
    lesson: Lesson, rows: npt.NDArray[np.int64], change: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the loss of statements under a change, the states changed, and where."""
    tokens, steered = _tokens(lesson, rows)
    seen: list[torch.Tensor] = []

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        states = hidden.detach().float().to("cpu")
        seen.append(states)
        added = steered[..., None] * change(states, steered)
        changed = hidden + added.to(hidden.device, hidden.dtype)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = decoder_blocks(lesson.model)[lesson.layer].register_forward_hook(hook)
    try:
        logits = lesson.model(input_ids=tokens, use_cache=False).logits
    finally:
        handle.remove()
    # Steered are the last token before a statement and its own; the last one predicts nothing.
    told = steered[:, :-1].bool() & steered[:, 1:].bool()
    told = told.to(logits.device)
    losses = nn.functional.cross_entropy(
        logits[:, :-1][told].float(), tokens[:, 1:].to(logits.device)[told], reduction="mean"
    )
    return losses.to("cpu"), seen[0], steered


def _states(lesson: Lesson, rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a layer's hidden states of statements, float32, and where they are steered."""
    tokens, steered = _tokens(lesson, rows)
    seen: list[torch.Tensor] = []

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handle = decoder_blocks(lesson.model)[lesson.layer].register_forward_hook(hook)
    try:
        with torch.no_grad(), stopping_after(lesson.model, lesson.layer):
            decoder_of(lesson.model)(input_ids=tokens, use_cache=False)
    finally:
        handle.remove()
    return seen[0].float().to("cpu"), steered


def _tokens(lesson: Lesson, rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids, padded behind, and 1 at each place that is steered, (rows, places)."""
    chosen = [lesson.ids[row] for row in rows]
    device = next(decoder_of(lesson.model).parameters()).device
    # Causal attention does not see the padding, so that no mask is needed.
    tokens = padded_batch(chosen, side="right", device=device)["input_ids"]
    steered = torch.zeros(tokens.shape)
    for at, (row, ids) in enumerate(zip(rows, chosen, strict=True)):
        steered[at, max(lesson.starts[row] - 1, 1) : len(ids)] = 1
    return tokens, steered


def _order(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).permutation(rows)


def _turn(rows: npt.NDArray[np.int64], step: int) -> npt.NDArray[np.int64]:
    """Return the rows of a step, which go round."""
    size = min(BATCH, len(rows))
    return rows[(step * size + np.arange(size)) % len(rows)]


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Ask for no gradients of a model's own weights."""
    before = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        for weight, _ in before:
            weight.requires_grad_(False)
        yield
    finally:
        for weight, needed in before:
            weight.requires_grad_(needed)
