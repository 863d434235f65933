"""The Python API: what ``import lm_eval_trust as let`` offers, one module for each kind of result.

``lm_eval_trust/__init__.py`` lists the names and imports each when it is first used.
"""
