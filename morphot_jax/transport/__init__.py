"""Optimal transport on grids: kernels, solvers and what solvers are made of. Arrays in, solutions out."""
