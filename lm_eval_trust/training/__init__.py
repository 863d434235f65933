"""Training: small Llamas with fine-grained checkpoints, and fine-tuning on trustworthy answers."""
