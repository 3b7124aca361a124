"""The machine, without any notion of maps: errors, files, memory, devices, threads, tables, words."""
