"""Bring maps onto one grid and make them what transport needs: finite, non-negative densities of known mass.

Mass is the sum over voxels. Computed in double precision on the host, returned in the input's dtype; what needs
no change is returned untouched, and whatever is done to the data is also said in a sentence.

Densities are resampled as they were given and cut (negative values, level, dust) only afterwards: a cut makes
a step at the surface, which would ring, and turns noise about zero into a haze of positive density.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from morphot_jax.errors import InputError
from morphot_jax.volume import MAX_AXIS, Volume

DUST = 1e-6  # fraction of the maximum below which density is dust, not mass
SAME_PLACE = 0.02  # voxels: grids that never differ by more are one grid
NOTICEABLE = 1e-3  # share of a map's density whose loss is worth a sentence
SOLID = 0.1  # fraction of the maximum that tells the body of a map from noise where no level is given

Level = float | Sequence[float] | Literal["auto", "none"] | None
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Prepared:
    """Maps on one grid with densities >= 0.

    ``masses``: sum over voxels of each map. ``actions``: a sentence for everything done to the data, in order.
    """

    volumes: tuple[Volume, ...]
    masses: tuple[float, ...]
    actions: tuple[str, ...]


def prepare_maps(
    volumes: Sequence[Volume],
    *,
    grid: int | None = None,
    apix: float | None = None,
    level: Level = None,
    floor: float = DUST,
    names: Sequence[str] | None = None,
) -> Prepared:
    """Put maps onto one grid and make their densities non-negative, in this order.

    1. Every map whose grid is not the first one's is resampled onto it (``resample_onto``). Positions are taken
       from the headers as they are, origins included.
    2. ``grid=N``: every map is Fourier-resampled to N^3 voxels over the same box, which is first padded with
       zeros at its high end where it is no cube. ``apix=A``: to the whole number of voxels along each axis whose
       size is nearest to A (Å). Origin and mass are kept, so densities grow by the ratio of the voxel volumes;
       in maps without negative density, what rings below zero or away from the map is cut and the mass restored.
    3. Negative densities become zero.
    4. ``level``: densities below it become zero; one number or one per map, in the densities of the maps as
       given. ``floor``: densities below this fraction of the map's maximum are dust and become zero.
       ``level=None`` or ``"auto"`` applies the floor alone, ``"none"`` neither of the two.

    ``names`` are quoted in the sentences. Raises ``InputError`` for maps without positive density, with NaN or
    infinite voxels, oblique cells or voxel sizes that are no lengths, for maps whose boxes do not overlap, for
    levels that leave nothing and grids that cannot be made.
    """
    labels = _labels(volumes, names)
    for volume, label in zip(volumes, labels, strict=True):
        _check_map(volume, label)
    levels = _levels(volumes, level, labels)
    if not 0 <= floor < 1:
        raise InputError(f"floor {floor:g} is not a fraction of the maximum: give a number in [0, 1)")

    placed, actions = [volumes[0]], []
    for volume, surface, label in zip(volumes[1:], levels[1:], labels[1:], strict=True):
        moved, said = _onto_first(volume, volumes[0], surface, label)
        placed.append(moved)
        actions += said
    sampled, density_scale, said = _sampled(placed, grid, apix, labels)
    actions += said
    prepared = []
    for volume, cut, label in zip(sampled, levels, labels, strict=True):
        dust = 0.0 if level == "none" else floor
        kept, said = _non_negative(volume, density_scale * cut, dust, label)
        prepared.append(kept)
        actions += said
    return Prepared(tuple(prepared), tuple(volume.mass for volume in prepared), tuple(actions))


def same_grid(a: Volume, b: Volume) -> bool:
    """Whether the shapes are equal and no voxel of one map lies over 0.02 voxels from its like in the other."""
    if a.shape != b.shape:
        return False
    first = np.subtract(a.origin, b.origin)
    last = first + np.multiply(np.subtract(a.voxel_size, b.voxel_size), np.array(a.shape[::-1]) - 1)
    return bool(np.all(np.maximum(abs(first), abs(last)) <= SAME_PLACE * np.array(b.voxel_size)))


def fourier_resample(data: Float[np.ndarray, "z y x"], shape: Shape) -> Float[np.ndarray, "Z Y X"]:
    """Crop or pad the Fourier transform F to another number of voxels: F'(k) = F(k) for |k| <= min(n, n')/2.

    The box is kept and voxel (0, 0, 0) stays where it is: sample i of n' lies at i * length / n'. The sum over
    voxels is kept, so densities are multiplied by n/n' per axis; functions band-limited to the coarser grid are
    resampled exactly, as periodic ones. Axes whose length does not change are left untouched. Double precision.
    """
    for axis, (old, new) in enumerate(zip(data.shape, shape, strict=True)):
        if old != new:
            data = _fourier_resample_axis(np.moveaxis(data, axis, -1), new)
            data = np.ascontiguousarray(np.moveaxis(data, -1, axis))
    return data


def resample_onto(volume: Volume, like: Volume) -> Volume:
    """The densities of ``volume`` at the voxel positions of ``like``; zero outside the box of ``volume``.

    Density values are kept, so that the mass (sum over voxels) changes by the ratio of the voxel volumes. Shifts
    by whole voxels are copied bit for bit; else cubic splines interpolate, after Fourier cropping to about the
    target's voxel size where that is coarser (interpolation alone would alias). Where the map has no negative
    density, overshoot below zero is cut and its mass restored. Both cells must be orthogonal.
    """
    start = np.subtract(like.origin, volume.origin)[::-1] / volume.voxel_size[::-1]
    whole = np.rint(start).astype(int)
    if same_grid(_place(volume, like, whole), like):
        data = _copied(volume.data, whole, like.shape)
    else:
        fine, voxel = _band_limited(volume, like)
        step = np.diag(np.divide(like.voxel_size[::-1], voxel))
        offset = np.subtract(like.origin, volume.origin)[::-1] / voxel
        affine = np.column_stack([step, offset])
        # grid-constant: zeros beyond the box take part in the interpolation, so no step arises at its faces.
        data = ndimage.affine_transform(
            fine, affine, output_shape=like.shape, order=3, mode="grid-constant", cval=0.0
        )
        if volume.data.min() >= 0 > data.min() and data.sum() > 0:
            data = with_mass(np.maximum(data, 0.0), float(data.sum()))
        data = data.astype(_dtype(volume), copy=False)
    return replace(volume, data=data, voxel_size=like.voxel_size, origin=like.origin, nstart=(0, 0, 0))


def unit_mass(data: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "z y x"]:
    """Densities of sum one, data / sum(data), in double precision: what solvers work on.

    Raises ``InputError`` unless the sum is positive and finite.
    """
    return with_mass(data, 1.0)


def with_mass(data: Float[np.ndarray, "z y x"], mass: float) -> Float[np.ndarray, "z y x"]:
    """Densities scaled to a given sum over voxels, mass * data / sum(data), in double precision.

    The way back from unit mass: frame t of a morph has the mass (1 - t) * mass_0 + t * mass_1.
    Raises ``InputError`` unless the sum of ``data`` is positive and finite.
    """
    total = float(data.sum(dtype=np.float64))
    if not (isfinite(total) and total > 0):
        raise InputError(f"densities sum to {total:g}: only a positive sum can be scaled to a mass")
    return data.astype(np.float64) * (mass / total)


def _labels(volumes: Sequence[Volume], names: Sequence[str] | None) -> list[str]:
    if len(volumes) == 0:
        raise InputError("no maps were given: at least one is needed")
    if names is None:
        return [f"map {k}" for k in range(1, len(volumes) + 1)]
    if len(names) != len(volumes):
        raise InputError(f"{len(names)} names were given for {len(volumes)} maps: give one per map")
    return [f"map {k} ({name})" for k, name in enumerate(names, 1)]


def _check_map(volume: Volume, label: str) -> None:
    data = volume.data
    if data.ndim != 3 or data.size == 0:
        raise InputError(f"{label} has the shape {data.shape}: a map is a 3D array with at least one voxel")
    if not volume.orthogonal:
        raise InputError(f"{label} has cell angles {_triple(volume.cell_angles)}°: only right angles can be used")
    if not all(isfinite(v) and v > 0 for v in volume.voxel_size):
        raise InputError(f"{label} has a voxel size of {_triple(volume.voxel_size)} Å: it must be positive")
    if not all(isfinite(v) for v in volume.origin):
        raise InputError(f"{label} has its origin at {_triple(volume.origin)} Å: it must be finite")
    if bad := int(data.size - np.isfinite(data).sum()):
        raise InputError(f"{label} has {bad} voxels that are NaN or infinite: replace them, by zero for instance")
    if data.max() <= 0:
        raise InputError(f"{label} has no positive density (its maximum is {data.max():g}): nothing to transport")


def _levels(volumes: Sequence[Volume], level: Level, labels: Sequence[str]) -> list[float]:
    """One level per map in the densities of the maps as given; zero where none is asked for."""
    if level is None or isinstance(level, str):
        if level not in (None, "auto", "none"):
            raise InputError(f"level '{level}' is not known: give 'auto', 'none' or densities")
        return [0.0] * len(volumes)
    levels = [float(v) for v in level] if isinstance(level, Sequence) else [float(level)] * len(volumes)
    if len(levels) != len(volumes):
        raise InputError(f"{len(levels)} levels were given for {len(volumes)} maps: give one, or one per map")
    for volume, value, label in zip(volumes, levels, labels, strict=True):
        top = float(volume.data.max())
        if not 0 <= value < top:
            raise InputError(
                f"level {value:g} is not in the densities of {label}: give one from 0 to below its maximum {top:g}"
            )
    return levels


def _onto_first(volume: Volume, first: Volume, level: float, label: str) -> tuple[Volume, list[str]]:
    if same_grid(volume, first):
        same_header = volume.voxel_size == first.voxel_size and volume.origin == first.origin
        return volume if same_header else replace(volume, voxel_size=first.voxel_size, origin=first.origin), []
    outside = _share_outside(volume, first, level or SOLID * float(volume.data.max()))
    if outside > 0.5:
        raise InputError(
            f"{label} with origin {_triple(volume.origin)} Å has {outside:.1%} of its density outside map 1's box "
            f"(origin {_triple(first.origin)} Å): align them with --align, or rewrite the origin that is wrong"
        )
    said = f"{label} resampled from {_grid_text(volume)} onto the grid of map 1, {_grid_text(first)}; "
    if volume.shape == first.shape and volume.voxel_size == first.voxel_size:
        said += f"only the origins differ, by {_triple(np.subtract(volume.origin, first.origin))} Å; "
    said += f"mass changes by the ratio of voxel volumes, {_voxel_volume(volume) / _voxel_volume(first):.6g}"
    if outside > NOTICEABLE:
        said += f"; {outside:.2%} of its density lies outside that box and is lost"
    return resample_onto(volume, first), [said]


def _sampled(
    volumes: Sequence[Volume], grid: int | None, apix: float | None, labels: Sequence[str]
) -> tuple[Sequence[Volume], float, list[str]]:
    """Maps of one grid on the grid asked for, the factor by which their densities grew, and what was done."""
    first = volumes[0]
    padded, shape = _target_shape(first, grid, apix)
    if padded == shape == first.shape:
        return volumes, 1.0, []
    padding = [(0, p - n) for p, n in zip(padded, first.shape, strict=True)]
    sampled, ringing = [], []
    for volume, label in zip(volumes, labels, strict=True):
        result, cut = _fourier_resampled(volume.with_data(np.pad(volume.data, padding)), shape)
        sampled.append(result)
        if cut > NOTICEABLE:
            ringing.append(f"{label}: ringing of {cut:.2%} of the mass cut, below zero and away from the map")
    scale = prod(padded) / prod(shape)
    said = f"all maps resampled in Fourier space from {_grid_text(first)} to {_grid_text(sampled[0])}; "
    if padded != first.shape:
        said += f"first padded with zeros to {_by(padded[::-1])} voxels, a cube; "
    said += f"masses kept, densities and contour levels multiplied by {scale:.6g}"
    return sampled, scale, [said, *ringing]


def _target_shape(volume: Volume, grid: int | None, apix: float | None) -> tuple[Shape, Shape]:
    """The shape to pad to and the shape to resample that to."""
    lengths = np.multiply(volume.shape, volume.voxel_size[::-1])
    padded = shape = volume.shape
    if grid is not None and apix is not None:
        raise InputError(f"a grid of {grid} and a voxel size of {apix:g} Å were both asked for: choose one")
    if grid is not None:
        shape = (grid, grid, grid)
        padded = _shape(np.maximum(volume.shape, np.rint(lengths.max() / volume.voxel_size[::-1])))
    elif apix is not None:
        if not (isfinite(apix) and apix > 0):
            raise InputError(f"a voxel size of {apix:g} Å was asked for: it must be positive")
        shape = _shape(np.rint(np.minimum(lengths / apix, 10 * MAX_AXIS)))
    if shape != volume.shape and (min(shape) < 4 or max(shape) > MAX_AXIS):
        raise InputError(f"a grid of {_by(shape[::-1])} voxels was asked for: axes can have 4 to {MAX_AXIS}")
    return padded, shape


def _fourier_resampled(volume: Volume, shape: Shape) -> tuple[Volume, float]:
    """The map on another number of voxels, and the share of its mass that rang and was cut."""
    data, cut = fourier_resample(volume.data, shape), 0.0
    if volume.data.min() >= 0:
        # A sharp-edged map rings over the whole box; the positive half of that would be a haze of false mass.
        clean = np.where((data > 0) & _footprint(volume.data, shape), data, 0.0)
        cut = float(abs(data - clean).sum()) / volume.mass
        data = with_mass(clean, volume.mass)
    pairs = zip(volume.voxel_size, volume.shape[::-1], shape[::-1], strict=True)
    x, y, z = (v * n / m for v, n, m in pairs)
    result = replace(volume, data=data.astype(_dtype(volume)), voxel_size=(x, y, z), nstart=(0, 0, 0))
    return result, cut


def _footprint(data: np.ndarray, shape: Shape) -> np.ndarray:
    """Voxels of a grid of ``shape`` over the same box that lie within a voxel, old or new, of non-dust density."""
    reach = [int(np.ceil(max(n / m, 1.0))) for n, m in zip(data.shape, shape, strict=True)]
    near = ndimage.maximum_filter(data > DUST * data.max(), size=[2 * k + 1 for k in reach], mode="wrap")
    nearest = [np.rint(np.arange(m) * n / m).astype(int) % n for n, m in zip(data.shape, shape, strict=True)]
    return near[np.ix_(*nearest)]


def _fourier_resample_axis(data: Float[np.ndarray, "z y n"], new: int) -> Float[np.ndarray, "z y m"]:
    old = data.shape[-1]
    band = min(old, new)
    spectrum = np.fft.rfft(data.astype(np.float64, copy=False), axis=-1)[..., : band // 2 + 1]
    if band % 2 == 0:
        # The highest frequency of an even axis stands for +n/2 and -n/2 at once: it takes in both when the
        # axis shrinks to it, and is shared between both when the axis grows from it.
        spectrum[..., -1] *= 2.0 if new < old else 0.5
    return np.fft.irfft(spectrum, n=new, axis=-1)


def _non_negative(volume: Volume, level: float, floor: float, label: str) -> tuple[Volume, list[str]]:
    """Cut negative densities, then those below the level or the dust floor, whichever is higher."""
    said = []
    negative = volume.data < 0
    if count := int(negative.sum()):
        share = -volume.data[negative].sum(dtype=np.float64)
        volume = _clipped(volume)
        if volume.mass <= 0:
            raise InputError(f"{label} has no positive density left on the common grid: nothing to transport")
        said.append(
            f"{label}: {count} voxels of negative density ({count / volume.data.size:.2%}, "
            f"{share / volume.mass:.2e} of the mass) set to zero"
        )
    top = float(volume.data.max())
    if level >= top:
        raise InputError(
            f"{label} has no density above its level {level:g} on the common grid: its maximum there is {top:g}"
        )
    low = (volume.data > 0) & (volume.data < max(level, floor * top))
    if count := int(low.sum()):
        share = volume.data[low].sum(dtype=np.float64) / volume.mass
        why = f"the level {level:g}" if level > floor * top else f"{floor:g} of the maximum (dust)"
        volume = volume.with_data(np.where(low, volume.data.dtype.type(0), volume.data))
        said.append(f"{label}: {count} voxels below {why} set to zero, {share:.2e} of the mass")
    return volume, said


def _clipped(volume: Volume) -> Volume:
    return volume.with_data(np.maximum(volume.data, volume.data.dtype.type(0)))


def _band_limited(volume: Volume, like: Volume) -> tuple[np.ndarray, tuple[float, ...]]:
    """Densities without the detail that the grid of ``like`` cannot hold, and their voxel size along z, y, x."""
    ratios = np.minimum(1.0, np.divide(volume.voxel_size, like.voxel_size))[::-1]
    shape = _shape(np.maximum(1, np.rint(volume.shape * ratios)))
    coarse, _ = _fourier_resampled(volume, shape) if shape != volume.shape else (volume, 0.0)
    data = coarse.data.astype(np.float64) * (prod(shape) / volume.data.size)
    return data, coarse.voxel_size[::-1]


def _place(volume: Volume, like: Volume, start: np.ndarray) -> Volume:
    """An empty grid on the lattice of ``volume``: from its voxel ``start`` (z, y, x) on, shaped like ``like``."""
    x, y, z = (o + i * v for o, i, v in zip(volume.origin, start[::-1], volume.voxel_size, strict=True))
    return replace(volume, data=np.broadcast_to(np.float64(0), like.shape), origin=(float(x), float(y), float(z)))


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


def _share_outside(volume: Volume, like: Volume, surface: float) -> float:
    """Share of the density in voxels at or above ``surface`` whose positions lie outside the box of ``like``."""
    solid = np.where(volume.data >= surface, volume.data, 0.0)
    inside = []
    for axis in range(3):
        x = 2 - axis
        position = volume.origin[x] + np.arange(volume.shape[axis]) * volume.voxel_size[x]
        index = (position - like.origin[x]) / like.voxel_size[x]
        inside.append((index >= -0.5) & (index <= like.shape[axis] - 0.5))
    return 1.0 - float(solid[np.ix_(*inside)].sum(dtype=np.float64) / solid.sum(dtype=np.float64))


def _dtype(volume: Volume) -> np.dtype:
    return np.result_type(volume.data.dtype, np.float32)


def _voxel_volume(volume: Volume) -> float:
    return prod(volume.voxel_size)


def _shape(lengths) -> Shape:
    z, y, x = (int(n) for n in lengths)
    return z, y, x


def _by(values) -> str:
    return " x ".join(f"{v:g}" for v in values)


def _triple(values) -> str:
    return f"({', '.join(f'{v:g}' for v in values)})"


def _grid_text(volume: Volume) -> str:
    x, y, z = shape = volume.shape[::-1]
    voxel = [round(v, 4) for v in volume.voxel_size]
    voxels = f"{x}^3 voxels" if x == y == z else f"{_by(shape)} voxels (x y z)"
    size = f"{voxel[0]:g}" if voxel[0] == voxel[1] == voxel[2] else _by(voxel)
    return f"{voxels} of {size} Å at origin {_triple(volume.origin)} Å"
