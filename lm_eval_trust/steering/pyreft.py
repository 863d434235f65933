"""Interventions that pyreft has trained, read from the folder that ``ReftModel.save`` writes.

A folder contains ``config.json`` and for each intervention ``intkey_….bin``, a state dict. With a
linear activation all of pyreft's interventions are h + Rᵀ(A h + b), which is the action ``reft``:

- LoReFT adds Rᵀ(W h + b − R h): A = W − R;
- ConsReFT adds Rᵀ(b − R h): A = −R;
- LobiReFT adds Rᵀ b: A = 0;
- DiReFT adds Rᵀ(W h + b): A = W;
- NoReFT adds Pᵀ(W h + b − P h − c): A = W − P, with b − c for b;
- NodiReFT adds Pᵀ(W h + b): A = W.

(R with orthonormal rows, P any projection with a bias c; Wu et al. 2024, arXiv 2404.03592.) Which
positions were trained is not written in the folder; pyreft's default are some at both ends of the
prompt. Nor is an activation: interventions that were trained with ``act_fn`` are different, and
cannot be recognised. Nothing but tensors is read, and neither pyreft nor pyvene is imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector, read_pickled, real_vector

_CONFIG = "config.json"
#: pyvene's name of an intervention's file; the place is ``block_output`` or a module's path.
_FILE = re.compile(r"intkey_layer_(?P<layer>\d+)_comp_(?P<place>.+)_unit_pos_nunit_\d+#\d+\.bin")
_PLACES = re.compile(r"block_output|(?:\w+\.)*(?:layers|h)\[(?P<layer>\d+)\]\.output")

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class LowRank:
    """The tensors of h + Rᵀ(A h + b).

    Attributes:
        rotation: R, shape (rank, hidden).
        weight: A, shape (rank, hidden).
        bias: b, shape (rank,).
    """

    rotation: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    def layer(self) -> LayerVector:
        """Return it as a vector, whose direction is what is added where h is 0.

        Raises:
            InputError: The shapes do not fit each other, or that direction is zero.
        """
        rank, width = self.rotation.shape if self.rotation.ndim == 2 else (-1, -1)
        if self.weight.shape != (rank, width) or self.bias.shape != (rank,):
            shapes = [tuple(t.shape) for t in (self.rotation, self.weight, self.bias)]
            raise InputError(f"tensors of shapes {shapes} do not fit each other")
        parts = {"rotation": self.rotation, "weight": self.weight, "bias": self.bias}
        return LayerVector(self.bias @ self.rotation, parts=parts)


def read_pyreft(folder: Path) -> SteeringVector:
    """Return a folder's interventions as a vector for the action ``reft``.

    Raises:
        InputError: It is no such folder, a file is damaged or would run code, or an intervention
            is of another kind, place or activation.
    """
    kinds = _kinds(folder)
    layers: dict[int, LayerVector] = {}
    for name, kind in kinds.items():
        layer = _place(folder, name)
        if layer in layers:
            raise InputError(
                f"{folder} holds two interventions on block {layer}, for different positions; "
                f"train one, or keep one of the files."
            )
        state = _state(folder / name)
        try:
            layers[layer] = _READERS[kind](state).layer()
        except (InputError, KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"{folder / name} cannot be used as a {kind}: {reason_of(error)}."
            ) from error
    return SteeringVector(layers, name=str(folder))


def _kinds(folder: Path) -> dict[str, str]:
    """Return the class of the intervention in each file."""
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        keys, types = config["sorted_keys"], config["intervention_types"]
        named = {f"intkey_{key}.bin": str(kind) for key, kind in zip(keys, types, strict=True)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} is no folder of pyreft ({_CONFIG}: {reason_of(error)}); expected what "
            f"ReftModel.save writes."
        ) from error
    found = {}
    for name, kind in named.items():
        short = kind.removesuffix("'>").rpartition(".")[2]
        if short not in _READERS:
            raise InputError(
                f"{folder} holds a {short or kind}, which is not known here; known are "
                f"{', '.join(_READERS)}."
            )
        found[name] = short
    if not found:
        raise InputError(f"{folder} holds no intervention.")
    return found


def _place(folder: Path, name: str) -> int:
    found = _FILE.fullmatch(name)
    place = _PLACES.fullmatch(found["place"]) if found else None
    if found is None or place is None:
        raise InputError(
            f"{folder} has an intervention {name!r}; read are those of a block's output at "
            f'positions. Train it with component="block_output".'
        )
    return int(place["layer"] or found["layer"])


def _state(path: Path) -> State:
    found = read_pickled(
        path,
        missing=f"There is no file {path}; copy the whole folder.",
        instead="Save the interventions' tensors alone.",
    )
    if not isinstance(found, Mapping):
        raise InputError(f"{path} holds {type(found).__name__}, not an intervention's tensors.")
    # Counts such as embed_dim are of no use here.
    real = {n: t for n, t in found.items() if isinstance(t, torch.Tensor) and t.is_floating_point()}
    return {name: real_vector(tensor) for name, tensor in real.items()}


def _orthonormal(state: State) -> torch.Tensor:
    """Return R, which pyreft saves as what torch's parametrisation makes it from."""
    prefix = "rotate_layer."
    own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.zeros_like(own["parametrizations.weight.original"]))
    nn.init.orthogonal_(layer.weight)
    nn.utils.parametrizations.orthogonal(layer)
    layer.load_state_dict(own)
    weight: torch.Tensor = layer.weight
    return weight.detach().T


def _loreft(state: State) -> LowRank:
    rotation = state["rotate_layer"].T
    return LowRank(rotation, state["weight"] - rotation, state["bias"])


def _consreft(state: State) -> LowRank:
    rotation = _orthonormal(state)
    return LowRank(rotation, -rotation, state["learned_source"])


def _lobireft(state: State) -> LowRank:
    rotation = _orthonormal(state)
    return LowRank(rotation, torch.zeros_like(rotation), state["learned_source"])


def _direft(state: State) -> LowRank:
    rotation = _orthonormal(state)
    return LowRank(rotation, state["learned_source.weight"], state["learned_source.bias"])


def _noreft(state: State) -> LowRank:
    projection, bias = state["proj_layer.weight"], state["learned_source.bias"]
    weight = state["learned_source.weight"] - projection
    return LowRank(projection, weight, bias - state.get("proj_layer.bias", torch.zeros_like(bias)))


def _nodireft(state: State) -> LowRank:
    source = state["learned_source.weight"], state["learned_source.bias"]
    return LowRank(state["proj_layer.weight"], *source)


_READERS: Mapping[str, Callable[[State], LowRank]] = {
    "LoreftIntervention": _loreft,
    "ConsreftIntervention": _consreft,
    "LobireftIntervention": _lobireft,
    "DireftIntervention": _direft,
    "NoreftIntervention": _noreft,
    "NodireftIntervention": _nodireft,
}
