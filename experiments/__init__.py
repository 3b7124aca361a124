"""Experiments: ``studies`` of the paper's figures and tables, ``benches`` of what the project sets itself.

    python -m experiments.studies.NAME -o OUT [--quick] [--shard I/N] [--maps A B] [--gamma-is sd|variance]
    python -m experiments.benches.NAME -o OUT [--quick] [--shard I/N]

``options`` says what these mean. What experiments share stands beside the two folders, once: ``options`` (the
command line), ``maps`` and ``cases`` (what is morphed), ``methods`` and ``solves`` (how), ``points`` and
``processes`` (how it is run), ``measures``, ``tables``, ``figures`` and ``claims`` (what comes out).
"""
