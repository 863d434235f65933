"""The parts of an ensemble: found, compared, and loaded once where several share a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.models.adapters import Adapter, attach_adapter, base_of, find_adapter, is_adapter
from lm_eval_trust.models.proxy import Part
from lm_eval_trust.models.sources import (
    Source,
    find_source,
    load_pinned,
    load_tokenizer,
    provenance_of_model,
)

#: Place of a whole model, its commit, and the device that it is on.
_Key = tuple[str, str, str]


@dataclass(frozen=True)
class PartSource:
    """What a part is made of.

    Attributes:
        model: The whole model.
        adapter: The adapter that is switched on in it; ``None`` for the model as it is.
    """

    model: Source
    adapter: Adapter | None = None

    @property
    def identity(self) -> str:
        """Identity of model and adapter."""
        own = self.model.identity.text
        return f"{own} + {self.adapter.identity}" if self.adapter else own

    @property
    def trained_on(self) -> list[Provenance]:
        """What model and adapter were fine-tuned on, as far as it is recorded."""
        found = [provenance_of_model(self.model), self.adapter and self.adapter.provenance]
        return [provenance for provenance in found if provenance]


def find_part(spec: str) -> PartSource:
    """Return what ``MODEL[@REVISION]``, or the folder of an adapter, stands for.

    An adapter stands for its own base model with the adapter switched on.

    Raises:
        InputError: There is no such model or adapter, or the adapter's base has changed.
        ExternalError: It is neither local nor reachable.
    """
    if not is_adapter(spec):
        return PartSource(find_source(spec))
    adapter = find_adapter(spec)
    model = find_source(base_of(adapter))
    adapter.check_base(model.identity, override=None)
    return PartSource(model, adapter)


@dataclass
class PartLoader:
    """Loads parts, each whole model once and each adapter once.

    Attributes:
        dtype: See :func:`lm_eval_trust.models.sources.load_source`.
    """

    dtype: str | None = None
    _models: dict[_Key, Any] = field(default_factory=dict)
    _adapters: dict[_Key, dict[str, str]] = field(default_factory=dict)

    def add(self, source: PartSource, model: Any, device: str) -> None:
        """Take a whole model that is loaded already."""
        self._models[_key(source, device)] = model

    def load(self, sources: Mapping[str, PartSource], devices: Mapping[str, str]) -> list[Part]:
        """Return a part for each source.

        Args:
            sources: Name of a part → what it is made of.
            devices: Name of a part → device; parts share weights where they share a device.

        Raises:
            InputError: Something cannot be loaded, or an adapter does not fit.
        """
        for name, source in sources.items():
            self._load(source, devices[name])
        return [self._part(source, devices[name]) for name, source in sources.items()]

    def _load(self, source: PartSource, device: str) -> None:
        key = _key(source, device)
        if key not in self._models:
            self._models[key] = load_pinned(source.model, dtype=self.dtype, device=device)[0]
        named = self._adapters.setdefault(key, {})
        if source.adapter is not None and source.adapter.identity not in named:
            name = f"adapter{len(named)}"
            self._models[key] = attach_adapter(self._models[key], source.adapter, name=name)
            named[source.adapter.identity] = name

    def _part(self, source: PartSource, device: str) -> Part:
        key = _key(source, device)
        model, named = self._models[key], self._adapters[key]
        if not named:
            return Part(model)
        if source.adapter is None:
            return Part(model.get_base_model(), model.disable_adapter)
        return Part(
            model.get_base_model(), partial(_switched_on, model, named[source.adapter.identity])
        )


def tokenizers_of(sources: Mapping[str, PartSource]) -> dict[str, Any]:
    """Return the tokenizer of each part."""
    return {name: load_tokenizer(source.model) for name, source in sources.items()}


def check_vocabularies(tokenizers: Mapping[str, Any]) -> None:
    """Refuse tokenizers that differ in any token: their models' logits could not be added.

    Rows of padding at the end of a model's output stand for no token and are no difference.

    Args:
        tokenizers: Name of a part → its tokenizer; the first is compared with all others.

    Raises:
        InputError: With the first token that differs.
    """
    (first, tokenizer), *others = tokenizers.items()
    expected = _tokens(tokenizer)
    for name, other in others:
        found = _tokens(other)
        for position in sorted(expected.keys() | found.keys()):
            if expected.get(position) != found.get(position):
                raise InputError(
                    f"The vocabularies of {first} and {name} differ: token {position} is "
                    f"{_shown(expected, position)} in {first} and {_shown(found, position)} in "
                    f"{name}. Proxy-tuning adds logits token by token; choose models of one family."
                )


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {position: token for token, position in tokenizer.get_vocab().items()}


def _shown(tokens: Mapping[int, str], position: int) -> str:
    return repr(tokens[position]) if position in tokens else "absent"


def _key(source: PartSource, device: str) -> _Key:
    return source.model.location, source.model.identity.commit, device


@contextmanager
def _switched_on(model: Any, adapter: str) -> Iterator[None]:
    """Have one of several adapters switched on."""
    if model.active_adapters != [adapter]:
        model.set_adapter(adapter)
    yield
