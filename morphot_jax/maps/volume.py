"""A physical map: densities on a grid with a position and a voxel size. No algorithms, no files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, DTypeLike

from morphot_jax.system.errors import InputError, quoted

SAME_PLACE = 0.02  # voxels: grids that differ by no more than this are the same

Shape = tuple[int, int, int]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """The voxel positions of a map, without densities: the target of a resampling.

    - ``shape``: number of voxels along z, y, x.
    - ``voxel_size``, ``origin``: as in ``Volume``, Å along x, y, z.
    """

    shape: Shape
    voxel_size: Triple
    origin: Triple


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """A density map on a regular grid.

    Voxel ``data[k, j, i]`` lies at ``origin + (i, j, k) * voxel_size`` Å when the cell is orthogonal.

    - ``data``: densities, axes ``z y x``, at least one voxel, all finite. Arrays of single and double precision
      are used without a copy; integers, booleans and half precision become float32.
    - ``voxel_size``: Å along x, y, z (the order of map headers, not of the array), above zero.
    - ``origin``: position of voxel (0, 0, 0) in Å, along x, y, z.
    - ``nstart``: grid index of the first voxel along x, y, z, as in the file's header. It records only how
      the file gave the origin; resampling sets it to zero.
    - ``cell_angles``: alpha, beta, gamma of the cell in degrees.

    ``np.asarray(volume)`` gives ``data``. Two volumes are equal only if they are the same object: compare grids
    with ``same_grid`` and densities with NumPy.

    Raises ``InputError`` for data that is not such an array, and for an invalid voxel size or origin. Every new
    volume is checked, also in ``with_data``, because only new densities can bring NaN into a map. The check takes
    much less time than reading or writing a file.
    """

    data: Float[np.ndarray, "z y x"]
    voxel_size: Triple
    origin: Triple = (0.0, 0.0, 0.0)
    nstart: tuple[int, int, int] = (0, 0, 0)
    cell_angles: Triple = (90.0, 90.0, 90.0)

    def __post_init__(self) -> None:
        checked = {
            "data": _densities(self.data),
            "voxel_size": _lengths("voxel size", self.voxel_size, least=0.0),
            "origin": _lengths("origin", self.origin),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        data, edges = self.data, ", ".join(f"{edge:g}" for edge in self.voxel_size)
        return (
            f"Volume(shape={self.shape}, voxel_size=({edges}) Å, "
            f"densities {data.min():.4g} to {data.max():.4g}, mass {self.mass:.6g})"
        )

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.data, dtype=dtype, copy=copy)

    @property
    def shape(self) -> Shape:
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

    def same_grid(self, other: "Volume | Grid") -> bool:
        """Whether the shapes are equal and no voxel is more than 0.02 voxels away from its counterpart."""
        return same_grid(self, other)

    def with_data(self, data: ArrayLike) -> "Volume":
        """Return a volume with other densities and the same grid."""
        return replace(self, data=data)


def same_grid(a: Volume | Grid, b: Volume | Grid) -> bool:
    """Whether the shapes are equal and no voxel is more than 0.02 voxels away from its counterpart."""
    if a.shape != b.shape:
        return False
    first = np.subtract(a.origin, b.origin)
    last = first + np.multiply(np.subtract(a.voxel_size, b.voxel_size), np.array(a.shape[::-1]) - 1)
    return bool(np.all(np.maximum(abs(first), abs(last)) <= SAME_PLACE * np.array(b.voxel_size)))


def _densities(given: Any) -> Float[np.ndarray, "z y x"]:
    """Check an array of densities and convert it to single or double precision."""
    if not hasattr(given, "__array__"):
        raise InputError(f"a Volume needs a 3D array of densities, z y x, and got {quoted(given)}: make an array")
    data = np.asarray(given)
    if data.ndim != 3 or data.size == 0:
        raise InputError(
            f"a Volume needs a 3D array, z y x, of one or more voxels, and got the shape {data.shape}: reshape it"
        )
    if data.dtype.kind not in "fiub":
        raise InputError(f"a Volume needs real densities, and got an array of type {data.dtype}: convert it")
    double = data.dtype.kind == "f" and data.dtype.itemsize >= 8
    data = data.astype(np.float64 if double else np.float32, copy=False)
    # The minimum and the maximum are NaN if any voxel is, and need no extra memory.
    if not (isfinite(data.min()) and isfinite(data.max())):
        bad = data.size - np.count_nonzero(np.isfinite(data))
        raise InputError(f"{bad} of {data.size} voxels are NaN or infinite; replace them, for instance by 0")
    return data


def _lengths(name: str, given: Any, least: float = -np.inf) -> Triple:
    """Check three finite lengths above ``least``."""
    values = list(given) if isinstance(given, Sequence | np.ndarray) and not isinstance(given, str) else []
    if len(values) != 3 or not all(_is_number(value) and isfinite(value) and value > least for value in values):
        kind = "finite lengths" if least == -np.inf else "lengths above zero"
        raise InputError(f"the {name} {quoted(given)} cannot be used: give three {kind}, Å along x, y, z")
    x, y, z = map(float, values)
    return x, y, z


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating)
