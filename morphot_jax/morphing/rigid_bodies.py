"""Bodies of the method 'rigid': parts of two maps that move as one, found from the maps or given by masks.

A body is a rigid motion, and the voxels of both maps where this motion lays one map over the other better than any
other motion does. Candidates come from the locally rigid motions around voxels of either map, and are refined in a
window (``registration``). The one that explains the most mass becomes the first body, the one that explains the
most of the rest the second, and so on; all are refined together on the voxels that are theirs. A body that other
motions explain about as well is dropped, and so is one that the two maps do not agree on: a voxel is *clear* where
the misfit of its body is below ``CLEAR`` of the next one's, and the voxel of the other map to which the body takes
it belongs to the same body.

Where masks give the bodies, only their motions are sought: the best of the candidates within each, refined on its
mass. A mask of the first map alone is carried to the second by the motion.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy import ndimage

from morphot_jax.maps.pose import Pose
from morphot_jax.morphing.rigid_parts import Shares, shares_at
from morphot_jax.morphing.rigid_space import Level
from morphot_jax.transport import kernels, locally_rigid, splines
from morphot_jax.transport.locally_rigid import Motion, Task
from morphot_jax.transport.registration import Motions, Overlay, misfits, overlay, refined

MOST = 8  # bodies
SEEDS = 48  # voxels of each map that candidates come from
AROUND_SEED = 6.0  # blocks: radius of the windows in which candidates are fitted and refined
ROUGH_WINDOW, FINE_WINDOW = 3.0, 2.0  # blocks: radius of the misfit's window when bodies are added, and at the end
BLUR = 1.0  # blocks: of both maps
ADDED = 0.1  # of the misfit so far: a body that takes away less is the last one
TOO_SMALL = 0.01  # of the mass: a smaller body is dropped
CLEAR = 1.0 / 3.0  # of the next misfit
KEPT = 0.5  # of a body's mass: with less of it clear, the body is dropped
HELD = 0.3  # misfit: where it is larger, a voxel belongs to no body
POOR = 0.2  # mean misfit: a body with more does not fit where it goes
FRAGMENT = 0.1  # of a body's mass: smaller pieces apart from the rest are not held
GIVEN_ROUNDS = 6  # of refining given bodies and carrying their masks

Pair = tuple[Overlay, Overlay]
Labels = Int[np.ndarray, " n"]


@dataclass(frozen=True, eq=False, repr=False)
class Bodies:
    """The bodies of two maps, in blocks.

    - ``motions``: from the first map to the second. ``shares``: of the mass of each block, for both maps.
    - ``misfit``: mean of S over each body. ``clear``: share of its mass that no other motion explains about as
      well; None where masks gave the bodies.
    """

    names: tuple[str, ...]
    motions: Motions
    shares: tuple[Shares, Shares]
    misfit: Float[np.ndarray, " k"]
    clear: Float[np.ndarray, " k"] | None = None

    def __repr__(self) -> str:
        return f"Bodies({', '.join(self.names)})"


class _Claims(NamedTuple):
    """Which body each voxel of both maps belongs to, which of them are clear, and the misfits there."""

    labels: tuple[Labels, Labels]
    clear: tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]
    misfits: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]


class _Measured(NamedTuple):
    """Of each body: its share of the mass of both maps, the clear part of that, and the mean of S over it."""

    mass: Float[np.ndarray, " k"]
    clear: Float[np.ndarray, " k"]
    misfit: Float[np.ndarray, " k"]


def found_bodies(coarse: Level, fine: Level, motions: tuple[Motion, Motion]) -> Bodies:
    """Find the bodies of two maps, from the locally rigid motions of both in the fine blocks."""
    block = fine.block
    rough, close = _laid_over(coarse, block), _laid_over(fine, block)
    found = _added(rough, _candidates(rough, fine.tasks, motions, block), block)
    found, claims, measured = _kept(close, found, block)
    count, shares = len(found.shift), []
    order = np.argsort(-measured.mass, kind="stable")
    for task, labels, misfit in zip(fine.tasks, claims.labels, claims.misfits, strict=True):
        whole = _whole_pieces(task, np.where(misfit < HELD, labels, -1))
        shares.append(_shares(task, whole, count, block)[order])
    return Bodies(
        tuple(f"body{k + 1}" for k in range(count)),
        found.some(order.tolist()),
        (shares[0], shares[1]),
        measured.misfit[order],
        measured.clear[order],
    )


def given_bodies(
    coarse: Level,
    fine: Level,
    motions: tuple[Motion, Motion],
    names: tuple[str, ...],
    shares: tuple[Float[np.ndarray, "k z y x"], Float[np.ndarray, "k z y x"] | None],
) -> Bodies:
    """Find the motions of given bodies.

    ``shares``: of the mass of each fine block of the first map, and, where known, of the second one.
    """
    block = fine.block
    rough, close = _laid_over(coarse, block), _laid_over(fine, block)
    candidates = _candidates(rough, fine.tasks, motions, block)
    candidates = Motions.joined(candidates, _padded(_kept(close, _added(rough, candidates, block), block)[0]))
    first, second = (
        None if part is None else task.source.places.pick(jnp.asarray(part), 0.0)
        for task, part in zip(fine.tasks, shares, strict=True)
    )
    assert first is not None
    found = _best_of(rough, fine.tasks[0], motions[0], candidates, first, block)
    for _ in range(GIVEN_ROUNDS):
        there = _carried_shares(*fine.tasks, found, first) if second is None else second
        tried = _misfits(close, found, FINE_WINDOW * block)
        weights = [share * jnp.asarray(some < HELD) for share, some in zip((first, there), tried, strict=True)]
        found, _ = refined(close, found, (weights[0], weights[1]), 4)
    there = _carried_shares(*fine.tasks, found, first) if second is None else second
    tried = _misfits(close, found, FINE_WINDOW * block)
    masses = [np.asarray(share * task.mass) for share, task in zip((first, there), fine.tasks, strict=True)]
    total = sum((mass * some).sum(axis=1) for mass, some in zip(masses, tried, strict=True))
    return Bodies(names, found, (first, there), np.asarray(total / sum(mass.sum(axis=1) for mass in masses)))


def _laid_over(level: Level, block: float) -> Pair:
    """Each map over the other, blurred by ``BLUR`` fine blocks."""
    unit = jnp.asarray(level.maps) / jnp.sum(jnp.asarray(level.maps), axis=(1, 2, 3), keepdims=True)
    width = jnp.asarray(BLUR * block / level.block, unit.dtype)
    return overlay(level.tasks[0], unit, width), overlay(level.tasks[1], unit[::-1], width)


def _best_of(
    rough: Pair, task: Task, motion: Motion, candidates: Motions, shares: Shares, block: float
) -> Motions:
    """The motion of each body: the candidate of least misfit over its mass, after a few steps."""
    coarse = rough[0].task
    there = shares_at(task, shares, coarse.start) * (coarse.mass > 0)
    best = []
    for share, weight in zip(shares, there, strict=True):
        pose = Pose.fitted(np.asarray(task.start).T, np.asarray(motion.image).T, np.asarray(task.mass * share))
        whole = Motions(jnp.asarray(pose.rotation)[None], jnp.asarray(pose.shift)[None])
        tried = Motions.joined(candidates, whole)
        closer, _ = refined(rough[:1], tried, (jnp.broadcast_to(weight, (len(tried.shift), weight.size)),), 6)
        tried = Motions.joined(tried, closer)
        costs = misfits(rough[0], tried, jnp.asarray(ROUGH_WINDOW * block)) @ (weight * coarse.mass)
        best.append(tried.some([int(jnp.argmin(costs))]))
    return Motions.joined(*best)


@jax.jit
def _carried_shares(source: Task, target: Task, motions: Motions, shares: Shares) -> Shares:
    """The shares of the target's blocks where the bodies of the source come to lie."""
    places = motions.carried(source.start)
    boxes = [
        splines.share(source.mass * share, source.voxels(there), source.kernel.shape)
        for share, there in zip(shares, places, strict=True)
    ]
    rows = jnp.maximum(target.source.places.pick(jnp.stack(boxes), 0.0), 0.0)
    whole = jnp.maximum(target.mass, jnp.sum(rows, axis=0))
    return jnp.where(target.mass > 0, rows / jnp.where(whole > 0, whole, 1.0), 0.0)


def _candidates(rough: Pair, fine: tuple[Task, Task], motions: tuple[Motion, Motion], block: float) -> Motions:
    """No motion, those around seeds of both maps, and these refined in windows."""
    radius = jnp.asarray(AROUND_SEED * block)
    all_found = [Motions(np.eye(3, dtype=radius.dtype)[None], np.zeros((1, 3), radius.dtype))]
    for k, (task, motion) in enumerate(zip(fine, motions, strict=True)):
        mass = np.asarray(task.mass)
        seeds = np.searchsorted(np.cumsum(mass), (np.arange(SEEDS) + 0.5) / SEEDS * mass.sum())
        around, near = _around_seeds(task, rough[k].task, motion, jnp.asarray(seeds), radius)
        closer, _ = refined((rough[k],), around, (near,), 6)
        all_found += [found if k == 0 else found.inverse() for found in (around, closer)]
    return Motions.joined(*all_found)


@jax.jit
def _around_seeds(
    task: Task, rough: Task, motion: Motion, seeds: Int[Array, " k"], radius: Float[Array, ""]
) -> tuple[Motions, Float[Array, "k n"]]:
    """The rigid motions in windows around some voxels of the task, and the windows on the rough voxels."""
    rotation, image = locally_rigid.fitted(task, motion.image, radius, motion.rotation)
    turns, start = jnp.moveaxis(rotation[:, :, seeds], 2, 0), task.start[:, seeds]
    distance = jnp.sum((rough.start[:, None] - start[:, :, None]) ** 2, axis=0)
    near = jnp.where(rough.mass > 0, jnp.exp(-distance / (2.0 * radius**2)), 0.0)
    return Motions(turns, image[:, seeds].T - jnp.einsum("kij,jk->ki", turns, start)), near


def _added(rough: Pair, candidates: Motions, block: float) -> Motions:
    """Bodies, one after the other, each the candidate that explains the most of what is left."""
    masses = [np.asarray(one.task.mass) for one in rough]
    tried = _misfits(rough, candidates, ROUGH_WINDOW * block)
    chosen = candidates.some([])
    best = [np.ones_like(mass) for mass in masses]
    for _ in range(MOST):
        costs = sum(np.minimum(least, some) @ mass for mass, least, some in zip(masses, best, tried, strict=True))
        trial = Motions.joined(chosen, candidates.some([int(np.argmin(costs))]))
        trial, claims = _refined_on_own(rough, trial, ROUGH_WINDOW * block, 2, clear=False)
        before, after = (sum(m @ s for m, s in zip(masses, some, strict=True)) for some in (best, claims.misfits))
        if before - after < ADDED * before:
            break
        chosen, best = trial, claims.misfits
    return chosen


def _kept(close: Pair, found: Motions, block: float) -> tuple[Motions, _Claims, _Measured]:
    """The bodies that are clear, refined on their clear voxels, what they claim, and how well."""
    while True:
        found, claims = _refined_on_own(close, found, FINE_WINDOW * block, 3, clear=True)
        measured, count = _measured(close, claims, len(found.shift)), len(found.shift)
        small = measured.mass < TOO_SMALL
        worst = int(np.argmin(np.where(small, -1.0, measured.clear)))
        if count == 1 or (measured.clear[worst] >= KEPT and not small[worst]):
            return found, claims, measured
        found = found.some([k for k in range(count) if k != worst])


def _refined_on_own(
    pair: Pair, motions: Motions, radius: float, times: int, *, clear: bool
) -> tuple[Motions, _Claims]:
    """Refine each body a few times on the voxels that are its own, or that are clearly its own."""
    padded = _padded(motions)
    count = len(motions.shift)
    claims = _claims(pair, motions, radius)
    for _ in range(times):
        weights = []
        for one, labels, sure in zip(pair, claims.labels, claims.clear, strict=True):
            some = np.asarray(one.task.mass) > 0
            own = (labels == np.arange(MOST)[:, None]) & (some & sure if clear else some)
            weights.append(jnp.asarray(own.astype(one.values.dtype)))
        padded, _ = refined(pair, padded, (weights[0], weights[1]), 2)
        claims = _claims(pair, padded.some(slice(count)), radius)
    return padded.some(slice(count)), claims


def _claims(pair: Pair, motions: Motions, radius: float) -> _Claims:
    count, (first, second) = len(motions.shift), pair
    found = _misfits(pair, motions, radius)
    labels = [np.argmin(some, axis=0) for some in found]
    least = [some.min(axis=0) for some in found]
    nexts = [np.partition(some, 1, axis=0)[1] if count > 1 else np.ones_like(some[0]) for some in found]
    clear = []
    for k, (one, other, way) in enumerate(((first, second, motions), (second, first, motions.inverse()))):
        start, turns, shifts = np.asarray(one.task.start), way.rotation[labels[k]], way.shift[labels[k]]
        there = np.einsum("nij,jn->in", turns, start) + shifts.T
        met = _labels_at(other.task, labels[1 - k], there)
        clear.append((least[k] < CLEAR * nexts[k]) & (met == labels[k]))
    return _Claims((labels[0], labels[1]), (clear[0], clear[1]), (least[0], least[1]))


def _labels_at(task: Task, labels: Labels, points: Float[np.ndarray, "3 n"]) -> Labels:
    """The label of the voxel at each point; -1 where there is no mass."""
    box = _in_box(task, labels)
    voxels = np.rint(points / np.asarray(task.edges)[:, None] - 0.5).astype(int)
    inside = ((voxels >= 0) & (voxels < np.array(box.shape)[:, None])).all(axis=0)
    return np.where(inside, box[tuple(np.clip(voxels, 0, np.array(box.shape)[:, None] - 1))], -1)


def _in_box(task: Task, labels: Labels) -> Int[np.ndarray, "z y x"]:
    """Labels at their voxels, -1 elsewhere."""
    return np.asarray(task.source.places.spread(jnp.asarray(labels), -1))


def _whole_pieces(task: Task, labels: Labels) -> Labels:
    """Labels without the fragments of a body that lie apart from the rest of it."""
    box, mass = _in_box(task, labels), np.asarray(task.mass)
    kept = labels.copy()
    for k in range(labels.max() + 1):
        pieces = np.empty(box.shape, np.int32)
        ndimage.label(box == k, output=pieces)
        number = np.asarray(task.source.places.pick(jnp.asarray(pieces), 0))
        masses = np.bincount(number, mass)
        masses[0] = 0.0
        kept[(labels == k) & (masses[number] < FRAGMENT * masses.sum())] = -1
    return kept


def _shares(task: Task, labels: Labels, count: int, block: float) -> Shares:
    """Soft shares of the bodies: their mass over all mass, in a window of one block."""
    return _soft_shares(task, jnp.asarray(labels == np.arange(MOST)[:, None]), jnp.asarray(block))[:count]


@jax.jit
def _soft_shares(task: Task, own: Bool[Array, "k n"], width: Float[Array, ""]) -> Shares:
    """The mass of each row over all mass, in a window of that width."""
    places, mass = task.source.places, task.mass
    window = kernels.dense(task.kernel.shape, width / task.edges, mass.dtype)
    whole = window.apply_between(mass, places, places)
    rows = jax.lax.map(lambda row: window.apply_between(row, places, places), jnp.where(own, mass, 0.0))
    return rows / jnp.where(whole > 0, whole, 1.0)


def _misfits(pair: Pair, motions: Motions, radius: float) -> list[Float[np.ndarray, "k n"]]:
    """S of each motion around the voxels of both maps; one where there is no mass."""
    count = len(motions.shift)
    some = _padded(motions) if count <= MOST else motions
    ways, width = (some, some.inverse()), jnp.asarray(radius)
    found = [np.asarray(misfits(one, way, width))[:count] for one, way in zip(pair, ways, strict=True)]
    return [np.where(np.asarray(one.task.mass) > 0, rows, 1.0) for one, rows in zip(pair, found, strict=True)]


def _padded(motions: Motions) -> Motions:
    """As many as there can be, so that all numbers share what is compiled."""
    more = MOST - len(motions.shift)
    turns = np.broadcast_to(np.eye(3, dtype=motions.shift.dtype), (more, 3, 3))
    return Motions.joined(motions, Motions(turns, np.zeros((more, 3), motions.shift.dtype)))


def _measured(pair: Pair, claims: _Claims, count: int) -> _Measured:
    """The sizes of the bodies, and how well and how surely they fit."""
    mass, clear, misfit = np.zeros((3, count))
    for one, labels, sure, least in zip(pair, *claims, strict=True):
        own = np.asarray(one.task.mass)
        mass += np.bincount(labels, own, count)
        clear += np.bincount(labels, own * sure, count)
        misfit += np.bincount(labels, own * least, count)
    some = np.where(mass > 0, mass, 1.0)
    return _Measured(mass / 2.0, clear / some, misfit / some)
