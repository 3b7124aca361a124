"""Single maps: their sources (file, model, sample, data bank) and the computations on one map."""
