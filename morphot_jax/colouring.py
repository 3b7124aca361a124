"""How far the mass at a place of a frame goes on its whole way: values that surfaces are coloured by."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from morphot_jax.field import magnitude
from morphot_jax.progress import Progress
from morphot_jax.scene import Scene
from morphot_jax.settings import Settings
from morphot_jax.trajectory import displacement_field
from morphot_jax.volume import Volume

BLUR = 1.5  # voxels: places between those that mass comes from take the mean of what is around them


def lengths_along(
    scene: Scene, sigma: float = 0.0, report: Callable[[Progress], None] = lambda progress: None
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
    moving = np.isfinite(field[0]) & (first.data > 0)
    starts = np.argwhere(moving).T.astype(np.float64)
    ways = field[:, moving] / np.array(scene.voxel_size[::-1])[:, None]
    mass, lengths = first.data[moving].astype(np.float64), magnitude(field)[moving]
    span = scene.times[-1] - scene.times[0]
    shares = np.clip((scene.times - scene.times[0]) / span, 0.0, 1.0) if span else np.zeros_like(scene.times)
    values = np.stack([_means(starts + share * ways, mass, lengths, first.shape) for share in shares])
    return values, float(np.quantile(values[scene.densities >= 1.0], 0.99))


def _means(
    places: Float[np.ndarray, "3 n"],
    mass: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    shape: tuple[int, ...],
) -> Float[np.ndarray, "z y x"]:
    """Means, by mass, of values at places (voxels) around each voxel; zero where there are none."""
    edges = [np.arange(n + 1) - 0.5 for n in shape]
    total, weighted = (
        gaussian_filter(np.histogramdd(places.T, edges, weights=weights)[0], BLUR)
        for weights in (mass, mass * values)
    )
    return np.divide(weighted, total, out=np.zeros_like(total), where=total > 1e-9 * total.max()).astype(
        np.float32
    )
