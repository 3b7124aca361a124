"""Rigid registration: the rotation and shift that lay one map best onto another.

What is maximised is the overlap of f, the map that stays, with g, the one that moves,

    c(R, s) = sum_x f(x) g(R^T (x - s)) / (|f| |g|),

with the background (the median) taken off both. Noise of one map does not correlate with anything in the other, on
average; what it does by chance is least if each frequency counts by how much of it is signal (Wiener),

    W(k) = max(0, 1 - N / P(|k|)) ,

P being the mean power of the map over a shell of frequencies and N that of the noise, taken for white: the median
of P near the Nyquist frequency. The search is global and knows nothing of symmetry:

1. Both maps are brought to a small cube of voxels about their own centres of mass, as large as the body is.
2. For every one of some thousand rotations spread evenly over all of them, all shifts are tried at once by a
   Fourier transform.
3. The best rotations that are not near one another are refined together by L-BFGS (optax), rotation and shift at
   once, on cubic splines of the small cube; those that overlap best on a finer one are refined there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float
from scipy.ndimage import gaussian_filter, spline_filter

from morphot_jax.maps.check import check_map, one_map
from morphot_jax.maps.pose import IDENTITY, Pose, degrees_between, spread_rotations
from morphot_jax.maps.resample import places_of, resample_onto, resampled, shape_of
from morphot_jax.maps.spectrum import shells, summed
from morphot_jax.maps.volume import Grid, Volume
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import Report, silent
from morphot_jax.system.words import Motion

ROTATIONS = 4608  # tried: one of them lies within 12 degrees of any
SEARCH_VOXELS = 28  # along the edge of the cube that is searched
FINE_VOXELS = 96  # at most, along the edge of the cube that the last refinement sees
CANDIDATES = 24  # rotations refined on the small cube
FINALISTS = 2  # of these refined on the fine one
APART = 20.0  # degrees between candidates
BODY = 0.3  # of the maximum of a blurred map: where its body is
BODY_SHARE = 0.995  # of the body's voxels that its radius reaches
MARGIN = 1.3  # edge of the cube over the diameter of the body
NOISE_FROM = 0.8  # of the Nyquist frequency on, where noise is measured
TOGETHER = 64  # rotations tried between two reports
STEPS = 40  # of L-BFGS, at most
PADDING = 4  # voxels of nothing about the coefficients of a spline
STILL = 1e-3  # voxels: a step that moves the body's surface by less is the last


@dataclass(frozen=True)
class Alignment:
    """How one map lies best on another.

    - ``pose``: the motion that takes the moving map there.
    - ``correlation``: the overlap c there, on the grid of the map that stays; ``before``: where the map was.
    - ``other_hand``: the best overlap of the hand that is not used; None where it was not tried.
    """

    pose: Pose
    correlation: float
    before: float
    other_hand: float | None = None


class Starts(NamedTuple):
    """Rotations about the centre of a cube and shifts in its voxels, along z, y, x, with their overlaps."""

    rotations: Float[np.ndarray, "n 3 3"]
    shifts: Float[np.ndarray, "n 3"]
    overlaps: Float[np.ndarray, " n"]


def align_maps(
    moving: Volume,
    fixed: Volume,
    *,
    motion: Motion = "rigid",
    mirror: bool = False,
    report: Report = silent,
) -> Alignment:
    """Find the motion of ``moving`` that overlaps best with ``fixed``.

    ``motion``: 'rigid', a rotation and a shift, or 'translation'. ``mirror``: try the mirror image as well, and
    use the better of the two. ``report``: called with the work done and all there is. Raises InputError for maps
    that ``prepare_maps`` would not take, and for those that are the same everywhere.
    """
    check_map(one_map(moving, "align_maps needs a map to move"), "the map to align")
    check_map(one_map(fixed, "align_maps needs a map that stays"), "the map to align it to")
    pair = _Pair(moving, fixed)
    rotations = spread_rotations(ROTATIONS) if motion == "rigid" else np.eye(3)[None]
    hands = (False, True) if mirror else (False,)
    steps = len(hands) * (-(-len(rotations) // TOGETHER) + 2)
    done = iter(range(1, steps + 1))
    poses = [_best(pair, mirrored, rotations, motion, lambda: report(next(done), steps)) for mirrored in hands]
    (correlation, pose), *others = sorted(
        ((pair.overlap(pose), pose) for pose in poses), key=lambda entry: entry[0], reverse=True
    )
    return Alignment(pose, correlation, pair.overlap(IDENTITY), others[0][0] if others else None)


class _Pair:
    """Two maps without their backgrounds, and the cubes that are cut out about their bodies."""

    def __init__(self, moving: Volume, fixed: Volume):
        self.moving, self.fixed = (_without_background(volume) for volume in (moving, fixed))
        self.signals = tuple(_signal(volume) for volume in (self.moving, self.fixed))
        (self.moving_centre, r), (self.fixed_centre, s) = (_body(volume) for volume in self.signals)
        self.length = 2.0 * MARGIN * max(r, s)
        self.lever = max(r, s) / self.length
        finest = max(*fixed.voxel_size, *moving.voxel_size)
        self.fine_voxels = int(np.clip(np.ceil(self.length / finest), SEARCH_VOXELS, FINE_VOXELS))

    def cubes(self, voxels: int, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
        """The moving body and the one that stays on cubes of so many voxels about their centres."""
        moving = _cube(self.signals[0], self.moving_centre, self.length, voxels)
        fixed = _cube(self.signals[1], self.fixed_centre, self.length, voxels)
        return moving[:, :, ::-1] if mirrored else moving, fixed

    def pose(self, mirrored: bool, rotation: np.ndarray, shift: np.ndarray, voxels: int) -> Pose:
        """The motion in Å, along x, y, z, of a rotation and shift of cubes along z, y, x."""
        turn = rotation[::-1, ::-1] @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
        step = self.length / voxels
        return Pose(turn, self.fixed_centre + shift[::-1] * step - turn @ self.moving_centre)

    def overlap(self, pose: Pose) -> float:
        """The overlap c of a motion, on the grid of the map that stays."""
        carried = resample_onto(self.moving, self.fixed, pose).data.ravel().astype(np.float64)
        staying = self.fixed.data.ravel().astype(np.float64)
        norm = np.linalg.norm(carried) * np.linalg.norm(staying)
        return float(carried @ staying / norm) if norm > 0 else 0.0


def _best(
    pair: _Pair, mirrored: bool, rotations: Float[np.ndarray, "n 3 3"], motion: Motion, advance: Callable[[], None]
) -> Pose:
    """The best motion of one hand."""
    with jax.enable_x64(True):
        moving, fixed = (gaussian_filter(cube, 1.0) for cube in pair.cubes(SEARCH_VOXELS, mirrored))
        starts = _candidates(_searched(moving, fixed, rotations, advance))
        starts = _refined(moving, fixed, starts, motion, pair.lever)
        advance()
        moving, fixed = pair.cubes(pair.fine_voxels, mirrored)
        starts = starts._replace(shifts=starts.shifts * (pair.fine_voxels / SEARCH_VOXELS))
        starts = _refined(moving, fixed, starts, motion, pair.lever, steps=0)
        starts = _refined(moving, fixed, Starts(*(part[:FINALISTS] for part in starts)), motion, pair.lever)
        advance()
    return pair.pose(mirrored, starts.rotations[0], starts.shifts[0], pair.fine_voxels)


def _without_background(volume: Volume) -> Volume:
    data = volume.data - np.median(volume.data)
    if not data.any():
        raise InputError(f"a map of {volume.shape} voxels has one density everywhere: there is nothing to align")
    return volume.with_data(data)


def _signal(volume: Volume) -> Volume:
    """The map weighed by W(k)."""
    shell, columns = shells(volume.shape), volume.shape[2]
    spectrum = np.fft.rfftn(volume.data.astype(np.float64))
    counts = summed(np.ones(shell.shape), shell, columns)
    power = summed(np.abs(spectrum) ** 2, shell, columns) / np.maximum(counts, 1.0)
    nyquist = max(volume.shape) // 2
    noise = float(np.median(power[int(NOISE_FROM * nyquist) : nyquist + 1]))
    weight = np.maximum(0.0, 1.0 - noise / np.maximum(power, 1e-300))
    if not weight.any():
        return volume
    return volume.with_data(np.fft.irfftn(spectrum * weight[shell], s=volume.shape, axes=(0, 1, 2)))


def _body(volume: Volume) -> tuple[Float[np.ndarray, "3"], float]:
    """Centre of mass (Å; x, y, z) and radius of what stands out of a blurred map."""
    shape = shape_of(np.minimum(volume.shape, SEARCH_VOXELS))
    coarse, _ = resampled(volume, shape)
    blurred = gaussian_filter(coarse.data.astype(np.float64), 1.0, mode="constant")
    places = np.argwhere(blurred > BODY * blurred.max())
    weights = blurred[tuple(places.T)]
    points = places_of(coarse, places)
    centre = np.average(points, axis=0, weights=weights)
    distances = np.linalg.norm(points - centre, axis=1)
    return centre, float(np.quantile(distances, BODY_SHARE) + max(coarse.voxel_size))


def _cube(
    volume: Volume, centre: Float[np.ndarray, "3"], length: float, voxels: int
) -> Float[np.ndarray, "n n n"]:
    """The map on a cube about a centre, of norm one."""
    edge = length / voxels
    x, y, z = centre - 0.5 * (voxels - 1) * edge
    cube = Grid((voxels, voxels, voxels), (edge, edge, edge), (float(x), float(y), float(z)))
    data = resample_onto(volume, cube).data.astype(np.float64)
    return data / np.linalg.norm(data)


def _searched(
    moving: Float[np.ndarray, "n n n"],
    fixed: Float[np.ndarray, "n n n"],
    rotations: Float[np.ndarray, "r 3 3"],
    advance: Callable[[], None],
) -> Starts:
    """For every rotation the shift with the largest overlap."""
    turning, transform = jnp.asarray(moving), jnp.fft.rfftn(jnp.asarray(fixed))
    found = []
    for first in range(0, len(rotations), TOGETHER):
        batch = jnp.asarray(rotations[first : first + TOGETHER])
        found.append(jax.device_get(_best_shifts(turning, transform, batch)))
        advance()
    overlaps, places = (np.concatenate(parts) for parts in zip(*found, strict=True))
    n = len(fixed)
    shifts = np.stack(np.unravel_index(places, fixed.shape), axis=1)
    shifts = np.where(shifts > n // 2, shifts - n, shifts).astype(np.float64)
    return Starts(rotations, shifts, overlaps)


@jax.jit
def _best_shifts(moving, transform, rotations):
    """max_s sum_x f(x) g(R^T (x - s)) for each R and its place among all shifts, by Fourier transform."""
    points = _centred(moving.shape[0])

    def best(rotation):
        where = rotation.T @ points + 0.5 * (moving.shape[0] - 1)
        turned = map_coordinates(moving, where, order=1).reshape(moving.shape)
        overlaps = jnp.fft.irfftn(jnp.conj(jnp.fft.rfftn(turned)) * transform, s=moving.shape).ravel()
        place = jnp.argmax(overlaps)
        return overlaps[place], place

    return jax.vmap(best)(rotations)


def _candidates(starts: Starts) -> Starts:
    """The best rotations that are ``APART`` from one another, best first."""
    left = np.argsort(-starts.overlaps)
    chosen: list[int] = []
    while len(left) and len(chosen) < CANDIDATES:
        chosen.append(int(left[0]))
        left = left[degrees_between(starts.rotations[left], starts.rotations[left[0]]) > APART]
    return Starts(*(part[np.array(chosen)] for part in starts))


def _refined(
    moving: Float[np.ndarray, "n n n"],
    fixed: Float[np.ndarray, "n n n"],
    starts: Starts,
    motion: Motion,
    lever: float,
    steps: int = STEPS,
) -> Starts:
    """Starts after an ascent of so many steps at most to the next maximum of the overlap, best first.

    ``lever``: how far a turn by one radian moves the body's surface, as a share of the cube's edge.
    """
    free = jnp.array([motion == "rigid"] * 3 + [True] * 3, float)
    coefficients, staying = jnp.asarray(_spline(moving)), jnp.asarray(fixed)
    ends = [
        _ascended(coefficients, staying, rotation, shift, free, lever * len(fixed), steps)
        for rotation, shift in zip(starts.rotations, starts.shifts, strict=True)
    ]
    ends.sort(key=lambda end: float(end[2]), reverse=True)
    return Starts(*(np.stack(part) for part in zip(*jax.device_get(ends), strict=True)))


def _spline(data: Float[np.ndarray, "n n n"]) -> Float[np.ndarray, "m m m"]:
    """Coefficients of the cubic spline through a map and the nothing around it."""
    return spline_filter(np.pad(data, PADDING), order=3, mode="mirror")


@jax.jit
def _ascended(coefficients, fixed, rotation, shift, free, lever, steps):
    """Rotation, shift and overlap after L-BFGS; a step is measured in voxels at the body's surface."""
    points = _centred(fixed.shape[0])
    values = fixed.ravel()

    def motion_of(step):
        step = step * free
        return _turn(step[:3] / lever) @ rotation, shift + step[3:]

    def loss(step):
        turned, shifted = motion_of(step)
        return -jnp.vdot(values, _at(coefficients, turned.T @ (points - shifted[:, None])))

    solver = optax.lbfgs(memory_size=6)
    value_and_grad = optax.value_and_grad_from_state(loss)

    def going(carry):
        count, moved, *_ = carry
        return (count < steps) & (moved > STILL)

    def body(carry):
        count, _, step, state = carry
        value, gradient = value_and_grad(step, state=state)
        update, state = solver.update(gradient, state, step, value=value, grad=gradient, value_fn=loss)
        return count + 1, jnp.linalg.norm(update), step + update, state

    start = jnp.zeros(6, fixed.dtype)
    *_, step, _ = jax.lax.while_loop(going, body, (0, jnp.inf, start, solver.init(start)))
    return *motion_of(step), -loss(step)


def _centred(n: int) -> Float[Array, "3 points"]:
    """Voxels of a cube, along z, y, x, about its centre."""
    along = jnp.arange(n) - 0.5 * (n - 1)
    return jnp.stack(jnp.meshgrid(along, along, along, indexing="ij")).reshape(3, -1)


def _turn(vector: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Rotation by |v| about v, exp [v], which is smooth at v = 0."""
    a, b, c = vector
    cross = jnp.array([[0.0, -c, b], [c, 0.0, -a], [-b, a, 0.0]])
    return jax.scipy.linalg.expm(cross)


def _at(coefficients: Float[Array, "m m m"], points: Float[Array, "3 p"]) -> Float[Array, " p"]:
    """A cubic spline at points about the centre of its cube; zero far outside."""
    n = coefficients.shape[0]
    place = jnp.clip(points + 0.5 * (n - 1), 1.0, n - 3.0)
    whole = jnp.floor(place)
    u = place - whole
    weights = jnp.stack([(1 - u) ** 3, (3 * u - 6) * u**2 + 4, ((3 - 3 * u) * u + 3) * u + 1, u**3]) / 6
    first = whole.astype(int) - 1
    near = jax.vmap(lambda start: jax.lax.dynamic_slice(coefficients, start, (4, 4, 4)))(first.T)
    return jnp.einsum("pabc,ap,bp,cp->p", near, *jnp.moveaxis(weights, 1, 0))
