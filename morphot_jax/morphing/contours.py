"""Contour levels along a trajectory: surfaces whose volume goes evenly from that of one map to that of the next.

At one fixed level a frame would swell and shrink as its densities are spread and gathered, and at one share of its
mass as they are blurred. Instead each map has a level, and a frame between two of them the one where it encloses

    V_t = (1 - s) V_a + s V_b ,

s being its way from map a to map b, V the number of voxels at or above a map's level times the voxel volume.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from morphot_jax.morphing.trajectory import Trajectory, locate
from morphot_jax.prepare.levels import enclosed, level_of_mass, level_of_volume
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.system.threads import side_by_side


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
