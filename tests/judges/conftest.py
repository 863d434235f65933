"""A server in OpenAI's place, and no settings of the user's own."""

from support.judging import brisk, nothing_set, server

__all__ = ["brisk", "nothing_set", "server"]
