"""Last-token activations of decoder blocks: extraction and its store."""
