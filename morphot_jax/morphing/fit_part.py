r"""Fitting of a part into a complex: the rotation and shift that lay a subunit where it belongs.

A complex has more density than the part. So the score looks only at what lies under the part. For a part p with
the mask m, the complex f, and a motion y = R x + s, it is the local correlation (Roseman 2003)

    c(R, s) = sum_x m (p - p_m) (f(R x + s) - f_m) / sqrt( sum_x m (p - p_m)^2  sum_x m (f(R x + s) - f_m)^2 ) ,

where p_m and f_m are the means under the mask: an offset or a factor of either map changes nothing. The mask is
the core of the part, without the rim that its neighbours in the complex blur into.

1. Some hundred rotations are tried, spread evenly over all rotations. For each, Fourier transforms of the part, of
   its mask, of the complex and of its square give c for all shifts. Both maps are taken as their curvature
   -laplace(G f) there (Chacon and Wriggers 2002): it shows where the part ends and a neighbour begins.
2. The best places that are not close to one another are candidates. Each is also carried by transport. From both
   poses, c of the densities is climbed by L-BFGS, rotation and shift together.
3. Transport (``unbalanced``) joins the positive curvatures of the part and of what lies around it in the complex,
   both with the same power under the mask. What has no counterpart within reach fades: most of the complex, and of
   the part what the complex lacks. The rigid motion nearest to the ways of what is carried, weighted by its mass
   (Kabsch 1976), moves the part. This is repeated while sigma and the reach fall. It finds places that a climb
   misses, since a climb feels only what the part overlaps with.
4. The poses of largest c of the curvatures are refined on a finer cube, on densities, and ranked there.

Riahi and others (2023) find a part by unbalanced Gromov-Wasserstein transport of points, without a search. Here
transport starts from what a search found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float
from scipy.ndimage import distance_transform_edt, gaussian_filter, laplace

from morphot_jax.maps.check import check_map, one_map
from morphot_jax.maps.pose import IDENTITY, Pose, degrees_between, spread_rotations
from morphot_jax.maps.volume import Volume
from morphot_jax.prepare import cubes
from morphot_jax.prepare.align import Alignment, RunnerUp, equal_overlaps
from morphot_jax.prepare.symmetric import symmetry_of
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import Report, silent
from morphot_jax.system.words import point_group
from morphot_jax.transport import displacement, kernels, unbalanced
from morphot_jax.transport.rigid_motions import nearest_rotation
from morphot_jax.transport.support import side_of

ROTATIONS = 576  # in a search: every rotation is within 24 degrees of one of them
ACROSS = 14  # voxels of the search along the diameter of the part
SEARCH_VOXELS, FINE_VOXELS = 96, 160  # at most, along the edge of the cubes of the complex
SIZES = 8  # voxels: cubes of the complex have few sizes, so that fits share what is compiled
POINTS = 512  # the voxels of a mask are padded to a multiple of this, for the same reason
CORE = 0.4  # of the maximum of the blurred part: its mask lies above
LEAST_SPREAD = 0.1  # of the largest standard deviation under the mask: emptier places do not count
TOGETHER, AT_ONCE = 64, 8  # rotations tried between two reports, and at once
CANDIDATES = 24
APART = 0.6  # of the radius of the part: displacement between candidates
SAME = 0.15  # of the radius of the part: displacement between poses that are one
ROUNDS = 16  # of transport
SIGMA, REACH = (1.5, 1.0), (5.0, 2.0)  # voxels, in the first and in the last round
AROUND = 3.0  # voxels of the complex around the mask that take part
EMPTY = 1e-12  # of the part's largest curvature: density without mass that transport may divide by
TOLERANCE, ITERATIONS = 1e-3, 60  # of a plan
UNLIKE = 0.5  # local correlation below which the complex may not hold the part
CLOSE, OF_THE_REST = 0.05, 0.5  # c of two poses are close within this, and this share of what c lacks to one


class Poses(NamedTuple):
    """Rotations, shifts in voxels along z, y, x, and scores.

    Voxel x of the part's cube goes to R x + s of the complex's, both relative to the centres of their cubes.
    """

    rotations: Float[np.ndarray, "n 3 3"]
    shifts: Float[np.ndarray, "n 3"]
    scores: Float[np.ndarray, " n"]

    def some(self, places: Sequence[int] | np.ndarray) -> "Poses":
        """Those of these numbers, in their order."""
        return Poses(*(part[np.asarray(places, int)] for part in self))

    @classmethod
    def joined(cls, *given: "Poses") -> "Poses":
        return cls(*(np.concatenate(parts) for parts in zip(*given, strict=True)))


@dataclass(frozen=True, eq=False, repr=False)
class Scene:
    """A part, its mask and a complex on cubes of voxels with an edge of ``step`` Å."""

    part: Float[np.ndarray, "m m m"]
    mask: Float[np.ndarray, "m m m"]
    whole: Float[np.ndarray, "n n n"]
    step: float

    def curved(self) -> "Scene":
        """The same with the curvature -laplace of both maps, for which this one must be blurred."""
        part, whole = -laplace(self.part), -laplace(self.whole)
        return Scene(part / part.max(), self.mask, whole / whole.max(), self.step)


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """The part at the points of its mask, and the spline of the complex."""

    values: Float[Array, " p"]
    weights: Float[Array, " p"]
    points: Float[Array, "3 p"]
    over: Float[Array, "m m m"]

    @classmethod
    def of(cls, scene: Scene) -> "Samples":
        inside = np.flatnonzero(scene.mask)
        room = -len(inside) % POINTS
        points = np.asarray(cubes.centred(len(scene.part)))[:, inside]
        values, weights = (np.pad(cube.ravel()[inside], (0, room)) for cube in (scene.part, scene.mask))
        padded = np.pad(points, [(0, 0), (0, room)])
        return cls(*map(jnp.asarray, (values, weights, padded, cubes.spline_of(scene.whole))))


def fit_part(
    part: Volume,
    whole: Volume,
    *,
    mirror: bool = False,
    local: bool = False,
    symmetry: str = "C1",
    report: Report = silent,
) -> Alignment:
    """Find the rotation and shift that lay a part onto its place in a complex, by the local correlation c.

    c is 1 where the densities under the part's mask are equal but for a factor and an offset. ``correlation`` and
    ``before`` of the result are c after the motion and without it. Of poses that fit equally well, the one that
    moves the part least is taken. ``runner_up`` is the best of the others.

    - ``mirror``: also try the mirror image of the part, and use the better of the two.
    - ``local``: start from where the part lies, without a search.
    - ``symmetry``: the point group of the complex, as in ``symmetry_of``. Poses that it makes equal are equal.

    The two maps may differ in voxels, boxes, scales and resolution. ``report`` gets the work done and the total
    work. Raises InputError for maps that ``prepare_maps`` would refuse, for maps with the same density everywhere,
    for a part larger than the complex, for an unknown symmetry, and for one that the complex does not have.
    """
    check_map(one_map(part, "fit_part needs a part"), "the part")
    check_map(one_map(whole, "fit_part needs a complex"), "the complex")
    symmetric = point_group(symmetry) != "C1"
    pair = _Pair(part, whole)
    images = symmetry_of(whole, symmetry, "the complex").poses if symmetric else (IDENTITY,)
    rotations = spread_rotations(ROTATIONS)[: ROTATIONS * (not local)]
    hands = (False, True) if mirror else (False,)
    steps = len(hands) * (-(-len(rotations) // TOGETHER) + 3)
    counter = iter(range(1, steps + 1))

    def advance() -> None:
        report(next(counter), steps)

    with (
        jax.enable_x64(True),
        jax.default_matmul_precision("highest"),
    ):  # else GPUs round positions to three digits
        found = [_found(pair, mirrored, rotations, advance) for mirrored in hands]
        best, *others = sorted(
            (_chosen(pair, mirrored, poses, images) for mirrored, poses in zip(hands, found, strict=True)),
            key=lambda one: one.correlation,
            reverse=True,
        )
        before = _as_it_lies(pair, pair.scene(pair.fine)).scores[0]
    return replace(best, before=float(before), other_hand=others[0].correlation if others else None)


def doubts_about(fit: Alignment) -> list[str]:
    """What speaks against the fit of a part: a low local correlation, or another pose that fits nearly as well."""
    doubts = []
    if fit.correlation < UNLIKE:
        doubts.append(
            f"the local correlation is {fit.correlation:.2f}: check that the complex has this part, in this form"
        )
    close = max(CLOSE, OF_THE_REST * (1.0 - fit.correlation))
    if (other := fit.runner_up) is not None and fit.correlation - other.correlation < close:
        doubts.append(
            f"another pose fits nearly as well, {other.distance:.1f} Å and {other.degrees:.0f}° away (local "
            f"correlation {other.correlation:.3f}, against {fit.correlation:.3f}): look at both, give the "
            "symmetry of the complex with --symmetry if they are equal by it, and check that the complex has "
            "this part"
        )
    return doubts


class _Pair:
    """The bodies of a part and of a complex, and the voxels of the search and of the last refinement."""

    def __init__(self, part: Volume, whole: Volume):
        self.part, self.whole = cubes.Body.of(part), cubes.Body.of(whole)
        if self.part.radius > self.whole.radius:
            radii = self.part.radius, self.whole.radius
            raise InputError(
                f"the part has a radius of {radii[0]:.0f} Å and the complex one of {radii[1]:.0f} Å: "
                "name the part first, then the complex"
            )
        self.edge = 2.0 * (self.part.radius + self.whole.radius)
        self.coarse = max(2.0 * self.part.radius / ACROSS, self.edge / SEARCH_VOXELS)
        finest = max(*part.voxel_size, *whole.voxel_size, self.edge / FINE_VOXELS)
        self.fine = min(self.coarse, finest)

    def scene(self, step: float, mirrored: bool = False, blur: float = 0.0) -> Scene:
        """Both maps on cubes, blurred by so many voxels."""
        around = SIZES * int(np.ceil(self.edge / step / SIZES))
        across = 2 * int(np.ceil(cubes.MARGIN * self.part.radius / step))
        part, whole = self.part.cube(across * step, across), self.whole.cube(around * step, around)
        core = gaussian_filter(part, self.coarse / step)
        part, whole = (gaussian_filter(cube, blur) if blur else cube for cube in (part, whole))
        mask = (core > CORE * core.max()).astype(np.float64)
        if mirrored:
            part, mask = part[:, :, ::-1], mask[:, :, ::-1]
        return Scene(part / part.max(), mask, whole / whole.max(), step)

    def pose(self, mirrored: bool, rotation: np.ndarray, shift: np.ndarray, step: float) -> Pose:
        """Convert a rotation and shift of the cubes, along z, y, x, to a motion in Å along x, y, z."""
        turn = rotation[::-1, ::-1] @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
        return Pose(turn, self.whole.centre + shift[::-1] * step - turn @ self.part.centre)

    def lying(self, mirrored: bool) -> Pose:
        """No motion, or the mirror image of the part about its own middle."""
        mirror = np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
        return Pose(mirror, self.part.centre - mirror @ self.part.centre)

    def displacements(self, pose: Pose, others: Sequence[Pose]) -> Float[np.ndarray, " n"]:
        """The root mean square distance, in Å, of the part in one pose from it in others, if it were a ball."""
        rotations, centres = zip(*((one.proper, one.carried(self.part.centre)) for one in others), strict=True)
        here = pose.proper, pose.carried(self.part.centre)
        return _apart(*here, np.stack(rotations), np.stack(centres), self.part.radius)


def _found(
    pair: _Pair, mirrored: bool, rotations: Float[np.ndarray, "n 3 3"], advance: Callable[[], None]
) -> Poses:
    """The distinct poses of largest c that the search leads to, on fine voxels, best first."""
    scene = pair.scene(pair.coarse, mirrored, blur=1.0)
    curved = scene.curved()
    radius = pair.part.radius / pair.coarse
    starts = _as_it_lies(pair, scene)
    if len(rotations):
        tried = _searched(curved, rotations, advance)
        starts = Poses.joined(_distinct(tried, APART * radius, radius, CANDIDATES), starts)
    carried = _carried(curved, starts)
    advance()
    climbed = _climbed(Samples.of(scene), Poses.joined(starts, carried), radius)
    ranked = _distinct(_climbed(Samples.of(curved), climbed, radius, steps=0), SAME * radius, radius, CANDIDATES)
    advance()
    fine = pair.scene(pair.fine, mirrored)
    radius = pair.part.radius / pair.fine
    ranked = ranked._replace(shifts=ranked.shifts * (pair.coarse / pair.fine))
    ends = _distinct(_climbed(Samples.of(fine), ranked, radius), SAME * radius, radius, CANDIDATES)
    advance()
    return ends


def _chosen(pair: _Pair, mirrored: bool, found: Poses, images: Sequence[Pose]) -> Alignment:
    """Of the poses that fit best, the one that moves the part least; and the best of the others.

    What c was before is not known here. ``images``: motions that leave the complex as it is.
    """
    poses = [pair.pose(mirrored, *found_one, pair.fine) for found_one in zip(*found[:2], strict=True)]
    alike = equal_overlaps(found.scores)
    equal = [pose for pose, one in zip(poses, alike, strict=True) if one]
    if len(images) > 1:
        equal = [image.after(poses[0]) for image in images]
        away = np.min([pair.displacements(one, poses) for one in equal], axis=0)
        alike = alike | (away < SAME * pair.part.radius)
    pose = equal[int(np.argmin(pair.displacements(pair.lying(mirrored), equal)))]
    runner_up = None
    if not alike.all():
        place = int(np.argmin(alike))
        other, centre = poses[place], pair.part.centre
        runner_up = RunnerUp(
            other,
            float(found.scores[place]),
            float(degrees_between(other.rotation, pose.rotation)),
            float(np.linalg.norm(other.carried(centre) - pose.carried(centre))),
        )
    return Alignment(pose, float(found.scores[0]), np.nan, equal_poses=len(equal), runner_up=runner_up)


def _as_it_lies(pair: _Pair, scene: Scene) -> Poses:
    """The pose of the part without a motion, or mirrored about its own middle; and c there."""
    shift = (pair.part.centre - pair.whole.centre)[::-1] / scene.step
    return _climbed(Samples.of(scene), Poses(np.eye(3)[None], shift[None], np.zeros(1)), 1.0, steps=0)


def _apart(
    rotation: Float[np.ndarray, "3 3"],
    shift: Float[np.ndarray, "3"],
    rotations: Float[np.ndarray, "n 3 3"],
    shifts: Float[np.ndarray, "n 3"],
    radius: float,
) -> Float[np.ndarray, " n"]:
    """The root mean square distance of a ball in one pose from it in others.

    sqrt( d^2 + 8/5 R^2 sin^2(angle / 2) ), with d the distance of the centres, R the radius.
    """
    half = np.radians(degrees_between(rotations, rotation)) / 2.0
    return np.sqrt(((shifts - shift) ** 2).sum(axis=1) + 1.6 * (radius * np.sin(half)) ** 2)


def _distinct(poses: Poses, least: float, radius: float, most: int) -> Poses:
    """The poses of largest score that lie at least so far from one another, best first."""
    left = np.argsort(-poses.scores, kind="stable")
    kept: list[int] = []
    while len(left) and len(kept) < most:
        kept.append(int(left[0]))
        here, others = poses.some(left[:1]), poses.some(left)
        away = _apart(here.rotations[0], here.shifts[0], others.rotations, others.shifts, radius)
        left = left[away > least]
    return poses.some(kept)


def _searched(scene: Scene, rotations: Float[np.ndarray, "r 3 3"], advance: Callable[[], None]) -> Poses:
    """Find the shift with the largest c for every rotation, in whole voxels: single precision is enough."""
    n, m = len(scene.whole), len(scene.part)
    part, mask, whole = (jnp.asarray(cube, jnp.float32) for cube in (scene.part, scene.mask, scene.whole))
    batches = []
    for first in range(0, len(rotations), TOGETHER):
        batch = jnp.asarray(rotations[first : first + TOGETHER], jnp.float32)
        batches.append(jax.device_get(_best_shifts(part, mask, whole, batch)))
        advance()
    scores, places = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    corners = np.stack(np.unravel_index(places, scene.whole.shape), axis=1)
    corners = np.where(corners >= n - m // 2, corners - n, corners)  # of the part's cube, which may stick out
    return Poses(rotations, corners + 0.5 * (m - n), scores.astype(np.float64))


@jax.jit
def _best_shifts(part, mask, whole, rotations):
    """The largest c over all shifts for each rotation, and the place of the corner of the part's cube."""
    n, m = len(whole), len(part)
    points = cubes.centred(m)
    transforms = jnp.fft.rfftn(whole), jnp.fft.rfftn(whole**2)

    def sums(weights, transform):
        """sum_x weights(x) f(x + s) for every s."""
        padded = jnp.pad(weights, [(0, n - m)] * 3)
        return jnp.fft.irfftn(jnp.conj(jnp.fft.rfftn(padded)) * transform, s=whole.shape)

    def best(rotation):
        where = rotation.T @ points + 0.5 * (m - 1)
        values, weights = (map_coordinates(cube, where, order=1).reshape(part.shape) for cube in (part, mask))
        total = jnp.sum(weights)
        about_mean = values - jnp.sum(weights * values) / total
        means = sums(weights, transforms[0])
        spread = jnp.maximum(sums(weights, transforms[1]) - means**2 / total, 0.0)
        spread = jnp.maximum(spread, LEAST_SPREAD**2 * jnp.max(spread))
        own = jnp.sum(weights * about_mean**2)
        scores = (sums(weights * about_mean, transforms[0]) / jnp.sqrt(own * spread)).ravel()
        place = jnp.argmax(scores)
        return scores[place], place

    return jax.lax.map(best, rotations, batch_size=AT_ONCE)


def _climbed(samples: Samples, starts: Poses, lever: float, steps: int = cubes.STEPS) -> Poses:
    """Climb from each start to the next maximum of c, in at most ``steps`` steps.

    ``lever``: how far a turn by one radian moves the surface of the part, in voxels.
    """
    given = samples.over, samples.values, samples.weights, samples.points
    ends = [
        _ascended(*given, rotation, shift, lever, steps)
        for rotation, shift in zip(starts.rotations, starts.shifts, strict=True)
    ]
    return Poses(*(np.stack(part) for part in zip(*jax.device_get(ends), strict=True)))


@jax.jit
def _ascended(over, values, weights, points, rotation, shift, lever, steps):
    """Rotation, shift and c after L-BFGS; a step is measured in voxels at the surface of the part."""

    def motion_of(step):
        return cubes.turn_by(step[:3] / lever) @ rotation, shift + step[3:]

    def loss(step):
        turned, shifted = motion_of(step)
        return -_correlation(values, cubes.spline_at(over, turned @ points + shifted[:, None]), weights)

    step = cubes.climbed(loss, jnp.zeros(6, values.dtype), steps)
    return *motion_of(step), -loss(step)


def _correlation(values, others, weights):
    """The correlation of two densities with weights; 0 where one of them is the same everywhere."""
    total = jnp.sum(weights)
    one, other = (density - jnp.sum(weights * density) / total for density in (values, others))
    spread = jnp.sum(weights * one**2) * jnp.sum(weights * other**2)
    return jnp.sum(weights * one * other) / jnp.sqrt(spread + jnp.finfo(spread.dtype).tiny ** 0.5)


def _carried(scene: Scene, starts: Poses) -> Poses:
    """Where transport carries each start."""
    around = (np.asarray(distance_transform_edt(scene.mask == 0)) <= AROUND).astype(np.float64)
    given = tuple(map(jnp.asarray, (scene.part, scene.mask, around, cubes.spline_of(scene.whole))))
    ends = [
        _transported(*given, rotation, shift)
        for rotation, shift in zip(starts.rotations, starts.shifts, strict=True)
    ]
    turns, shifts = (np.stack(part) for part in zip(*jax.device_get(ends), strict=True))
    return Poses(turns, shifts, starts.scores)


@jax.jit
def _transported(part, mask, around, over, rotation, shift):
    """The pose after all rounds of transport; each is solved in the frame of the part."""
    points, voxels = cubes.centred(len(part)), jnp.arange(part.size)
    source = jnp.maximum(part * mask, 0.0) + EMPTY

    def ways(kernel, reach, target):
        """Where the mass of the part is carried to, less what its plan to itself does; and how much of it is."""
        plan = unbalanced.solve_unbalanced(
            source, target, kernel, reach=reach, tolerance=TOLERANCE, max_iterations=ITERATIONS
        )
        carried = unbalanced.carried_part(source, target, plan, kernel)
        own = unbalanced.self_potential(side_of(source), kernel).reshape(part.shape)
        ends, still = (displacement.barycentric_map(log_v, kernel, voxels) for log_v in (carried.log_v, own))
        moved = points + ends - still
        known = jnp.all(jnp.isfinite(moved), axis=0)
        return jnp.where(known, moved, 0.0), jnp.where(known, carried.kept.ravel(), 0.0)

    def turn(number, pose):
        rotation, shift = pose
        share = number / (ROUNDS - 1)
        sigma, reach = (first * (last / first) ** share for first, last in (SIGMA, REACH))
        there = cubes.spline_at(over, rotation @ points + shift[:, None]).reshape(part.shape)
        power = jnp.sum(mask * there**2)
        scale = jnp.sqrt(jnp.sum(mask * part**2) / jnp.where(power > 0, power, 1.0))
        target = jnp.maximum(scale * there * around, 0.0) + EMPTY
        ends, mass = ways(kernels.dense(part.shape, sigma, part.dtype), reach / sigma, target)
        start, end = (places @ mass / jnp.sum(mass) for places in (points, ends))
        moments = ((ends - end[:, None]) * mass) @ (points - start[:, None]).T
        turned = nearest_rotation(moments[..., None], jnp.eye(3)[..., None])[..., 0]
        return rotation @ turned, rotation @ (end - turned @ start) + shift

    return jax.lax.fori_loop(0, ROUNDS, turn, (rotation, shift))
