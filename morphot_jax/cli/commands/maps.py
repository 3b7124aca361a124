"""Commands about maps: ``prepare``, ``align``, ``compare``, ``simulate``, ``fetch``, ``info``."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from morphot_jax.cli.completion import complete_map
from morphot_jax.cli.options import Quiet, command_line, with_options
from morphot_jax.runs.request import Request
from morphot_jax.system.errors import InputError
from morphot_jax.system.words import Motion

Maps = Annotated[
    list[str],
    typer.Argument(
        help="Maps: .mrc .map .ccp4, .gz .bz2; sample:NAME, emdb:ENTRY or pdb:ENTRY.", autocompletion=complete_map
    ),
]


@with_options
def prepare(*, request: Request, quiet: Quiet = False) -> None:
    """Put maps onto one grid and clean them, as morph does before it solves; write them and a report."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.other_runs import run_prepare

    with Terminal(quiet=quiet) as terminal:
        run_prepare(replace(request, command=command_line()), terminal)


@with_options
def align(
    *,
    moving: Annotated[str, typer.Argument(metavar="MAP", help="The map to move.", autocompletion=complete_map)],
    fixed: Annotated[str, typer.Argument(metavar="ONTO", help="The map that stays.", autocompletion=complete_map)],
    motion: Annotated[Motion, typer.Option(help="A rotation and a shift, or only a shift.")] = "rigid",
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Try the other hand too, and use the better one.")
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Start from where the map lies, without a search of all rotations.")
    ] = False,
    symmetry: Annotated[
        str, typer.Option(metavar="GROUP", help="The symmetry of the map that stays: C3, D8, T, O or I.")
    ] = "C1",
    part: Annotated[
        bool,
        typer.Option("--part", help="MAP is a part of ONTO, as a subunit of a complex: find its place there."),
    ] = False,
    request: Request,
    quiet: Quiet = False,
) -> None:
    """Move one map onto another where they fit best: the moved map, the motion, and a script for ChimeraX."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.other_runs import run_align

    request = replace(request, maps=(moving, fixed), command=command_line())
    with Terminal(quiet=quiet) as terminal:
        run_align(request, terminal, motion=motion, mirror=mirror, local=local, symmetry=symmetry, part=part)


def compare(
    first: Annotated[str, typer.Argument(help="The map to compare.", autocompletion=complete_map)],
    second: Annotated[str, typer.Argument(help="The reference.", autocompletion=complete_map)],
    threshold: Annotated[float, typer.Option(help="Contour level, as a fraction of each maximum.")] = 0.01,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print how much two maps differ: RMSD, volume and voxel difference (the paper, Eq 3.1-3.3), correlation."""
    import json
    import math

    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.maps.load import load
    from morphot_jax.maps.metrics import compare_maps
    from morphot_jax.system.reporting import part_of

    terminal = Terminal()
    with terminal.working("reading") as progress:
        given = [load(name, report=part_of(progress, index, 2)) for index, name in enumerate((first, second))]
    for warning in (text for item in given for text in item.warnings):
        terminal.warn(warning)
    a, b = (item.volume for item in given)
    if not a.same_grid(b):
        raise InputError(
            f"'{first}' has {a.shape} voxels at {a.origin} Å and '{second}' has {b.shape} at {b.origin} Å: "
            "put them onto one grid first (morphot prepare)"
        )
    measures = compare_maps(a.data, b.data, threshold)
    if as_json:
        print(json.dumps({k: v if math.isfinite(v) else None for k, v in measures.items()}, indent=2))
    else:
        for name, value in measures.items():
            print(f"{name:24s}{value:.6g}")


def simulate(
    model: Annotated[str, typer.Argument(help="Atomic model: PDB or mmCIF, also .gz, or sample:NAME.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Map to write, .mrc or .mrc.gz.")],
    resolution: Annotated[
        float, typer.Option(help="Resolution in Å: each Gaussian has a standard deviation of 0.225 times this.")
    ] = 8.0,
    grid: Annotated[int | None, typer.Option(help="Voxels along each axis. [as many as the model needs]")] = None,
    apix: Annotated[float | None, typer.Option(help="Voxel size in Å. [resolution / 3]")] = None,
    like: Annotated[
        str | None,
        typer.Option(help="Map whose grid to use, in place of --grid and --apix.", autocompletion=complete_map),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the map if it exists.")] = False,
) -> None:
    """Make a density map from an atomic model: a Gaussian for each atom."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.maps.atoms import choose_box, read_atoms, simulate_density
    from morphot_jax.maps.load import SAMPLE, files_among, load
    from morphot_jax.maps.mrc import write_volume
    from morphot_jax.maps.samples import sample_atoms
    from morphot_jax.maps.volume import Grid
    from morphot_jax.system.files import keep_apart

    keep_apart([output], files_among((model, like)))
    atoms = sample_atoms(model.removeprefix(SAMPLE)) if model.startswith(SAMPLE) else read_atoms(model)
    if like is None:
        box = choose_box(atoms, resolution=resolution, grid=grid, apix=apix)
    elif grid or apix:
        raise InputError(f"--like {like} already gives a grid: leave out --grid and --apix")
    else:
        given = load(like)
        for warning in given.warnings:
            Terminal().warn(warning)
        template = given.volume
        box = Grid(template.shape, template.voxel_size, template.origin)
    volume = simulate_density(atoms, **vars(box), resolution=resolution)
    write_volume(volume, output, overwrite=overwrite)
    x, y, z = volume.voxel_size
    print(f"{output}: {len(atoms.weights)} atoms on {volume.shape} voxels (z y x) of {x:g} x {y:g} x {z:g} Å")


def fetch(
    entries: Annotated[list[str], typer.Argument(help="EMD-5138 or emdb:5138; 3IYF or pdb:3iyf.")],
    fresh: Annotated[bool, typer.Option("--fresh", help="Download again; accept changed files.")] = False,
    quiet: Quiet = False,
) -> None:
    """Download entries of the EMDB and the PDB, each once, and print the paths of their files."""
    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.runs.steps import download

    for name in entries:
        print(download(name, Terminal(quiet=quiet), fresh=fresh))


def info(
    maps: Maps,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> int:
    """Print the headers of map files, and statistics of their voxels. A file that cannot be read is named."""
    import json

    from morphot_jax.cli.terminal import Terminal
    from morphot_jax.maps.load import describe_map
    from morphot_jax.system.reporting import part_of

    described, terminal = [], Terminal()
    with terminal.working("reading") as progress:
        for index, name in enumerate(maps):
            try:
                described.append(describe_map(name, part_of(progress, index, len(maps))))
            except InputError as error:
                if len(maps) == 1:
                    raise
                terminal.complain(str(error))
    for entry in described:
        if not as_json:
            print("\n".join(f"{key:18s}{value}" for key, value in entry.items()), end="\n\n")
    if as_json:
        print(json.dumps(described, indent=2))
    return 0 if len(described) == len(maps) else 1
