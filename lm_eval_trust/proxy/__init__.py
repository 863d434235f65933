"""Proxy-tuning: a base model moved at decoding time by the difference of two others."""
