"""The paper's chain on the embedded family, from training to tables."""
