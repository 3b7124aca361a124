"""The machine, and nothing of maps: errors, files, memory, devices, threads, tables, words."""
