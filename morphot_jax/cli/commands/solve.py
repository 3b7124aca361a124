"""Commands that solve: ``morph``, ``demo``, ``order``, ``field``. Heavy imports wait inside the command."""

from typing import Annotated

import typer

from morphot_jax.cli.completion import complete_map, complete_words
from morphot_jax.cli.options import (
    SOLVE,
    TRAJECTORY,
    AlignOption,
    Apix,
    Box,
    DeviceOption,
    DustOption,
    Frames,
    Grid,
    LevelOption,
    LowPass,
    Maps,
    MaskOption,
    MatchOption,
    MethodOption,
    Output,
    Overwrite,
    Quiet,
    SigmaAngstrom,
    SigmaOption,
    Verbose,
    auto_or,
    command_line,
    numbers,
    preparing,
)
from morphot_jax.system.words import Criterion, KernelChoice, Mass, Precision, Rate


def morph(
    maps: Maps,
    output: Output,
    method: MethodOption = "auto",
    frames: Frames = 25,
    times: Annotated[
        str | None,
        typer.Option(help="Explicit t in [0, 1], as in 0,0.25,1; 0 is the first map.", rich_help_panel=TRAJECTORY),
    ] = None,
    rate: Annotated[Rate, typer.Option(help="Speed along the trajectory.", rich_help_panel=TRAJECTORY)] = "linear",
    keyframes: Annotated[
        int,
        typer.Option(help="Barycenters for each pair of maps, for --method mixed.", rich_help_panel=TRAJECTORY),
    ] = 5,
    sigma: SigmaOption = None,
    sigma_angstrom: SigmaAngstrom = None,
    kernel: Annotated[KernelChoice, typer.Option(help="How to convolve.", rich_help_panel=SOLVE)] = "auto",
    tolerance: Annotated[
        float,
        typer.Option(help="A frame is converged when the criterion is at most this.", rich_help_panel=SOLVE),
    ] = 1e-6,
    criterion: Annotated[
        Criterion, typer.Option(help="What the tolerance is compared with.", rich_help_panel=SOLVE)
    ] = "marginal_error",
    max_iterations: Annotated[
        int, typer.Option(help="The most iterations a frame may take.", rich_help_panel=SOLVE)
    ] = 500,
    iterations: Annotated[
        int | None, typer.Option(help="Make exactly so many iterations.", rich_help_panel=SOLVE)
    ] = None,
    relaxation: Annotated[
        str,
        typer.Option(
            help="Over-relaxation: auto, or a number below 2; 1 is the plain iteration.",
            rich_help_panel=SOLVE,
            autocompletion=complete_words("auto"),
        ),
    ] = "auto",
    debias: Annotated[
        bool,
        typer.Option(
            "--debias",
            help="Take the kernel's blur out of barycenters; the ends are the maps.",
            rich_help_panel=SOLVE,
        ),
    ] = False,
    mass: Annotated[
        Mass,
        typer.Option(
            help="interpolated: frame t has the mass (1-t) m0 + t m1. original: as MorphOT scaled.",
            rich_help_panel=TRAJECTORY,
        ),
    ] = "interpolated",
    precision: Annotated[
        Precision, typer.Option(help="Of the solve; frames are single precision.", rich_help_panel=SOLVE)
    ] = "auto",
    level: LevelOption = "auto",
    dust: DustOption = "auto",
    lowpass: LowPass = None,
    mask: MaskOption = None,
    match: MatchOption = "none",
    align: AlignOption = "none",
    box: Box = None,
    grid: Grid = None,
    apix: Apix = None,
    batch: Annotated[
        str,
        typer.Option(
            help="Frames solved at once: auto or a number.",
            rich_help_panel=SOLVE,
            autocompletion=complete_words("auto"),
        ),
    ] = "auto",
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how it would be solved, and what that would take.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Morph two or more maps, in order, into one another: OUT gets a map for each frame, a report and pictures."""
    from morphot_jax.morphing.settings import Settings
    from morphot_jax.runs.morph_run import Request

    settings = Settings(
        method=method,
        frames=frames,
        times=None if times is None else numbers("times", times),
        rate=rate,
        keyframes=keyframes,
        sigma=sigma,
        sigma_angstrom=sigma_angstrom,
        kernel=kernel,
        criterion=criterion,
        tolerance=tolerance,
        max_iterations=max_iterations,
        iterations=iterations,
        relaxation=auto_or("relaxation", relaxation, float),
        debias=debias,
        mass=mass,
        precision=precision,
        batch=auto_or("batch", batch, int),
    )
    request = Request(
        maps=maps,
        output=output,
        command=command_line(),
        device=device,
        **preparing(locals()),
        overwrite=overwrite,
        resume=resume,
        dry_run=dry_run,
    )
    return _run(request, settings, quiet, verbose)


def demo(
    output: Output,
    method: MethodOption = "auto",
    frames: Frames = 25,
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Morph the chaperonin Mm-cpn from open to closed (the paper's Figure 1), from maps that come along."""
    from morphot_jax.morphing.settings import Settings
    from morphot_jax.runs.morph_run import Request

    maps = ["sample:mmcpn-open", "sample:mmcpn-closed"]
    request = Request(maps, output, command=command_line(), device=device, overwrite=overwrite)
    return _run(request, Settings(method=method, frames=frames), quiet, verbose)


def order(
    maps: Maps,
    between: Annotated[
        tuple[str, str],
        typer.Option(help="The two maps that the others lie between.", autocompletion=complete_map),
    ],
    output: Output,
    frames: Annotated[
        int,
        typer.Option(help="How many frames to compare with, evenly spaced in time.", rich_help_panel=TRAJECTORY),
    ] = 101,
    method: MethodOption = "auto",
    sigma: SigmaOption = None,
    sigma_angstrom: SigmaAngstrom = None,
    level: LevelOption = "auto",
    dust: DustOption = "auto",
    lowpass: LowPass = None,
    mask: MaskOption = None,
    match: MatchOption = "none",
    align: AlignOption = "none",
    box: Box = None,
    grid: Grid = None,
    apix: Apix = None,
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Order maps by where they lie on the way between two: a table, a heat map, and each one's time."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.morphing.settings import Settings
    from morphot_jax.runs.morph_run import Request
    from morphot_jax.runs.other_runs import run_order

    settings = Settings(method=method, frames=frames, sigma=sigma, sigma_angstrom=sigma_angstrom)
    request = Request(
        maps=[*between, *maps],
        output=output,
        command=command_line(),
        device=device,
        **preparing(locals()),
        overwrite=overwrite,
    )
    with Terminal(quiet=quiet, verbose=verbose) as terminal:
        ordering = run_order(request, settings, terminal)
    return 0 if ordering.trajectory.complete else 1


def field(
    first: Annotated[
        str, typer.Argument(metavar="MAP", help="The map whose mass moves.", autocompletion=complete_map)
    ],
    last: Annotated[
        str, typer.Argument(metavar="TO", help="The map that it becomes.", autocompletion=complete_map)
    ],
    output: Output,
    domain: Annotated[
        list[str] | None,
        typer.Option(
            help="Mask of a part of the first map that moves as a body; one for each.",
            autocompletion=complete_map,
        ),
    ] = None,
    sigma: SigmaOption = None,
    sigma_angstrom: SigmaAngstrom = None,
    level: LevelOption = "auto",
    dust: DustOption = "auto",
    lowpass: LowPass = None,
    mask: MaskOption = None,
    match: MatchOption = "none",
    align: AlignOption = "none",
    box: Box = None,
    grid: Grid = None,
    apix: Apix = None,
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Find where the mass of one map goes in another: maps of the displacement, arrows, how each part moves."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.morphing.settings import Settings
    from morphot_jax.runs.morph_run import Request
    from morphot_jax.runs.other_runs import run_field

    settings = Settings(method="displacement", sigma=sigma, sigma_angstrom=sigma_angstrom)
    preparation = preparing(locals())
    request = Request([first, last], output, command_line(), device, **preparation, overwrite=overwrite)
    with Terminal(quiet=quiet) as terminal:
        run_field(request, settings, terminal, domain or [])


def _run(request, settings, quiet: bool, verbose: bool) -> int:
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.morph_run import run_morph

    with Terminal(quiet=quiet, verbose=verbose) as terminal:
        trajectory = run_morph(request, settings, terminal)
    return 0 if trajectory is None or trajectory.complete else 1
