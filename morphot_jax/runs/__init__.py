"""From names of maps to a folder of results."""
