"""The part of the box that matters: where the maps are, and a margin for what spreads from there."""

import numpy as np
from jaxtyping import Bool

Window = tuple[slice, slice, slice]

SPARE = 2  # voxels that are added to any margin


def bounding_box(mask: Bool[np.ndarray, "z y x"]) -> Window:
    """The smallest box around what is true; the whole box where nothing is."""
    if not mask.any():
        mask = ~mask
    slices = []
    for axis in range(3):
        present = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        slices.append(slice(int(present[0]), int(present[-1]) + 1))
    return slices[0], slices[1], slices[2]


def part_of(window: Window) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """The window as starts and stops, which can be hashed."""
    z, y, x = ((part.start, part.stop) for part in window)
    return z, y, x


def widened(window: Window, sigma: tuple[float, float, float], sigmas: float, shape: tuple[int, ...]) -> Window:
    """The window with a margin of so many ``sigmas`` on every side, as far as the box goes."""
    margin = [int(np.ceil(sigmas * s)) + SPARE for s in sigma]
    z, y, x = (
        slice(max(0, part.start - wide), min(n, part.stop + wide))
        for part, wide, n in zip(window, margin, shape, strict=True)
    )
    return z, y, x
