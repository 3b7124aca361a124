"""Shells of frequency: sums over a map's Fourier transform at each resolution.

Maps are real, so half of the transform is enough: the half of ``numpy.fft.rfftn``. Voxel sizes along x, y, z.
"""

import numpy as np
from jaxtyping import Complex, Float, Int

VoxelSize = tuple[float, float, float]
ONE_VOXEL: VoxelSize = (1.0, 1.0, 1.0)


def radii(shape: tuple[int, ...], voxel_size: VoxelSize = ONE_VOXEL) -> Float[np.ndarray, "z y half"]:
    """|k| in cycles per Å, or per voxel if no voxel size is given."""
    z, y, x = voxel_size[::-1]
    frequencies = np.fft.fftfreq(shape[0], z), np.fft.fftfreq(shape[1], y), np.fft.rfftfreq(shape[2], x)
    return np.sqrt(sum(f**2 for f in np.meshgrid(*frequencies, indexing="ij", sparse=True)))


def shells(shape: tuple[int, ...], voxel_size: VoxelSize = ONE_VOXEL) -> Int[np.ndarray, "z y half"]:
    """The number of the shell of each |k|: rint(|k| L), with L the longest edge of the box."""
    return np.rint(radii(shape, voxel_size) * _longest(shape, voxel_size)).astype(int)


def _longest(shape: tuple[int, ...], voxel_size: VoxelSize) -> float:
    """The longest edge of a box."""
    return max(n * step for n, step in zip(shape, voxel_size[::-1], strict=True))


def summed(
    values: Float[np.ndarray, "z y half"], shell: Int[np.ndarray, "z y half"], columns: int
) -> Float[np.ndarray, " shells"]:
    """Sum values over each shell of the whole transform; ``columns``: voxels of the map along x."""
    return np.bincount(shell.ravel(), (stands_for(columns) * values).ravel())


def power(
    transform: Complex[np.ndarray, "z y half"], shell: Int[np.ndarray, "z y half"], columns: int
) -> Float[np.ndarray, " shells"]:
    """The power of a map in each shell, from its transform; ``columns``: voxels of the map along x."""
    return summed(np.abs(transform) ** 2, shell, columns)


def correlation(
    first: Complex[np.ndarray, "z y half"],
    second: Complex[np.ndarray, "z y half"],
    shell: Int[np.ndarray, "z y half"],
    columns: int,
) -> Float[np.ndarray, " shells"]:
    """Re sum F_a F_b* / sqrt(sum |F_a|^2 sum |F_b|^2) in each shell (FSC); 0 where one of the maps is zero."""
    pairs = (first, second), (first, first), (second, second)
    cross, *powers = (summed(np.real(p * q.conj()), shell, columns) for p, q in pairs)
    norms = np.sqrt(powers[0] * powers[1])
    return np.divide(cross, norms, out=np.zeros_like(cross), where=norms > 0)


def last_shell(shape: tuple[int, ...], voxel_size: VoxelSize = ONE_VOXEL) -> int:
    """The number of the last shell that is whole: that of the Nyquist frequency of the longest voxel edge."""
    return int(_longest(shape, voxel_size) / (2.0 * max(voxel_size)))


def wavelength(shell: float | int, shape: tuple[int, ...], voxel_size: VoxelSize = ONE_VOXEL) -> float:
    """1 / |k| of a shell, in Å or voxels; also between shells."""
    return _longest(shape, voxel_size) / shell


def first_below(values: Float[np.ndarray, " shells"], least: float) -> float | None:
    """The number of the shell where values fall below ``least``, by straight lines between shells; None if never.

    ``values``: of shells 1, 2 and so on.
    """
    below = np.flatnonzero(values < least)
    if not len(below):
        return None
    k = int(below[0])
    share = (values[k - 1] - least) / (values[k - 1] - values[k]) if k else 1.0
    return float(k + share)


def stands_for(columns: int) -> Float[np.ndarray, " half"]:
    """How many columns of the whole transform each column of its half stands for: two, but for those at the ends.

    The first stands for itself, and so does the last if ``columns``, the voxels of the map along x, is even.
    """
    weight = np.full(columns // 2 + 1, 2.0)
    weight[0] = 1.0
    if columns % 2 == 0:
        weight[-1] = 1.0
    return weight
