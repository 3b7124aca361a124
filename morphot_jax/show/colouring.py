"""How far the mass at a place of a frame goes on its whole way: values that surfaces are coloured by."""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from morphot_jax.maps.resample import indices_of
from morphot_jax.maps.volume import Grid, Volume
from morphot_jax.morphing.field import displacement_field, moving, starts_and_displacements
from morphot_jax.morphing.progress import ProgressReport
from morphot_jax.morphing.settings import Settings
from morphot_jax.show.scene import Scene, shares_of
from morphot_jax.system.reporting import silent

BLUR = 1.5  # voxels: places between those that mass comes from take the mean of what is around them


def lengths_along(
    scene: Scene, sigma: float = 0.0, report: ProgressReport = silent
) -> tuple[Float[np.ndarray, "t z y x"], float]:
    """The mean length (Å) of the ways of the mass at each voxel of each frame, and what 99 % of surfaces keep to.

    The way D of each bit of mass from the first frame of the scene to the last is taken at their resolution
    (``displacement_field``, by a kernel of ``sigma`` Å, or of a voxel where that is more); at share s of the time
    it is at x + s D(x).
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
    """The mean length (Å) of the ways of the mass around each voxel of a scene, at shares of its way.

    ``field``: D on the grid of the first map, x, y, z in Å (``displacement_field``).
    """
    indices = np.argwhere(moving(field, first))
    starts, ways = starts_and_displacements(field, first, indices)
    mass, lengths = first.data[*indices.T].astype(np.float64), np.linalg.norm(ways, axis=1)
    z, y, x = shape = scene.densities.shape[1:]
    seen = Grid((z, y, x), scene.voxel_size, scene.origin)
    places = (indices_of(seen, starts + share * ways) for share in shares)
    return np.stack([_means(at, mass, lengths, shape) for at in places])


def _means(
    places: Float[np.ndarray, "n 3"],
    mass: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    shape: tuple[int, ...],
) -> Float[np.ndarray, "z y x"]:
    """Means, by mass, of values at places (voxels) around each voxel; zero where there are none."""
    edges = [np.arange(n + 1) - 0.5 for n in shape]
    total, weighted = (
        gaussian_filter(np.histogramdd(places, edges, weights=weights)[0], BLUR)
        for weights in (mass, mass * values)
    )
    return np.divide(weighted, total, out=np.zeros_like(total), where=total > 1e-9 * total.max()).astype(
        np.float32
    )
