"""Cubes of voxels around the body of a map, on which rotations and shifts of it are tried and refined.

Maps are taken without their background (the median), and each frequency is weighted by its share of signal
(Wiener),

    W(k) = max(0, 1 - N / P(|k|)) ,

with P the mean power of the map over a shell of frequencies and N the power of the noise, assumed to be white: the
median of P near the Nyquist frequency.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from scipy.ndimage import gaussian_filter, spline_filter

from morphot_jax.maps.pose import degrees_between
from morphot_jax.maps.resample import places_of, resample_onto, resampled, shape_of
from morphot_jax.maps.spectrum import last_shell, power, shells, summed
from morphot_jax.maps.volume import Grid, Volume
from morphot_jax.system.errors import InputError

ROTATIONS = 4608  # in a search: every rotation is within 12 degrees of one of them
SEARCH_VOXELS = 28  # along the edge of the cube of a search
BODY = 0.3  # level of the body, as a fraction of the maximum of the blurred map
BODY_SHARE = 0.995  # share of the body's voxels within its radius
MARGIN = 1.3  # edge of the cube over the diameter of the body
NOISE_FROM = 0.8  # of the Nyquist frequency: noise is measured from there on
STEPS = 40  # of L-BFGS, at most
PADDING = 4  # voxels of zeros around the coefficients of a spline
STILL = 1e-3  # voxels: a refinement stops when a step moves the body's surface by less


@dataclass(frozen=True, eq=False, repr=False)
class Body:
    """The body of a map.

    - ``volume``: the map without its background. ``signal``: the same, its frequencies weighted by W(k).
    - ``centre``: of mass, in Å along x, y, z. ``radius``: in Å.
    """

    volume: Volume
    signal: Volume
    centre: Float[np.ndarray, "3"]
    radius: float

    @classmethod
    def of(cls, volume: Volume) -> "Body":
        """The body of a map; InputError for one with the same density everywhere."""
        bare = _without_background(volume)
        signal = _signal_of(bare)
        return cls(bare, signal, *_centre_and_radius(signal))

    def cube(self, length: float, voxels: int) -> Float[np.ndarray, "n n n"]:
        """The signal on a cube about the centre, ``length`` Å and so many voxels wide, scaled to norm one."""
        edge = length / voxels
        x, y, z = self.centre - 0.5 * (voxels - 1) * edge
        cube = Grid((voxels, voxels, voxels), (edge, edge, edge), (float(x), float(y), float(z)))
        data = resample_onto(self.signal, cube).data.astype(np.float64)
        return data / np.linalg.norm(data)


def best_apart(
    rotations: Float[np.ndarray, "n 3 3"], overlaps: Float[np.ndarray, " n"], degrees: float, most: int
) -> list[int]:
    """The rotations of largest overlap that are at least so many degrees from one another, best first."""
    left = np.argsort(-overlaps)
    chosen: list[int] = []
    while len(left) and len(chosen) < most:
        chosen.append(int(left[0]))
        left = left[degrees_between(rotations[left], rotations[left[0]]) > degrees]
    return chosen


def spline_of(data: Float[np.ndarray, "n n n"]) -> Float[np.ndarray, "m m m"]:
    """Coefficients of the cubic spline through a map and the zeros around it."""
    return spline_filter(np.pad(data, PADDING), order=3, mode="mirror")


def centred(n: int) -> Float[Array, "3 points"]:
    """Positions of a cube's voxels along z, y, x, relative to its centre."""
    along = jnp.arange(n) - 0.5 * (n - 1)
    return jnp.stack(jnp.meshgrid(along, along, along, indexing="ij")).reshape(3, -1)


def turn_by(vector: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """The rotation by |v| about v, exp [v], which is smooth at v = 0."""
    a, b, c = vector
    cross = jnp.array([[0.0, -c, b], [c, 0.0, -a], [-b, a, 0.0]])
    return jax.scipy.linalg.expm(cross)


def spline_at(coefficients: Float[Array, "m m m"], points: Float[Array, "3 p"]) -> Float[Array, " p"]:
    """Evaluate a cubic spline at points relative to the centre of its cube; zero far outside."""
    n = coefficients.shape[0]
    place = jnp.clip(points + 0.5 * (n - 1), 1.0, n - 3.0)
    whole = jnp.floor(place)
    u = place - whole
    weights = jnp.stack([(1 - u) ** 3, (3 * u - 6) * u**2 + 4, ((3 - 3 * u) * u + 3) * u + 1, u**3]) / 6
    first = whole.astype(int) - 1
    near = jax.vmap(lambda start: jax.lax.dynamic_slice(coefficients, start, (4, 4, 4)))(first.T)
    return jnp.einsum("pabc,ap,bp,cp->p", near, *jnp.moveaxis(weights, 1, 0))


def climbed(
    loss: Callable[[Array], Array], start: Float[Array, " n"], steps: Int[Array, ""] | int
) -> Float[Array, " n"]:
    """Where L-BFGS ends that starts here: at a step that is shorter than ``STILL``, or after ``steps`` of them."""
    solver = optax.lbfgs(memory_size=6)
    value_and_grad = optax.value_and_grad_from_state(loss)

    def going(carry):
        count, moved, *_ = carry
        return (count < steps) & (moved > STILL)

    def climb(carry):
        count, _, step, state = carry
        value, gradient = value_and_grad(step, state=state)
        update, state = solver.update(gradient, state, step, value=value, grad=gradient, value_fn=loss)
        return count + 1, jnp.linalg.norm(update), step + update, state

    *_, step, _ = jax.lax.while_loop(going, climb, (0, jnp.inf, start, solver.init(start)))
    return step


def _without_background(volume: Volume) -> Volume:
    data = volume.data - np.median(volume.data)
    if not data.any():
        raise InputError(f"a map of {volume.shape} voxels has one density everywhere: give a map with a structure")
    return volume.with_data(data)


def _signal_of(volume: Volume) -> Volume:
    """Weight the frequencies of the map by W(k)."""
    shell, columns = shells(volume.shape), volume.shape[2]
    spectrum = np.fft.rfftn(volume.data.astype(np.float64))
    counts = summed(np.ones(shell.shape), shell, columns)
    mean = power(spectrum, shell, columns) / np.maximum(counts, 1.0)
    nyquist = last_shell(volume.shape)
    noise = float(np.median(mean[int(NOISE_FROM * nyquist) : nyquist + 1]))
    weight = np.maximum(0.0, 1.0 - noise / np.maximum(mean, 1e-300))
    if not weight.any():
        return volume
    return volume.with_data(np.fft.irfftn(spectrum * weight[shell], s=volume.shape, axes=(0, 1, 2)))


def _centre_and_radius(volume: Volume) -> tuple[Float[np.ndarray, "3"], float]:
    """The centre of mass (Å; x, y, z) and the radius of the body in a blurred map."""
    shape = shape_of(np.minimum(volume.shape, SEARCH_VOXELS))
    coarse, _ = resampled(volume, shape)
    blurred = gaussian_filter(coarse.data.astype(np.float64), 1.0, mode="constant")
    places = np.argwhere(blurred > BODY * blurred.max())
    weights = blurred[tuple(places.T)]
    points = places_of(coarse, places)
    centre = np.average(points, axis=0, weights=weights)
    distances = np.linalg.norm(points - centre, axis=1)
    return centre, float(np.quantile(distances, BODY_SHARE) + max(coarse.voxel_size))
