"""Steps that bring several maps onto one grid, each with a remark.

``label`` and ``labels`` name the maps in the remarks. Computed in double precision on the host.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from morphot_jax.maps.limits import MAX_AXIS, MIN_AXIS
from morphot_jax.maps.resample import (
    by_text,
    cut_axes,
    grid_text,
    resample_onto,
    resampled,
    shape_of,
    share_outside,
    triple_text,
    voxel_volume,
)
from morphot_jax.maps.volume import Grid, Shape, Volume
from morphot_jax.prepare.align import align_maps
from morphot_jax.prepare.levels import enclosed, level_of_mass
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import Remark, Report, percent
from morphot_jax.system.words import Motion

NOTICEABLE = 1e-3  # share of a map's density whose loss is reported
SOLID = 0.1  # fraction of the maximum that separates the body of a map from noise if no level is given
LARGER, SAME_FACTOR = 0.14, 0.1  # logarithms of ratios of lengths: 15 % more, and the same to 10 %
UNLIKE = 0.5  # overlap of aligned maps below which they may not show the same structure


def aligned_to_first(
    volume: Volume, first: Volume, motion: Motion, label: str, report: Report
) -> tuple[Volume, list[Remark]]:
    """Align a map to the first one, and sample it on the grid of the first (``align``)."""
    alignment = align_maps(volume, first, motion=motion, report=report)
    pose = alignment.pose
    text = f"{label} aligned to map 1: "
    if motion == "rigid":
        axis = triple_text(np.round(pose.axis, 3))
        text += f"turned by {pose.degrees:.2f}° about {axis}, then "
    text += (
        f"shifted by {triple_text(np.round(pose.shift, 3))} Å; "
        f"correlation {alignment.before:.3f} before, {alignment.correlation:.3f} after"
    )
    if alignment.equal_poses > 1:
        text += f"; {alignment.equal_poses} poses fit equally well, and this one moves the map least"
    remarks = [Remark(text)]
    if alignment.correlation < UNLIKE:
        doubt = f"{label} overlaps little with map 1 even after alignment: check that both show the same structure"
        remarks.append(Remark(doubt, warning=True))
    return resample_onto(volume, first, pose), [*remarks, *_cut(volume, label)]


def onto_first(volume: Volume, first: Volume, level: float, label: str) -> tuple[Volume, list[Remark]]:
    """Resample a map onto the grid of the first; ``level``: the contour level of its body, 0 if unknown."""
    if volume.same_grid(first):
        same_header = volume.voxel_size == first.voxel_size and volume.origin == first.origin
        return volume if same_header else replace(volume, voxel_size=first.voxel_size, origin=first.origin), []
    outside = share_outside(volume, first, level or SOLID * float(volume.data.max()))
    if outside > 0.5:
        raise InputError(
            f"{label} with origin {triple_text(volume.origin)} Å has {percent(outside)} of its density outside "
            f"the box of map 1 (origin {triple_text(first.origin)} Å): align them with --align, lay middle on "
            "middle with --place centre, or rewrite the wrong origin"
        )
    text = f"{label} resampled from {grid_text(volume)} onto the grid of map 1, {grid_text(first)}; "
    if volume.shape == first.shape and volume.voxel_size == first.voxel_size:
        text += f"only the origins differ, by {triple_text(np.subtract(volume.origin, first.origin))} Å; "
    text += f"mass changes by the ratio of voxel volumes, {voxel_volume(volume) / voxel_volume(first):.6g}"
    if outside > NOTICEABLE:
        text += f"; {percent(outside)} of its density lies outside that box and is lost"
    remarks = [Remark(text, warning=outside > NOTICEABLE), *_cut(volume, label)]
    return resample_onto(volume, first), remarks


def centred(volume: Volume, first: Volume, label: str) -> tuple[Volume, list[Remark]]:
    """Lay the middle of a map's box, the voxel n // 2, on that of the first map's box."""
    shift = np.subtract(_middle(first), _middle(volume))
    if not shift.any():
        return volume, []
    x, y, z = np.add(volume.origin, shift)
    moved = replace(volume, origin=(float(x), float(y), float(z)), nstart=(0, 0, 0))
    return moved, [Remark(f"{label}: its middle laid on that of map 1, by {triple_text(np.round(shift, 3))} Å")]


def unplaced(volume: Volume, first: Volume, label: str) -> list[Remark]:
    """A warning for boxes of different size of which neither says where it lies."""
    if any((*volume.origin, *volume.nstart, *first.origin, *first.nstart)):
        return []
    apart = np.abs(np.subtract(_middle(first), _middle(volume)) / first.voxel_size).max()
    if apart < 0.5:
        return []
    sizes = f"{by_text(volume.shape[::-1])} and {by_text(first.shape[::-1])} voxels"
    return [
        Remark(
            f"{label} and map 1 have boxes of different size ({sizes}) and no origin: they lie corner on corner, "
            f"with their middles {apart:.3g} voxels apart; --place centre lays middle on middle",
            warning=True,
        )
    ]


def scaled(volume: Volume, first: Volume, given: Sequence[float], label: str) -> list[Remark]:
    """A warning for a map that looks like the first one enlarged: one of the voxel sizes may be wrong.

    ``given``: the voxel sizes along x of both maps before they were brought onto one grid.
    """
    radii = [radius_of_gyration(one) for one in (volume, first)]
    if not min(radii) > 0 or abs(np.log(ratio := radii[0] / radii[1])) < LARGER:  # a single voxel has no radius
        return []
    voxels = [enclosed(one.data, level_of_mass(one.data)) for one in (volume, first)]
    if abs(np.log((voxels[0] / voxels[1]) ** (1 / 3) / ratio)) > SAME_FACTOR:
        return []
    return [
        Remark(
            f"{label} looks like map 1, {ratio:.3g} times as large: its radius of gyration is {radii[0]:.4g} Å, "
            f"that of map 1 {radii[1]:.4g} Å, and the volumes that they enclose differ alike. A voxel size "
            f"wrong by this factor would explain it: {given[0]:g} Å was given, and {given[1]:g} Å for map 1",
            warning=True,
        )
    ]


def radius_of_gyration(volume: Volume) -> float:
    """sqrt( sum m |r - c|^2 / sum m ) in Å, c being the centre of mass."""
    squared = 0.0
    for axis, step in zip((2, 1, 0), volume.voxel_size, strict=True):
        mass = volume.data.sum(axis=tuple(k for k in range(3) if k != axis), dtype=np.float64)
        places = step * np.arange(len(mass))
        squared += np.average((places - np.average(places, weights=mass)) ** 2, weights=mass)
    return float(np.sqrt(squared))


def _cut(volume: Volume, label: str) -> list[Remark]:
    """Say which faces cut the structure, where resampling must not take the map for one that repeats."""
    axes = " and ".join("zyx"[axis] for axis in cut_axes(volume.data))
    if not axes:
        return []
    ending = "it is resampled by splines that end there, and not as if it repeated"
    return [Remark(f"{label}: the faces of its box across {axes} cut its structure; {ending}")]


def _middle(volume: Volume) -> tuple[float, ...]:
    """The position of the voxel n // 2, Å along x, y, z."""
    halves = np.array(volume.shape[::-1]) // 2
    return tuple(np.array(volume.origin) + halves * volume.voxel_size)


def boxed(volumes: Sequence[Volume], side: int | None, labels: Sequence[str]) -> tuple[list[Volume], list[Remark]]:
    """Cut or pad maps of one grid with zeros to ``side``^3 voxels about the middle of their box."""
    first = volumes[0]
    if side is None or first.shape == (side, side, side):
        return list(volumes), []
    offset = [(n - side) // 2 for n in first.shape[::-1]]  # from the old box to the new one, along x, y, z
    x, y, z = (o + k * v for o, k, v in zip(first.origin, offset, first.voxel_size, strict=True))
    like = Grid((side, side, side), first.voxel_size, (x, y, z))
    remarks = [Remark(f"all maps cut or padded from {grid_text(first)} to {grid_text(like)}")]
    for volume, label in zip(volumes, labels, strict=True):
        outside = share_outside(volume, like, SOLID * float(volume.data.max()))
        if outside > NOTICEABLE:
            lost = f"{label}: {percent(outside)} of its density lies outside the new box and is lost"
            remarks.append(Remark(lost, warning=True))
    return [resample_onto(volume, like) for volume in volumes], remarks


def sampled(
    volumes: Sequence[Volume], grid: int | None, apix: float | None, labels: Sequence[str]
) -> tuple[Sequence[Volume], list[Remark]]:
    """Resample maps of one grid to ``grid`` or ``apix``; density values do not change."""
    first = volumes[0]
    padded, shape = _target_shape(first, grid, apix)
    if padded == shape == first.shape:
        return volumes, []
    padding = [(0, p - n) for p, n in zip(padded, first.shape, strict=True)]
    results, remarks = [], []
    for volume, label in zip(volumes, labels, strict=True):
        result, lost = resampled(volume.with_data(np.pad(volume.data, padding)), shape)
        results.append(result)
        remarks += _cut(volume, label)
        if lost > NOTICEABLE:
            finest = 2.0 * max(result.voxel_size)
            remarks.append(
                Remark(f"{label}: detail finer than {finest:.4g} Å is gone, {percent(lost)} of its power")
            )
    text = f"all maps resampled in Fourier space from {grid_text(first)} to {grid_text(results[0])}; "
    if padded != first.shape:
        text += f"first padded with zeros to {by_text(padded[::-1])} voxels, a cube; "
    ratio = prod(shape) / prod(padded)
    text += f"densities and contour levels kept, masses multiplied by the ratio of voxel volumes, {ratio:.6g}"
    return results, [Remark(text), *remarks]


def _target_shape(volume: Volume, grid: int | None, apix: float | None) -> tuple[Shape, Shape]:
    """The shape after padding, and the shape after resampling."""
    lengths = np.multiply(volume.shape, volume.voxel_size[::-1])
    padded = shape = volume.shape
    if grid is not None:
        shape = (grid, grid, grid)
        padded = shape_of(np.maximum(volume.shape, np.rint(lengths.max() / volume.voxel_size[::-1])))
    elif apix is not None:
        shape = shape_of(np.rint(np.minimum(lengths / apix, 10 * MAX_AXIS)))
    if shape != volume.shape and (min(shape) < MIN_AXIS or max(shape) > MAX_AXIS):
        raise InputError(
            f"a grid of {by_text(shape[::-1])} voxels was asked for: give axes of {MIN_AXIS} to {MAX_AXIS}"
        )
    return padded, shape
