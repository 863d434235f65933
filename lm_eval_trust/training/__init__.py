"""Pre-training of small Llamas with fine-grained checkpoints."""
