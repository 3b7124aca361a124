"""A map as parts that move each by motions of their own.

Without bodies a map is one part, whose voxels move with their surroundings. With bodies each of them is a part,
and what no body holds is the last one. Where parts meet, a voxel stands in each of them, with its share of the
mass there: of two bodies that slide past each other both keep what is theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from morphot_jax.morphing.rigid_space import on_device
from morphot_jax.transport import locally_rigid
from morphot_jax.transport.locally_rigid import Motion, Task
from morphot_jax.transport.registration import Motions
from morphot_jax.transport.rigid_motions import Vectors
from morphot_jax.transport.support import STEPS

AGREE = 6.0  # blocks: motions of one point that lie further apart are hardly averaged
LEAST = 1e-3  # of a voxel's mass: a part with a smaller share has none of it

Shares = Float[Array, "k n"]


@dataclass(frozen=True, eq=False, repr=False)
class Parts:
    """The parts of a map in blocks. ``shares``: in the mass of each block; they add up to one."""

    task: Task
    shares: Shares
    motions: tuple[Motion, ...]

    @classmethod
    def one(cls, task: Task, motion: Motion) -> "Parts":
        """The whole map."""
        return cls(task, jnp.ones_like(motion.mass)[None], (motion,))

    def carried(self, points: Vectors, mass: Float[Array, " n"]) -> tuple[Motion, ...]:
        """The motions of other points by each part, with its share of their mass."""
        whole = len(self.motions) == 1
        shares = (
            jnp.ones_like(mass)[None] if whole else without_the_least(shares_at(self.task, self.shares, points))
        )
        return tuple(
            locally_rigid.carried(self.task, motion, points, row)
            for motion, row in zip(self.motions, shares * mass, strict=True)
        )

    def doubts(self, motions: Sequence[Motion]) -> Float[np.ndarray, " n"]:
        """How far from its start each voxel of the other map ends, there by its part's motion and back by ours.

        A voxel of several parts has their mean, by its mass in each.
        """
        found = []
        for own, motion in zip(self.motions, motions, strict=True):
            one = on_device(1.0, motion.mass.dtype)
            home = locally_rigid.carried(self.task, own, motion.at(one), motion.mass).at(one)
            found.append(np.linalg.norm(np.asarray(home) - np.asarray(motion.start), axis=0))
        mass = np.stack([np.asarray(motion.mass) for motion in motions])
        whole = mass.sum(axis=0)
        return (mass * np.stack(found)).sum(axis=0) / np.where(whole > 0, whole, 1.0)


def parts_of_bodies(
    task: Task,
    between: Motion,
    bodies: Motions,
    shares: Shares,
    around: Float[Array, ""],
    error: Float[Array, ""],
) -> tuple[Parts, Float[Array, ""]]:
    """The bodies as parts, and the rest, which moves by ``between``; and how far all have yet to go.

    ``shares``: of the bodies in the mass of each block. ``around``, ``error``: as of ``rest_of_parts``.
    """
    shares = without_the_least(jnp.concatenate([shares, 1.0 - jnp.sum(shares, axis=0, keepdims=True)]))
    images = jnp.concatenate([bodies.carried(task.start), between.image[None]])
    turns = jnp.broadcast_to(jnp.asarray(bodies.rotation)[..., None], (len(bodies.shift), *between.rotation.shape))
    rotations = jnp.concatenate([turns, between.rotation[None]])
    rests, left = locally_rigid.rest_of_parts(task, shares, images, rotations, around, error)
    rows = zip(task.mass * shares, images, rotations, rests, strict=True)
    motions = tuple(Motion(mass, task.start, image, turn, rest) for mass, image, turn, rest in rows)
    return Parts(task, shares, motions), left


def shares_at(task: Task, shares: Shares, points: Float[Array, "3 m"]) -> Float[Array, "k m"]:
    """Shares in the mass at other points, between those of the voxels; zero where there is none."""
    boxes = task.source.places.spread(shares, 0.0)
    return locally_rigid.interpolated(boxes, task.voxels(points))


def without_the_least(shares: Shares) -> Shares:
    """Shares that add up to one where there are any, none of them below ``LEAST``."""
    kept = jnp.where(shares > LEAST, shares, 0.0)
    total = jnp.sum(kept, axis=0)
    return kept / jnp.where(total > 0, total, 1.0)


def agreeing(motions: Sequence[Motion], block: float) -> Float[np.ndarray, "k n"]:
    """How much the motion of each part counts at points that are not shared, such as atoms.

    By the point's mass in each part, and by how far the motion agrees with that of the largest: parts that hinge
    on each other stay joined, and where they slide past each other a point goes with one of them.
    """
    shares = np.stack([np.asarray(motion.mass) for motion in motions])
    shares[0, shares.sum(axis=0) == 0.0] = 1.0
    ends = np.stack([np.asarray(motion.image) for motion in motions])
    main = np.take_along_axis(ends, np.argmax(shares, axis=0)[None, None], axis=0)
    apart = ((ends - main) ** 2).sum(axis=1) / (AGREE * block) ** 2
    weights = shares * np.exp(-apart / 2.0)
    return weights / weights.sum(axis=0)


def listed(
    rows: Sequence[Float[Array | np.ndarray, "*c n"]], index: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "*c m"]:
    """The values of all parts in one list: those of this ``index`` (``with_mass``); zero behind them."""
    whole = np.concatenate([np.asarray(row) for row in rows], axis=-1)
    return np.where(index >= 0, whole[..., np.maximum(index, 0)], 0.0)


def joined(motions: Sequence[Motion], index: Int[np.ndarray, " m"]) -> Motion:
    """The voxels of all parts in one list."""
    names = ("mass", "start", "image", "rotation", "rest")
    return Motion(*(jnp.asarray(listed([getattr(motion, name) for motion in motions], index)) for name in names))


def with_mass(both: tuple[Sequence[Motion], Sequence[Motion]]) -> list[Int[np.ndarray, " m"]]:
    """Of two maps, which voxels of all their parts have mass; -1 behind them, so that both lists are as long."""
    found = [np.flatnonzero(np.concatenate([np.asarray(motion.mass) for motion in motions])) for motions in both]
    step = -(-both[0][0].mass.size // STEPS)
    room = -(-max(map(len, found)) // step) * step
    return [np.pad(index, (0, room - len(index)), constant_values=-1) for index in found]
