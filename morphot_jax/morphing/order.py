"""Where on the way between two maps do others lie? ``order_maps``: the paper's ordering of a series of maps.

A trajectory is made between two maps, and every other map is compared with each of its frames,

    D_it = min_c || m_i - c f_t ||_2 / || m_i ||_2 = sqrt(1 - correlation(m_i, f_t)^2) ,

the relative L2 distance after the best scale, since the scale of a density is no property of the structure. The
map's place is the time of the least distance, refined by the parabola through its square and those beside it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from morphot_jax.maps import metrics
from morphot_jax.maps.check import several_maps
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.progress import ProgressReport
from morphot_jax.morphing.settings import ORDERING, Settings
from morphot_jax.morphing.trajectory import Trajectory, morph
from morphot_jax.prepare.prepared import Prepared, prepare_maps
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import silent


@dataclass(frozen=True, eq=False, repr=False)
class Ordering:
    """Maps along a trajectory.

    - ``distances``: D_it. ``times``: t of each frame.
    - ``places``: the time at which each map lies. ``nearest``: the index of its nearest frame.
    - ``order``: the maps by their places; those of one place keep the order in which they were given.
    """

    distances: Float[np.ndarray, "maps t"]
    times: Float[np.ndarray, " t"]
    places: Float[np.ndarray, " maps"]
    nearest: Int[np.ndarray, " maps"]
    trajectory: Trajectory

    def __repr__(self) -> str:
        first, last = self.places.min(), self.places.max()
        return f"Ordering({len(self.places)} maps from t = {first:.3f} to {last:.3f} along {self.trajectory})"

    @property
    def order(self) -> Int[np.ndarray, " maps"]:
        return np.argsort(self.places, kind="stable")


def order_maps(
    maps: Prepared | Iterable[Volume],
    between: tuple[Volume, Volume] | None = None,
    settings: Settings | None = None,
    *,
    report: ProgressReport = silent,
) -> Ordering:
    """Find the place of each map on the trajectory between two.

    - ``maps``: one or more. ``between``: the ends of the trajectory, whose first gives the grid.
    - ``maps`` may be prepared already, the two ends first; then ``between`` is left out.
    - ``settings``: of the trajectory; without explicit frames or times, 101 frames.

    Raises InputError for what is no map, for maps that cannot be used, and for too few.
    """
    settings = settings or ORDERING
    if not isinstance(maps, Prepared):
        if between is None:
            raise InputError("no ends were given: name the two maps that the others lie between")
        ends = several_maps(between, "order_maps needs two maps to order the others between")
        if len(ends) != 2:
            raise InputError(f"{len(ends)} maps were given to order the others between: give two")
        maps = prepare_maps([*ends, *several_maps(maps, "order_maps needs one or more maps")])
    if len(maps.volumes) < 3:
        raise InputError(f"{max(0, len(maps.volumes) - 2)} maps to be ordered were given: give one or more")
    levels = None if maps.levels is None else maps.levels[:2]
    two = replace(maps, volumes=maps.volumes[:2], masses=maps.masses[:2], levels=levels)
    trajectory = morph(two, settings, report=report)
    times = np.array([frame.time for frame in trajectory.frames])
    distances = distances_between(
        np.stack([volume.data for volume in maps.volumes[2:]]), np.asarray(trajectory.densities)
    )
    nearest = distances.argmin(axis=1)
    return Ordering(distances, times, refined(distances, times), nearest, trajectory)


def distances_between(
    maps: Float[np.ndarray, "maps z y x"], frames: Float[np.ndarray, "t z y x"]
) -> Float[np.ndarray, "maps t"]:
    """sqrt(1 - c^2), c the correlation of each map with each frame (about zero); 1 where one of them is empty."""
    cosine = np.array([[metrics.correlation(one, frame) for frame in frames] for one in maps])
    return np.sqrt(np.maximum(0.0, 1.0 - cosine**2))


def refined(distances: Float[np.ndarray, "maps t"], times: Float[np.ndarray, " t"]) -> Float[np.ndarray, " maps"]:
    """The time of the least of the parabola through the least squared distance and its two neighbours."""
    places = []
    for row in distances**2:
        k = int(row.argmin())
        places.append(float(times[k]))
        if 0 < k < len(times) - 1:
            second, first, _ = np.polyfit(times[k - 1 : k + 2] - times[k], row[k - 1 : k + 2], 2)
            if second > 0:
                low, high = times[k - 1], times[k + 1]
                places[-1] = float(np.clip(times[k] - first / (2.0 * second), low, high))
    return np.array(places)
