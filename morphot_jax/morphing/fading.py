"""What an unbalanced morph does not move: mass that fades from one map and mass that appears in the next.

Both are densities on the grid of the maps, in their units. Mass that fades is in the first map and nowhere in the
second within reach; it goes evenly with time, as 1 - t. Mass that appears comes as t.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from morphot_jax.maps.resample import places_of, voxel_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import grown
from morphot_jax.prepare.clean import density_ratio
from morphot_jax.system.reporting import percent

DENSE = 0.05  # of the map's maximum: fading density above it forms regions
RIM = 2.0  # voxels of fainter density around these
LEAST = 1e-3  # of the map's mass: smaller regions are left out
TOUCHING = np.ones((3, 3, 3), int)  # voxels that share a corner belong together
SAME = 0.1  # how far the densities of two maps on one scale may differ


@dataclass(frozen=True)
class Region:
    """Connected voxels whose mass fades or appears.

    - ``mass``: of it, in the units of the map; ``share``: of the map's mass. ``volume``: Å^3.
    - ``centre``: of the mass, Å along x, y, z. ``peak``: the largest density that fades or appears there.
    """

    mass: float
    share: float
    volume: float
    centre: tuple[float, float, float]
    peak: float


@dataclass(frozen=True, eq=False)
class Fading:
    """What fades of a map and appears in the next.

    - ``before``: the index of the first of the two among all maps. ``maps``: the two.
    - ``fades``, ``appears``: densities of the mass that the first map loses and that the second gains.
    """

    before: int
    maps: tuple[Volume, Volume] = field(repr=False)
    fades: Volume = field(repr=False)
    appears: Volume = field(repr=False)

    @property
    def carried(self) -> Volume:
        """The density of the first map that moves to the second."""
        first = self.maps[0]
        return first.with_data(np.maximum(first.data - self.fades.data, 0.0))

    @property
    def shares(self) -> tuple[float, float]:
        """The share of the first map's mass that fades, and of the second map's that appears."""
        lost, gained = (part.mass / whole.mass for part, whole in zip(self.parts, self.maps, strict=True))
        return lost, gained

    @property
    def parts(self) -> tuple[Volume, Volume]:
        """What fades and what appears."""
        return self.fades, self.appears

    def regions(self) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        """The regions that fade and those that appear, the largest first."""
        lost, gained = (regions_of(part, whole) for part, whole in zip(self.parts, self.maps, strict=True))
        return lost, gained


def regions_of(part: Volume, whole: Volume) -> tuple[Region, ...]:
    """The connected regions of a part of a map with at least ``LEAST`` of its mass, the largest first.

    A region is connected where the part has ``DENSE`` times the map's maximum, and has a rim of ``RIM`` voxels.
    """
    labels = np.zeros(part.shape, np.int32)
    if not ndimage.label(part.data > DENSE * whole.data.max(), TOUCHING, output=labels):
        return ()
    labels = grown(labels, RIM)
    masses = np.bincount(labels.ravel(), part.data.ravel().astype(np.float64))[1:]
    largest = [int(k) for k in np.argsort(-masses) if masses[k] >= LEAST * whole.mass]
    return tuple(_region(part, labels == k + 1, float(masses[k]) / whole.mass) for k in largest)


def _region(part: Volume, inside: Bool[np.ndarray, "z y x"], share: float) -> Region:
    voxels, values = np.argwhere(inside), part.data[inside].astype(np.float64)
    x, y, z = np.average(places_of(part, voxels), axis=0, weights=values)
    volume = len(voxels) * voxel_volume(part)
    return Region(float(values.sum()), float(share), volume, (float(x), float(y), float(z)), float(values.max()))


def shares_of_fading(faded: Sequence[Fading]) -> tuple[str, ...]:
    """How much fades of each map and appears in the next, in a sentence."""
    return tuple(
        f"{percent(found.shares[0])} of map {found.before + 1} fades, and {percent(found.shares[1])} of map "
        f"{found.before + 2} appears: nothing within reach matches it"
        for found in faded
    )


def about_fading(faded: Sequence[Fading]) -> tuple[str, ...]:
    """Warnings about pairs of maps that are not on one scale, where mass would fade and appear for that alone."""
    warnings = []
    for found in faded:
        ratio = density_ratio(*(volume.data for volume in found.maps))
        if abs(np.log(ratio)) > np.log1p(SAME):
            one, other = found.before + 1, found.before + 2
            warnings.append(
                f"where both are dense, map {other} has {ratio:.3g} times the density of map {one}, and an "
                "unbalanced morph takes that as mass: --match density brings the maps to one scale"
            )
    return tuple(warnings)
