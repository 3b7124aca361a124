"""Runs: from the names of maps to a folder of results."""
