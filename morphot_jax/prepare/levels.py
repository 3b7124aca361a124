"""Contour levels of a map: by the share of its mass, or by the number of voxels, that a level encloses."""

import numpy as np
from jaxtyping import Float

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
