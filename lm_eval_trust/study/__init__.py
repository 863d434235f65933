"""Work over many checkpoints."""
