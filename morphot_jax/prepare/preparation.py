"""The options of ``prepare_maps``, without slow imports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Union

from morphot_jax.maps.limits import FLOOR, MAX_AXIS, MIN_AXIS
from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_options, declares_options, option

if TYPE_CHECKING:
    import morphot_jax.maps.volume

Align = Literal["none", "rigid", "translation"]
Match = Literal["none", "mass", "density", "spectrum"]
Place = Literal["header", "centre"]

MAPS = "Preparing the maps"  # a group of options
# Commands that prepare maps.
PREPARING = ("morph", "barycenter", "order", "place", "landscape", "field", "bodies", "prepare")


@declares_options
@dataclass(frozen=True)
class Preparation:
    """The preparation of maps before a solve; ``prepare_maps`` lists the steps in order.

    Raises InputError for options that cannot be used.
    """

    level: float | Sequence[float] | Literal["auto", "none"] = option(
        "auto",
        "Remove density below this level: auto, none, one number, or one for each map (1.2,0.9).",
        group=MAPS,
        commands=PREPARING,
    )
    dust: int | None = option(
        None,
        "Remove pieces of fewer voxels: a number, or auto (small pieces in noisy maps).",
        least=0,
        none="auto",
        group=MAPS,
        commands=PREPARING,
    )
    lowpass: float | None = option(
        None, "Remove detail finer than this (Å).", above=0, group=MAPS, commands=PREPARING
    )
    mask: Union[str, "morphot_jax.maps.volume.Volume", None] = option(
        None, "Multiply the maps by this map of values from 0 to 1.", maps=True, group=MAPS, commands=PREPARING
    )
    match: Match = option(
        "none",
        "Give every map the mass or the density of the first map, or its amplitudes at each resolution.",
        group=MAPS,
        commands=PREPARING,
    )
    align: Align = option("none", "Align every map to the first one.", group=MAPS, commands=PREPARING)
    place: Place = option(
        "header",
        "Lay maps where their headers say, or the middle of every box on that of the first.",
        group=MAPS,
        commands=PREPARING,
    )
    box: int | None = option(
        None,
        "Cut or pad the maps to N^3 voxels about the middle of their box.",
        least=MIN_AXIS,
        most=MAX_AXIS,
        group=MAPS,
        commands=PREPARING,
    )
    grid: int | None = option(
        None, "Resample to N^3 voxels.", least=MIN_AXIS, most=MAX_AXIS, group=MAPS, commands=PREPARING
    )
    apix: float | None = option(None, "Resample to voxels of this size (Å), instead of grid.", above=0)
    floor: float = option(FLOOR, "Remove density below this fraction of a map's maximum.", least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)
        if self.grid is not None and self.apix is not None:
            raise InputError(
                f"a grid of {self.grid} and a voxel size of {self.apix:g} Å were both asked for: choose one"
            )
        if self.match == "spectrum" and self.has_levels:
            raise InputError(
                f"level {self.level} refers to the densities as given, which match 'spectrum' changes: "
                "use one only"
            )

    @property
    def has_levels(self) -> bool:
        """Whether levels other than zero are given as numbers."""
        if isinstance(self.level, str):
            return False
        return any(self.level) if isinstance(self.level, Sequence) else self.level != 0
