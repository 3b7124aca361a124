"""Preparation of several maps: alignment, one common grid, cleaning."""
