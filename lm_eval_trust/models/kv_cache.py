"""What transformers calls the cache of keys and values that forward passes take and return."""

from __future__ import annotations

from dataclasses import fields

from transformers.modeling_outputs import CausalLMOutputWithPast

_NAMES = ("cache", "past_key_values")

#: Argument and field of the installed release. Older ones take ``cache`` in silence and leave it
#: aside, newer ones will no longer know ``past_key_values``.
CACHE = next(name for name in _NAMES if name in {f.name for f in fields(CausalLMOutputWithPast)})
