"""Trustworthiness tasks, steered models and checkpoint analysis for lm-evaluation-harness.

The start-up hook imports this package before pytest can rewrite it: PYTEST_DONT_REWRITE.
"""

__version__ = "0.1.0"
