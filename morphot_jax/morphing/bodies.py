r"""Parts of a map that move as rigid bodies: the motion of each at which transport has nothing left to turn.

Transport takes short cuts: where a body turns, the plan joins what lies near rather than what belongs together,
and its ways tell of a smaller turn. So bodies are moved, and what is left to do is transported anew. With shares
w_i of the density, sum_i w_i <= 1, and poses P_i, the first map with its bodies moved is

    a_P = (1 - sum_i w_i) a + sum_i P_i # (w_i a) .

Let D(a, b) be the averaged ways from a to b (``displacement``). Those from a map to itself are not zero, for plans
are blurred. So what is left to do is

    d = D(a_P, b) - D(a_P, a_P) ,

which is zero where a_P is the second map b. The rigid motion nearest to x -> P_i x + d(P_i x), by the mass of the
body (Kabsch 1976), is its next pose. But for the averaging, d is the gradient, downhill, of the debiased distance
S(a_P, b) (``sinkhorn.sinkhorn_divergence``): the rounds end where no motion of a body makes that smaller.

One round finds the less of a turn the rounder and smoother a body is. So poses are mixed (``anderson``), each as a
rotation vector times the lever of its body, and the shift of its centre: six lengths. Bodies that turned far may
come to rest in a wrong place. Where much is left to do, a body is laid onto what the others do not explain of the
second map (``align``), and the rounds go on from there if that leaves less.
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
from morphot_jax.prepare.prepared import mask_on
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import percent
from morphot_jax.transport import anderson

INSIDE = 0.5  # of a mask: voxels above it belong to its domain
FEWEST = 4  # voxels that a rigid motion can be fitted to
SHARED = 0.5  # of a domain's mass: more of it in another domain is a mistake, less are soft edges that meet
NOTHING = 1e-6  # share of a voxel's density that counts as none
PADDING = 4  # voxels of nothing about the coefficients of a spline
FOOTPRINT = 0.1  # trilinear weight; of a voxel that is moved, at least 1/8 falls to the voxel nearest to it

ROUNDS = 20  # at most, from one start
STILL = 0.0005  # voxels, root mean square over a body: one round may find a fiftieth of what is left of a turn
SETTLED = 0.01  # voxels: a body that a round would move by more has not come to rest
DEPTH = 5  # rounds whose poses are mixed
WORSE = 1.05  # times the least cost of any round: more than that is not where to end
ASTRAY = 0.15  # voxels, root mean square over a body: where more is left to do, it is looked for elsewhere
BETTER = 0.9  # times the cost so far: what less than that is worth going there

Ways = Callable[[Float[np.ndarray, "z y x"]], Float[np.ndarray, "3 z y x"]]


@dataclass(frozen=True, eq=False)
class Body:
    """A part of a map: the ``share`` of each voxel's density that belongs to it, 0 to 1.

    - ``indices``: its voxels, along z, y, x; ``points``: where they are, Å along x, y, z; ``mass``: its own there.
    - ``coefficients``: of the cubic spline through its density, on a box that begins at voxel ``corner``;
      ``support``: 1 where it has density there, else 0.
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
        """Of its mass, Å along x, y, z."""
        return np.average(self.points, axis=0, weights=self.mass)

    @property
    def lever(self) -> float:
        """Root mean square distance of its mass from its centre, Å."""
        return float(np.sqrt(np.average(((self.points - self.centre) ** 2).sum(axis=1), weights=self.mass)))

    def length(self, ways: Float[np.ndarray, "n 3"]) -> float:
        """Root mean square of ways of its mass."""
        return float(np.sqrt(np.average((ways**2).sum(axis=1), weights=self.mass)))


@dataclass(frozen=True, eq=False)
class Round:
    """Poses of the bodies, and what is left between the map with its bodies there and the second map.

    - ``number``: of the round, from 1. ``field``: d, x, y, z in Å on the grid of the map.
    - ``ends``: where the mass of each body goes, P x + d(P x). ``images``: the rigid motions nearest to that.
    - ``changes``: how far these are from the poses, and ``left``: d(P x), each root mean square over a body in Å.
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

    Where masks sum to more than one, they share the density. Raises InputError for a mask that is no map or holds
    no mass, and where more than half of the mass in one is in another as well.
    """
    given = {name: one_map(mask, f"domain '{name}' needs a mask") for name, mask in masks.items()}
    weights = {name: mask_on(mask, volume).astype(np.float64) for name, mask in given.items()}
    for name, weight in weights.items():
        check_holds(name, int(((weight > INSIDE) & (volume.data > 0)).sum()))
    _check_apart(volume.data, weights)
    total = np.maximum(1.0, sum(weights.values()))
    return tuple(_body(volume, name, weight / total) for name, weight in weights.items())


def check_holds(name: str, voxels: int) -> None:
    """Raise InputError for a domain of so few voxels with mass that it has no motion."""
    if voxels < FEWEST:
        raise InputError(f"domain '{name}' holds {voxels} voxels with mass: check where its mask lies")


def settled(first: Volume, second: Volume, bodies: Sequence[Body], ways: Ways) -> tuple[Round, Round]:
    """Alternate transport and rigid fits until no body moves: the round that is best, and the last.

    ``ways``: d, what is left to do from a map on the grid of both to the second map, x, y, z in Å; NaN without
    mass. Rounds from one start end where every body would move by less than ``STILL`` voxels, or after ``ROUNDS``.
    The last is the best unless an earlier one has a clearly smaller cost.
    """
    start = _round(1, first, bodies, (IDENTITY,) * len(bodies), ways)
    best, last = _rounds(first, bodies, ways, start)
    found = _searched(first, second, bodies, ways, best, last.number)
    if found.cost < BETTER * best.cost:
        best, last = _rounds(first, bodies, ways, found)
    return best, last


def combined(volume: Volume, bodies: Sequence[Body], found: Round) -> Float[np.ndarray, "3 z y x"]:
    """How far the mass of a map goes: its bodies by their poses and d where they end, the rest by d alone.

    x, y, z in Å; NaN without mass; by their shares where parts meet.
    """
    rest = _rest(volume, bodies)
    field = np.where(rest > 0, rest * found.field, 0.0)
    for body, ends in zip(bodies, found.ends, strict=True):
        voxels = tuple(body.indices.T)
        field[:, *voxels] += body.share[voxels] * (ends - body.points).T
    return np.where(volume.data > 0, field, np.nan)


def moved(volume: Volume, bodies: Sequence[Body], poses: Sequence[Pose]) -> Float[np.ndarray, "z y x"]:
    """The map with its bodies moved, a_P: what belongs to none stays; what leaves the box is lost."""
    density = _rest(volume, bodies) * volume.data
    for body, pose in zip(bodies, poses, strict=True):
        _put(density, volume, body, pose)
    return density


def _rounds(volume: Volume, bodies: Sequence[Body], ways: Ways, start: Round) -> tuple[Round, Round]:
    """The best and the last of the rounds that begin with one."""
    best = last = start
    memory = None
    for step in range(ROUNDS - 1):
        if max(last.changes) < STILL * min(volume.voxel_size):
            break
        poses, memory = _mixed(memory, bodies, last, step)
        last = _round(last.number + 1, volume, bodies, poses, ways)
        best = min(best, last, key=lambda one: one.cost)
    return (last if last.cost <= WORSE * best.cost else best), last


def _searched(
    first: Volume, second: Volume, bodies: Sequence[Body], ways: Ways, best: Round, before: int
) -> Round:
    """A round with bodies where they fit best on what the others leave of the second map, where that is better."""
    whole = second.data * (first.mass / second.mass)
    number = before
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
        tried = _round(number, first, bodies, poses, ways)
        best = min(best, tried, key=lambda one: one.cost)
    return best


def _check_apart(data: Float[np.ndarray, "z y x"], weights: Mapping[str, Float[np.ndarray, "z y x"]]) -> None:
    names = list(weights)
    for name, weight in weights.items():
        mass = float((weight * data).sum())
        for other in names:
            shared = float((np.minimum(weight, weights[other]) * data).sum()) / mass
            if other != name and shared > SHARED:
                raise InputError(
                    f"domains '{name}' and '{other}' overlap, {percent(shared)} of the mass of '{name}' is in "
                    "both: give masks of parts that lie side by side"
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
    """Add a moved body: cubic splines of it, without what rings below zero or about it; its mass is kept."""
    ends = indices_of(volume, pose.carried(body.points))
    shape = np.array(volume.shape)
    low = np.clip(np.floor(ends.min(axis=0)).astype(int) - 1, 0, shape)
    high = np.clip(np.ceil(ends.max(axis=0)).astype(int) + 2, low, shape)
    near = np.moveaxis(np.indices(high - low), 0, -1).reshape(-1, 3) + low
    where = indices_of(volume, pose.inverse().carried(places_of(volume, near))).T - body.corner[:, None]
    values = ndimage.map_coordinates(body.coefficients, where, order=3, mode="constant", prefilter=False)
    inside = ndimage.map_coordinates(body.support, where, order=1, mode="constant") > FOOTPRINT
    values = np.where(inside, np.maximum(values, 0.0), 0.0)
    kept = body.mass[((ends > -0.5) & (ends < shape - 0.5)).all(axis=1)].sum()
    if kept > 0:
        density[tuple(near.T)] += values * (kept / values.sum())


def _round(number: int, volume: Volume, bodies: Sequence[Body], poses: tuple[Pose, ...], ways: Ways) -> Round:
    """Transport what is left at these poses, and fit."""
    field = ways(moved(volume, bodies, poses))
    rest = _rest(volume, bodies) * volume.data
    cost = float((rest * np.nan_to_num((field**2).sum(axis=0))).sum())
    ends, images, changes, lefts = [], [], [], []
    for body, pose in zip(bodies, poses, strict=True):
        here = pose.carried(body.points)
        left = _sampled(field, volume, here)
        ends.append(here + left)
        images.append(Pose.fitted(body.points, ends[-1], body.mass))
        changes.append(body.length(images[-1].carried(body.points) - here))
        lefts.append(body.length(left))
        cost += lefts[-1] ** 2 * float(body.mass.sum())
    cost /= volume.mass
    return Round(number, poses, field, tuple(ends), tuple(images), tuple(changes), tuple(lefts), cost)


def _mixed(
    memory: anderson.Memory | None, bodies: Sequence[Body], last: Round, step: int
) -> tuple[tuple[Pose, ...], anderson.Memory]:
    """The poses of the next round; bodies count by their mass."""
    with jax.enable_x64(True):
        x, image = (
            jnp.asarray(np.stack([_numbers(body, pose) for body, pose in zip(bodies, poses, strict=True)]))
            for poses in (last.poses, last.images)
        )
        mass = jnp.asarray([[body.mass.sum()] for body in bodies]) * jnp.ones_like(x)
        error = jnp.sqrt(jnp.sum(mass * (image - x) ** 2))
        memory = memory or anderson.start(DEPTH, x)
        mixed, memory = anderson.mix(memory, x, image, mass, error, jnp.int32(step))
    rows = np.asarray(mixed)
    return tuple(_pose(body, row) for body, row in zip(bodies, rows, strict=True)), memory


def _sampled(
    field: Float[np.ndarray, "3 z y x"], volume: Volume, places: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """A field at places, by trilinear weights of the voxels where it is known; zero far from all of them."""
    where = indices_of(volume, places).T
    known = np.isfinite(field[0])
    parts = [known.astype(np.float64), *(np.where(known, part, 0.0) for part in field)]
    weight, *sums = (ndimage.map_coordinates(part, where, order=1, mode="constant") for part in parts)
    return np.stack([np.divide(part, weight, out=np.zeros_like(part), where=weight > 0) for part in sums], 1)


def _pose(body: Body, numbers: Float[np.ndarray, " 6"]) -> Pose:
    """The pose of six lengths: the rotation vector times the lever, and the shift of the centre."""
    turn = Rotation.from_rotvec(numbers[:3] / body.lever).as_matrix()
    return Pose(turn, body.centre + numbers[3:] - turn @ body.centre)


def _numbers(body: Body, pose: Pose) -> Float[np.ndarray, " 6"]:
    """The inverse."""
    turn = Rotation.from_matrix(pose.rotation).as_rotvec()
    return np.concatenate([turn * body.lever, pose.carried(body.centre) - body.centre])
