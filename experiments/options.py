"""The command line of an experiment: an option for each field of a frozen dataclass.

An experiment with further options extends one of these dataclasses.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
import typer

from experiments.maps import pair_of
from morphot_jax.runs.sweep import Shard
from morphot_jax.system.errors import InputError

GammaConvention = Literal["sd", "variance"]
Maps = Annotated[
    tuple[str, str] | None,
    typer.Option(
        help="Two maps, paths or sample:NAME. Default: the real Mm-cpn pair if present, else the sample."
    ),
]
RowLimit = Annotated[float, typer.Option(help="Time limit of one row, in seconds.")]


@dataclass(frozen=True)
class Options:
    """The options of every experiment."""

    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the results; an interrupted run continues there.")
    ]
    quick: Annotated[
        bool, typer.Option("--quick", help="Small boxes and few points: under two minutes on two cores.")
    ] = False


@dataclass(frozen=True)
class ShardOptions(Options):
    """Options of experiments whose points several processes can share."""

    shard: Annotated[str, typer.Option(help="I/N: compute only this share of the points.")] = "1/1"

    @property
    def share(self) -> Shard:
        """The share; BadParameter if it is not I/N."""
        try:
            return Shard.parse(self.shard)
        except InputError as error:
            raise typer.BadParameter(str(error), param_hint="--shard") from None


@dataclass(frozen=True)
class GammaOptions(ShardOptions):
    """Options of experiments on kernels, whose width the paper calls gamma."""

    gamma_is: Annotated[
        GammaConvention,
        typer.Option(
            help="The meaning of gamma: the kernel's standard deviation, as in the original's code and the "
            "paper's figures, or its variance, as in the paper's text. In voxels."
        ),
    ] = "sd"

    def sigma_of(self, gamma: float) -> float:
        """The standard deviation of the kernel, in voxels, for the paper's gamma."""
        return gamma if self.gamma_is == "sd" else float(np.sqrt(gamma))

    def gamma_of(self, sigma: float) -> float:
        """The paper's gamma for a standard deviation."""
        return sigma if self.gamma_is == "sd" else sigma**2


@dataclass(frozen=True)
class PairOptions(GammaOptions):
    """Options of experiments on a pair of maps."""

    maps: Maps = None

    @property
    def pair(self) -> tuple[str, str]:
        """The names of the maps."""
        return pair_of(self.maps)


def command(experiment: Callable[[Any], None]) -> typer.Typer:
    """Make the command line of an experiment, a function of one of the dataclasses above."""
    kind = get_type_hints(experiment)["options"]

    def call(**given: Any) -> None:
        experiment(kind(**given))

    call.__signature__ = inspect.signature(kind)  # typer reads the options from the signature
    call.__doc__ = experiment.__doc__
    app = typer.Typer(add_completion=False)
    app.command()(call)
    return app


def chosen(given: str, known: Sequence[str], option: str) -> tuple[str, ...]:
    """Read the names of a comma-separated list; BadParameter for an unknown one."""
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    if unknown := [name for name in names if name not in known]:
        raise typer.BadParameter(
            f"{', '.join(unknown)} not known: choose from {', '.join(known)}", param_hint=option
        )
    return names
