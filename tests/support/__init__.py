"""Helpers that tests of several rooms share."""

import os

# huggingface_hub reads it once, at its first import, which is after this one: no test asks the Hub.
os.environ["HF_HUB_OFFLINE"] = "1"
