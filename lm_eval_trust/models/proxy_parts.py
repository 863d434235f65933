"""The parts of an ensemble: found, compared, and loaded once where several share a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
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

#: Dropped tokens that are named.
_NAMED = 5

#: Place of a whole model, its commit, the device that it is on, and the adapter that changes it.
_Key = tuple[str, str, str, str]


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

    @cached_property
    def alters_model(self) -> bool:
        """Whether the adapter puts other embeddings or more rows into the model, for good."""
        if self.adapter is None:
            return False
        if self.adapter.stores_embeddings:
            return True
        own = self.adapter.tokenizer is not None
        return own and len(self.tokenizer()) > len(load_tokenizer(self.model))

    def tokenizer(self) -> Any:
        """Load the tokenizer: the adapter's own where it carries one.

        Raises:
            InputError: There is none that transformers can load.
        """
        own = self.adapter.tokenizer if self.adapter else None
        return load_tokenizer(self.model if own is None else Source(own, self.model.identity))

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

    A model that an adapter alters counts as a separate one.

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
            own = source.tokenizer() if source.alters_model else None
            self._models[key] = attach_adapter(
                self._models[key], source.adapter, name=name, tokenizer=own
            )
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
    return {name: source.tokenizer() for name, source in sources.items()}


@dataclass(frozen=True)
class Vocabulary:
    """What an ensemble may say.

    Attributes:
        size: Tokens of the base model's tokenizer.
        dropped: Name of a part → its tokens past these, which the ensemble leaves out, as the
            added ``<pad>`` of many tuned models (Liu et al. 2024 drop it in the same way).
    """

    size: int
    dropped: Mapping[str, tuple[str, ...]]

    @property
    def note(self) -> str:
        """What there is to say; empty where nothing is dropped."""
        return " ".join(
            f"{name} has {len(tokens)} tokens past the base model's vocabulary, which are dropped: "
            f"{', '.join(map(repr, tokens[:_NAMED]))}{', …' if len(tokens) > _NAMED else ''}."
            for name, tokens in self.dropped.items()
        )


def common_vocabulary(tokenizers: Mapping[str, Any]) -> Vocabulary:
    """Return the tokens that all parts share; refuse tokenizers whose logits could not be added.

    Tokens of another part past the first one's last are dropped. Rows of padding at the end of a
    model's output stand for no token and are no difference.

    Args:
        tokenizers: Name of a part → its tokenizer; the first is compared with all others.

    Raises:
        InputError: With the first token that differs.
    """
    (first, tokenizer), *others = tokenizers.items()
    expected = _tokens(tokenizer)
    size, dropped = max(expected) + 1, {}
    for name, other in others:
        found = _tokens(other)
        past = tuple(found.pop(position) for position in sorted(found) if position >= size)
        if past:
            dropped[name] = past
        for position in sorted(expected.keys() | found.keys()):
            if expected.get(position) != found.get(position):
                raise InputError(
                    f"The vocabularies of {first} and {name} differ: token {position} is "
                    f"{_shown(expected, position)} in {first} and {_shown(found, position)} in "
                    f"{name}. Proxy-tuning adds logits token by token; choose models of one family."
                )
    return Vocabulary(size, dropped)


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {position: token for token, position in tokenizer.get_vocab().items()}


def _shown(tokens: Mapping[int, str], position: int) -> str:
    return repr(tokens[position]) if position in tokens else "absent"


def _key(source: PartSource, device: str) -> _Key:
    own = source.adapter.identity if source.adapter and source.alters_model else ""
    return source.model.location, source.model.identity.commit, device, own


@contextmanager
def _switched_on(model: Any, adapter: str) -> Iterator[None]:
    """Have one of several adapters switched on."""
    if model.active_adapters != [adapter]:
        model.set_adapter(adapter)
    yield
