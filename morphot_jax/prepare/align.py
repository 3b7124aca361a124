"""Rigid registration: the rotation and shift that give one map the largest overlap with another.

The search maximises the overlap of the fixed map f with the moving map g,

    c(R, s) = sum_x f(x) g(R^T (x - s)) / (|f| |g|),

after the background (the median) is subtracted from both. On average, the noise of one map does not correlate with
anything in the other. Chance correlations are least if each frequency is weighted by its share of signal (Wiener),

    W(k) = max(0, 1 - N / P(|k|)) ,

with P the mean power of the map over a shell of frequencies and N the power of the noise, assumed to be white: the
median of P near the Nyquist frequency. The search is global and assumes no symmetry, unless told of one:

1. Both maps are resampled onto a small cube of voxels, as large as the body, about their own centres of mass.
2. For each of a few thousand rotations, spread evenly over all rotations, one Fourier transform tries all shifts.
3. The best rotations that are not close to one another, and the map as it lies, are refined by L-BFGS (optax),
   rotation and shift together, on cubic splines of the small cube. Those with the largest overlap on a finer cube
   are refined there.
4. A symmetric map fits in several poses equally well. Poses whose overlap is that of the best within the accuracy
   of the overlap are equal (``_equal``). Of these, the one that moves the map least is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Bool, Float
from scipy.ndimage import affine_transform, gaussian_filter, spline_filter
from scipy.spatial.transform import Rotation

from morphot_jax.maps.check import check_map, one_map
from morphot_jax.maps.pose import IDENTITY, Pose, degrees_between, spread_rotations
from morphot_jax.maps.resample import places_of, resample_onto, resampled, shape_of
from morphot_jax.maps.spectrum import last_shell, power, shells, summed
from morphot_jax.maps.symmetry import operators
from morphot_jax.maps.volume import Grid, Volume
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import Report, silent
from morphot_jax.system.words import Motion

ROTATIONS = 4608  # in the search: every rotation is within 12 degrees of one of them
SEARCH_VOXELS = 28  # along the edge of the cube of the search
FINE_STEP = 8  # voxels: fine cubes have few sizes, so that alignments share what is compiled
FINE_VOXELS = 96  # at most, along the edge of the cube of the last refinement
CANDIDATES = 24  # rotations refined on the small cube
FINALISTS = 2  # candidates refined on the fine cube, beside the one that moves the map least
APART = 20.0  # degrees between candidates
BODY = 0.3  # level of the body, as a fraction of the maximum of the blurred map
BODY_SHARE = 0.995  # share of the body's voxels within its radius
MARGIN = 1.3  # edge of the cube over the diameter of the body
NOISE_FROM = 0.8  # of the Nyquist frequency: noise is measured from there on
TOGETHER = 64  # rotations tried between two reports
STEPS = 40  # of L-BFGS, at most
PADDING = 4  # voxels of zeros around the coefficients of a spline
STILL = 1e-3  # voxels: the refinement stops when a step moves the body's surface by less
SAME = 3.0, 1.0  # degrees and search voxels between poses that are one
EQUAL, OF_THE_REST = 2e-3, 0.01  # overlaps are equal to this, and to this share of what they lack to one
LOOSE = 3.0  # times that before the last refinement
SYMMETRIC = 0.3  # least gain of overlap by turning a map as its symmetry says, as a share of what is possible
TURNS = 90  # places that are tried for the two-fold axis of a map


@dataclass(frozen=True)
class Alignment:
    """The best alignment of one map to another.

    - ``pose``: the motion of the moving map.
    - ``correlation``: the overlap c after the motion, on the fixed map's grid; ``before``: without the motion.
    - ``other_hand``: the best overlap of the hand that is not used; None if it was not tried.
    - ``equal_poses``: how many poses were found that fit equally well; ``pose`` moves the map least of them.
    """

    pose: Pose
    correlation: float
    before: float
    other_hand: float | None = None
    equal_poses: int = 1


class Starts(NamedTuple):
    """Rotations about the centre of a cube, shifts in its voxels along z, y, x, and their overlaps."""

    rotations: Float[np.ndarray, "n 3 3"]
    shifts: Float[np.ndarray, "n 3"]
    overlaps: Float[np.ndarray, " n"]


class Fit(NamedTuple):
    """A pose, and how many poses fit as well as it does."""

    pose: Pose
    equal_poses: int


def align_maps(
    moving: Volume,
    fixed: Volume,
    *,
    motion: Motion = "rigid",
    mirror: bool = False,
    local: bool = False,
    symmetry: str = "C1",
    report: Report = silent,
) -> Alignment:
    """Find the motion of ``moving`` that gives the largest overlap with ``fixed``.

    Of motions that fit equally well the smallest is taken: the one with the least mean squared displacement.

    - ``motion``: 'rigid', a rotation and a shift, or 'translation'.
    - ``mirror``: also try the mirror image, and use the better of the two.
    - ``local``: climb from where the map lies to the next maximum, without a search.
    - ``symmetry``: the point group of the fixed map, about an axis along z through its middle (``operators``). All
      poses that it makes equal then count, and not only those that the search finds.

    ``report`` gets the work done and the total work. Raises InputError for maps that ``prepare_maps`` would
    refuse, for maps with the same density everywhere, for an unknown symmetry, and for one that the fixed map
    does not have.
    """
    check_map(one_map(moving, "align_maps needs a map to move"), "the map to align")
    check_map(one_map(fixed, "align_maps needs a map that stays"), "the map to align it to")
    group = operators(symmetry)
    pair = _Pair(moving, fixed)
    images = _images(pair, group, symmetry) if motion == "rigid" else group[:1]
    rotations = spread_rotations(ROTATIONS) if motion == "rigid" else np.eye(3)[None]
    rotations = rotations[: len(rotations) * (not local)]
    hands = (False, True) if mirror else (False,)
    steps = len(hands) * (-(-len(rotations) // TOGETHER) + 2)
    counter = iter(range(1, steps + 1))

    def advance() -> None:
        report(next(counter), steps)

    fits = [_best(pair, mirrored, rotations, images, motion, advance) for mirrored in hands]
    (correlation, fit), *others = sorted(
        ((pair.overlap(fit.pose), fit) for fit in fits), key=lambda entry: entry[0], reverse=True
    )
    before = pair.overlap(IDENTITY)
    return Alignment(fit.pose, correlation, before, others[0][0] if others else None, fit.equal_poses)


class _Pair:
    """Two maps without their backgrounds, and cubes around their bodies."""

    def __init__(self, moving: Volume, fixed: Volume):
        self.moving, self.fixed = (_without_background(volume) for volume in (moving, fixed))
        self.signals = tuple(_signal(volume) for volume in (self.moving, self.fixed))
        (self.moving_centre, r), (self.fixed_centre, s) = (_body(volume) for volume in self.signals)
        self.length = 2.0 * MARGIN * max(r, s)
        self.lever = max(r, s) / self.length
        finest = max(*fixed.voxel_size, *moving.voxel_size)
        wanted = FINE_STEP * np.ceil(self.length / finest / FINE_STEP)
        self.fine_voxels = int(np.clip(wanted, SEARCH_VOXELS, FINE_VOXELS))

    def cubes(self, voxels: int, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
        """The moving and the fixed body on cubes of this number of voxels a side, about their centres."""
        moving = _cube(self.signals[0], self.moving_centre, self.length, voxels)
        return moving[:, :, ::-1] if mirrored else moving, self.fixed_cube(voxels)

    def fixed_cube(self, voxels: int) -> Float[np.ndarray, "n n n"]:
        """The fixed body alone."""
        return _cube(self.signals[1], self.fixed_centre, self.length, voxels)

    def pose(self, mirrored: bool, rotation: np.ndarray, shift: np.ndarray, voxels: int) -> Pose:
        """Convert a rotation and shift of the cubes, along z, y, x, to a motion in Å along x, y, z."""
        turn = rotation[::-1, ::-1] @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
        step = self.length / voxels
        return Pose(turn, self.fixed_centre + shift[::-1] * step - turn @ self.moving_centre)

    def start(self, pose: Pose, voxels: int) -> "Starts":
        """The rotation and shift of the cubes for a motion in Å: the inverse of ``pose``."""
        turn = pose.rotation @ np.diag([-1.0 if pose.mirrored else 1.0, 1.0, 1.0])
        shift = (pose.carried(self.moving_centre) - self.fixed_centre)[::-1] * (voxels / self.length)
        return Starts(turn[None, ::-1, ::-1], shift[None], np.zeros(1))

    def as_it_lies(self, mirrored: bool) -> Pose:
        """No motion, or the mirror image about the map's own middle."""
        if not mirrored:
            return IDENTITY
        mirror = np.diag([-1.0, 1.0, 1.0])
        return Pose(mirror, self.moving_centre - mirror @ self.moving_centre)

    def turned(self, pose: Pose, turn: Float[np.ndarray, "3 3"]) -> Pose:
        """A motion, and then a rotation about the middle of the fixed map."""
        return Pose(turn, self.fixed_centre - turn @ self.fixed_centre).after(pose)

    def displacement(self, pose: Pose) -> float:
        """The root mean square displacement of the body by a motion, in Å, if it were a ball.

        sqrt( |c' - c|^2 + 8/5 R^2 sin^2(angle / 2) ), with c its centre, R its radius.
        """
        shift = pose.carried(self.moving_centre) - self.moving_centre
        radius = self.lever * self.length
        return float(np.sqrt(shift @ shift + 1.6 * (radius * np.sin(np.radians(pose.degrees) / 2)) ** 2))

    def overlap(self, pose: Pose) -> float:
        """The overlap c after a motion, on the grid of the fixed map."""
        moved = resample_onto(self.moving, self.fixed, pose).data.ravel().astype(np.float64)
        fixed = self.fixed.data.ravel().astype(np.float64)
        norm = np.linalg.norm(moved) * np.linalg.norm(fixed)
        return float(moved @ fixed / norm) if norm > 0 else 0.0


def _best(
    pair: _Pair,
    mirrored: bool,
    rotations: Float[np.ndarray, "n 3 3"],
    images: Float[np.ndarray, "k 3 3"],
    motion: Motion,
    advance: Callable[[], None],
) -> Fit:
    """Find the smallest of the best motions of one hand.

    ``images``: rotations that leave the fixed map as it is.
    """
    fine = pair.fine_voxels

    def poses(starts: Starts) -> list[Pose]:
        return [pair.pose(mirrored, *start, fine) for start in zip(starts.rotations, starts.shifts, strict=True)]

    with jax.enable_x64(True):
        moving, fixed = (gaussian_filter(cube, 1.0) for cube in pair.cubes(SEARCH_VOXELS, mirrored))
        starts = pair.start(pair.as_it_lies(mirrored), SEARCH_VOXELS)
        if len(rotations):
            starts = _joined(_candidates(_searched(moving, fixed, rotations, advance)), starts)
        starts = _distinct(_refined(moving, fixed, starts, motion, pair.lever))
        advance()
        moving, fixed = pair.cubes(fine, mirrored)
        starts = starts._replace(shifts=starts.shifts * (fine / SEARCH_VOXELS))
        starts = _refined(moving, fixed, starts, motion, pair.lever, steps=0)
        found = poses(starts)
        equal = int(np.count_nonzero(_equal(starts.overlaps)))
        near = min(np.flatnonzero(_equal(starts.overlaps, LOOSE)), key=lambda one: pair.displacement(found[one]))
        chosen = sorted({*range(min(FINALISTS, len(found))), int(near)})
        ends = _refined(moving, fixed, _taken(starts, chosen), motion, pair.lever)
        best = [pose for pose, one in zip(poses(ends), _equal(ends.overlaps), strict=True) if one]
        pose = min(best, key=pair.displacement)
        if len(images) > 1:
            turned = [pair.turned(pose, image) for image in images]
            start = pair.start(min(turned, key=pair.displacement), fine)
            pose = poses(_refined(moving, fixed, start, motion, pair.lever))[0]
            equal = len(images)
        advance()
    return Fit(pose, equal)


def _equal(overlaps: Float[np.ndarray, " n"], slack: float = 1.0) -> Bool[np.ndarray, " n"]:
    """Mark the overlaps that are as large as the largest one, within the accuracy of an overlap."""
    best = overlaps.max()
    return overlaps >= best - slack * (EQUAL + OF_THE_REST * (1.0 - best))


def _joined(first: Starts, second: Starts) -> Starts:
    return Starts(*(np.concatenate(parts) for parts in zip(first, second, strict=True)))


def _taken(starts: Starts, places: Sequence[int]) -> Starts:
    return Starts(*(part[list(places)] for part in starts))


def _distinct(starts: Starts) -> Starts:
    """Leave out starts that are the same as an earlier one."""
    degrees, voxels = SAME
    kept: list[int] = []
    for index, (rotation, shift) in enumerate(zip(starts.rotations, starts.shifts, strict=True)):
        near = degrees_between(starts.rotations[kept], rotation) < degrees
        if not np.any(near & (np.linalg.norm(starts.shifts[kept] - shift, axis=1) < voxels)):
            kept.append(index)
    return _taken(starts, kept)


def _images(pair: _Pair, group: Float[np.ndarray, "k 3 3"], name: str) -> Float[np.ndarray, "k 3 3"]:
    """The rotations of a group as the fixed map has them; raise InputError if it does not.

    The two-fold axis of Dn may lie anywhere across z: ``TURNS`` places are tried.
    """
    if len(group) == 1:
        return group
    cube = gaussian_filter(pair.fixed_cube(SEARCH_VOXELS), 1.0)
    about_z = Rotation.from_rotvec(np.outer(np.linspace(0.0, np.pi, TURNS, endpoint=False), [0, 0, 1])).as_matrix()
    across = next((turn for turn in group if np.allclose(turn[2], [0.0, 0.0, -1.0])), None)
    if across is not None and name.upper().startswith("D"):
        fits = [_self_overlap(cube, turn @ across @ turn.T) for turn in about_z]
        turn = about_z[int(np.argmax(fits))]
        group = turn @ group @ turn.T
    cube = pair.fixed_cube(pair.fine_voxels)
    found, worst = (min(_self_overlap(cube, turn) for turn in turns) for turns in (group, about_z[:: TURNS // 30]))
    if found - worst < SYMMETRIC * (1.0 - worst):
        raise InputError(
            f"the map that stays does not have the symmetry {name.upper()} about z through its middle: turned, it "
            f"overlaps with itself by {found:.2f}, where any angle gives {worst:.2f} or more; check the axis"
        )
    return group


def _self_overlap(cube: Float[np.ndarray, "n n n"], turn: Float[np.ndarray, "3 3"]) -> float:
    """The overlap of a cube with itself, turned about its centre; ``turn``: along x, y, z."""
    turn = turn[::-1, ::-1]
    centre = np.full(3, 0.5 * (len(cube) - 1))
    where = {"offset": centre - turn @ centre, "order": 1}
    turned = affine_transform(cube, turn, **where)
    return float((turned * cube).sum() / (np.linalg.norm(turned) * np.linalg.norm(cube)))


def _without_background(volume: Volume) -> Volume:
    data = volume.data - np.median(volume.data)
    if not data.any():
        raise InputError(f"a map of {volume.shape} voxels has one density everywhere: give a map with a structure")
    return volume.with_data(data)


def _signal(volume: Volume) -> Volume:
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


def _body(volume: Volume) -> tuple[Float[np.ndarray, "3"], float]:
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


def _cube(
    volume: Volume, centre: Float[np.ndarray, "3"], length: float, voxels: int
) -> Float[np.ndarray, "n n n"]:
    """Resample the map onto a cube about a centre, scaled to norm one."""
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
    """Find the shift with the largest overlap for every rotation, in whole voxels: single precision is enough."""
    unturned, target = (jnp.asarray(cube, jnp.float32) for cube in (moving, fixed))
    transform = jnp.fft.rfftn(target)
    batches = []
    for first in range(0, len(rotations), TOGETHER):
        batch = jnp.asarray(rotations[first : first + TOGETHER], jnp.float32)
        batches.append(jax.device_get(_best_shifts(unturned, transform, batch)))
        advance()
    overlaps, places = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    n = len(fixed)
    shifts = np.stack(np.unravel_index(places, fixed.shape), axis=1)
    shifts = np.where(shifts > n // 2, shifts - n, shifts).astype(np.float64)
    return Starts(rotations, shifts, overlaps)


@jax.jit
def _best_shifts(moving, transform, rotations):
    """max_s sum_x f(x) g(R^T (x - s)) for each R, and the index of that s, by Fourier transform."""
    points = _centred(moving.shape[0])

    def best(rotation):
        where = rotation.T @ points + 0.5 * (moving.shape[0] - 1)
        turned = map_coordinates(moving, where, order=1).reshape(moving.shape)
        overlaps = jnp.fft.irfftn(jnp.conj(jnp.fft.rfftn(turned)) * transform, s=moving.shape).ravel()
        place = jnp.argmax(overlaps)
        return overlaps[place], place

    return jax.vmap(best)(rotations)


def _candidates(starts: Starts) -> Starts:
    """Choose the best rotations that are at least ``APART`` from one another, best first."""
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
    """Climb from each start to the next maximum of the overlap in at most ``steps`` steps; best first.

    ``lever``: how far a turn by one radian moves the body's surface, as a share of the cube's edge.
    """
    free = jnp.array([motion == "rigid"] * 3 + [True] * 3, float)
    coefficients, target = jnp.asarray(_spline(moving)), jnp.asarray(fixed)
    with jax.default_matmul_precision("highest"):  # else GPUs round positions to three digits
        ends = [
            _ascended(coefficients, target, rotation, shift, free, lever * len(fixed), steps)
            for rotation, shift in zip(starts.rotations, starts.shifts, strict=True)
        ]
    ends.sort(key=lambda end: float(end[2]), reverse=True)
    return Starts(*(np.stack(part) for part in zip(*jax.device_get(ends), strict=True)))


def _spline(data: Float[np.ndarray, "n n n"]) -> Float[np.ndarray, "m m m"]:
    """Coefficients of the cubic spline through a map and the zeros around it."""
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
    """Positions of a cube's voxels along z, y, x, relative to its centre."""
    along = jnp.arange(n) - 0.5 * (n - 1)
    return jnp.stack(jnp.meshgrid(along, along, along, indexing="ij")).reshape(3, -1)


def _turn(vector: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """The rotation by |v| about v, exp [v], which is smooth at v = 0."""
    a, b, c = vector
    cross = jnp.array([[0.0, -c, b], [c, 0.0, -a], [-b, a, 0.0]])
    return jax.scipy.linalg.expm(cross)


def _at(coefficients: Float[Array, "m m m"], points: Float[Array, "3 p"]) -> Float[Array, " p"]:
    """Evaluate a cubic spline at points relative to the centre of its cube; zero far outside."""
    n = coefficients.shape[0]
    place = jnp.clip(points + 0.5 * (n - 1), 1.0, n - 3.0)
    whole = jnp.floor(place)
    u = place - whole
    weights = jnp.stack([(1 - u) ** 3, (3 * u - 6) * u**2 + 4, ((3 - 3 * u) * u + 3) * u + 1, u**3]) / 6
    first = whole.astype(int) - 1
    near = jax.vmap(lambda start: jax.lax.dynamic_slice(coefficients, start, (4, 4, 4)))(first.T)
    return jnp.einsum("pabc,ap,bp,cp->p", near, *jnp.moveaxis(weights, 1, 0))
