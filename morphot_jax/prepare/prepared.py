"""Prepare maps for transport: one grid, and finite, non-negative densities of known mass.

Mass is the sum over voxels. Maps are computed in double precision on the host and returned in the input's dtype.
Maps that need no change are returned as they are. A sentence reports each change.

Maps are resampled before they are cut (negative values, level, dust), because a cut makes a step at the surface,
which would ring, and turns noise about zero into a haze of positive density.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from morphot_jax.maps.check import check_map, several_maps
from morphot_jax.maps.load import load
from morphot_jax.maps.resample import triple_text, with_mass, without_ringing
from morphot_jax.maps.volume import Volume
from morphot_jax.prepare import background, clean
from morphot_jax.prepare.common_grid import (
    aligned_to_first,
    boxed,
    centred,
    onto_first,
    sampled,
    scaled,
    unplaced,
)
from morphot_jax.prepare.masks import as_mask, mask_on
from morphot_jax.prepare.preparation import Preparation
from morphot_jax.prepare.signal import Signal, signal_of_halves, signal_of_solvent
from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_is
from morphot_jax.system.reporting import Remark, Report, part_of, percent, silent, split

INVERTED = "its densities reach farther below the most common one than above: is its contrast inverted?"

ALIGNING = 10  # time to align a map over the time to clean it

Item = TypeVar("Item")
Halves = tuple[Volume, Volume]  # the half maps of one map


@dataclass(frozen=True, repr=False)
class Prepared:
    """Maps on one grid with densities >= 0.

    - ``masses``: the sum over voxels of each map.
    - ``actions``: the changes to the maps, one sentence each, in order.
    - ``warnings``: sentences about what the user should check.
    - ``levels``: contour levels in the densities of the prepared maps; None if no levels were given.
    - ``backgrounds``: the density that was taken off each map as its background, in the densities as given.
    - ``signals``: how much of each map is signal, by its half maps or its solvent; None where neither shows noise.
    """

    volumes: tuple[Volume, ...]
    masses: tuple[float, ...]
    actions: tuple[str, ...]
    warnings: tuple[str, ...]
    levels: tuple[float, ...] | None = None
    backgrounds: tuple[float, ...] = ()
    signals: tuple[Signal | None, ...] = ()

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
    half_maps: Sequence[Halves] | None = None,
    report: Report = silent,
) -> Prepared:
    """Put maps onto one grid and make their densities non-negative; ``preparation`` chooses the steps.

    The steps, in this order:

    1. Unless ``level='none'``: take the background off every map, so that it is zero (``background_of``).
    2. ``lowpass`` (Å): remove finer detail from every map (``clean.low_pass``). In this step and in 6, ringing
       below zero or away from the map is cut in maps without negative density, and the mass restored.
    3. ``align``: align every map but the first to the first one, by a shift ('translation') or a rotation and a
       shift ('rigid'), and sample it on the first map's grid (``align_maps``). With 'none', resample every map
       whose grid differs from the first map's onto that grid, at the position in its header (``resample_onto``);
       ``place='centre'`` first lays the middle of its box on that of the first map's.
    4. ``match='spectrum'``: give every map the first map's mean amplitude at each resolution
       (``clean.with_spectrum_of``), so that all maps are equally sharp.
    5. ``box=N``: cut or pad every map with zeros to N^3 voxels about the middle of the box.
    6. ``grid=N``: Fourier-resample every map to N^3 voxels over the same box; a box that is not a cube is first
       padded with zeros at its high end. ``apix=A``: resample to the whole number of voxels along each axis whose
       size is nearest to A (Å). Origin and densities do not change, so the mass changes by the ratio of the voxel
       volumes.
    7. ``level='auto'``: remove the noise of the solvent (``clean.without_noise``), from all maps or from none
       (``background.noises_of``). Pieces of fewer than ``dust`` voxels go with it; if ``dust`` is None, pieces
       smaller than a hundredth of the largest.
    8. Set negative densities to zero.
    9. ``level``: set densities below it to zero; one number or one per map, in the densities of the maps as given.
       ``floor``: set densities below this fraction of the map's maximum to zero; not with ``level='none'``.
    10. ``dust``: set pieces of fewer voxels to zero; if None, none.
    11. ``mask``: multiply densities by this map, or by the map of this name (``load``), resampled onto the grid.
        Its values go from 0 to 1, or it is a mask that was stored as bytes (``masks.as_mask``).
    12. ``match='mass'``: scale each map to the mass of the first one. ``match='density'``: so that where both are
        dense the median of their ratio is one (``clean.density_ratio``), also where one has parts of its own.

    ``half_maps``: the two half maps of each map, which show how much of it is signal (``signal``). Without them
    the noise of the solvent does, if there is some.

    ``names`` appear in the sentences. ``report`` gets the work done and the total work.

    Raises ``InputError`` for a value that is not a ``Volume``, for maps without positive density or with oblique
    cells, for maps whose boxes do not overlap, for levels that leave no density, for impossible grids, for a mask
    that is not one, and for half maps that do not belong together.
    """
    volumes = several_maps(volumes, "prepare_maps needs maps")
    labels = _labels(volumes, names)
    options = Preparation() if preparation is None else preparation
    check_is("preparation", options, Preparation)
    mask, remarks = _mask(options)
    report_contrast, report_filter, report_placing, report_cleaning = split(
        report, 1, options.lowpass is not None, ALIGNING * (options.align != "none"), 1
    )
    given = list(zip(volumes, labels, strict=True))
    backgrounds, raised = [], []
    for volume, label in _each(given, report_contrast):
        own, new_remarks = _background(volume, options.level == "none", label)
        remarks += new_remarks
        backgrounds.append(own)
        raised.append(_without_background(volume, own, label))
    levels = _levels(volumes, backgrounds, options, labels)
    volumes, new_remarks = _low_passed(raised, options.lowpass, labels, report_filter)
    remarks += new_remarks
    placed, new_remarks = _on_first_grid(volumes, options, levels, labels, report_placing)
    remarks += new_remarks
    placed, new_remarks = boxed(placed, options.box, labels)
    remarks += new_remarks
    placed, new_remarks = sampled(placed, options.grid, options.apix, labels)
    remarks += new_remarks
    noises, new_remarks = _noises(placed, levels, options, labels)
    remarks += new_remarks
    weight = None if mask is None else mask_on(mask, placed[0])
    prepared, prepared_levels, signals = [], [], []
    steps = list(zip(placed, levels, noises, _halves(half_maps, labels), labels, strict=True))
    for volume, level, noise, halves, label in _each(steps, report_cleaning):
        floor = 0.0 if options.level == "none" else options.floor
        removed = noise if options.level == "auto" else None
        cleaned, new_remarks = _cleaned(volume, removed, level, floor, options.dust, label)
        remarks += new_remarks
        cleaned, new_remarks = _masked(cleaned, weight, label)
        remarks += new_remarks
        matched, new_remarks = _scaled_like(cleaned, prepared, options.match, label)
        remarks += new_remarks
        prepared.append(matched)
        prepared_levels.append(level * matched.mass / cleaned.mass)
        signals.append(_signal(volume, matched, halves, noise, label))
    for one, before, label in zip(prepared[1:], volumes[1:], labels[1:], strict=True):
        remarks += scaled(one, prepared[0], (before.voxel_size[0], volumes[0].voxel_size[0]), label)
    masses = tuple(volume.mass for volume in prepared)
    actions, warnings = (tuple(one.text for one in remarks if one.warning == kind) for kind in (False, True))
    contours = tuple(prepared_levels) if any(levels) else None
    return Prepared(tuple(prepared), masses, actions, warnings, contours, tuple(backgrounds), tuple(signals))


def _on_first_grid(
    volumes: Sequence[Volume],
    options: Preparation,
    levels: Sequence[float],
    labels: Sequence[str],
    report: Report,
) -> tuple[list[Volume], list[Remark]]:
    """Align the maps to the first one, or resample them onto its grid; match their spectra if chosen."""
    first = volumes[0]
    placed, remarks = [first], []
    for index in range(1, len(volumes)):
        volume, label = volumes[index], labels[index]
        if options.place == "centre":
            volume, new_remarks = centred(volume, first, label)
            remarks += new_remarks
        elif options.align == "none":
            remarks += unplaced(volume, first, label)
        if options.align == "none":
            moved, new_remarks = onto_first(volume, first, levels[index], label)
        else:
            report_one = part_of(report, index - 1, len(volumes) - 1)
            moved, new_remarks = aligned_to_first(volume, first, options.align, label, report_one)
        remarks += new_remarks
        if options.match == "spectrum":
            moved = moved.with_data(clean.with_spectrum_of(moved.data, first.data, first.voxel_size))
            remarks.append(Remark(f"{label}: its amplitudes at each resolution are now those of map 1"))
        placed.append(moved)
    return placed, remarks


def _halves(half_maps: Sequence[Halves] | None, labels: Sequence[str]) -> Sequence[Halves | None]:
    """The half maps of each map, or None."""
    if half_maps is None:
        return [None] * len(labels)
    if len(half_maps) != len(labels):
        raise InputError(
            f"half maps of {len(half_maps)} maps were given for {len(labels)} maps: give two half maps for each"
        )
    return half_maps


def _signal(
    placed: Volume, cleaned: Volume, halves: Halves | None, noise: background.Noise | None, label: str
) -> Signal | None:
    """The signal of a map: by its half maps, or by its solvent before it was cleaned."""
    if halves is not None:
        return signal_of_halves(*halves, label)
    return None if noise is None else signal_of_solvent(placed, noise, cleaned.data > 0)


def _each(items: Sequence[Item], report: Report) -> Iterator[Item]:
    """Yield the items, and report each as done when the next one is requested."""
    for done, item in enumerate(items, start=1):
        yield item
        report(done, len(items))


def _background(volume: Volume, kept: bool, label: str) -> tuple[float, list[Remark]]:
    """The background to take off, 0 for none; ``kept``: it stays, with a warning."""
    remarks = [Remark(f"{label}: {INVERTED}", warning=True)] if background.inverted(volume.data) else []
    own = background.background_of(volume.data)
    if own == 0:
        return 0.0, remarks
    found = f"{label}: its background, the most common density, is {own:.4g}"
    if kept:
        return 0.0, [*remarks, Remark(f"{found}, not zero, and stays; try --level auto", warning=True)]
    return own, [*remarks, Remark(f"{found}: taken off, so that it is zero")]


def _without_background(volume: Volume, own: float, label: str) -> Volume:
    """Take the background off; raise InputError for maps that cannot be used."""
    if own == 0:
        check_map(volume, label)
        return volume
    low, high = float(volume.data.min()), float(volume.data.max())
    raised = volume.with_data((volume.data - own).astype(volume.data.dtype))
    check_map(raised, f"{label}, with densities from {low:g} to {high:g} and its background of {own:g} taken off,")
    return raised


def _noises(
    placed: Sequence[Volume], levels: Sequence[float], options: Preparation, labels: Sequence[str]
) -> tuple[Sequence[background.Noise | None], list[Remark]]:
    """The noise in the solvent of each map; and a warning for noise that a level leaves in it."""
    if options.level == "auto":
        return background.noises_of([volume.data for volume in placed]), []
    noises, remarks = [background.noise_of(volume.data) for volume in placed], []
    for noise, level, label in zip(noises, levels, labels, strict=True):
        if noise is not None and level < noise.level:
            measured = f"{label}: solvent noise of standard deviation {noise.sd:.3g} about {noise.middle:.3g}"
            advice = f"densities up to {noise.level:.3g} are mostly noise and count as mass; try --level auto"
            remarks.append(Remark(f"{measured}: {advice}", warning=True))
    return noises, remarks


def _cleaned(
    volume: Volume, noise: background.Noise | None, level: float, floor: float, dust: int | None, label: str
) -> tuple[Volume, list[Remark]]:
    """Remove noise if there is any, then negative densities, those below the level or floor, and dust."""
    remarks: list[Remark] = []
    if noise is not None:
        volume, remarks = _without_noise(volume, noise, dust, label)
    volume, new_remarks = _non_negative(volume, level, floor, label)
    remarks += new_remarks
    volume, new_remarks = _without_dust(volume, dust or 0, label)
    return volume, remarks + new_remarks


def _low_passed(
    volumes: Sequence[Volume], resolution: float | None, labels: Sequence[str], report: Report
) -> tuple[Sequence[Volume], list[Remark]]:
    if resolution is None:
        return volumes, []
    remarks = [
        Remark(
            f"{label}: its voxels of {triple_text(volume.voxel_size)} Å cannot hold detail of {resolution:g} Å",
            warning=True,
        )
        for volume, label in zip(volumes, labels, strict=True)
        if resolution < 2.0 * max(volume.voxel_size)
    ]
    filtered = [_filtered(volume, resolution) for volume in _each(volumes, report)]
    return filtered, [*remarks, Remark(f"all maps low-passed to {resolution:g} Å")]


def _filtered(volume: Volume, resolution: float) -> Volume:
    """Low-pass a map; what rings below zero or away from a map without negative density is cut."""
    data = clean.low_pass(volume.data, volume.voxel_size, resolution)
    if volume.data.min() >= 0:
        reach = [int(np.ceil(resolution / step)) for step in volume.voxel_size[::-1]]
        data = without_ringing(data, volume.data, [np.arange(n) for n in volume.shape], reach)
    return volume.with_data(data.astype(np.result_type(volume.data, np.float32)))


def _without_noise(
    volume: Volume, noise: background.Noise, dust: int | None, label: str
) -> tuple[Volume, list[Remark]]:
    data, smallest = clean.without_noise(volume.data, noise, dust)
    if not data.any():
        raise InputError(
            f"{label}: dust of {dust} voxels would remove all that stands out of the noise: give fewer"
        )
    positive = volume.data[volume.data > 0].sum(dtype=np.float64)
    share = data.sum(dtype=np.float64) / positive
    remark = (
        f"{label}: solvent noise of standard deviation {noise.sd:.3g} about {noise.middle:.3g} removed; pieces of "
        f"{smallest} voxels or more above {noise.level:.4g} kept, with one voxel around them: "
        f"{percent(share)} of the positive density"
    )
    return volume.with_data(data), [Remark(remark)]


def _without_dust(volume: Volume, smallest: int, label: str) -> tuple[Volume, list[Remark]]:
    """Remove pieces of fewer than ``smallest`` voxels."""
    data, pieces = clean.without_dust(volume.data, 0.0, smallest)
    if not pieces:
        return volume, []
    if not data.any():
        largest = clean.largest_piece(volume.data, 0.0)
        raise InputError(
            f"{label}: dust of {smallest} voxels would remove all: give at most {largest}, its largest piece"
        )
    cleaned = volume.with_data(data)
    share = 1.0 - cleaned.mass / volume.mass
    dust = f"{pieces} pieces of fewer than {smallest} voxels (dust)"
    return cleaned, [Remark(f"{label}: {dust} set to zero, {percent(share)} of the mass")]


def _mask(options: Preparation) -> tuple[Volume | None, list[Remark]]:
    """The mask that the options name or hold, with values from 0 to 1."""
    if options.mask is None:
        return None, []
    if not isinstance(options.mask, str):
        mask, said = as_mask(options.mask, "mask")
        return mask, [Remark(said)] if said else []
    read = load(options.mask)
    mask, said = as_mask(read.volume, f"mask '{options.mask}'")
    remarks = [Remark(text, warning=True) for text in read.warnings]
    return mask, [*remarks, Remark(said)] if said else remarks


def _masked(volume: Volume, weight: Float[np.ndarray, "z y x"] | None, label: str) -> tuple[Volume, list[Remark]]:
    if weight is None:
        return volume, []
    masked = volume.with_data((volume.data * weight).astype(volume.data.dtype))
    if masked.mass <= 0:
        raise InputError(f"{label} has no density inside the mask: check that map and mask overlap")
    outside = 1.0 - masked.mass / volume.mass
    return masked, [Remark(f"{label}: masked, {percent(outside)} of the mass outside set to zero")]


def _scaled_like(volume: Volume, before: Sequence[Volume], match: str, label: str) -> tuple[Volume, list[Remark]]:
    """A map with the mass or the density of the first of those before it, where that is wanted."""
    if match not in ("mass", "density") or not before:
        return volume, []
    first = before[0]
    mass = first.mass if match == "mass" else volume.mass / clean.density_ratio(first.data, volume.data)
    scaled = volume.with_data(with_mass(volume.data, mass).astype(volume.data.dtype))
    now = "its mass is that of map 1" if match == "mass" else "it is as dense as map 1 where both are dense"
    return scaled, [Remark(f"{label}: densities multiplied by {mass / volume.mass:.6g}, so that {now}")]


def unit_mass(data: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "z y x"]:
    """Scale densities to sum one, data / sum(data), in double precision, as solvers need them.

    Raises ``InputError`` unless the sum is positive and finite.
    """
    return with_mass(data, 1.0)


def _labels(volumes: Sequence[Volume], names: Sequence[str] | None) -> list[str]:
    if len(volumes) == 0:
        raise InputError("no maps were given: give one or more")
    if names is None:
        return [f"map {k}" for k in range(1, len(volumes) + 1)]
    if len(names) != len(volumes):
        raise InputError(f"{len(names)} names were given for {len(volumes)} maps: give one per map")
    return [f"map {k} ({name})" for k, name in enumerate(names, 1)]


def _levels(
    volumes: Sequence[Volume], backgrounds: Sequence[float], options: Preparation, labels: Sequence[str]
) -> list[float]:
    """One level per map above its background; zero if no level is given."""
    if isinstance(options.level, str):
        return [0.0] * len(volumes)
    levels: list[float] = (
        [*options.level] if isinstance(options.level, Sequence) else [options.level] * len(volumes)
    )
    if len(levels) != len(volumes):
        raise InputError(f"{len(levels)} levels were given for {len(volumes)} maps: give one, or one per map")
    for volume, value, own, label in zip(volumes, levels, backgrounds, labels, strict=True):
        top = float(volume.data.max())
        if not (own <= value < top or value == 0 < own):
            least = f"its background {own:g}" if own else "0"
            raise InputError(
                f"level {value:g} is out of range for {label}: give one from {least} to below its maximum {top:g}"
            )
    return [max(value - own, 0.0) for value, own in zip(levels, backgrounds, strict=True)]


def _non_negative(volume: Volume, level: float, floor: float, label: str) -> tuple[Volume, list[Remark]]:
    """Set negative densities to zero, then those below the level or the floor, whichever is higher."""
    remarks = []
    negative = volume.data < 0
    if count := int(negative.sum()):
        share = -volume.data[negative].sum(dtype=np.float64)
        volume = _clipped(volume)
        if volume.mass <= 0:
            raise InputError(f"{label} has no positive density on the common grid: check its origin and the grid")
        remarks.append(
            Remark(
                f"{label}: {count} voxels of negative density ({percent(count / volume.data.size)} of all, "
                f"{percent(share / volume.mass)} of the mass) set to zero"
            )
        )
    top = float(volume.data.max())
    if level >= top:
        raise InputError(
            f"{label} has no density above its level {level:g} on the common grid: give one below {top:g}"
        )
    low = (volume.data > 0) & (volume.data < max(level, floor * top))
    if count := int(low.sum()):
        share = volume.data[low].sum(dtype=np.float64) / volume.mass
        bound = f"the level {level:g}" if level > floor * top else f"{floor:g} of the maximum (the floor)"
        volume = volume.with_data(np.where(low, volume.data.dtype.type(0), volume.data))
        remarks.append(Remark(f"{label}: {count} voxels below {bound} set to zero, {percent(share)} of the mass"))
    return volume, remarks


def _clipped(volume: Volume) -> Volume:
    return volume.with_data(np.maximum(volume.data, volume.data.dtype.type(0)))
