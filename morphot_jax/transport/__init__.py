"""Optimal transport on grids: kernels, solvers and their parts. Functions take arrays and return solutions."""
