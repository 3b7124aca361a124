"""What several test files use: where things are, and the command line run from a test."""

import contextlib
import csv
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from morphot_jax.cli import main

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT / ".." / "shared" / "data"
COMMAND = [sys.executable, "-c", "import sys; from morphot_jax.cli.main import main; sys.exit(main())"]  # morphot
REPORT_KEYS = {  # those that every report.json has
    "version",
    "command",
    "inputs",
    "settings",
    "device",
    "precision",
    "actions",
    "warnings",
    "frames",
    "seconds",
    "peak_memory_bytes",
}


QUICK = {  # the experiments that tests run with --quick, and how many pictures each leaves
    "benches.accuracy": 1,
    "benches.alignment": 1,
    "benches.certificate": 1,
    "benches.costs": 1,
    "benches.estimates": 1,
    "benches.fading": 1,
    "benches.nulls": 1,
    "benches.peers": 1,
    "benches.robustness": 1,
    "benches.sets": 0,
    "benches.ways": 2,
    "studies.annealing": 1,
    "studies.conventions": 2,
    "studies.fig1_accuracy": 3,
    "studies.fig2_convergence": 3,
    "studies.fig3_order": 2,
    "studies.fig4_connectivity": 3,
    "studies.gamma_and_grid": 1,
    "studies.table1_speed": 1,
}


def morphot(*arguments):
    """Run the command line in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["morphot", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stop,
    ):
        main.main()
    return SimpleNamespace(code=stop.value.code, out=out.getvalue(), err=err.getvalue())


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
