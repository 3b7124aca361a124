"""Colour surfaces by displacement, how far the mass at each place of a frame goes in all, or by what fades."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, map_coordinates

from morphot_jax.maps.resample import indices_of
from morphot_jax.maps.volume import Grid, Volume
from morphot_jax.morphing.field import displacement_field, moving, starts_and_displacements
from morphot_jax.morphing.progress import ProgressReport
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.times import locate
from morphot_jax.show.scene import Scene, shares_of
from morphot_jax.system.reporting import silent

BLUR = 1.5  # voxels: fills the gaps between the places that mass comes to


def lengths_along(
    scene: Scene, sigma: float = 0.0, report: ProgressReport = silent
) -> tuple[Float[np.ndarray, "t z y x"], float]:
    """How far (Å) the mass at each voxel of each frame goes in all: the mean; and the 99 % quantile on surfaces.

    The mass at x in the first frame of the scene goes by D(x) to the last (``displacement_field``, with a kernel
    of ``sigma`` Å, or of one voxel of the scene where that is more). At share s of the time it is at x + s D(x).
    """
    first, last = (
        Volume(scene.densities[i] * np.float32(scene.levels[i]), scene.voxel_size, scene.origin) for i in (0, -1)
    )
    settings = Settings(method="displacement", sigma_angstrom=max(sigma, *scene.voxel_size))
    field = displacement_field([first, last], settings, report=report)
    values = lengths_on(scene, first, field, shares_of(scene.times))
    return values, float(np.quantile(values[scene.densities >= 1.0], 0.99))


def lengths_on(
    scene: Scene, first: Volume, field: Float[np.ndarray, "3 z y x"], shares: Float[np.ndarray, " t"]
) -> Float[np.ndarray, "t cz cy cx"]:
    """The mean length (Å) of the displacements of the mass at each voxel, at each share of the way.

    ``field``: D on the grid of the first map, along x, y, z in Å (``displacement_field``).
    """
    indices = np.argwhere(moving(field, first))
    starts, ways = starts_and_displacements(field, first, indices)
    mass, lengths = first.data[*indices.T].astype(np.float64), np.linalg.norm(ways, axis=1)
    z, y, x = shape = scene.densities.shape[1:]
    shown = Grid((z, y, x), scene.voxel_size, scene.origin)
    places = (indices_of(shown, starts + share * ways) for share in shares)
    return np.stack([_means(at, mass, lengths, shape) for at in places])


def fading_along(
    scene: Scene, faded: Mapping[int, tuple[Volume, Volume]], maps: int, template: Volume
) -> Float[np.ndarray, "t z y x"]:
    """For each voxel of each frame 0 where its mass fades, 1 where it appears, and 1/2 where it does neither.

    ``faded``: what fades and what appears between neighbouring maps, of ``maps`` in all, by the index of the
    first, on the grid of ``template``.
    """
    z, y, x = scene.densities.shape[1:]
    corner = indices_of(template, np.array([scene.origin]))[0]
    steps = np.array(scene.voxel_size[::-1]) / np.array(template.voxel_size[::-1])
    places = [start + step * np.arange(n) for start, step, n in zip(corner, steps, (z, y, x), strict=True)]
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    parts = {
        before: [map_coordinates(part.data, grid, order=1) for part in pair] for before, pair in faded.items()
    }
    values = np.full(scene.densities.shape, 0.5, np.float32)
    for index, time in enumerate(scene.times):
        before, share = locate(float(time), maps)
        if before in parts:
            fades, appears = parts[before]
            density = scene.densities[index] * scene.levels[index]
            change = share * appears - (1.0 - share) * fades
            values[index] += np.divide(change, 2.0 * density, out=np.zeros_like(change), where=density > 0)
    return np.clip(values, 0.0, 1.0)


def _means(
    places: Float[np.ndarray, "n 3"],
    mass: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    shape: tuple[int, ...],
) -> Float[np.ndarray, "z y x"]:
    """The mass-weighted mean of values, at places in voxels, around each voxel; zero where no mass is."""
    edges = [np.arange(n + 1) - 0.5 for n in shape]
    total, weighted = (
        gaussian_filter(np.histogramdd(places, edges, weights=weights)[0], BLUR)
        for weights in (mass, mass * values)
    )
    return np.divide(weighted, total, out=np.zeros_like(total), where=total > 1e-9 * total.max()).astype(
        np.float32
    )
