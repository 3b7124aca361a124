"""Bring maps onto one grid and make them what transport needs: finite, non-negative densities of known mass.

Mass is the sum over voxels. Computed in double precision on the host, returned in the input's dtype; what needs
no change is returned untouched, and each thing that is done to the data is reported in a sentence.

Densities are resampled as they were given and cut (negative values, level, dust) only afterwards: a cut makes
a step at the surface, which would ring, and turns noise about zero into a haze of positive density.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from morphot_jax.maps.check import check_map, one_map, several_maps
from morphot_jax.maps.load import load
from morphot_jax.maps.resample import resample_onto, triple_text, with_mass
from morphot_jax.maps.volume import Volume
from morphot_jax.prepare import clean
from morphot_jax.prepare.common_grid import aligned_to_first, boxed, onto_first, sampled
from morphot_jax.prepare.preparation import Preparation
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import Remark, Report, part_of, percent, silent, split

INVERTED = "it reaches farther below its most common density than above: is its contrast inverted?"

ALIGNING = 10  # how much longer it takes to align a map than to clean it

Item = TypeVar("Item")


@dataclass(frozen=True, repr=False)
class Prepared:
    """Maps on one grid with densities >= 0.

    ``masses``: sum over voxels of each map. ``actions``: what was done to the maps, a sentence each, in order.
    ``warnings``: what the user should look at again. ``levels``: contour levels of the maps as they are now, where
    some were given.
    """

    volumes: tuple[Volume, ...]
    masses: tuple[float, ...]
    actions: tuple[str, ...]
    warnings: tuple[str, ...]
    levels: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        first = self.volumes[0]
        return (
            f"Prepared({len(self.volumes)} maps, shape={first.shape}, "
            f"voxel_size={triple_text(first.voxel_size)} Å, "
            f"masses {min(self.masses):.6g} to {max(self.masses):.6g}, {len(self.actions)} actions, "
            f"{len(self.warnings)} warnings)"
        )


def prepare_maps(
    volumes: Iterable[Volume],
    preparation: Preparation | None = None,
    *,
    names: Sequence[str] | None = None,
    report: Report = silent,
) -> Prepared:
    """Put maps onto one grid and make their densities non-negative, as ``preparation`` says, in this order.

    0. ``lowpass`` (Å): detail finer than that is taken out of every map (``clean.low_pass``).
    1. ``align``: every map but the first is laid onto it as well as can be, by a shift ('translation') or a
       rotation and a shift ('rigid'), and sampled on its grid (``align_maps``). Else every map whose grid is not
       the first one's is resampled onto it (``resample_onto``), where the headers say that it lies.
    2. ``box=N``: every map is cut or padded with zeros to N^3 voxels about the middle of the box.
       ``grid=N``: every map is Fourier-resampled to N^3 voxels over the same box, which is first padded with
       zeros at its high end where it is no cube. ``apix=A``: to the whole number of voxels along each axis whose
       size is nearest to A (Å). Origin and mass are kept, so densities grow by the ratio of the voxel volumes;
       in maps without negative density, what rings below zero or away from the map is cut and the mass restored.
    3. Negative densities become zero.
    4. ``level``: densities below it become zero; one number or one per map, in the densities of the maps as
       given. ``floor``: densities below this fraction of the map's maximum become zero.
       ``level="auto"`` takes out the noise of the solvent where a map has any
       (``clean.without_noise``) and applies the floor alone where it has none; ``"none"`` does neither of the two.
    5. ``dust``: pieces of fewer voxels than that become zero. None: where noise is taken out, pieces of less than
       a hundredth of the largest; elsewhere nothing.
    6. ``mask``: a map, or the name of one (``load``). Densities are multiplied by it; it is resampled onto the
       grid, and taken as 0 to 1.
    7. ``match``: 'spectrum' gives every map, between steps 1 and 2, the first one's mean amplitude at each
       resolution (``clean.with_spectrum_of``), so that they are equally sharp; 'mass' multiplies each, in the
       end, so that its mass is the first one's.

    ``names`` are quoted in the sentences. ``report``: told of the work done, and of all.
    Raises ``InputError`` for what is no ``Volume``, for maps without positive density or with oblique cells, for
    maps whose boxes do not overlap, for levels that leave nothing and grids that cannot be made.
    """
    volumes = several_maps(volumes, "prepare_maps needs maps")
    labels = _labels(volumes, names)
    for volume, label in zip(volumes, labels, strict=True):
        check_map(volume, label)
    asked = preparation or Preparation()
    levels = _levels(volumes, asked, labels)
    mask = load(asked.mask).volume if isinstance(asked.mask, str) else asked.mask
    if mask is not None:
        one_map(mask, "prepare_maps needs a map as its mask")
    low_passing, looking, laying, cleaning = split(
        report, asked.lowpass is not None, 1, ALIGNING * (asked.align != "none"), 1
    )
    volumes, remarks = _low_passed(volumes, asked.lowpass, labels, low_passing)
    labelled = _each(list(zip(volumes, labels, strict=True)), looking)
    dark = [label for volume, label in labelled if clean.inverted(volume.data)]
    remarks += [Remark(f"{label}: {INVERTED}", warning=True) for label in dark]
    first = volumes[0]
    placed = [first]
    for index in range(1, len(volumes)):
        volume, label = volumes[index], labels[index]
        if asked.align == "none":
            moved, more = onto_first(volume, first, levels[index], label)
        else:
            moved, more = aligned_to_first(
                volume, first, asked.align, label, part_of(laying, index - 1, len(volumes) - 1)
            )
        remarks += more
        if asked.match == "spectrum":
            moved = moved.with_data(clean.with_spectrum_of(moved.data, first.data, first.voxel_size))
            remarks.append(Remark(f"{label}: its amplitudes at each resolution are now those of map 1"))
        placed.append(moved)
    placed, more = boxed(placed, asked.box, labels)
    remarks += more
    placed, density_scale, more = sampled(placed, asked.grid, asked.apix, labels)
    remarks += more
    weight = None if mask is None else mask_on(mask, placed[0])
    prepared, surfaces = [], []
    for volume, cut, label in _each(list(zip(placed, levels, labels, strict=True)), cleaning):
        surface = None if asked.level == "auto" else density_scale * cut
        kept, more = _cleaned(volume, surface, 0.0 if asked.level == "none" else asked.floor, asked.dust, label)
        remarks += more
        kept, more = _masked(kept, weight, label)
        remarks += more
        before = kept.mass
        kept, more = _of_mass(kept, prepared[0].mass if asked.match == "mass" and prepared else None, label)
        remarks += more
        prepared.append(kept)
        surfaces.append(density_scale * cut * kept.mass / before)
    given = tuple(surfaces) if asked.has_levels else None
    actions, warnings = (tuple(one.text for one in remarks if one.warning == kind) for kind in (False, True))
    return Prepared(tuple(prepared), tuple(volume.mass for volume in prepared), actions, warnings, given)


def _each(items: Sequence[Item], report: Report) -> Iterator[Item]:
    """The items; whenever the next is asked for, the one before is done."""
    for done, item in enumerate(items, start=1):
        yield item
        report(done, len(items))


def _cleaned(
    volume: Volume, level: float | None, floor: float, dust: int | None, label: str
) -> tuple[Volume, list[Remark]]:
    """Without noise if no level is given, negative densities, those below the level or the floor, and dust."""
    remarks: list[Remark] = []
    noise = clean.noise_of(volume.data)
    if noise is not None and level is None:
        volume, remarks = _without_noise(volume, noise, dust, label)
    elif noise is not None and level is not None:
        remarks = _noise_left(noise, level, label)
    volume, more = _non_negative(volume, level or 0.0, floor, label)
    remarks += more
    volume, more = _without_dust(volume, dust or 0, label)
    return volume, remarks + more


def _low_passed(
    volumes: Sequence[Volume], resolution: float | None, labels: Sequence[str], report: Report
) -> tuple[Sequence[Volume], list[Remark]]:
    if resolution is None:
        return volumes, []
    remarks = [
        Remark(
            f"{label}: its voxels of {triple_text(volume.voxel_size)} Å hold no detail of {resolution:g} Å",
            warning=True,
        )
        for volume, label in zip(volumes, labels, strict=True)
        if resolution < 2.0 * max(volume.voxel_size)
    ]
    filtered = [
        volume.with_data(
            clean.low_pass(volume.data, volume.voxel_size, resolution).astype(
                np.result_type(volume.data, np.float32)
            )
        )
        for volume in _each(volumes, report)
    ]
    return filtered, [*remarks, Remark(f"all maps low-passed to {resolution:g} Å")]


def _without_noise(
    volume: Volume, noise: clean.Noise, dust: int | None, label: str
) -> tuple[Volume, list[Remark]]:
    data, smallest = clean.without_noise(volume.data, noise, dust)
    if not data.any():
        raise InputError(f"{label}: dust of {dust} voxels would take all that stands out of its noise")
    positive = volume.data[volume.data > 0].sum(dtype=np.float64)
    share = data.sum(dtype=np.float64) / positive
    remark = (
        f"{label}: solvent noise of standard deviation {noise.sd:.3g} about {noise.middle:.3g} was taken out; "
        f"what stands above {noise.level:.4g} in pieces of {smallest} voxels or more is kept, with one voxel "
        f"around it: {percent(share)} of the positive density"
    )
    return volume.with_data(data), [Remark(remark)]


def _noise_left(noise: clean.Noise, surface: float, label: str) -> list[Remark]:
    if surface >= noise.level:
        return []
    found = f"{label}: solvent noise of standard deviation {noise.sd:.3g} about {noise.middle:.3g}"
    advice = f"densities up to {noise.level:.3g} are mostly noise and count as mass; try --level auto"
    return [Remark(f"{found}: {advice}", warning=True)]


def _without_dust(volume: Volume, smallest: int, label: str) -> tuple[Volume, list[Remark]]:
    """Without pieces of fewer voxels."""
    data, pieces = clean.without_dust(volume.data, 0.0, smallest)
    if not pieces:
        return volume, []
    if not data.any():
        largest = clean.largest_piece(volume.data, 0.0)
        raise InputError(f"{label}: dust of {smallest} voxels would take all: its largest piece has {largest}")
    kept = volume.with_data(data)
    share = 1.0 - kept.mass / volume.mass
    dust = f"{pieces} pieces of fewer than {smallest} voxels (dust)"
    return kept, [Remark(f"{label}: {dust} set to zero, {percent(share)} of the mass")]


def mask_on(mask: Volume, like: Volume) -> Float[np.ndarray, "z y x"]:
    """A mask on the grid of a map, 0 to 1."""
    return np.clip((mask if mask.same_grid(like) else resample_onto(mask, like)).data, 0.0, 1.0)


def _masked(volume: Volume, weight: Float[np.ndarray, "z y x"] | None, label: str) -> tuple[Volume, list[Remark]]:
    if weight is None:
        return volume, []
    kept = volume.with_data((volume.data * weight).astype(volume.data.dtype))
    if kept.mass <= 0:
        raise InputError(f"{label} has no density inside the mask: check that they are in one place")
    outside = 1.0 - kept.mass / volume.mass
    return kept, [Remark(f"{label}: masked, {percent(outside)} of the mass outside set to zero")]


def _of_mass(volume: Volume, mass: float | None, label: str) -> tuple[Volume, list[Remark]]:
    if mass is None:
        return volume, []
    scaled = volume.with_data(with_mass(volume.data, mass).astype(volume.data.dtype))
    factor = mass / volume.mass
    return scaled, [Remark(f"{label}: densities multiplied by {factor:.6g}, so that its mass is that of map 1")]


def unit_mass(data: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "z y x"]:
    """Densities of sum one, data / sum(data), in double precision: what solvers work on.

    Raises ``InputError`` unless the sum is positive and finite.
    """
    return with_mass(data, 1.0)


def _labels(volumes: Sequence[Volume], names: Sequence[str] | None) -> list[str]:
    if len(volumes) == 0:
        raise InputError("no maps were given: at least one is needed")
    if names is None:
        return [f"map {k}" for k in range(1, len(volumes) + 1)]
    if len(names) != len(volumes):
        raise InputError(f"{len(names)} names were given for {len(volumes)} maps: give one per map")
    return [f"map {k} ({name})" for k, name in enumerate(names, 1)]


def _levels(volumes: Sequence[Volume], asked: Preparation, labels: Sequence[str]) -> list[float]:
    """One level per map in the densities of the maps as given; zero where none is asked for."""
    if isinstance(asked.level, str):
        return [0.0] * len(volumes)
    levels: list[float] = [*asked.level] if isinstance(asked.level, Sequence) else [asked.level] * len(volumes)
    if len(levels) != len(volumes):
        raise InputError(f"{len(levels)} levels were given for {len(volumes)} maps: give one, or one per map")
    for volume, value, label in zip(volumes, levels, labels, strict=True):
        top = float(volume.data.max())
        if not 0 <= value < top:
            raise InputError(
                f"level {value:g} is not in the densities of {label}: give one from 0 to below its maximum {top:g}"
            )
    return levels


def _non_negative(volume: Volume, level: float, floor: float, label: str) -> tuple[Volume, list[Remark]]:
    """Cut negative densities, then those below the level or the floor, whichever is higher."""
    remarks = []
    negative = volume.data < 0
    if count := int(negative.sum()):
        share = -volume.data[negative].sum(dtype=np.float64)
        volume = _clipped(volume)
        if volume.mass <= 0:
            raise InputError(f"{label} has no positive density left on the common grid: nothing to transport")
        remarks.append(
            Remark(
                f"{label}: {count} voxels of negative density ({percent(count / volume.data.size)} of all, "
                f"{percent(share / volume.mass)} of the mass) set to zero"
            )
        )
    top = float(volume.data.max())
    if level >= top:
        raise InputError(
            f"{label} has no density above its level {level:g} on the common grid: its maximum there is {top:g}"
        )
    low = (volume.data > 0) & (volume.data < max(level, floor * top))
    if count := int(low.sum()):
        share = volume.data[low].sum(dtype=np.float64) / volume.mass
        why = f"the level {level:g}" if level > floor * top else f"{floor:g} of the maximum (the floor)"
        volume = volume.with_data(np.where(low, volume.data.dtype.type(0), volume.data))
        remarks.append(Remark(f"{label}: {count} voxels below {why} set to zero, {percent(share)} of the mass"))
    return volume, remarks


def _clipped(volume: Volume) -> Volume:
    return volume.with_data(np.maximum(volume.data, volume.data.dtype.type(0)))
