"""The embedded default: a small fictional world and the MiniAmber models that grew up in it."""
