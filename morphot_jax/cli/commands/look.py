"""Commands that show a finished run: ``view``, ``movie``. Each imports the heavy modules when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from morphot_jax.cli.options import Quiet
from morphot_jax.system.words import Colour, View

Folder = Annotated[Path, typer.Argument(metavar="OUT", help="The folder that morphot morph wrote.")]


def view(
    folder: Folder,
    colour: Annotated[
        Colour,
        typer.Option(
            help="Colour of the surfaces; displacement: how far mass goes in all; fading: what fades and appears."
        ),
    ] = "plain",
    quiet: Quiet = False,
) -> None:
    """Write the viewer of a run again: viewer.html, which plays the surfaces in any browser, offline."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.finished_run import run_view

    run_view(folder, Terminal(quiet=quiet), colour=colour)


def movie(
    folder: Folder,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The movie: .gif, or .mp4, which needs the extra movie.")
    ],
    along: Annotated[View, typer.Option("--view", help="Direction of view: along an axis, or tilted.")] = "tilted",
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 600,
    rate: Annotated[int, typer.Option(help="Frames per second.")] = 12,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the movie if it exists.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make a movie of a run's surfaces, forwards and backwards, with t and a scale bar."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.finished_run import run_movie

    run_movie(folder, output, Terminal(quiet=quiet), view=along, size=size, rate=rate, overwrite=overwrite)
