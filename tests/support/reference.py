"""An independent formulation of a steered Llama: one row, no cache, no padding, no hooks, float64.

The blocks are called one after the other, and the residual stream is changed between them by the
formulas of the plan's documentation. Everything that the wrappers do is compared with this.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod

import torch
from transformers import LlamaForCausalLM

from lm_eval_trust.steering.conditions import Condition
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep


class Reference(ABC):
    """What every independent formulation can say of a row of tokens."""

    #: Number of decoder blocks that a plan's layers count.
    blocks: int

    @abstractmethod
    def logits(self, tokens: list[int], plan: SteeringPlan, prompt_end: int) -> torch.Tensor:
        """Logits (positions, vocabulary) of ``tokens`` whose last prompt token has this index."""

    def score(
        self, context: list[int], continuation: list[int], plan: SteeringPlan
    ) -> tuple[float, bool]:
        """Log-likelihood of a continuation, and whether it is the greedy one."""
        logits = self.logits(context + continuation, plan, len(context) - 1)
        predicted = logits[len(context) - 1 : -1].log_softmax(-1)
        wanted = torch.tensor(continuation)
        value = predicted.gather(1, wanted[:, None]).sum().item()
        return value, bool((predicted.argmax(-1) == wanted).all())

    def greedy(self, prompt: list[int], plan: SteeringPlan, count: int) -> list[int]:
        """The greedy continuation of ``count`` tokens."""
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self.logits(tokens, plan, len(prompt) - 1)[-1].argmax()))
        return tokens[len(prompt) :]


class ReferenceEnsemble(Reference):
    """Proxy-tuning of three Llamas of which the first is steered, in float64."""

    def __init__(
        self, base: Reference, expert: Reference, antiexpert: Reference, alpha: float
    ) -> None:
        self._base, self._expert, self._antiexpert = base, expert, antiexpert
        self._alpha = alpha
        self.blocks = base.blocks

    def logits(self, tokens: list[int], plan: SteeringPlan, prompt_end: int) -> torch.Tensor:
        """Logits (positions, vocabulary) of ``tokens`` whose last prompt token has this index."""
        base = self._base.logits(tokens, plan, prompt_end)
        expert, antiexpert = (
            model.logits(tokens, SteeringPlan(), prompt_end)
            for model in (self._expert, self._antiexpert)
        )
        return base + self._alpha * (expert - antiexpert)


class ReferenceModel(Reference):
    """A float64 copy of a Llama, run block by block."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        self._model = copy.deepcopy(model).to(torch.float64).eval()
        self.blocks = len(self._model.model.layers)

    @torch.no_grad()
    def logits(self, tokens: list[int], plan: SteeringPlan, prompt_end: int) -> torch.Tensor:
        """Logits (positions, vocabulary) of ``tokens`` whose last prompt token has this index."""
        return self.states(tokens, plan, prompt_end)[1]

    @torch.no_grad()
    def states(
        self, tokens: list[int], plan: SteeringPlan, prompt_end: int
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Outputs of all blocks after steering, each (positions, hidden), and the logits."""
        decoder = self._model.model
        ids = torch.tensor([tokens])
        places = torch.arange(len(tokens))[None]
        hidden = decoder.embed_tokens(ids)
        rotary = decoder.rotary_emb(hidden, places)
        size = len(tokens)
        causal = torch.full((1, 1, size, size), float("-inf"), dtype=hidden.dtype).triu(1)
        outputs, held = [], {}
        for index, block in enumerate(decoder.layers):
            handle = block.self_attn.register_forward_hook(
                self._head_shift(block.self_attn, index, plan, prompt_end, held)
            )
            hidden = block(
                hidden, attention_mask=causal, position_ids=places, position_embeddings=rotary
            )
            handle.remove()
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            for step in plan.steps:
                if step.when and step.when.layer == index:
                    held[step.when] = prompt_end >= 0 and self._holds(
                        hidden[0, prompt_end], step.when
                    )
            for step in plan.steps:
                if (step.site, step.layer) == ("block", index) and held.get(step.when, True):
                    hidden = self._change(hidden, step, prompt_end)
            outputs.append(hidden[0])
        return outputs, self._model.lm_head(decoder.norm(hidden))[0]

    @staticmethod
    def _head_shift(attention, layer, plan, prompt_end, held):
        """What adds to the attention's output what its heads' steering becomes by projection."""

        def add(module, args, output):
            changed = output[0].clone()
            for step in plan.steps:
                if (step.site, step.layer) == ("heads", layer) and held.get(step.when, True):
                    shift = step.alpha * torch.mv(attention.o_proj.weight, step.vector.double())
                    for place in range(changed.shape[1]):
                        if _at(place, step.positions, prompt_end):
                            changed[0, place] += shift
            return (changed, *output[1:])

        return add

    @staticmethod
    def _holds(state: torch.Tensor, condition: Condition) -> bool:
        unit = condition.unit.double()
        cosine = float(state @ unit / (state.norm() * unit.norm()))
        return cosine > condition.threshold if condition.above else cosine <= condition.threshold

    @staticmethod
    def _change(hidden: torch.Tensor, step: SteeringStep, prompt_end: int) -> torch.Tensor:
        vector = step.vector.double()
        unit = vector / vector.norm()
        changed = hidden.clone()
        for place in range(hidden.shape[1]):
            if not _at(place, step.positions, prompt_end):
                continue
            state = hidden[0, place]
            along = torch.dot(state, unit)
            if step.action == "add":
                difference = vector
            elif step.action == "clamp":
                difference = (step.target - along) * unit
            elif step.action == "ablate":
                difference = -along * unit
            elif step.action == "erase":
                mean, covector = step.parts["mean"].double(), step.parts["covector"].double()
                difference = -torch.dot(state - mean, covector) * unit
            elif step.action == "reft":
                # LoReFT's W is A + R, and what it adds Rᵀ(W h + b − R h).
                rows, more, bias = (
                    step.parts[name].double() for name in ("rotation", "weight", "bias")
                )
                wanted = torch.mv(more + rows, state) + bias
                difference = torch.mv(rows.T, wanted - torch.mv(rows, state))
            elif step.action == "rotate":
                changed[0, place] = rotation(state, unit, step.alpha) @ state
                continue
            else:
                raise ValueError(f"There is no independent formulation of {step.action}.")
            changed[0, place] = state + step.alpha * difference
        return changed


def _at(place: int, positions: str, prompt_end: int) -> bool:
    if positions == "generated":
        return place >= prompt_end
    return positions == "all" or place == prompt_end


def rotation(state: torch.Tensor, towards: torch.Tensor, degrees: float) -> torch.Tensor:
    """The orthogonal matrix that turns the plane of two vectors and nothing else."""
    plane = torch.linalg.qr(torch.stack([state, towards], dim=1)).Q
    plane = plane * torch.sign(torch.stack([state @ plane[:, 0], towards @ plane[:, 1]]))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    rest = torch.eye(len(state), dtype=torch.float64) - plane @ plane.T
    return rest + plane @ turn @ plane.T
