"""Judges of truthfulness and toxicity."""
