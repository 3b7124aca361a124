"""Contour levels along a trajectory: surfaces whose volume goes evenly from that of one map to that of the next.

At one fixed level a frame would swell and shrink as its densities are spread and gathered, and at one share of its
mass as they are blurred. Instead each map has a level, and a frame between two of them the one where it encloses

    V_t = (1 - s) V_a + s V_b ,

s being its way from map a to map b, V the number of voxels at or above a map's level times the voxel volume.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from morphot_jax.prepare import Prepared
from morphot_jax.threads import side_by_side
from morphot_jax.trajectory import Trajectory, locate

ENCLOSED = 0.8  # share of a map's mass inside its surface where no level is given


def level_of_mass(density: Float[np.ndarray, "z y x"], share: float = ENCLOSED) -> float:
    """The level inside which ``share`` of the mass lies; 0 where there is none."""
    target = share * np.maximum(density, 0.0).sum(dtype=np.float64)
    if not target > 0:
        return 0.0
    # Only the densest part is sorted: as little of it as holds the share.
    cut = float(density.max())
    while (values := density[density >= cut]).sum(dtype=np.float64) < target and cut > 0:
        cut /= 2
    values = np.sort(values)[::-1]
    enclosed = np.cumsum(values, dtype=np.float64)
    return float(values[min(int(np.searchsorted(enclosed, target)), len(values) - 1)])


def level_of_volume(density: Float[np.ndarray, "z y x"], voxels: int) -> float:
    """The level at or above which so many voxels lie, half way to the next voxel's density.

    Voxels of one density are enclosed together. Zero where there is no positive density, else above zero.
    """
    positive = density[density > 0]
    if not len(positive):
        return 0.0
    voxels = min(max(voxels, 1), len(positive))
    place = len(positive) - voxels  # of the least dense voxel inside, from the least dense on
    if place == 0:
        return 0.5 * float(positive.min())
    around = np.partition(positive, (place - 1, place))
    return 0.5 * (float(around[place - 1]) + float(around[place]))


def enclosed(density: Float[np.ndarray, "z y x"], level: float) -> int:
    """How many voxels lie at or above a level."""
    return int(np.count_nonzero(density >= level))


def levels_along(trajectory: Trajectory, prepared: Prepared) -> Float[np.ndarray, " t"]:
    """The level of each frame; those of the maps are the ones that were given, or enclose 80 % of their mass."""
    data = [volume.data for volume in prepared.volumes]
    levels = prepared.levels or [level_of_mass(density) for density in data]
    times = np.array([frame.time for frame in trajectory.frames])
    return frame_levels(trajectory.densities, times, data, levels)[0]


def frame_levels(
    densities: Float[np.ndarray, "t z y x"],
    times: Float[np.ndarray, " t"],
    maps: Sequence[Float[np.ndarray, "z y x"]],
    levels: Sequence[float],
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """The level of each frame, and the number of voxels that it was to enclose, V_t.

    ``maps``: two or more, evenly spaced in time, each with one of ``levels``.
    """
    volumes = np.array([enclosed(data, level) for data, level in zip(maps, levels, strict=True)], np.float64)
    places = [locate(float(time), len(maps)) for time in times]
    targets = np.array([(1.0 - share) * volumes[k] + share * volumes[k + 1] for k, share in places])
    pairs = zip(densities, targets, strict=True)
    found = side_by_side(lambda pair: level_of_volume(pair[0], round(float(pair[1]))), pairs)
    return np.array(found), targets
