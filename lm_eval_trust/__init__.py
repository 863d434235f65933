"""Trustworthiness tasks, steered models and checkpoint analysis for lm-evaluation-harness."""

__version__ = "0.1.0"
