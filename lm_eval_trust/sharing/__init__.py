"""Sharing: vectors and results on the Hugging Face Hub, and results in formats of others."""
