"""Commands that solve: ``morph``, ``barycenter``, ``order`` and their kin. Each imports heavy modules late."""

from dataclasses import replace
from typing import Annotated

import typer

from morphot_jax.cli.completion import complete_map
from morphot_jax.cli.options import Quiet, Verbose, command_line, with_options
from morphot_jax.morphing.settings import LANDSCAPE, ORDERING, PLACING, Settings
from morphot_jax.runs.request import Request

DEMO = ("sample:mmcpn-open", "sample:mmcpn-closed")
ONE_PLAN = Settings(method="displacement")
RIGID = Settings(method="rigid")
MEAN = Settings(method="barycenter")
MovingMap = Annotated[
    str, typer.Argument(metavar="MAP", help="The map whose mass moves.", autocompletion=complete_map)
]
TargetMap = Annotated[
    str, typer.Argument(metavar="TO", help="The map that its mass goes to.", autocompletion=complete_map)
]


@with_options
def morph(*, settings: Settings, request: Request, quiet: Quiet = False, verbose: Verbose = False) -> int:
    """Morph two or more maps into one another, in the order given: a map for each frame, a report and pictures."""
    return _run(request, settings, quiet, verbose)


@with_options
def demo(*, settings: Settings, request: Request, quiet: Quiet = False, verbose: Verbose = False) -> int:
    """Morph the built-in maps of the chaperonin Mm-cpn from open to closed (the paper's Figure 1)."""
    return _run(replace(request, maps=DEMO), settings, quiet, verbose)


@with_options
def barycenter(
    *, settings: Settings = MEAN, request: Request, quiet: Quiet = False, verbose: Verbose = False
) -> int:
    """Make barycenters of two or more maps at once: a map for each row of weights, a report and pictures."""
    settings = settings if settings.weights else replace(settings, weights=[[1.0] * len(request.maps)])
    return _run(request, settings, quiet, verbose)


@with_options
def order(
    *,
    settings: Settings = ORDERING,
    between: Annotated[
        tuple[str, str],
        typer.Option(help="The two maps that the others lie between.", autocompletion=complete_map),
    ],
    request: Request,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Order maps by where they lie on the way between two: the time of each, a table and a heat map."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.other_runs import run_order

    request = replace(request, maps=(*between, *request.maps), command=command_line())
    with Terminal(quiet=quiet, verbose=verbose) as terminal:
        ordering = run_order(request, settings, terminal)
    return 0 if ordering.trajectory.complete else 1


@with_options
def place(
    *,
    settings: Settings = PLACING,
    among: Annotated[
        list[str],
        typer.Option(help="A map to place the others among; repeat for each.", autocompletion=complete_map),
    ],
    request: Request,
    quiet: Quiet = False,
) -> int:
    """Place maps among others: the weights whose barycenter is nearest to each, with deviations and a picture."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.other_runs import run_place

    request = replace(request, maps=(*among, *request.maps), command=command_line())
    with Terminal(quiet=quiet) as terminal:
        found = run_place(request, settings, terminal, len(among))
    return 0 if found.complete else 1


@with_options
def landscape(
    *,
    settings: Settings = LANDSCAPE,
    stops: Annotated[
        int, typer.Option(min=0, help="Make a morph along the path through at most so many of its maps; 0: none.")
    ] = 5,
    request: Request,
    quiet: Quiet = False,
) -> int:
    """Lay out many maps by the distances between all: order, path and a morph along it, with a picture."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.landscape_run import run_landscape

    request = replace(request, command=command_line())
    with Terminal(quiet=quiet) as terminal:
        found = run_landscape(request, settings, terminal, stops=stops)
    return 0 if found.complete else 1


@with_options
def field(
    *,
    first: MovingMap,
    last: TargetMap,
    settings: Settings = ONE_PLAN,
    domain: Annotated[
        list[str] | None,
        typer.Option(
            help="Mask of a part of the first map that moves as a rigid body; repeat for each part.",
            autocompletion=complete_map,
        ),
    ] = None,
    request: Request,
    quiet: Quiet = False,
) -> int:
    """Find where the mass of one map goes in another: maps of the displacement, arrows, motion of parts."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.other_runs import run_field

    request = replace(request, maps=(first, last), command=command_line())
    with Terminal(quiet=quiet) as terminal:
        displacement = run_field(request, settings, terminal, domain or [])
    return 0 if displacement.settled else 1


@with_options
def bodies(
    *,
    first: MovingMap,
    last: TargetMap,
    settings: Settings = RIGID,
    request: Request,
    quiet: Quiet = False,
) -> int:
    """Find the parts of two maps that move as rigid bodies: masks, a table of their motions, a picture."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.body_runs import run_bodies

    request = replace(request, maps=(first, last), command=command_line())
    with Terminal(quiet=quiet) as terminal:
        run_bodies(request, settings, terminal)
    return 0


def _run(request: Request, settings: Settings, quiet: bool, verbose: bool) -> int:
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.morph_run import run_morph

    request = replace(request, command=command_line())
    with Terminal(quiet=quiet, verbose=verbose) as terminal:
        trajectory = run_morph(request, settings, terminal)
    return 0 if trajectory is None or trajectory.complete else 1
