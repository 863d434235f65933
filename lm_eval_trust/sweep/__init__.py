"""Search for a steering: many configurations over one prefill, chosen on validation items."""

from lm_eval_trust._callable import make_callable

SEARCHES = ("coarse-to-fine", "grid")

make_callable(__name__)
