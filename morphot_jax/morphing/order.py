"""The order of maps along a trajectory between two of them (``order_maps``), as in the paper.

``order_maps`` morphs between two maps and compares every other map with each frame,

    D_it = min_c || m_i - c f_t ||_2 / || m_i ||_2 = sqrt(1 - correlation(m_i, f_t)^2) ,

the relative L2 distance at the best scale c, since the scale of a density is not a property of the structure. The
map's place is the time of the least distance, refined by a parabola through the least squared distance and its two
neighbours.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from morphot_jax.maps import metrics
from morphot_jax.maps.check import several_maps
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.progress import ProgressReport
from morphot_jax.morphing.settings import ORDERING, Settings
from morphot_jax.morphing.trajectory import Trajectory, morph
from morphot_jax.prepare.prepared import Prepared, prepare_maps
from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_is
from morphot_jax.system.reporting import silent

FAR = 0.5  # of the distance between the ends: a map that lies farther from every frame may not belong there


@dataclass(frozen=True, eq=False, repr=False)
class Ordering:
    """Maps along a trajectory.

    - ``distances``: D_it. ``times``: t of each frame.
    - ``places``: the time at which each map lies. ``nearest``: the index of its nearest frame.
    - ``order``: indices of the maps, sorted by place; maps of equal place keep their given order.
    - ``least``: the distance of each map from its nearest frame. ``span``: D between the first and the last frame.
    - ``off_path``: the maps whose ``least`` is more than half of ``span``: they may not belong on the trajectory.
    """

    distances: Float[np.ndarray, "maps t"]
    times: Float[np.ndarray, " t"]
    places: Float[np.ndarray, " maps"]
    nearest: Int[np.ndarray, " maps"]
    trajectory: Trajectory
    span: float

    def __repr__(self) -> str:
        first, last = self.places.min(), self.places.max()
        return f"Ordering({len(self.places)} maps from t = {first:.3f} to {last:.3f} along {self.trajectory})"

    @property
    def order(self) -> Int[np.ndarray, " maps"]:
        return np.argsort(self.places, kind="stable")

    @property
    def least(self) -> Float[np.ndarray, " maps"]:
        return self.distances.min(axis=1)

    @property
    def off_path(self) -> Bool[np.ndarray, " maps"]:
        return self.least > FAR * self.span


def order_maps(
    maps: Prepared | Iterable[Volume],
    between: tuple[Volume, Volume] | None = None,
    settings: Settings | None = None,
    *,
    report: ProgressReport = silent,
) -> Ordering:
    """Find the place of each map on the trajectory between two others.

    - ``maps``: one or more. ``between``: the two ends of the trajectory; the first gives the grid.
    - ``maps`` may be the result of ``prepare_maps``, the two ends first; then leave out ``between``.
    - ``settings``: of the trajectory; 101 frames where none are given.

    Raises InputError for anything but maps, for maps that cannot be used, and for too few.
    """
    settings = ORDERING if settings is None else settings
    check_is("settings", settings, Settings)
    if not isinstance(maps, Prepared):
        if between is None:
            raise InputError("between is None: give the two maps that the others lie between")
        ends = several_maps(between, "order_maps needs two maps to order the others between")
        if len(ends) != 2:
            raise InputError(f"{len(ends)} maps were given to order the others between: give two")
        maps = prepare_maps([*ends, *several_maps(maps, "order_maps needs one or more maps")])
    if len(maps.volumes) < 3:
        raise InputError(f"{max(0, len(maps.volumes) - 2)} maps to order were given: give one or more")
    levels = None if maps.levels is None else maps.levels[:2]
    two = replace(maps, volumes=maps.volumes[:2], masses=maps.masses[:2], levels=levels)
    trajectory = morph(two, settings, report=report)
    times = np.array([frame.time for frame in trajectory.frames])
    frames = np.asarray(trajectory.densities)
    distances = distances_between(np.stack([volume.data for volume in maps.volumes[2:]]), frames)
    span = float(distances_between(frames[:1], frames[-1:])[0, 0])
    return Ordering(distances, times, refined(distances, times), distances.argmin(axis=1), trajectory, span)


def distances_between(
    maps: Float[np.ndarray, "maps z y x"], frames: Float[np.ndarray, "t z y x"]
) -> Float[np.ndarray, "maps t"]:
    """sqrt(1 - c^2), c being the correlation (about zero) of each map with each frame; 1 where either is empty."""
    cosine = np.array([[metrics.correlation(one, frame) for frame in frames] for one in maps])
    return np.sqrt(np.maximum(0.0, 1.0 - cosine**2))


def refined(distances: Float[np.ndarray, "maps t"], times: Float[np.ndarray, " t"]) -> Float[np.ndarray, " maps"]:
    """The time at the minimum of the parabola through the least squared distance and its two neighbours."""
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
