"""The suite on the embedded world."""
