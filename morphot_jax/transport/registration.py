r"""Rigid motions that lay one density over another: how well each fits where, and Gauss-Newton steps.

For a density a at x, another one b, and a motion y = R x + s, the misfit around x is

    S(x) = G( (a - b(R x + s))^2 ) / G( a^2 ) ,

with a Gaussian window G: 0 where the two agree, about 1 where b is empty. A step lowers the sum of
w (a - b(R x + s))^2 over the voxels of both densities, each laid over the other by the same motion: for a small
motion e of the body, turned by w about its middle c and shifted by v, b changes by grad b . (w x (y - c) + v)
(Gauss-Newton; Lucas and Kanade 1981).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from morphot_jax.transport import kernels, splines
from morphot_jax.transport.locally_rigid import Task
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree
from morphot_jax.transport.rigid_motions import Vectors, cross, turned

DAMPING = 1e-3  # of a step, as a share of the mean curvature
LONGEST, WIDEST = 2.0, 0.2  # voxels and radians: the most that one step may move a body

Weights = Float[Array, "k n"]


class Motions(NamedTuple):
    """One or several rigid motions, x -> R x + s, of positions in space along z, y, x."""

    rotation: Float[Array | np.ndarray, "*k 3 3"]
    shift: Float[Array | np.ndarray, "*k 3"]

    def carried(self, points: Vectors) -> Float[Array, "*k 3 n"]:
        """Points after each motion."""
        return jnp.einsum("...ij,jn->...in", self.rotation, points) + self.shift[..., None]

    def inverse(self) -> "Motions":
        """The motions back, on the host."""
        rotation, shift = (np.asarray(part) for part in self)
        return Motions(np.swapaxes(rotation, 1, 2), -np.einsum("kji,kj->ki", rotation, shift))

    def some(self, rows: slice | Sequence[int]) -> "Motions":
        """Those of these numbers, in their order, on the host."""
        index = rows if isinstance(rows, slice) else np.array(rows, int)
        return Motions(*(np.asarray(part)[index] for part in self))

    @classmethod
    def joined(cls, *given: "Motions") -> "Motions":
        """All of these, one after the other, on the host."""
        return cls(*(np.concatenate(part) for part in zip(*given, strict=True)))


@pytree
@dataclass(frozen=True, repr=False)
class Overlay:
    """A density that is laid over another.

    - ``task``: the voxels of the first. ``values``: the densities there.
    - ``over``: spline coefficients of the other.
    """

    task: Task
    values: Float[Array, " n"]
    over: Float[Array, "Z Y X"]

    __repr__ = one_line


@jax.jit
def overlay(task: Task, pair: Float[Array, "2 z y x"], blur: Float[Array, ""]) -> Overlay:
    """The first density over the second, both blurred by so many voxels; the task has the voxels of the first."""
    smooth = kernels.dense(task.kernel.shape, blur, pair.dtype)
    first, last = (smooth.apply(one) for one in pair)
    values = jnp.where(task.mass > 0, task.source.places.pick(first, 0.0), 0.0)
    return Overlay(task, values, splines.coefficients(last))


@jax.jit
def misfits(one: Overlay, motions: Motions, radius: Float[Array, ""]) -> Weights:
    """S around each voxel for each motion, at most one; ``radius`` of the window in the unit of space."""
    task, places = one.task, one.task.source.places
    window = kernels.dense(task.kernel.shape, radius / task.edges, one.values.dtype)
    scale = window.apply_between(one.values**2, places, places)

    def misfit(motion: Motions) -> Float[Array, " n"]:
        there, _ = splines.values_and_gradients(one.over, task.voxels(motion.carried(task.start)))
        return window.apply_between((one.values - there) ** 2, places, places)

    return jnp.minimum(jax.lax.map(misfit, motions) / jnp.where(scale > 0, scale, 1.0), 1.0)


@partial(jax.jit, static_argnames=("steps",))
def refined(
    pair: tuple[Overlay, ...], motions: Motions, weights: tuple[Weights, ...], steps: int
) -> tuple[Motions, Float[Array, " k"]]:
    """The motions after some steps, and how much of the weighted square of the densities is left as misfit.

    ``pair``: the first density over the second, and, where given, the second over the first, which goes by the
    inverse motions. ``weights``: of their voxels for each motion.
    """

    def step(_, made: tuple[Motions, Float[Array, " k"]]) -> tuple[Motions, Float[Array, " k"]]:
        return jax.lax.map(lambda given: _step(pair, *given), (made[0], weights))

    return jax.lax.fori_loop(0, steps, step, (motions, jnp.ones_like(motions.shift[:, 0])))


def _step(
    pair: tuple[Overlay, ...], motion: Motions, weights: tuple[Float[Array, " n"], ...]
) -> tuple[Motions, Float[Array, ""]]:
    """One step of one motion."""
    first = pair[0]
    start, edges = first.task.start, first.task.edges
    middle = motion.carried(_mean(start, weights[0]))
    lever = jnp.sqrt(_mean(jnp.sum((motion.carried(start) - middle) ** 2, axis=0)[None], weights[0])[0, 0])
    lever = jnp.maximum(lever, jnp.min(edges))
    curvature, force = jnp.zeros((6, 6), start.dtype), jnp.zeros(6, start.dtype)
    left, whole = jnp.zeros((), start.dtype), jnp.zeros((), start.dtype)
    for one, weight, forth in zip(pair, weights, (True, False), strict=False):
        here = one.task.start
        there = motion.carried(here) if forth else jnp.matmul(motion.rotation.T, here - motion.shift[:, None])
        value, gradient = splines.values_and_gradients(one.over, one.task.voxels(there))
        gradient = gradient / edges[:, None]
        if not forth:  # the second density stands still, and the first goes the other way below it
            there, gradient = here, -jnp.matmul(motion.rotation, gradient)
        misfit = one.values - value
        rows = jnp.concatenate([gradient, cross(there - middle, gradient) / lever])
        curvature += (rows * weight) @ rows.T
        force += (rows * weight) @ misfit
        left, whole = left + jnp.sum(weight * misfit**2), whole + jnp.sum(weight * one.values**2)
    least = jnp.finfo(start.dtype).tiny
    hold = DAMPING * jnp.trace(curvature) / 6.0 + least
    moved = jnp.linalg.solve(curvature + hold * jnp.eye(6, dtype=start.dtype), force)
    shift = _at_most(moved[:3], LONGEST * jnp.min(edges))[:, None]
    vector = _at_most(moved[3:] / lever, jnp.asarray(WIDEST, start.dtype))[:, None]
    columns = jnp.concatenate([motion.rotation, (motion.shift[:, None] - middle)], axis=1)
    *rotation, offset = turned(jnp.broadcast_to(vector, (3, 4)), columns).T
    return Motions(jnp.stack(rotation, axis=1), offset + (middle + shift)[:, 0]), left / jnp.maximum(whole, least)


def _mean(values: Float[Array, "c n"], weight: Float[Array, " n"]) -> Float[Array, "c 1"]:
    total = jnp.sum(weight)
    return jnp.sum(weight * values, axis=1, keepdims=True) / jnp.where(total > 0, total, 1.0)


def _at_most(vector: Float[Array, "3"], length: Float[Array, ""]) -> Float[Array, "3"]:
    found = jnp.sqrt(jnp.sum(vector**2))
    return vector * jnp.minimum(1.0, length / jnp.maximum(found, jnp.finfo(vector.dtype).tiny))
