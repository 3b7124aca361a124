"""Walls: the region that mass must not leave on its way between maps."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import Window, bounding_box
from morphot_jax.morphing.settings import Settings
from morphot_jax.prepare.masks import as_mask, mask_on
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import percent
from morphot_jax.transport import walks
from morphot_jax.transport.kernels import Kernel

INSIDE = 0.5  # of a mask: voxels with as much or more are inside
LITTLE = 0.05  # share of a map's mass: as much may lie outside, and is removed


@dataclass(frozen=True, eq=False)
class Walls:
    """The region that mass must not leave, on the grid of the maps.

    - ``inside``: its voxels, one connected piece. ``longest``: the number of steps between neighbouring voxels on
      the longest way inside it, of those that the mass of any map may have to go to the next map.
    """

    inside: Bool[np.ndarray, "z y x"] = field(repr=False)
    longest: int

    @property
    def window(self) -> Window:
        """The smallest box around the region."""
        return bounding_box(self.inside)

    def steps(self, sigma: tuple[float, float, float]) -> int:
        """The number of steps of the walks, of this standard deviation in voxels along z, y, x."""
        return max(self.longest, walks.least_steps(sigma))

    def kernel(self, sigma: tuple[float, float, float], dtype: np.dtype) -> Kernel:
        """The kernel of walks inside the region, on its window."""
        return walks.walled(self.inside[self.window], np.array(sigma), self.steps(sigma), dtype)


def enclosed(prepared: Prepared, region: Volume) -> tuple[Prepared, Walls]:
    """The maps without what lies outside a region, and the walls around it.

    ``region``: a mask, 0 to 1, on any grid. Its voxels of 0.5 or more are inside; of several pieces, whose voxels
    share no faces, the one that holds most of the mass counts, since no mass can pass between them. Raises
    InputError where more than ``LITTLE`` of a map's mass lies outside.
    """
    mask, said = as_mask(region, "the region")
    pieces, count = _pieces(mask_on(mask, prepared.volumes[0]) >= INSIDE)
    if not count:
        raise InputError("the region has no voxels on the grid of the maps: give one that lies where the maps are")
    total = sum(volume.data / mass for volume, mass in zip(prepared.volumes, prepared.masses, strict=True))
    held = ndimage.sum_labels(total, pieces, np.arange(1, count + 1))
    inside = pieces == 1 + int(np.argmax(held))
    volumes = tuple(volume.with_data(np.where(inside, volume.data, 0.0)) for volume in prepared.volumes)
    masses = tuple(volume.mass for volume in volumes)
    split = f" (mass cannot pass between its {count} pieces: the one with most of it counts)" if count > 1 else ""
    actions = [said] if said else []
    for k, (left, all_of_it) in enumerate(zip(masses, prepared.masses, strict=True), 1):
        outside = 1.0 - left / all_of_it
        if outside > LITTLE:
            raise InputError(
                f"{percent(outside)} of the mass of map {k} lies outside the region{split}: give a region "
                f"that holds all but {LITTLE:.0%} of each map, or cut the map first (--mask, --level)"
            )
        if outside > 0:
            actions.append(f"map {k}: {percent(outside)} of its mass lay outside the region{split}: removed")
    cut = replace(prepared, volumes=volumes, masses=masses, actions=(*prepared.actions, *actions))
    longest = max(walks.steps_between(inside, a.data, b.data) for a, b in pairwise(volumes))
    return cut, Walls(inside, longest)


def with_walls(settings: Settings) -> Settings:
    """The settings of a morph inside a region, whose method is bridge; InputError for what leaves regions."""
    if settings.method not in ("auto", "bridge"):
        raise InputError(
            f"a region does not go with the method '{settings.method}', whose mass leaves it: give the method "
            "bridge"
        )
    if settings.unbalanced is not None:
        raise InputError(
            f"unbalanced is {settings.unbalanced:g} Å and a region is given: leave out one of the two"
        )
    return replace(settings, method="bridge")


def _pieces(inside: Bool[np.ndarray, "z y x"]) -> tuple[np.ndarray, int]:
    """The number of its piece for every voxel of a region, zero outside; and how many there are."""
    pieces = np.empty(inside.shape, np.int32)
    return pieces, int(np.asarray(ndimage.label(inside, output=pieces)))
