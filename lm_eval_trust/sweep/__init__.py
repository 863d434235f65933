"""Search for a steering: many configurations over one prefill, chosen on validation items."""

SEARCHES = ("coarse-to-fine", "grid")
