"""Analysis of activations and scores: arrays and tables in, numbers, tables and figures out."""
