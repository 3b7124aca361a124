"""The command line of experiments, and curves from their tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from experiments.options import PairOptions, chosen, command
from experiments.tables import curve
from morphot_jax.runs.sweep import Shard


@dataclass(frozen=True)
class Own(PairOptions):
    batch: Annotated[int, typer.Option(help="At once.")] = 1


def invoke(*arguments):
    """Run the command; return the options that the experiment received, and the result."""
    received = []

    def experiment(options: Own) -> None:
        """Receive the options."""
        received.append(options)
        assert options.share

    return received, CliRunner().invoke(command(experiment), arguments)


def test_every_field_is_an_option():
    words = [
        "-o",
        "out",
        "--quick",
        "--shard",
        "2/3",
        "--gamma-is",
        "variance",
        "--maps",
        "a.mrc",
        "sample:b",
        "--batch",
        "4",
    ]
    (received,), done = invoke(*words)
    assert done.exit_code == 0, done.output
    assert received == Own(Path("out"), True, "2/3", "variance", ("a.mrc", "sample:b"), batch=4)
    assert received.share == Shard(2, 3)
    assert received.pair == (str(Path("a.mrc").resolve()), "sample:b")
    (received,), _ = invoke("-o", "out")
    assert received == Own(Path("out"))


@pytest.mark.parametrize("wrong", [[], ["-o", "out", "--shard", "3/2"], ["-o", "out", "--gamma-is", "big"]])
def test_invalid_options_end_the_command(wrong):
    _, done = invoke(*wrong)
    assert done.exit_code == 2


def test_names_of_a_list_are_known_ones():
    assert chosen(" b,a ,", ("a", "b"), "--names") == ("b", "a")
    assert chosen("", ("a", "b"), "--names") == ()
    with pytest.raises(typer.BadParameter, match="c not known: choose from a, b"):
        chosen("a,c", ("a", "b"), "--names")


def test_a_curve_is_in_order_and_leaves_out_missing_values():
    rows = [{"method": "a", "time": t, "error": e} for t, e in ((1.0, 0.5), (0.0, 0.25), (0.5, None))]
    rows.append({"method": "b", "time": 0.2, "error": 9.0})
    assert list(curve(rows, "time", "error", {"method": "a"}).items()) == [(0.0, 0.25), (1.0, 0.5)]
