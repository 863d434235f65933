"""Harness models: Amber, steered, with an adapter, fine-tuned, or proxy-tuned."""
