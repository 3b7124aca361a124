"""Contour levels along a trajectory: the enclosed volume changes linearly from each map to the next.

At one fixed level the surface would swell and shrink as a frame's density spreads and gathers; at a fixed share of
the mass it would do so as the density is blurred. Instead each map has its own level, and the level of a frame
between maps a and b is the one that encloses

    V_t = (1 - s) V_a + s V_b ,

where s is the fraction of the time from a to b that has passed, and V the number of voxels at or above a level. A
barycenter of several maps has their weights in place of 1 - s and s.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from morphot_jax.morphing.trajectory import Trajectory
from morphot_jax.prepare.levels import enclosed, level_of_mass, level_of_volume
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.system.threads import side_by_side


def levels_along(trajectory: Trajectory, prepared: Prepared) -> Float[np.ndarray, " t"]:
    """The level of each frame. The levels of the maps are those of ``prepared``, or enclose 80 % of their mass."""
    data = [volume.data for volume in prepared.volumes]
    levels = prepared.levels or [level_of_mass(density) for density in data]
    return frame_levels(trajectory.densities, trajectory.weights(len(data)), data, levels)[0]


def frame_levels(
    densities: Float[np.ndarray, "t z y x"],
    weights: Float[np.ndarray, "t k"],
    maps: Sequence[Float[np.ndarray, "z y x"]],
    levels: Sequence[float],
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """The level of each frame, and V_t, the number of voxels that it should enclose.

    ``weights``: of the maps in each frame. ``maps``: with ``levels`` in the same order.
    """
    volumes = np.array([enclosed(data, level) for data, level in zip(maps, levels, strict=True)], np.float64)
    targets = weights @ volumes
    pairs = zip(densities, targets, strict=True)
    solved = side_by_side(lambda pair: level_of_volume(pair[0], round(float(pair[1]))), pairs)
    return np.array(solved), targets
