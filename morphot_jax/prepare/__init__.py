"""Several maps brought onto one grid, cleaned, and laid into one pose."""
