"""What a run should do, beside the settings of the trajectory. It imports nothing heavy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from morphot_jax.morphing.settings import BARYCENTERS, SOLVE, TRAJECTORY
from morphot_jax.prepare.preparation import MAPS, PREPARING, Preparation
from morphot_jax.system.errors import InputError, quoted
from morphot_jax.system.options import check_options, declares_options, option
from morphot_jax.system.words import Device

# Commands that compute on a device.
SOLVING = ("morph", "demo", "barycenter", "order", "place", "landscape", "field", "bodies", "align")


@declares_options
@dataclass(frozen=True, kw_only=True)
class Request:
    """The maps of a run, how to prepare them, and where to write the results.

    ``command``: the command as it was typed, for the report. Construction raises InputError for invalid options.
    """

    maps: Sequence[str] = option(
        (),
        "Maps in order: .mrc .map .ccp4, .gz .bz2; sample:NAME, emdb:ENTRY or pdb:ENTRY.",
        argument=True,
        maps=True,
        commands=("morph", "barycenter", "order", "place", "landscape", "prepare"),
    )
    output: Path = option(help="Folder for the results.", flags=("--output", "-o"), commands=(*SOLVING, "prepare"))
    overwrite: bool = option(False, "Write into a folder that is not empty.", commands=(*SOLVING, "prepare"))
    resume: bool = option(False, "Continue an interrupted run.", commands=(*BARYCENTERS, "landscape"))
    dry_run: bool = option(
        False, "Print how it would be solved, the memory and the time; do not solve.", commands=BARYCENTERS
    )
    body: Sequence[str] = option(
        (),
        "Mask of a part of the first map that moves as a rigid body, or MASK:MASK for both maps; repeat for each.",
        maps=True,
        group=TRAJECTORY,
        commands=("morph",),
    )
    half_maps: Sequence[str] = option(
        (),
        "The two half maps of a map, as HALF1:HALF2; repeat for each map. They show what is noise: it fades.",
        maps=True,
        group=TRAJECTORY,
        commands=("morph",),
    )
    model: str | None = option(
        None,
        "Atoms in the first map (PDB, mmCIF): moved along, and for bodies such as chain:A or residues:A:30-59.",
        group=TRAJECTORY,
        commands=("morph",),
    )
    within: str | None = option(
        None,
        "Mask of the region that mass must not leave. For the method bridge.",
        maps=True,
        group=TRAJECTORY,
        commands=("morph",),
    )
    avoid: str | None = option(
        None,
        "Mask of what mass must not enter. For the method bridge.",
        maps=True,
        group=TRAJECTORY,
        commands=("morph",),
    )
    certify: bool = option(
        False,
        "Report bounds of the true transport cost between two maps, without entropy.",
        group=SOLVE,
        commands=("morph",),
    )
    device: Device = option("auto", "Device to compute on.", group=SOLVE, commands=SOLVING)
    preparation: Preparation = Preparation()
    voxel_size: float | None = option(
        None,
        "Voxel size of the maps in Å, instead of the headers' values.",
        above=0,
        flags=("--apix",),
        group=MAPS,
        commands=(*PREPARING, "align"),
    )
    command: str = ""

    def __post_init__(self) -> None:
        check_options(self)
        for text in self.half_maps:
            names = text.split(":")
            if len(names) != 2 or not all(names):
                raise InputError(f"the half maps {quoted(text)} cannot be read: give two files, as HALF1:HALF2")
        if self.half_maps and len(self.half_maps) != len(self.maps):
            raise InputError(
                f"--half-maps was given {len(self.half_maps)} times for {len(self.maps)} maps: "
                "give HALF1:HALF2 once for each map, in their order"
            )
        if self.certify and len(self.maps) > 2:
            raise InputError(
                f"certify is about two maps, and {len(self.maps)} were given: leave it out, or give two"
            )
        if self.certify and (self.within or self.avoid):
            raise InputError("certify is about transport without walls, and a region is given: leave out one")

    @property
    def halves(self) -> list[tuple[str, str]]:
        """The names of the two half maps of each map; empty where none were given."""
        return [(first, second) for first, second in (text.split(":") for text in self.half_maps)]
