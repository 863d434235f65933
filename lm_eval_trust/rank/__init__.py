"""A ranking of steering methods at equal cost: the same divergence from the unsteered model."""
