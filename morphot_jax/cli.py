"""The command ``morphot``. Everything heavy is imported inside the command that needs it."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from morphot_jax.choices import Criterion, KernelChoice, Mass, Motion, Precision, Rate
from morphot_jax.errors import InputError
from morphot_jax.options import (
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
    numbers,
    preparing,
)

app = typer.Typer(
    help="Morph cryo-EM density maps into one another by entropic optimal transport.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

BAD_INPUT, INTERRUPTED = 2, 130


def main() -> None:
    """Run the command line: 0 done, 1 a frame did not converge, 2 bad input or usage (one line, no traceback)."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except InputError as error:
        code = _fail(str(error))
    except typer.TyperException as error:
        code = _fail(_usage(error))
    if code == INTERRUPTED:  # what typer makes of Ctrl-C
        print("morphot: interrupted", file=sys.stderr)
    sys.exit(code or 0)


def _usage(error: typer.TyperException) -> str:
    """What was wrong with the command, with the value that was received."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        received = cause.errors()[0]["input"]
        if repr(received) not in message:
            message += f"; received {received!r}"
    return f"{message}. See 'morphot --help'"


def _fail(message: str) -> int:
    print(f"morphot: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT


@app.command()
def morph(
    maps: Maps,
    output: Output,
    method: MethodOption = "auto",
    frames: Frames = 25,
    times: Annotated[
        str | None, typer.Option(help="Explicit t in [0, 1], as in 0,0.25,1; 0 is the first map.")
    ] = None,
    rate: Annotated[Rate, typer.Option(help="Speed along the trajectory.")] = "linear",
    keyframes: Annotated[int, typer.Option(help="Barycenters for each pair of maps, for --method mixed.")] = 5,
    sigma: SigmaOption = None,
    sigma_angstrom: SigmaAngstrom = None,
    kernel: Annotated[KernelChoice, typer.Option(help="How to convolve.")] = "auto",
    tolerance: Annotated[
        float, typer.Option(help="A frame is converged when the criterion is at most this.")
    ] = 1e-6,
    criterion: Annotated[Criterion, typer.Option(help="What the tolerance is compared with.")] = "marginal_error",
    max_iterations: Annotated[int, typer.Option(help="The most iterations a frame may take.")] = 500,
    iterations: Annotated[int | None, typer.Option(help="Make exactly so many iterations.")] = None,
    relaxation: Annotated[
        str, typer.Option(help="Over-relaxation: auto, or a number below 2; 1 is the plain iteration.")
    ] = "auto",
    debias: Annotated[
        bool,
        typer.Option("--debias", help="Take the kernel's blur out of barycenters; the ends are the maps."),
    ] = False,
    mass: Annotated[
        Mass, typer.Option(help="interpolated: frame t has the mass (1-t) m0 + t m1. original: as MorphOT scaled.")
    ] = "interpolated",
    precision: Annotated[Precision, typer.Option(help="Of the solve; frames are single precision.")] = "auto",
    level: LevelOption = "auto",
    dust: DustOption = "auto",
    lowpass: LowPass = None,
    mask: MaskOption = None,
    match: MatchOption = "none",
    align: AlignOption = "none",
    box: Box = None,
    grid: Grid = None,
    apix: Apix = None,
    batch: Annotated[str, typer.Option(help="Frames solved at once: auto or a number.")] = "auto",
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
    from morphot_jax.run import Request
    from morphot_jax.settings import Settings

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
        command=_command(),
        device=device,
        **preparing(locals()),
        overwrite=overwrite,
        resume=resume,
        dry_run=dry_run,
    )
    return _run(request, settings, quiet, verbose)


@app.command()
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
    from morphot_jax.run import Request
    from morphot_jax.settings import Settings

    maps = ["sample:mmcpn-open", "sample:mmcpn-closed"]
    request = Request(maps, output, command=_command(), device=device, overwrite=overwrite)
    return _run(request, Settings(method=method, frames=frames), quiet, verbose)


@app.command()
def order(
    maps: Maps,
    between: Annotated[tuple[str, str], typer.Option(help="The two maps that the others lie between.")],
    output: Output,
    frames: Annotated[int, typer.Option(help="How many frames to compare with, evenly spaced in time.")] = 101,
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
    from morphot_jax.run import Request, run_order
    from morphot_jax.settings import Settings
    from morphot_jax.terminal import Terminal

    settings = Settings(method=method, frames=frames, sigma=sigma, sigma_angstrom=sigma_angstrom)
    request = Request(
        maps=[*between, *maps],
        output=output,
        command=_command(),
        device=device,
        **preparing(locals()),
        overwrite=overwrite,
    )
    ordering = run_order(request, settings, Terminal(quiet=quiet, verbose=verbose))
    return 0 if ordering.trajectory.complete else 1


@app.command()
def prepare(
    maps: Maps,
    output: Output,
    level: LevelOption = "auto",
    dust: DustOption = "auto",
    lowpass: LowPass = None,
    mask: MaskOption = None,
    match: MatchOption = "none",
    align: AlignOption = "none",
    box: Box = None,
    grid: Grid = None,
    apix: Apix = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Bring maps onto one grid and clean them, as morph does before it solves; write them and what was done."""
    from morphot_jax.run import Request, run_prepare
    from morphot_jax.terminal import Terminal

    request = Request(
        maps=maps,
        output=output,
        command=_command(),
        **preparing(locals()),
        overwrite=overwrite,
    )
    run_prepare(request, Terminal(quiet=quiet))


@app.command()
def align(
    moving: Annotated[str, typer.Argument(metavar="MAP", help="The map to move.")],
    fixed: Annotated[str, typer.Argument(metavar="ONTO", help="The map that it is laid onto.")],
    output: Output,
    motion: Annotated[Motion, typer.Option(help="A rotation and a shift, or a shift alone.")] = "rigid",
    mirror: Annotated[bool, typer.Option("--mirror", help="Try the other hand too, and use the better.")] = False,
    apix: Apix = None,
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Lay one map onto another where they fit best: the moved map, the motion, and a script that shows them."""
    from morphot_jax.run import Request, run_align
    from morphot_jax.terminal import Terminal

    request = Request([moving, fixed], output, _command(), device, voxel_size=apix, overwrite=overwrite)
    run_align(request, Terminal(quiet=quiet), motion=motion, mirror=mirror)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="The map in question.")],
    second: Annotated[str, typer.Argument(help="The map that it is compared with.")],
    threshold: Annotated[float, typer.Option(help="Contour, as a fraction of each map's own maximum.")] = 0.01,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print how different two maps are: RMSD, volume and voxel difference (the paper, Eq 3.1-3.3), correlation."""
    import json
    import math

    from morphot_jax.grids import same_grid
    from morphot_jax.inputs import load
    from morphot_jax.metrics import compare_maps

    a, b = load(first).volume, load(second).volume
    if not same_grid(a, b):
        raise InputError(
            f"'{first}' has {a.shape} voxels at {a.origin} Å and '{second}' has {b.shape} at {b.origin} Å: "
            "compare maps on one grid"
        )
    measures = compare_maps(a.data, b.data, threshold)
    if as_json:
        print(json.dumps({k: v if math.isfinite(v) else None for k, v in measures.items()}, indent=2))
    else:
        for name, value in measures.items():
            print(f"{name:24s}{value:.6g}")


@app.command()
def simulate(
    model: Annotated[str, typer.Argument(help="Atomic model: PDB or mmCIF, also .gz, or sample:NAME.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Map to write, .mrc or .mrc.gz.")],
    resolution: Annotated[
        float, typer.Option(help="Å; Gaussians have a standard deviation of 0.225 times this.")
    ] = 8.0,
    grid: Annotated[int | None, typer.Option(help="Voxels along each axis. [as many as the model needs]")] = None,
    apix: Annotated[float | None, typer.Option(help="Voxel size in Å. [resolution / 3]")] = None,
    like: Annotated[str | None, typer.Option(help="Map whose grid to use, in place of --grid and --apix.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the map if it exists.")] = False,
) -> None:
    """Make a density map from an atomic model, a Gaussian for each atom."""
    from morphot_jax.atoms import Box, choose_box, read_atoms, simulate_density
    from morphot_jax.inputs import SAMPLE, load
    from morphot_jax.mrc import write_volume
    from morphot_jax.samples import sample_atoms

    atoms = sample_atoms(model.removeprefix(SAMPLE)) if model.startswith(SAMPLE) else read_atoms(model)
    if like is None:
        box = choose_box(atoms, resolution=resolution, grid=grid, apix=apix)
    elif grid or apix:
        raise InputError(f"--like {like} already gives a grid: leave out --grid and --apix")
    else:
        template = load(like).volume
        box = Box(template.shape, template.voxel_size, template.origin)
    volume = simulate_density(atoms, **box._asdict(), resolution=resolution)
    write_volume(volume, output, overwrite=overwrite)
    x, y, z = volume.voxel_size
    print(f"{output}: {len(atoms.weights)} atoms on {volume.shape} voxels (z y x) of {x:g} x {y:g} x {z:g} Å")


@app.command()
def fetch(
    entries: Annotated[list[str], typer.Argument(help="EMD-5138 or emdb:5138; 3IYF or pdb:3iyf.")],
    fresh: Annotated[bool, typer.Option("--fresh", help="Download again, and trust what comes.")] = False,
    quiet: Quiet = False,
) -> None:
    """Download entries of the EMDB and the PDB, once, and print where their files are."""
    from morphot_jax.run import download
    from morphot_jax.terminal import Terminal

    for name in entries:
        print(download(name, Terminal(quiet=quiet), fresh=fresh))


@app.command()
def info(
    maps: Maps,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Print what map files say about themselves, and what their voxels hold."""
    import json

    from morphot_jax.inputs import describe_map

    for entry in (described := [describe_map(name) for name in maps]):
        if not as_json:
            print("\n".join(f"{key:18s}{value}" for key, value in entry.items()), end="\n\n")
    if as_json:
        print(json.dumps(described, indent=2))


def _run(request, settings, quiet: bool, verbose: bool) -> int:
    from morphot_jax.run import run_morph
    from morphot_jax.terminal import Terminal

    trajectory = run_morph(request, settings, Terminal(quiet=quiet, verbose=verbose))
    return 0 if trajectory is None or trajectory.complete else 1


def _command() -> str:
    return shlex.join(["morphot", *sys.argv[1:]])
