"""Contour levels of a map, chosen by the share of the mass or by the number of voxels that they enclose."""

import numpy as np
from jaxtyping import Float

ENCLOSED = 0.8  # share of a map's mass inside its surface if no level is given


def level_of_mass(density: Float[np.ndarray, "z y x"], share: float = ENCLOSED) -> float:
    """The level that encloses ``share`` of the mass; 0 if there is no mass."""
    target = share * np.maximum(density, 0.0).sum(dtype=np.float64)
    if not target > 0:
        return 0.0
    # Only the densest part is sorted, just large enough to hold the share.
    cut = float(density.max())
    while (values := density[density >= cut]).sum(dtype=np.float64) < target and cut > 0:
        cut /= 2
    values = np.sort(values)[::-1]
    enclosed = np.cumsum(values, dtype=np.float64)
    return float(values[min(int(np.searchsorted(enclosed, target)), len(values) - 1)])


def level_of_volume(density: Float[np.ndarray, "z y x"], voxels: int) -> float:
    """The level that encloses this number of voxels, half way to the density of the next voxel.

    Voxels of equal density are enclosed together. The level is zero if there is no positive density.
    """
    positive = density[density > 0]
    if not len(positive):
        return 0.0
    voxels = min(max(voxels, 1), len(positive))
    place = len(positive) - voxels  # of the least dense enclosed voxel, counted from the least dense of all
    if place == 0:
        return 0.5 * float(positive.min())
    around = np.partition(positive, (place - 1, place))
    return 0.5 * (float(around[place - 1]) + float(around[place]))


def enclosed(density: Float[np.ndarray, "z y x"], level: float) -> int:
    """Count the voxels at or above a level."""
    return int(np.count_nonzero(density >= level))
