"""Experiments: ``studies`` of the paper's figures and tables, ``benches`` of the project's own goals.

    python -m experiments.studies.NAME -o OUT [--quick] [--shard I/N] [--maps A B] [--gamma-is sd|variance]
    python -m experiments.benches.NAME -o OUT [--quick] [--shard I/N]

``options`` documents the command line. The two folders share the modules beside them: ``options`` (command line),
``maps`` and ``cases`` (inputs), ``methods`` and ``solves`` (computations), ``points`` and ``processes`` (runs),
``measures``, ``tables``, ``figures`` and ``claims`` (results).
"""
