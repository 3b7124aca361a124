"""Rigid registration: the rotation and shift that give one map the largest overlap with another.

The search maximises the overlap of the fixed map f with the moving map g,

    c(R, s) = sum_x f(x) g(R^T (x - s)) / (|f| |g|),

for maps without their backgrounds, whose frequencies are weighted by their share of signal (``cubes``): on
average, the noise of one map does not correlate with anything in the other, and so chance correlations are least.
The search is global and assumes no symmetry, unless told of one:

1. Both maps are resampled onto a small cube of voxels, as large as the body, about their own centres of mass.
2. For each of a few thousand rotations, spread evenly over all rotations, one Fourier transform tries all shifts.
3. The best rotations that are not close to one another, and the map as it lies, are refined by L-BFGS (optax),
   rotation and shift together, on cubic splines of the small cube. Those with the largest overlap on a finer cube
   are refined there.
4. A symmetric map fits in several poses equally well. Poses whose overlap is that of the best within the accuracy
   of the overlap are equal (``equal_overlaps``). Of these, the one that moves the map least is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter

from morphot_jax.maps.check import check_map, one_map
from morphot_jax.maps.pose import IDENTITY, Pose, degrees_between, spread_rotations
from morphot_jax.maps.resample import resample_onto
from morphot_jax.maps.volume import Volume
from morphot_jax.prepare import cubes
from morphot_jax.prepare.symmetric import symmetry_of
from morphot_jax.system.reporting import Report, silent
from morphot_jax.system.words import Motion, point_group

FINE_STEP = 8  # voxels: fine cubes have few sizes, so that alignments share what is compiled
FINE_VOXELS = 96  # at most, along the edge of the cube of the last refinement
CANDIDATES = 24  # rotations refined on the small cube
FINALISTS = 2  # candidates refined on the fine cube, beside the one that moves the map least
APART = 20.0  # degrees between candidates
TOGETHER = 64  # rotations tried between two reports
SAME = 3.0, 1.0  # degrees and search voxels between poses that are one
EQUAL, OF_THE_REST = 2e-3, 0.01  # overlaps are equal to this, and to this share of what they lack to one
LOOSE = 3.0  # times that before the last refinement


@dataclass(frozen=True)
class RunnerUp:
    """The best pose that fits less well than the one that was taken.

    - ``degrees``, ``distance``: the angle between the two, and that between their centres in Å.
    """

    pose: Pose
    correlation: float
    degrees: float
    distance: float


@dataclass(frozen=True)
class Alignment:
    """The best alignment of one map to another.

    - ``pose``: the motion of the moving map.
    - ``correlation``: the overlap c after the motion, on the fixed map's grid; ``before``: without the motion.
    - ``other_hand``: the best overlap of the hand that is not used; None if it was not tried.
    - ``equal_poses``: how many poses were found that fit equally well; ``pose`` moves the map least of them.
    - ``runner_up``: of a part in a complex (``fit_part``), the best pose that fits less well; else None.
    """

    pose: Pose
    correlation: float
    before: float
    other_hand: float | None = None
    equal_poses: int = 1
    runner_up: RunnerUp | None = None


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
    - ``symmetry``: the point group of the fixed map, as in ``symmetry_of``. All poses that it makes equal then
      count, and not only those that the search finds.

    ``report`` gets the work done and the total work. Raises InputError for maps that ``prepare_maps`` would
    refuse, for maps with the same density everywhere, for an unknown symmetry, and for one that the fixed map
    does not have.
    """
    check_map(one_map(moving, "align_maps needs a map to move"), "the map to align")
    check_map(one_map(fixed, "align_maps needs a map that stays"), "the map to align it to")
    symmetric = point_group(symmetry) != "C1" and motion == "rigid"
    pair = _Pair(moving, fixed)
    images = symmetry_of(fixed, symmetry, "the map that stays").poses if symmetric else (IDENTITY,)
    rotations = spread_rotations(cubes.ROTATIONS) if motion == "rigid" else np.eye(3)[None]
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
        self.moving, self.fixed = cubes.Body.of(moving), cubes.Body.of(fixed)
        radius = max(self.moving.radius, self.fixed.radius)
        self.length = 2.0 * cubes.MARGIN * radius
        self.lever = radius / self.length
        finest = max(*fixed.voxel_size, *moving.voxel_size)
        wanted = FINE_STEP * np.ceil(self.length / finest / FINE_STEP)
        self.fine_voxels = int(np.clip(wanted, cubes.SEARCH_VOXELS, FINE_VOXELS))

    def cubes(self, voxels: int, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
        """The moving and the fixed body on cubes of this number of voxels a side, about their centres."""
        moving, fixed = (body.cube(self.length, voxels) for body in (self.moving, self.fixed))
        return moving[:, :, ::-1] if mirrored else moving, fixed

    def pose(self, mirrored: bool, rotation: np.ndarray, shift: np.ndarray, voxels: int) -> Pose:
        """Convert a rotation and shift of the cubes, along z, y, x, to a motion in Å along x, y, z."""
        turn = rotation[::-1, ::-1] @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
        step = self.length / voxels
        return Pose(turn, self.fixed.centre + shift[::-1] * step - turn @ self.moving.centre)

    def start(self, pose: Pose, voxels: int) -> "Starts":
        """The rotation and shift of the cubes for a motion in Å: the inverse of ``pose``."""
        turn = pose.rotation @ np.diag([-1.0 if pose.mirrored else 1.0, 1.0, 1.0])
        shift = (pose.carried(self.moving.centre) - self.fixed.centre)[::-1] * (voxels / self.length)
        return Starts(turn[None, ::-1, ::-1], shift[None], np.zeros(1))

    def as_it_lies(self, mirrored: bool) -> Pose:
        """No motion, or the mirror image about the map's own middle."""
        if not mirrored:
            return IDENTITY
        mirror = np.diag([-1.0, 1.0, 1.0])
        return Pose(mirror, self.moving.centre - mirror @ self.moving.centre)

    def displacement(self, pose: Pose) -> float:
        """The root mean square displacement of the body by a motion, in Å, if it were a ball.

        sqrt( |c' - c|^2 + 8/5 R^2 sin^2(angle / 2) ), with c its centre, R its radius.
        """
        shift = pose.carried(self.moving.centre) - self.moving.centre
        radius = self.lever * self.length
        return float(np.sqrt(shift @ shift + 1.6 * (radius * np.sin(np.radians(pose.degrees) / 2)) ** 2))

    def overlap(self, pose: Pose) -> float:
        """The overlap c after a motion, on the grid of the fixed map."""
        moved = resample_onto(self.moving.volume, self.fixed.volume, pose).data.ravel().astype(np.float64)
        fixed = self.fixed.volume.data.ravel().astype(np.float64)
        norm = np.linalg.norm(moved) * np.linalg.norm(fixed)
        return float(moved @ fixed / norm) if norm > 0 else 0.0


def _best(
    pair: _Pair,
    mirrored: bool,
    rotations: Float[np.ndarray, "n 3 3"],
    images: Sequence[Pose],
    motion: Motion,
    advance: Callable[[], None],
) -> Fit:
    """Find the smallest of the best motions of one hand.

    ``images``: motions that leave the fixed map as it is.
    """
    fine = pair.fine_voxels

    def poses(starts: Starts) -> list[Pose]:
        return [pair.pose(mirrored, *start, fine) for start in zip(starts.rotations, starts.shifts, strict=True)]

    with jax.enable_x64(True):
        moving, fixed = (gaussian_filter(cube, 1.0) for cube in pair.cubes(cubes.SEARCH_VOXELS, mirrored))
        starts = pair.start(pair.as_it_lies(mirrored), cubes.SEARCH_VOXELS)
        if len(rotations):
            tried = _searched(moving, fixed, rotations, advance)
            best = cubes.best_apart(tried.rotations, tried.overlaps, APART, CANDIDATES)
            starts = _joined(_taken(tried, best), starts)
        starts = _distinct(_refined(moving, fixed, starts, motion, pair.lever))
        advance()
        moving, fixed = pair.cubes(fine, mirrored)
        starts = starts._replace(shifts=starts.shifts * (fine / cubes.SEARCH_VOXELS))
        starts = _refined(moving, fixed, starts, motion, pair.lever, steps=0)
        found = poses(starts)
        equal = int(np.count_nonzero(equal_overlaps(starts.overlaps)))
        near = min(
            np.flatnonzero(equal_overlaps(starts.overlaps, LOOSE)), key=lambda one: pair.displacement(found[one])
        )
        chosen = sorted({*range(min(FINALISTS, len(found))), int(near)})
        ends = _refined(moving, fixed, _taken(starts, chosen), motion, pair.lever)
        best = [pose for pose, one in zip(poses(ends), equal_overlaps(ends.overlaps), strict=True) if one]
        pose = min(best, key=pair.displacement)
        if len(images) > 1:
            turned = [image.after(pose) for image in images]
            start = pair.start(min(turned, key=pair.displacement), fine)
            pose = poses(_refined(moving, fixed, start, motion, pair.lever))[0]
            equal = len(images)
        advance()
    return Fit(pose, equal)


def equal_overlaps(overlaps: Float[np.ndarray, " n"], slack: float = 1.0) -> Bool[np.ndarray, " n"]:
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
    points = cubes.centred(moving.shape[0])

    def best(rotation):
        where = rotation.T @ points + 0.5 * (moving.shape[0] - 1)
        turned = map_coordinates(moving, where, order=1).reshape(moving.shape)
        overlaps = jnp.fft.irfftn(jnp.conj(jnp.fft.rfftn(turned)) * transform, s=moving.shape).ravel()
        place = jnp.argmax(overlaps)
        return overlaps[place], place

    return jax.vmap(best)(rotations)


def _refined(
    moving: Float[np.ndarray, "n n n"],
    fixed: Float[np.ndarray, "n n n"],
    starts: Starts,
    motion: Motion,
    lever: float,
    steps: int = cubes.STEPS,
) -> Starts:
    """Climb from each start to the next maximum of the overlap in at most ``steps`` steps; best first.

    ``lever``: how far a turn by one radian moves the body's surface, as a share of the cube's edge.
    """
    free = jnp.array([motion == "rigid"] * 3 + [True] * 3, float)
    coefficients, target = jnp.asarray(cubes.spline_of(moving)), jnp.asarray(fixed)
    with jax.default_matmul_precision("highest"):  # else GPUs round positions to three digits
        ends = [
            _ascended(coefficients, target, rotation, shift, free, lever * len(fixed), steps)
            for rotation, shift in zip(starts.rotations, starts.shifts, strict=True)
        ]
    ends.sort(key=lambda end: float(end[2]), reverse=True)
    return Starts(*(np.stack(part) for part in zip(*jax.device_get(ends), strict=True)))


@jax.jit
def _ascended(coefficients, fixed, rotation, shift, free, lever, steps):
    """Rotation, shift and overlap after L-BFGS; a step is measured in voxels at the body's surface."""
    points = cubes.centred(fixed.shape[0])
    values = fixed.ravel()

    def motion_of(step):
        step = step * free
        return cubes.turn_by(step[:3] / lever) @ rotation, shift + step[3:]

    def loss(step):
        turned, shifted = motion_of(step)
        return -jnp.vdot(values, cubes.spline_at(coefficients, turned.T @ (points - shifted[:, None])))

    step = cubes.climbed(loss, jnp.zeros(6, fixed.dtype), steps)
    return *motion_of(step), -loss(step)
