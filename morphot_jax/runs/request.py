"""What a run is asked to do, beside the settings of the trajectory. Light to import."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from morphot_jax.morphing.settings import SOLVE
from morphot_jax.prepare.preparation import MAPS, PREPARING, Preparation
from morphot_jax.system.options import check_options, declares_options, option
from morphot_jax.system.words import Device

SOLVING = ("morph", "demo", "order", "field", "align")  # commands that compute on a device


@declares_options
@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run is asked to do: with which maps, how they are prepared, and where the results go.

    ``command``: how the run was asked for, for the report. Raises InputError, when it is made, for options that
    cannot be used.
    """

    maps: Sequence[str] = option(
        (),
        "Maps in order: .mrc .map .ccp4, .gz .bz2; sample:NAME, emdb:ENTRY or pdb:ENTRY.",
        argument=True,
        maps=True,
        commands=("morph", "order", "prepare"),
    )
    output: Path = option(help="Folder for the results.", flags=("--output", "-o"), commands=(*SOLVING, "prepare"))
    overwrite: bool = option(False, "Write into a folder that is not empty.", commands=(*SOLVING, "prepare"))
    resume: bool = option(False, "Go on with a run that was interrupted.", commands=("morph",))
    dry_run: bool = option(False, "Say how it would be solved, and what that would take.", commands=("morph",))
    device: Device = option("auto", "Where to compute.", group=SOLVE, commands=SOLVING)
    preparation: Preparation = Preparation()
    voxel_size: float | None = option(
        None,
        "Voxel size of the maps in Å, in place of their headers'.",
        above=0,
        flags=("--apix",),
        group=MAPS,
        commands=(*PREPARING, "align"),
    )
    command: str = ""

    def __post_init__(self) -> None:
        check_options(self)
