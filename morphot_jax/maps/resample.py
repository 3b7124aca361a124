"""Resampling of a map from one grid onto another.

Computed in double precision on the host, returned in the input's dtype.
"""

from dataclasses import replace
from math import isfinite, prod

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from morphot_jax.maps.limits import FLOOR
from morphot_jax.maps.pose import IDENTITY, Pose
from morphot_jax.maps.volume import Grid, Shape, Volume, same_grid
from morphot_jax.system.errors import InputError


def fourier_resample(data: Float[np.ndarray, "z y x"], shape: Shape) -> Float[np.ndarray, "Z Y X"]:
    """Crop or pad the Fourier transform F to another number of voxels: F'(k) = F(k) for |k| <= min(n, n')/2.

    The box and the position of voxel (0, 0, 0) do not change: sample i of n' lies at i * length / n'. The sum over
    voxels does not change either, so densities are multiplied by n/n' per axis. Periodic functions that are
    band-limited to the coarser grid are resampled exactly. Axes of unchanged length are left untouched. Double
    precision.
    """
    for axis, (old, new) in enumerate(zip(data.shape, shape, strict=True)):
        if old != new:
            data = _fourier_resample_axis(np.moveaxis(data, axis, -1), new)
            data = np.ascontiguousarray(np.moveaxis(data, -1, axis))
    return data


def resample_onto(volume: Volume, like: Volume | Grid, pose: Pose = IDENTITY) -> Volume:
    """Sample ``volume``, moved by ``pose``, at the voxel positions of ``like``; zero outside its box.

    Density values do not change, so the mass (sum over voxels) changes by the ratio of the voxel volumes.

    - Shifts by whole voxels: copied bit for bit.
    - No motion: interpolated by the Fourier series without the frequencies that the target's voxels cannot hold
      (``fourier_matrix``), which is exact for band-limited maps.
    - A motion: interpolated by cubic splines, after Fourier cropping to about the target's voxel size if that is
      coarser (interpolation alone would alias).

    If the map has no negative density, ringing below zero or away from the map is cut and the mass restored. Both
    cells must be orthogonal.
    """
    start = np.subtract(like.origin, volume.origin)[::-1] / volume.voxel_size[::-1]
    whole = np.rint(start).astype(int)
    if pose is IDENTITY and same_grid(_place(volume, like, whole), like):
        data = _copied(volume.data, whole, like.shape)
    elif pose is IDENTITY:
        data = _interpolated(volume, like).astype(_dtype(volume), copy=False)
    else:
        data = _splined(volume, like, pose).astype(_dtype(volume), copy=False)
    return replace(volume, data=data, voxel_size=like.voxel_size, origin=like.origin, nstart=(0, 0, 0))


def fourier_matrix(n: int, places: Float[np.ndarray, " m"], finest: float = 2.0) -> Float[np.ndarray, "m n"]:
    """The matrix that interpolates n samples of a periodic function at other places, by its Fourier series.

    M_ij = (1/n) sum_k w_k cos(2 pi k (p_i - j) / n), k = 0 ... n / max(finest, 2), w_k = 1 for k = 0 and k = n/2,
    else 2. ``places``: p in samples; the row is zero for a place more than half a sample outside the box.
    ``finest``: wavelengths shorter than this number of samples are left out.
    """
    k = np.arange(int(n / max(finest, 2.0) + 1e-6) + 1)
    weight = np.where((k == 0) | (2 * k == n), 1.0, 2.0) / n
    new, old = (np.multiply.outer(x, 2.0 * np.pi * k / n) for x in (places, np.arange(n)))
    matrix = (np.cos(new) * weight) @ np.cos(old).T + (np.sin(new) * weight) @ np.sin(old).T
    return np.where(((places >= -0.5) & (places <= n - 0.5))[:, None], matrix, 0.0)


def resampled(volume: Volume, shape: Shape) -> tuple[Volume, float]:
    """Resample the map to another number of voxels over the same box; density values do not change.

    Returns also the share of its power (the variance of its densities) that lay in detail finer than the new
    voxels hold.
    """
    data = fourier_resample(volume.data, shape) * (prod(shape) / volume.data.size)
    power = float(volume.data.var(dtype=np.float64))
    lost = max(0.0, 1.0 - float(data.var()) / power) if power > 0 else 0.0
    if volume.data.min() >= 0:
        # A sharp-edged map rings over the whole box; the positive half of the ringing would be false mass.
        clean = np.where((data > 0) & _footprint(volume.data, shape), data, 0.0)
        data = with_mass(clean, float(data.sum()))
    pairs = zip(volume.voxel_size, volume.shape[::-1], shape[::-1], strict=True)
    x, y, z = (v * n / m for v, n, m in pairs)
    result = replace(volume, data=data.astype(_dtype(volume)), voxel_size=(x, y, z), nstart=(0, 0, 0))
    return result, lost


def with_mass(data: Float[np.ndarray, "z y x"], mass: float) -> Float[np.ndarray, "z y x"]:
    """Scale densities to a given sum over voxels, mass * data / sum(data), in double precision.

    It restores the mass after a solve at unit mass: frame t of a morph has mass (1 - t) * mass_0 + t * mass_1.
    Raises ``InputError`` unless the sum of ``data`` is positive and finite.
    """
    total = float(data.sum(dtype=np.float64))
    if not (isfinite(total) and total > 0):
        raise InputError(f"densities sum to {total:g}: only a positive sum can be scaled to a mass")
    return data.astype(np.float64) * (mass / total)


def share_outside(volume: Volume, like: Volume | Grid, surface: float) -> float:
    """The share of the density at or above ``surface`` that lies outside the box of ``like``."""
    solid = np.where(volume.data >= surface, volume.data, 0.0)
    inside = []
    for axis in range(3):
        x = 2 - axis
        position = volume.origin[x] + np.arange(volume.shape[axis]) * volume.voxel_size[x]
        index = (position - like.origin[x]) / like.voxel_size[x]
        inside.append((index >= -0.5) & (index <= like.shape[axis] - 0.5))
    return 1.0 - float(solid[np.ix_(*inside)].sum(dtype=np.float64) / solid.sum(dtype=np.float64))


def places_of(volume: Volume | Grid, indices: np.ndarray) -> Float[np.ndarray, "n 3"]:
    """Convert voxel indices along z, y, x to positions in Å along x, y, z."""
    return np.array(volume.origin) + indices[:, ::-1] * np.array(volume.voxel_size)


def indices_of(volume: Volume | Grid, places: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Convert positions in Å along x, y, z to fractional indices along z, y, x: the inverse of ``places_of``."""
    return ((places - np.array(volume.origin)) / np.array(volume.voxel_size))[:, ::-1]


def voxel_volume(volume: Volume) -> float:
    return prod(volume.voxel_size)


def shape_of(lengths) -> Shape:
    z, y, x = (int(n) for n in lengths)
    return z, y, x


def by_text(values) -> str:
    return " x ".join(f"{v:g}" for v in values)


def triple_text(values) -> str:
    return f"({', '.join(f'{v:g}' for v in values)})"


def grid_text(volume: Volume | Grid) -> str:
    x, y, z = shape = volume.shape[::-1]
    voxel = [round(v, 4) for v in volume.voxel_size]
    voxels = f"{x}^3 voxels" if x == y == z else f"{by_text(shape)} voxels (x y z)"
    size = f"{voxel[0]:g}" if voxel[0] == voxel[1] == voxel[2] else by_text(voxel)
    return f"{voxels} of {size} Å at origin {triple_text(volume.origin)} Å"


def _interpolated(volume: Volume, like: Volume | Grid) -> Float[np.ndarray, "z y x"]:
    """Interpolate the map at the voxels of another grid, by its Fourier series along each axis."""
    data, places, ratios = volume.data.astype(np.float64), [], []
    for axis, n in enumerate(volume.shape):
        x = 2 - axis
        position = like.origin[x] + np.arange(like.shape[axis]) * like.voxel_size[x]
        places.append((position - volume.origin[x]) / volume.voxel_size[x])
        ratios.append(like.voxel_size[x] / volume.voxel_size[x])
        matrix = fourier_matrix(n, places[-1], 2.0 * ratios[-1])
        data = np.moveaxis(np.tensordot(matrix, data, axes=(1, axis)), 0, axis)
    if volume.data.min() < 0 or data.sum() <= 0:
        return data
    # A sharp-edged map rings over the whole box; the positive half of the ringing would be false mass.
    reach = [int(np.ceil(max(ratio, 1.0))) for ratio in ratios]
    return with_mass(np.where((data > 0) & _near(volume.data, places, reach), data, 0.0), float(data.sum()))


def _splined(volume: Volume, like: Volume | Grid, pose: Pose) -> Float[np.ndarray, "z y x"]:
    """Interpolate the moved map at the voxels of another grid, by cubic splines."""
    fine = _band_limited(volume, like)
    # grid-constant: the interpolation includes the zeros beyond the box, so there is no step at its faces.
    options = {"output_shape": like.shape, "order": 3, "mode": "grid-constant", "cval": 0.0}
    data = ndimage.affine_transform(fine.data, _affine(fine, like, pose), **options)
    if volume.data.min() >= 0 > data.min() and data.sum() > 0:
        return with_mass(np.maximum(data, 0.0), float(data.sum()))
    return data


def _footprint(data: np.ndarray, shape: Shape) -> np.ndarray:
    """Mark voxels of a grid of ``shape`` over the same box that lie within a voxel, old or new, of the map."""
    reach = [int(np.ceil(max(n / m, 1.0))) for n, m in zip(data.shape, shape, strict=True)]
    return _near(data, [np.arange(m) * n / m for n, m in zip(data.shape, shape, strict=True)], reach)


def _near(data: np.ndarray, places: list[np.ndarray], reach: list[int]) -> np.ndarray:
    """Mark places along each axis, in voxels, within ``reach`` voxels of density above the floor; periodic."""
    near = ndimage.maximum_filter(data > FLOOR * data.max(), size=[2 * k + 1 for k in reach], mode="wrap")
    return near[np.ix_(*(np.rint(p).astype(int) % n for p, n in zip(places, data.shape, strict=True)))]


def _fourier_resample_axis(data: Float[np.ndarray, "z y n"], new: int) -> Float[np.ndarray, "z y m"]:
    old = data.shape[-1]
    band = min(old, new)
    spectrum = np.fft.rfft(data.astype(np.float64, copy=False), axis=-1)[..., : band // 2 + 1]
    if band % 2 == 0:
        # The highest frequency of an even axis stands for +n/2 and -n/2 together: their coefficients are added
        # when the axis shrinks to n, and shared between the two when it grows from n.
        spectrum[..., -1] *= 2.0 if new < old else 0.5
    return np.fft.irfft(spectrum, n=new, axis=-1)


def _affine(volume: Volume, like: Volume | Grid, pose: Pose) -> Float[np.ndarray, "3 4"]:
    """The map from voxels of ``like`` to the voxels of ``volume`` that move there, along z, y, x."""
    back = pose.inverse()
    turn = back.rotation * np.array(like.voxel_size) / np.array(volume.voxel_size)[:, None]
    start = (back.carried(np.array(like.origin)) - volume.origin) / volume.voxel_size
    return np.column_stack([turn[::-1, ::-1], start[::-1]])


def _band_limited(volume: Volume, like: Volume | Grid) -> Volume:
    """Remove the detail that the grid of ``like`` cannot hold; double precision."""
    ratios = np.minimum(1.0, np.divide(volume.voxel_size, like.voxel_size))[::-1]
    shape = shape_of(np.maximum(1, np.rint(volume.shape * ratios)))
    coarse, _ = resampled(volume, shape) if shape != volume.shape else (volume, 0.0)
    return coarse.with_data(coarse.data.astype(np.float64))


def _place(volume: Volume, like: Volume | Grid, start: np.ndarray) -> Grid:
    """A grid on the lattice of ``volume`` with the shape of ``like``; it begins at voxel ``start`` (z, y, x)."""
    x, y, z = (o + i * v for o, i, v in zip(volume.origin, start[::-1], volume.voxel_size, strict=True))
    return Grid(like.shape, volume.voxel_size, (float(x), float(y), float(z)))


def _copied(data: np.ndarray, start: np.ndarray, shape: Shape) -> np.ndarray:
    """result[i] = data[i + start], zero outside."""
    result = np.zeros(shape, data.dtype)
    low = [max(0, -int(s)) for s in start]
    high = [max(a, min(m, n - int(s))) for a, m, n, s in zip(low, shape, data.shape, start, strict=True)]
    target = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    source = tuple(slice(a + int(s), b + int(s)) for a, b, s in zip(low, high, start, strict=True))
    if all(b > a for a, b in zip(low, high, strict=True)):
        result[target] = data[source]
    return result


def _dtype(volume: Volume) -> np.dtype:
    return np.result_type(volume.data.dtype, np.float32)
