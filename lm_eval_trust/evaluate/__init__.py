"""Models evaluated on tasks by the harness; each outcome is kept and found again."""

from lm_eval_trust._callable import make_callable

make_callable(__name__)
