"""A physical map: densities on a grid that knows its place and scale. No algorithms, no files."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Volume:
    """A density map on a regular grid.

    Voxel ``data[k, j, i]`` lies at ``origin + (i, j, k) * voxel_size`` Å when the cell is orthogonal.

    - ``data``: densities, axes ``z y x``, C order.
    - ``voxel_size``: Å along x, y, z (the order of map headers, not of the array).
    - ``origin``: position of voxel (0, 0, 0) in Å, along x, y, z.
    - ``nstart``: grid index of the first voxel along x, y, z, as the file's header gave it. It tells only how
      the file expressed the origin; resampling sets it to zero.
    - ``cell_angles``: alpha, beta, gamma of the cell in degrees.
    """

    data: Float[np.ndarray, "z y x"]
    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    nstart: tuple[int, int, int] = (0, 0, 0)
    cell_angles: tuple[float, float, float] = (90.0, 90.0, 90.0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        z, y, x = self.data.shape
        return z, y, x

    @property
    def mass(self) -> float:
        """Sum over voxels, accumulated in double precision."""
        return float(self.data.sum(dtype=np.float64))

    @property
    def orthogonal(self) -> bool:
        """Whether all cell angles are right angles."""
        return np.allclose(self.cell_angles, 90.0, atol=1e-3)

    def with_data(self, data: Float[np.ndarray, "z y x"]) -> "Volume":
        """The same place and scale with other densities."""
        return replace(self, data=data)
