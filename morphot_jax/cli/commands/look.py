"""Commands that show what a run has left: ``view``, ``movie``. Heavy imports wait inside the command."""

from pathlib import Path
from typing import Annotated

import typer

from morphot_jax.cli.options import Quiet
from morphot_jax.system.words import Colour, View

Folder = Annotated[Path, typer.Argument(metavar="OUT", help="The folder that morphot morph has written.")]


def view(
    folder: Folder,
    colour: Annotated[
        Colour, typer.Option(help="displacement: by how far the mass there goes, from the first map to the last.")
    ] = "plain",
    quiet: Quiet = False,
) -> None:
    """Write the viewer of a run anew: viewer.html, which plays its surfaces in any browser, offline."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.finished_run import run_view

    run_view(folder, Terminal(quiet=quiet), colour=colour)


def movie(
    folder: Folder,
    output: Annotated[Path, typer.Option("--output", "-o", help="The film: a name that ends in .mp4 or .gif.")],
    along: Annotated[
        View, typer.Option("--view", help="From where: along an axis, or from above one.")
    ] = "tilted",
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 600,
    rate: Annotated[int, typer.Option(help="Frames a second.")] = 12,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the film if it exists.")] = False,
    quiet: Quiet = False,
) -> None:
    """Film a run's surfaces, forth and back, with t and a scale bar; .mp4 needs the extra movie."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.finished_run import run_movie

    run_movie(folder, output, Terminal(quiet=quiet), view=along, size=size, rate=rate, overwrite=overwrite)
