"""Audits: one steering compared with every control, with a verdict by stated rules."""

from lm_eval_trust._callable import make_callable

make_callable(__name__)
