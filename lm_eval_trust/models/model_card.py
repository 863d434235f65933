"""What the card of a model says of the model that it was made from."""

from __future__ import annotations

from lm_eval_trust.models.sources import Source


def base_metadata(source: Source) -> dict[str, str]:
    """Return ``base_model`` for a card's metadata; nothing for a folder.

    The Hub takes names of its own models there and refuses the card with anything else.
    """
    return {"base_model": source.location} if source.identity.commit else {}


def base_sentence(source: Source) -> str:
    """Return a sentence that names the base for readers."""
    named = f"Base: `{source.identity.text}`"
    if source.identity.commit:
        return f"{named}."
    return f"{named}, a folder and its digest; the metadata above can name models of the Hub only."
