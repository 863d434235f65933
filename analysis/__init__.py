"""Analysis of activations and scores: arrays and tables in, tables and figures out."""
