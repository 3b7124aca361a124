r"""Rigid motions of parts of a map, found by alternating transport and rigid fits.

Transport takes short cuts: where a body rotates, the plan pairs what lies near rather than what belongs together,
and its displacement shows too small a rotation. So the bodies are moved by what was found, transport is solved
again from there, and so on. With shares w_i of the density, sum_i w_i <= 1, and poses P_i, the first map with its
bodies moved is

    a_P = (1 - sum_i w_i) a + sum_i P_i # (w_i a) .

Let D(a, b) be the averaged displacement from a to b (``displacement``). From a map to itself it is not zero, since
plans are blurred. So the remaining displacement is

    d = D(a_P, b) - D(a_P, a_P) ,

which is zero where a_P is the second map b. The next pose of a body is the rigid motion nearest to
x -> P_i x + d(P_i x), weighted by its mass (Kabsch 1976). But for the averaging, d is the negative gradient of the
debiased distance S(a_P, b) (``divergence.sinkhorn_divergence``): the rounds end where no motion of a body makes
that smaller.

The rounder and smoother a body is, the less of its rotation one round finds. So poses are accelerated by Anderson
mixing (``anderson``), each as six lengths: the rotation vector times the lever of the body, and the shift of its
centre. Bodies that rotate far may settle in a wrong place. Where much displacement remains, a body is aligned with
the part of the second map that the other bodies do not explain (``align``); the rounds continue from there if that
leaves less.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage
from scipy.spatial.transform import Rotation

from morphot_jax.maps.check import one_map
from morphot_jax.maps.pose import IDENTITY, Pose
from morphot_jax.maps.resample import indices_of, places_of
from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import bounding_box
from morphot_jax.prepare.align import align_maps
from morphot_jax.prepare.masks import as_mask, mask_on
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import percent
from morphot_jax.transport import anderson

INSIDE = 0.5  # value of a mask above which a voxel belongs to its domain
FEWEST = 4  # voxels, the least that a rigid motion can be fitted to
SHARED = 0.5  # of a domain's mass: a larger overlap is a mistake, a smaller one is soft edges that meet
NOTHING = 1e-6  # share of a voxel's density that counts as none
PADDING = 4  # empty voxels around the coefficients of a spline
FOOTPRINT = 0.1  # trilinear weight: a moved voxel gives at least 1/8 to the voxel nearest to it

ROUNDS = 20  # at most, from one start
STILL = 0.0005  # voxels, root mean square over a body; small, since a round may find 1/50 of a remaining rotation
SETTLED = 0.01  # voxels: a body that one more round would move by more has not settled
DEPTH = 5  # rounds whose poses are mixed
WORSE = 1.05  # times the least cost: above it the last round is not the best
ASTRAY = 0.15  # voxels, root mean square over a body: where more displacement remains, the body is aligned anew
BETTER = 0.9  # times the least cost so far: rounds start again from an alignment whose cost is below that

Remaining = Callable[[Float[np.ndarray, "z y x"]], Float[np.ndarray, "3 z y x"]]  # d from a map, in Å


@dataclass(frozen=True, eq=False)
class Body:
    """A part of a map.

    - ``share``: of each voxel's density, 0 to 1.
    - ``indices``: its voxels, along z, y, x; ``points``: their positions, Å along x, y, z; ``mass``: its mass in
      each.
    - ``coefficients``: of the cubic spline through its density, on a box that begins at voxel ``corner``;
      ``support``: 1 where the body has density in that box, else 0.
    """

    name: str
    share: Float[np.ndarray, "z y x"] = dataclasses.field(repr=False)
    indices: Int[np.ndarray, "n 3"] = dataclasses.field(repr=False)
    points: Float[np.ndarray, "n 3"] = dataclasses.field(repr=False)
    mass: Float[np.ndarray, " n"] = dataclasses.field(repr=False)
    corner: Int[np.ndarray, " 3"] = dataclasses.field(repr=False)
    coefficients: Float[np.ndarray, "a b c"] = dataclasses.field(repr=False)
    support: Float[np.ndarray, "a b c"] = dataclasses.field(repr=False)

    @property
    def centre(self) -> Float[np.ndarray, " 3"]:
        """Centre of mass, Å along x, y, z."""
        return np.average(self.points, axis=0, weights=self.mass)

    @property
    def lever(self) -> float:
        """Radius of gyration, Å: root mean square distance of the mass from the centre."""
        return float(np.sqrt(np.average(((self.points - self.centre) ** 2).sum(axis=1), weights=self.mass)))

    def length(self, displacements: Float[np.ndarray, "n 3"]) -> float:
        """Root mean square of displacements of its voxels, weighted by mass."""
        return float(np.sqrt(np.average((displacements**2).sum(axis=1), weights=self.mass)))


@dataclass(frozen=True, eq=False)
class Round:
    """Poses of the bodies, and the displacement d that remains from the map so moved to the second map.

    - ``number``: of the round, from 1. ``field``: d, x, y, z in Å on the grid of the map.
    - ``ends``: P x + d(P x) for each body, Å. ``images``: the rigid motions nearest to these, the next poses.
    - ``changes``: distance between a pose and its image; ``left``: length of d(P x); each the root mean square
      over a body, in Å.
    - ``cost``: mean of |d|^2 over the map's mass, Å^2.
    """

    number: int
    poses: tuple[Pose, ...]
    field: Float[np.ndarray, "3 z y x"] = dataclasses.field(repr=False)
    ends: tuple[Float[np.ndarray, "_ 3"], ...] = dataclasses.field(repr=False)
    images: tuple[Pose, ...]
    changes: tuple[float, ...]
    left: tuple[float, ...]
    cost: float


def bodies_of(volume: Volume, masks: Mapping[str, Volume]) -> tuple[Body, ...]:
    """The parts of a map inside masks of 0 to 1, by name.

    Where masks sum to more than one, they share the density. Raises InputError for a mask that is not a map or
    holds too few voxels with mass, and where more than half of the mass in one is also in another.
    """
    return tuple(_body(volume, name, share) for name, share in shares_of(volume, masks, "domain").items())


def shares_of(volume: Volume, masks: Mapping[str, Volume], kind: str) -> dict[str, Float[np.ndarray, "z y x"]]:
    """The share of each voxel's density in each mask, at most one in all.

    ``kind``: the word for a part in messages. Raises InputError for a mask that is not a map or not a mask, or
    holds too few voxels with mass, and where more than half of the mass in one is also in another.
    """
    weights = {name: checked_mask(volume, mask, name, kind).astype(np.float64) for name, mask in masks.items()}
    for name, weight in weights.items():
        check_holds(name, int(((weight > INSIDE) & (volume.data > 0)).sum()), kind)
    _check_apart(volume.data, weights, kind)
    total = np.maximum(1.0, sum(weights.values()))
    return {name: weight / total for name, weight in weights.items()}


def checked_mask(volume: Volume, mask: Volume, name: str, kind: str) -> Float[np.ndarray, "z y x"]:
    """A mask on the grid of a map, 0 to 1; InputError for one that is not a map or not a mask."""
    return mask_on(as_mask(one_map(mask, f"{kind} '{name}' needs a mask"), f"{kind} '{name}'")[0], volume)


def check_holds(name: str, voxels: int, kind: str = "domain") -> None:
    """Raise InputError for a part with too few voxels to fit a motion to; ``kind``: the word for it."""
    if voxels < FEWEST:
        raise InputError(f"{kind} '{name}' holds {voxels} voxels with mass: check where its mask lies")


def settled(first: Volume, second: Volume, bodies: Sequence[Body], remaining: Remaining) -> tuple[Round, Round]:
    """Alternate transport and rigid fits until no body moves; the best round and the last.

    ``remaining``: gives d, the displacement from a map on the grid of both to the second map, x, y, z in Å; NaN
    without mass. Rounds end where every body would move by less than ``STILL`` voxels, or after ``ROUNDS``. The
    last counts as the best unless an earlier one has a clearly smaller cost.
    """
    start = _round(1, first, bodies, (IDENTITY,) * len(bodies), remaining)
    best, last = _rounds(first, bodies, remaining, start)
    aligned = _realigned(first, second, bodies, remaining, best, last.number)
    if aligned.cost < BETTER * best.cost:
        best, last = _rounds(first, bodies, remaining, aligned)
    return best, last


def combined(volume: Volume, bodies: Sequence[Body], best: Round) -> Float[np.ndarray, "3 z y x"]:
    """The displacement D of a map's mass: P x + d(P x) - x in a body of pose P, d(x) in the rest.

    x, y, z in Å; NaN without mass. Where parts meet, D is the average by their shares.
    """
    rest = _rest(volume, bodies)
    field = np.where(rest > 0, rest * best.field, 0.0)
    for body, ends in zip(bodies, best.ends, strict=True):
        voxels = tuple(body.indices.T)
        field[:, *voxels] += body.share[voxels] * (ends - body.points).T
    return np.where(volume.data > 0, field, np.nan)


def moved(volume: Volume, bodies: Sequence[Body], poses: Sequence[Pose]) -> Float[np.ndarray, "z y x"]:
    """The map with its bodies moved, a_P. Density of no body stays; what leaves the box is lost."""
    density = _rest(volume, bodies) * volume.data
    for body, pose in zip(bodies, poses, strict=True):
        _put(density, volume, body, pose)
    return density


def _rounds(volume: Volume, bodies: Sequence[Body], remaining: Remaining, start: Round) -> tuple[Round, Round]:
    """Make rounds from a first one; the best and the last."""
    best = last = start
    memory = None
    for step in range(ROUNDS - 1):
        if max(last.changes) < STILL * min(volume.voxel_size):
            break
        poses, memory = _mixed(memory, bodies, last, step)
        last = _round(last.number + 1, volume, bodies, poses, remaining)
        best = min(best, last, key=lambda one: one.cost)
    return (last if last.cost <= WORSE * best.cost else best), last


def _realigned(
    first: Volume, second: Volume, bodies: Sequence[Body], remaining: Remaining, best: Round, number: int
) -> Round:
    """The best round after aligning each stray body with what the other bodies leave of the second map.

    ``best``: the best round so far, returned where no alignment has a smaller cost. ``number``: of the last round.
    """
    whole = second.data * (first.mass / second.mass)
    for k, body in enumerate(bodies):
        if best.left[k] < ASTRAY * min(first.voxel_size):
            continue
        others = [other for other in bodies if other is not body]
        own = np.where(body.share > 0, body.share * first.data, 0.0)
        staying = moved(
            first, others, [pose for pose, one in zip(best.poses, bodies, strict=True) if one is not body]
        )
        free = np.maximum(whole - (staying - own), 0.0)
        if not free.any():
            continue
        pose = align_maps(first.with_data(own), second.with_data(free)).pose
        poses = (*best.poses[:k], pose, *best.poses[k + 1 :])
        number += 1
        aligned = _round(number, first, bodies, poses, remaining)
        best = min(best, aligned, key=lambda one: one.cost)
    return best


def _check_apart(
    data: Float[np.ndarray, "z y x"], weights: Mapping[str, Float[np.ndarray, "z y x"]], kind: str
) -> None:
    names = list(weights)
    for name, weight in weights.items():
        mass = float((weight * data).sum())
        for other in names:
            shared = float((np.minimum(weight, weights[other]) * data).sum()) / mass
            if other != name and shared > SHARED:
                raise InputError(
                    f"{kind} '{name}' and '{other}' overlap in {percent(shared)} of the mass of '{name}': "
                    "give masks of parts that lie side by side"
                )


def _body(volume: Volume, name: str, share: Float[np.ndarray, "z y x"]) -> Body:
    density = np.where(share > NOTHING, share * volume.data.astype(np.float64), 0.0)
    window = bounding_box(density > 0)
    corner = np.array([part.start for part in window]) - PADDING
    cut = np.pad(density[window], PADDING)
    indices = np.argwhere(density > 0)
    return Body(
        name=name,
        share=np.where(density > 0, share, 0.0),
        indices=indices,
        points=places_of(volume, indices),
        mass=density[tuple(indices.T)],
        corner=corner,
        coefficients=np.asarray(ndimage.spline_filter(cut, order=3, mode="mirror")),
        support=(cut > 0).astype(np.float64),
    )


def _rest(volume: Volume, bodies: Sequence[Body]) -> Float[np.ndarray, "z y x"]:
    """The share of each voxel that belongs to no body."""
    rest = 1.0 - sum((body.share for body in bodies), np.zeros(volume.shape))
    return np.where(rest > NOTHING, rest, 0.0)


def _put(density: Float[np.ndarray, "z y x"], volume: Volume, body: Body, pose: Pose) -> None:
    """Add a moved body to a density, by cubic splines, and scale it to its mass inside the box.

    Values below zero and outside the body, where splines ring, are set to zero.
    """
    ends = indices_of(volume, pose.carried(body.points))
    shape = np.array(volume.shape)
    low = np.clip(np.floor(ends.min(axis=0)).astype(int) - 1, 0, shape)
    high = np.clip(np.ceil(ends.max(axis=0)).astype(int) + 2, low, shape)
    near = np.moveaxis(np.indices(high - low), 0, -1).reshape(-1, 3) + low
    where = indices_of(volume, pose.inverse().carried(places_of(volume, near))).T - body.corner[:, None]
    values = ndimage.map_coordinates(body.coefficients, where, order=3, mode="constant", prefilter=False)
    inside = ndimage.map_coordinates(body.support, where, order=1, mode="constant") > FOOTPRINT
    values = np.where(inside, np.maximum(values, 0.0), 0.0)
    mass = body.mass[((ends > -0.5) & (ends < shape - 0.5)).all(axis=1)].sum()
    if mass > 0:
        density[tuple(near.T)] += values * (mass / values.sum())


def _round(
    number: int, volume: Volume, bodies: Sequence[Body], poses: tuple[Pose, ...], remaining: Remaining
) -> Round:
    """Solve for the remaining displacement at these poses, and fit the next ones."""
    field = remaining(moved(volume, bodies, poses))
    rest = _rest(volume, bodies) * volume.data
    cost = float((rest * np.nan_to_num((field**2).sum(axis=0))).sum())
    ends, images, changes, lefts = [], [], [], []
    for body, pose in zip(bodies, poses, strict=True):
        points = pose.carried(body.points)
        left = _sampled(field, volume, points)
        ends.append(points + left)
        images.append(Pose.fitted(body.points, ends[-1], body.mass))
        changes.append(body.length(images[-1].carried(body.points) - points))
        lefts.append(body.length(left))
        cost += lefts[-1] ** 2 * float(body.mass.sum())
    cost /= volume.mass
    return Round(number, poses, field, tuple(ends), tuple(images), tuple(changes), tuple(lefts), cost)


def _mixed(
    memory: anderson.Restarting | None, bodies: Sequence[Body], last: Round, step: int
) -> tuple[tuple[Pose, ...], anderson.Restarting]:
    """The poses of the next round, by Anderson mixing in which bodies count by their mass."""
    with jax.enable_x64(True):
        x, image = (
            jnp.asarray(np.stack([_lengths(body, pose) for body, pose in zip(bodies, poses, strict=True)]))
            for poses in (last.poses, last.images)
        )
        mass = jnp.asarray([[body.mass.sum()] for body in bodies]) * jnp.ones_like(x)
        error = jnp.sqrt(jnp.sum(mass * (image - x) ** 2))
        memory = memory or anderson.start_restarting(DEPTH, x)
        mixed, memory = anderson.mix_restarting(memory, x, image, mass, error, jnp.int32(step))
    rows = np.asarray(mixed)
    return tuple(_pose(body, row) for body, row in zip(bodies, rows, strict=True)), memory


def _sampled(
    field: Float[np.ndarray, "3 z y x"], volume: Volume, places: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """A field at positions, by trilinear weights of the voxels where it is known; zero away from them."""
    where = indices_of(volume, places).T
    known = np.isfinite(field[0])
    parts = [known.astype(np.float64), *(np.where(known, part, 0.0) for part in field)]
    weight, *sums = (ndimage.map_coordinates(part, where, order=1, mode="constant") for part in parts)
    return np.stack([np.divide(part, weight, out=np.zeros_like(part), where=weight > 0) for part in sums], 1)


def _pose(body: Body, lengths: Float[np.ndarray, " 6"]) -> Pose:
    """The pose from six lengths: the rotation vector times the lever, and the shift of the centre."""
    rotation = Rotation.from_rotvec(lengths[:3] / body.lever).as_matrix()
    return Pose(rotation, body.centre + lengths[3:] - rotation @ body.centre)


def _lengths(body: Body, pose: Pose) -> Float[np.ndarray, " 6"]:
    """The six lengths of a pose, the inverse of ``_pose``."""
    rotation = Rotation.from_matrix(pose.rotation).as_rotvec()
    return np.concatenate([rotation * body.lever, pose.carried(body.centre) - body.centre])
