"""Experiments: ``studies`` of the paper's figures and tables, ``benches`` of what the project sets itself."""
