"""Resampling of a map from one grid onto another.

Computed in double precision on the host, returned in the input's dtype.

**Faces.** A Fourier series repeats the box. That suits maps that are empty at the faces of their box, and those
that do repeat, but not a structure that runs out of the box through a face: the step from the last slice to the
first would ring. Along such an axis (``cut_axes``) maps are interpolated by cubic splines, which end at the faces.
"""

from dataclasses import replace
from math import isfinite, prod

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from morphot_jax.maps.limits import FLOOR
from morphot_jax.maps.pose import IDENTITY, Pose
from morphot_jax.maps.volume import Grid, Shape, Volume, same_grid
from morphot_jax.system.errors import InputError

STEP = 0.01  # of the strongest slice: a smaller step from the last slice to the first does not ring noticeably
STEEP = 2.0  # times the largest change between the slices at the faces: a larger step is no repetition
LEAST_SLICES = 4  # of a cubic spline
MARGIN = 4  # voxels by which a map goes on beyond the faces that cut it when it is turned


def cut_axes(data: Float[np.ndarray, "z y x"]) -> tuple[int, ...]:
    """The axes along which the faces of the box cut the structure: its last slice does not go on in its first.

    The step |f_0 - f_(n-1)| is compared with |f_1 - f_0| and |f_(n-1) - f_(n-2)|, in the norm of slices.
    """
    return tuple(axis for axis, n in enumerate(data.shape) if n >= LEAST_SLICES and _is_cut(data, axis))


def _is_cut(data: Float[np.ndarray, "z y x"], axis: int) -> bool:
    first, second, last_but_one, last = (data.take(k, axis).astype(np.float64, copy=False) for k in (0, 1, -2, -1))
    step = float(np.linalg.norm(first - last))
    if step <= STEEP * max(np.linalg.norm(second - first), np.linalg.norm(last - last_but_one)):
        return False
    others = tuple(k for k in range(3) if k != axis)
    return step > STEP * float(np.sqrt((data.astype(np.float64) ** 2).sum(axis=others).max()))


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
      (``fourier_matrix``), which is exact for band-limited maps; by splines (``spline_matrix``) along axes whose
      faces cut the structure.
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


def spline_matrix(n: int, places: Float[np.ndarray, " m"], finest: float = 2.0) -> Float[np.ndarray, "m n"]:
    """The matrix that interpolates n samples at other places by a cubic spline without a knot next to its ends.

    Arguments and zero rows are those of ``fourier_matrix``. Wavelengths shorter than ``finest`` are first left out
    of the samples, by the Fourier series of the samples and their mirror image.
    """
    from scipy.interpolate import CubicSpline  # noqa: PLC0415 - takes a fifth of a second, and few maps need it

    matrix = CubicSpline(np.arange(n), np.eye(n))(places)
    if finest > 2.0:
        both = fourier_matrix(2 * n, np.arange(float(n)), finest)
        matrix = matrix @ (both[:, :n] + both[:, : n - 1 : -1])
    return np.where(((places >= -0.5) & (places <= n - 0.5))[:, None], matrix, 0.0)


def resampled(volume: Volume, shape: Shape) -> tuple[Volume, float]:
    """Resample the map to another number of voxels over the same box; density values do not change.

    By splines along axes whose faces cut the structure, else by Fourier cropping or padding. Returns also the
    share of its power (the variance of its densities) that lay in detail finer than the new voxels hold.
    """
    cut = cut_axes(volume.data) if shape != volume.shape else ()
    between = shape_of(volume.shape[axis] if axis in cut else shape[axis] for axis in range(3))
    data = fourier_resample(volume.data, between) * (prod(between) / volume.data.size)
    ratios = [n / m for n, m in zip(volume.shape, shape, strict=True)]
    places = [np.arange(m) * n / m for n, m in zip(volume.shape, shape, strict=True)]
    for axis in cut:
        n = volume.shape[axis]
        known = np.minimum(places[axis], n - 0.5)
        data = _along(spline_matrix(n, known, 2.0 * ratios[axis]), data, axis)
    power = float(volume.data.var(dtype=np.float64))
    lost = max(0.0, 1.0 - float(data.var()) / power) if power > 0 else 0.0
    if volume.data.min() >= 0:
        data = without_ringing(data, volume.data, places, _voxels_of(ratios))
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


def without_ringing(
    data: Float[np.ndarray, "z y x"],
    given: Float[np.ndarray, "Z Y X"],
    places: list[np.ndarray],
    reach: list[int],
) -> Float[np.ndarray, "z y x"]:
    """Cut what a filter of a non-negative map left below zero, or away from the map, and restore the mass.

    A sharp-edged map rings over the whole box; the positive half of the ringing would be false mass. ``given``:
    the map before the filter. ``places``: where the voxels of ``data`` lie along each of its axes, in its voxels.
    ``reach``: how many of its voxels the filter may carry density.
    """
    return with_mass(np.where((data > 0) & _near(given, places, reach), data, 0.0), float(data.sum()))


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
    data, places, ratios, cut = volume.data.astype(np.float64), [], [], cut_axes(volume.data)
    for axis, n in enumerate(volume.shape):
        x = 2 - axis
        position = like.origin[x] + np.arange(like.shape[axis]) * like.voxel_size[x]
        places.append((position - volume.origin[x]) / volume.voxel_size[x])
        ratios.append(like.voxel_size[x] / volume.voxel_size[x])
        interpolating = spline_matrix if axis in cut else fourier_matrix
        data = _along(interpolating(n, places[-1], 2.0 * ratios[-1]), data, axis)
    if volume.data.min() < 0 or data.sum() <= 0:
        return data
    return without_ringing(data, volume.data, places, _voxels_of(ratios))


def _splined(volume: Volume, like: Volume | Grid, pose: Pose) -> Float[np.ndarray, "z y x"]:
    """Interpolate the moved map at the voxels of another grid, by cubic splines."""
    fine = _band_limited(volume, like)
    cut = cut_axes(fine.data)
    whole = _continued(fine, cut) if cut else fine
    # grid-constant: the interpolation includes the zeros beyond the box, so there is no step at its faces.
    options = {"output_shape": like.shape, "order": 3, "mode": "grid-constant", "cval": 0.0}
    data = ndimage.affine_transform(whole.data, _affine(whole, like, pose), **options)
    if cut:
        data = np.where(_inside(fine, like, pose, cut), data, 0.0)
    if volume.data.min() >= 0 > data.min() and data.sum() > 0:
        return with_mass(np.maximum(data, 0.0), float(data.sum()))
    return data


def _continued(volume: Volume, axes: tuple[int, ...]) -> Volume:
    """Continue a map beyond both faces of some axes, by its point reflection at the last voxels."""
    width = [MARGIN * (axis in axes) for axis in range(3)]
    data = np.pad(volume.data, [(k, k) for k in width], mode="reflect", reflect_type="odd")
    x, y, z = (o - k * v for o, k, v in zip(volume.origin, width[::-1], volume.voxel_size, strict=True))
    return replace(volume, data=data, origin=(x, y, z))


def _inside(
    volume: Volume, like: Volume | Grid, pose: Pose, axes: tuple[int, ...]
) -> Bool[np.ndarray, "#z #y #x"]:
    """Mark the voxels of ``like`` that come from between the faces of the map's box along some axes."""
    affine = _affine(volume, like, pose)
    inside = np.ones((1, 1, 1), bool)
    grids = np.meshgrid(*map(np.arange, like.shape), indexing="ij", sparse=True)
    for axis in axes:
        turn, start = affine[axis, :3], affine[axis, 3]
        place = start + sum(t * grid for t, grid in zip(turn, grids, strict=True))
        inside = inside & (place >= -0.5) & (place <= volume.shape[axis] - 0.5)
    return inside


def _voxels_of(ratios: list[float]) -> list[int]:
    """The voxels, along each axis, that a new voxel covers of the old ones; ``ratios``: of their sizes."""
    return [int(np.ceil(max(ratio, 1.0))) for ratio in ratios]


def _along(matrix: Float[np.ndarray, "m n"], data: Float[np.ndarray, "z y x"], axis: int) -> np.ndarray:
    """Apply a matrix along one axis."""
    return np.moveaxis(np.tensordot(matrix, data, axes=(1, axis)), 0, axis)


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
