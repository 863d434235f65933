"""Search for a steering: many configurations over one prefill, chosen on validation items."""
