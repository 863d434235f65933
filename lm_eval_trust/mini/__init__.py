"""The embedded default: a small fictional world and the MiniAmber models trained on it."""
