"""A map, what is computed on it alone, and where it comes from: a file, a model, a sample, a data bank."""
