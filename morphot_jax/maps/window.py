"""Windows: the part of the box that holds the maps, and margins around it and around voxels."""

import numpy as np
from jaxtyping import Bool, Num
from scipy.ndimage import distance_transform_edt

Window = tuple[slice, slice, slice]

SPARE = 2  # voxels added to every margin


def bounding_box(mask: Bool[np.ndarray, "z y x"]) -> Window:
    """The smallest box around the true voxels; the whole box if there are none."""
    if not mask.any():
        mask = ~mask
    slices = []
    for axis in range(3):
        present = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        slices.append(slice(int(present[0]), int(present[-1]) + 1))
    return slices[0], slices[1], slices[2]


def window_shape(window: Window) -> tuple[int, int, int]:
    """The number of voxels along each axis."""
    z, y, x = (part.stop - part.start for part in window)
    return z, y, x


def part_of(window: Window) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """The starts and stops of a window, which can be hashed."""
    z, y, x = ((part.start, part.stop) for part in window)
    return z, y, x


def widened(window: Window, sigma: tuple[float, float, float], sigmas: float, shape: tuple[int, ...]) -> Window:
    """Widen the window by ``sigmas`` times ``sigma`` on every side, up to the faces of the box."""
    margin = [int(np.ceil(sigmas * s)) + SPARE for s in sigma]
    z, y, x = (
        slice(max(0, part.start - wide), min(n, part.stop + wide))
        for part, wide, n in zip(window, margin, shape, strict=True)
    )
    return z, y, x


def grown(
    values: Num[np.ndarray, "z y x"], rim: float, some: Bool[np.ndarray, "z y x"] | None = None
) -> Num[np.ndarray, "z y x"]:
    """Values, and for ``rim`` voxels around them that of the nearest; zero beyond.

    ``some``: where there are values; where they are not zero, if it is not given.
    """
    empty = values == 0 if some is None else ~some
    nearest = np.asarray(distance_transform_edt(empty, return_distances=False, return_indices=True))
    beside = np.linalg.norm(nearest - np.indices(values.shape), axis=0) <= rim
    return np.where(beside, values[tuple(nearest)], 0)
