"""Audits: one steering held against every control, with a verdict by stated rules."""
