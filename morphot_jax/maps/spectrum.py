"""Shells of frequency: sums over a map's Fourier transform at each resolution.

Maps are real, so half of the transform is enough: the half of ``numpy.fft.rfftn``. Voxel sizes along x, y, z.
"""

import numpy as np
from jaxtyping import Float, Int

VoxelSize = tuple[float, float, float]
ONE_VOXEL: VoxelSize = (1.0, 1.0, 1.0)


def radii(shape: tuple[int, ...], voxel_size: VoxelSize = ONE_VOXEL) -> Float[np.ndarray, "z y half"]:
    """|k| in cycles per Å, or per voxel if no voxel size is given."""
    z, y, x = voxel_size[::-1]
    frequencies = np.fft.fftfreq(shape[0], z), np.fft.fftfreq(shape[1], y), np.fft.rfftfreq(shape[2], x)
    return np.sqrt(sum(f**2 for f in np.meshgrid(*frequencies, indexing="ij", sparse=True)))


def shells(shape: tuple[int, ...], voxel_size: VoxelSize = ONE_VOXEL) -> Int[np.ndarray, "z y half"]:
    """The number of the shell of each |k|: rint(|k| L), with L the longest edge of the box."""
    longest = max(n * step for n, step in zip(shape, voxel_size[::-1], strict=True))
    return np.rint(radii(shape, voxel_size) * longest).astype(int)


def summed(
    values: Float[np.ndarray, "z y half"], shell: Int[np.ndarray, "z y half"], columns: int
) -> Float[np.ndarray, " shells"]:
    """Sum values over each shell of the whole transform; ``columns``: voxels of the map along x."""
    return np.bincount(shell.ravel(), (stands_for(columns) * values).ravel())


def power(data: Float[np.ndarray, "z y x"], shell: Int[np.ndarray, "z y half"]) -> Float[np.ndarray, " shells"]:
    """The power of a density in each shell."""
    return summed(np.abs(np.fft.rfftn(data)) ** 2, shell, data.shape[2])


def stands_for(columns: int) -> Float[np.ndarray, " half"]:
    """How many columns of the whole transform each column of its half stands for: two, but for those at the ends.

    The first stands for itself, and so does the last if ``columns``, the voxels of the map along x, is even.
    """
    weight = np.full(columns // 2 + 1, 2.0)
    weight[0] = 1.0
    if columns % 2 == 0:
        weight[-1] = 1.0
    return weight
