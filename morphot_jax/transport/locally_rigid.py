r"""Locally rigid transport: each voxel of a map turns and shifts with its surroundings.

Optimal transport takes short cuts through neighbouring mass, so its ways shrink where bodies turn. Rounds mend
that. For a map a with mass at x, moved so far to y(x), and a target b, a round

1. moves the mass to y, and solves for the plan P from there to b;
2. takes the mean way of P less that of the moved map to itself, d = T_P - T_self, which is zero where nothing is
   left to do and exact for a shift (both are blurred alike);
3. fits, around every voxel, the rigid motion that takes x to y + d best, weighted by mass in a Gaussian window G
   of radius r: with the means c = G(a x) / G a and m = G(a (y + d)) / G a, the rotation nearest to
   G(a (y + d) x^T) / G a - m c^T (Procrustes; Kabsch 1976);
4. moves each voxel by its own motion, R (x - c) + m, and as far on as ``MOMENTUM`` times its last step.

The radius falls from round to round, so that large bodies are found first and smaller ones within them. At the
end each voxel goes along the screw of its motion (``rigid_motions``), and what is left of its way is added in the
frame that turns with it:

    x(t) = S_t(x) + t R_t rho ,    rho = R^T (y + d - R (x - c) - m) , averaged over its surroundings.

A pure shift and a pure rotation of a whole map are therefore exact, and equal maps do not move.

Where mass may fade (``Fading``), the plan is the carried part of an unbalanced one (``unbalanced``), which moves
the share s of a voxel's mass, to voxels whose mass is brought by it to the mean share S. What fades stays, and a
voxel's way is s^2 S d in place of d: where little is moved, its way is that of the little that leaks towards mass
farther off, and where little is brought, it leads into mass that appears.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Int

from morphot_jax.transport import kernels, sharing, splines, unbalanced
from morphot_jax.transport.displacement import moments
from morphot_jax.transport.kernels import Kernel, safe_log
from morphot_jax.transport.loop import Options, solve
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree
from morphot_jax.transport.relaxation import PLAIN
from morphot_jax.transport.rigid_motions import (
    Rotations,
    Vectors,
    along_screw,
    nearest_rotation,
    rotation_vector,
    turned,
)
from morphot_jax.transport.sinkhorn import MultilevelSinkhorn, Problem
from morphot_jax.transport.support import Side, side_of

MOMENTUM = 0.6
MOST_ITERATIONS = 100  # of the plan of a round
PART = 2**17  # points that are carried at once: their values of 16 fields take memory
HOLD = 1e-3  # r^2: as if so much mass around each voxel had gone on as it did, where a window fixes no rotation


@pytree
@dataclass(frozen=True, repr=False)
class Fading:
    """That mass may fade rather than move far.

    - ``masses``: of both maps, divided by their mean. ``reach``: in sigma (``unbalanced``).
    - ``prior``: log d of the plan of the target, at unit mass, to itself.
    """

    masses: Float[Array, "2"]
    reach: Float[Array, ""]
    prior: Float[Array, " m"]

    __repr__ = one_line


@pytree
@dataclass(frozen=True, repr=False)
class Task:
    """A map that is to be moved, the map that it is moved to, and the kernel of their grid.

    - ``edges``: of a voxel along z, y, x, in any unit. Motions are rigid in space, where the middle of voxel i
      lies at (i + 1/2) times the edge, so that a map and its blocks of voxels share one space.
    - ``fading``: where mass may fade.
    """

    source: Side
    target: Side
    kernel: Kernel
    edges: Float[Array, "3"]
    fading: Fading | None = None

    __repr__ = one_line

    @property
    def mass(self) -> Float[Array, " n"]:
        """Of the source's voxels; the sum is one."""
        return jnp.exp(self.source.log_mass)

    @property
    def start(self) -> Vectors:
        """Where the source's voxels are, in space."""
        return (self.source.positions() + 0.5) * self.edges[:, None]

    def voxels(self, positions: Vectors) -> Vectors:
        """Positions in space, counted in voxels."""
        return positions / self.edges[:, None] - 0.5


@pytree
@dataclass(frozen=True, repr=False)
class Motion:
    """The rigid motion of each voxel of a map, and what is left of its way. Positions in space, along z, y, x.

    - ``rotation``, ``image``: z -> R (z - start) + image. ``rest``: rho, in the frame of the start.
    """

    mass: Float[Array, " n"]
    start: Vectors
    image: Vectors
    rotation: Rotations
    rest: Vectors

    __repr__ = one_line

    @jax.jit
    def at(self, t: Float[Array, ""]) -> Vectors:
        """Where each voxel is at time t."""
        vector = rotation_vector(self.rotation)
        return along_screw(vector, self.start, self.image, t) + t * turned(t * vector, self.rest)


@pytree
@dataclass(frozen=True, repr=False)
class Round:
    """What a round leaves to the next.

    - ``positions``, ``before``: y of this round and of the one before. ``guess``: the start of the next plan.
    - ``found``: y + d. ``rotation``, ``image``: the motions fitted to it. ``share``: of each voxel's mass that the
      plan moves; the rest fades.
    - ``left``: root mean square of d over the mass. ``change``: of the step from y to the image. ``error``,
      ``iterations``: of the plan.
    """

    positions: Vectors
    before: Vectors
    found: Vectors
    image: Vectors
    rotation: Rotations
    share: Float[Array, " n"]
    guess: Float[Array, "z y x"]
    left: Float[Array, ""]
    change: Float[Array, ""]
    error: Float[Array, ""]
    iterations: Int[Array, ""]

    __repr__ = one_line


def first_round(task: Task, positions: Vectors, rotation: Rotations) -> Round:
    """Before any round: the voxels are at these positions, turned so."""
    zero, box = jnp.zeros((), positions.dtype), jnp.zeros(task.kernel.shape, positions.dtype)
    share = jnp.ones_like(positions[0])
    return Round(positions, positions, positions, positions, rotation, share, box, zero, zero, zero, jnp.int32(0))


@jax.jit
def unmoved(task: Task) -> Round:
    """Before any round, where nothing has moved."""
    start = task.start
    return first_round(task, start, jnp.broadcast_to(jnp.eye(3, dtype=start.dtype)[:, :, None], (3, *start.shape)))


@jax.jit
def next_round(
    task: Task, last: Round, radius: Float[Array, ""], momentum: Float[Array, ""], error: Float[Array, ""]
) -> Round:
    """Move, transport, fit.

    - ``radius``: of the window, in the unit of the edges. ``error``: of the plan.
    - ``momentum``: how far beyond the fit of the last round the voxels go, as a share of their last step; zero for
      the first round of a radius and for the round that ends.
    """
    positions = last.image + momentum * (last.positions - last.before)
    way, share, plan = remaining(task, task.mass, positions, last.guess, error)
    found = positions + way
    rotation, image = fitted(task, found, radius, last.rotation)
    return Round(
        positions,
        last.positions,
        found,
        image,
        rotation,
        share,
        plan.guess,
        _rms(task.mass, way),
        _rms(task.mass, image - positions),
        plan.error,
        plan.iterations,
    )


@jax.jit
def motion_of(task: Task, last: Round, around: Float[Array, ""]) -> Motion:
    """The motions of the last round, and what is left of the ways, averaged over the radius ``around``."""
    rest = _rest(task, task.mass, last.found - last.image, last.rotation, around)
    return Motion(task.mass, task.start, last.image, last.rotation, rest)


@jax.jit
def rest_of_parts(
    task: Task,
    shares: Float[Array, "k n"],
    images: Float[Array, "k 3 n"],
    rotations: Float[Array, "k 3 3 n"],
    around: Float[Array, ""],
    error: Float[Array, ""],
) -> tuple[Float[Array, "k 3 n"], Float[Array, ""]]:
    """What is left of the ways of parts that move so, averaged in each of them; and its root mean square before.

    ``shares``: of the parts in the mass of each voxel. All masses go to the target together, each voxel once for
    each of its parts.
    """
    masses = task.mass * shares
    positions = jnp.moveaxis(images, 1, 0).reshape(3, -1)
    nothing = jnp.zeros(task.kernel.shape, masses.dtype)
    way, *_ = remaining(task, masses.ravel(), positions, nothing, error)

    def rest(part: tuple[Float[Array, " n"], Vectors, Rotations]) -> Vectors:
        return _rest(task, *part, around)

    ways = jnp.moveaxis(way.reshape(3, *shares.shape), 1, 0)
    return jax.lax.map(rest, (masses, ways, rotations)), _rms(masses.ravel(), way)


def _rest(
    task: Task, mass: Float[Array, " n"], way: Vectors, rotation: Rotations, around: Float[Array, ""]
) -> Vectors:
    """rho: what is left of the ways, averaged over their surroundings, in the frame of the start."""
    return turned(-rotation_vector(rotation), _windowed(task, mass, way, around))


class Found(NamedTuple):
    """The plan of masses on a box.

    - ``log_v``: of its potentials. ``share``: of the mass of each voxel that it moves. ``trust``: in its mean way.
    - ``guess``: the start of the next plan. ``error``, ``iterations``: of the solve.
    """

    log_v: Float[Array, "z y x"]
    share: Float[Array, "z y x"]
    trust: Float[Array, "z y x"]
    guess: Float[Array, "z y x"]
    error: Float[Array, ""]
    iterations: Int[Array, ""]


def remaining(
    task: Task,
    mass: Float[Array, " m"],
    positions: Float[Array, "3 m"],
    guess: Float[Array, "z y x"],
    tolerance: Float[Array, ""],
) -> tuple[Float[Array, "3 m"], Float[Array, " m"], Found]:
    """d: how far masses at these positions have yet to go; the share of them that their plan moves; the plan."""
    kernel, voxels = task.kernel, task.voxels(positions)
    box = jnp.maximum(splines.share(mass, voxels, kernel.shape), 0.0)
    own = self_plan(box, kernel, tolerance)
    options = Options(tolerance, PLAIN, MOST_ITERATIONS)
    if task.fading is None:
        found = _plan(task, box, guess, options)
    else:
        found = _fading_plan(task, task.fading, box, own, guess, options)
    there = mean_places(kernel, jnp.exp(found.log_v - jnp.max(found.log_v)))
    way = jnp.where(found.share > 0, found.trust * (there - mean_places(kernel, own)), 0.0)
    *way, share = interpolated(jnp.concatenate([way, found.share[None]]), voxels)
    return jnp.stack(way) * task.edges[:, None], jnp.clip(share, 0.0, 1.0), found


def _plan(task: Task, box: Float[Array, "z y x"], guess: Float[Array, "z y x"], options: Options) -> Found:
    """The plan from a density to the target."""
    problem = Problem(side_of(box), task.target, task.kernel)
    solution = solve(MultilevelSinkhorn(with_cost=False), problem, options, (guess, guess))
    log_u, log_v = solution.potentials
    every = jnp.where(box > 0, 1.0, 0.0).astype(box.dtype)
    return Found(log_v, every, every, task.kernel.log_apply(log_u), solution.marginal_error, solution.iterations)


def _fading_plan(
    task: Task,
    fading: Fading,
    box: Float[Array, "z y x"],
    own: Float[Array, "z y x"],
    guess: Float[Array, "z y x"],
    options: Options,
) -> Found:
    """The carried part of the unbalanced plan to the target. ``own``: d of the plan of the density to itself."""
    source, target, places = side_of(box), task.target, task.target.places
    masses, shape = (fading.masses[0], fading.masses[1]), task.kernel.shape
    log_d = source.places.pick_from(safe_log(own), -jnp.inf), fading.prior
    problem = unbalanced.problem_of((source, target), masses, task.kernel, fading.reach, log_d)
    solution = solve(unbalanced.UnbalancedSinkhorn(), problem, options, places.pick_from(guess, 0.0))
    density, goal = box * masses[0], places.spread_in(shape, jnp.exp(problem.target.log_mass), 0.0)
    part = unbalanced.carried_part(density, goal, solution, task.kernel)
    share, met = (_divided(*both) for both in ((part.kept, density), (part.made, goal)))
    v = jnp.exp(part.log_v - jnp.max(part.log_v))
    there = _divided(task.kernel.apply(v * met), task.kernel.apply(v))
    g = places.pick_from(solution.potentials[1], -jnp.inf) - problem.prior[1]
    next_guess = places.spread_in(shape, jnp.where(jnp.isfinite(g), g, 0.0), 0.0)
    return Found(part.log_v, share, share**2 * there, next_guess, solution.marginal_error, solution.iterations)


def _divided(values: Float[Array, "z y x"], weight: Float[Array, "z y x"]) -> Float[Array, "z y x"]:
    """The ratio; zero where there is no weight."""
    return jnp.where(weight > 0, values / jnp.where(weight > 0, weight, 1.0), 0.0)


def self_plan(box: Float[Array, "z y x"], kernel: Kernel, tolerance: Float[Array, ""]) -> Float[Array, "z y x"]:
    """The w of the plan diag(w) K diag(w) from a map to itself: w <- sqrt(w a / K w) (Knight, Ruiz, Ucar 2014).

    Each iteration halves the error, or does better.
    """
    iterations = jnp.ceil(-jnp.log2(tolerance)).astype(jnp.int32)

    def halve(_, w: Float[Array, "z y x"]) -> Float[Array, "z y x"]:
        smoothed = kernel.apply(w)
        return jnp.sqrt(w * box / jnp.where(smoothed > 0, smoothed, 1.0))

    return jax.lax.fori_loop(0, iterations, halve, jnp.sqrt(box))


def mean_places(kernel: Kernel, v: Float[Array, "z y x"]) -> Float[Array, "3 z y x"]:
    """K(v y) / K v at every voxel, in voxels; zero where K v vanishes."""
    weight, *firsts = moments(kernel, v)
    return jnp.stack(firsts) * jnp.where(weight > 0, 1.0 / jnp.where(weight > 0, weight, 1.0), 0.0)


@jax.jit
def fitted(task: Task, found: Vectors, radius: Float[Array, ""], rotation: Rotations) -> tuple[Rotations, Vectors]:
    """The rigid motion around each voxel that takes the map best to the places found: R, and its image.

    ``rotation``: those of the last round, which hold where a window has too little mass to fix one.
    """
    middle = (jnp.array(task.kernel.shape, found.dtype) * task.edges / 2.0)[:, None]
    x, y = task.start - middle, found - middle
    products = (y[:, None] * x[None]).reshape(9, -1)
    means = _windowed(task, task.mass, jnp.concatenate([x, y, products]), radius)
    c, m = means[:3], means[3:6]
    spread = means[6:].reshape(3, 3, -1) - m[:, None] * c[None] + HOLD * radius**2 * rotation
    rotation = nearest_rotation(spread, rotation)
    image = jnp.einsum("ijn,jn->in", rotation, x - c) + m + middle
    return rotation, image


@jax.jit
def carried(task: Task, motion: Motion, points: Vectors, mass: Float[Array, " m"]) -> Motion:
    """The motion of other points, of other masses, by that of the voxels around them.

    Motions R z + p are linear in R and p, so both are interpolated, each voxel by its trilinear weight; a motion
    that is the same everywhere stays as it is. Points far from any voxel of the map do not move.
    """
    fields = fields_of(task, motion)

    def carry(points: Vectors) -> tuple[Vectors, Rotations, Vectors]:
        turns, shift, rest, weight = around(task, fields, points)
        known = weight > 0
        whole = jnp.where(known, weight, 1.0)
        turns = jnp.where(known, turns / whole, jnp.eye(3, dtype=points.dtype)[:, :, None])
        image = jnp.einsum("ijn,jn->in", turns, points) + shift / whole
        return image, nearest_rotation(turns, turns), rest / whole

    return Motion(mass, points, *sharing.in_parts(carry, points, PART))


@jax.jit
def fields_of(task: Task, motion: Motion) -> Float[Array, "16 z y x"]:
    """R, p, rest and one at the voxels that have mass in the motion, zero elsewhere, for ``around``."""
    shift = motion.image - jnp.einsum("ijn,jn->in", motion.rotation, motion.start)
    rows = jnp.concatenate([motion.rotation.reshape(9, -1), shift, motion.rest, jnp.ones_like(shift[:1])])
    return task.source.places.spread_in(task.kernel.shape, jnp.where(motion.mass > 0, rows, 0.0), 0.0)


def around(
    task: Task, fields: Float[Array, "16 z y x"], points: Vectors
) -> tuple[Rotations, Vectors, Vectors, Float[Array, " n"]]:
    """Sums of R, p and rest of the voxels around points, by their trilinear weights, and the sum of these."""
    values = interpolated(fields, task.voxels(points))
    return values[:9].reshape(3, 3, -1), values[9:12], values[12:15], values[15]


def interpolated(fields: Float[Array, "c z y x"], positions: Vectors) -> Float[Array, "c n"]:
    """Fields at positions (voxels), by trilinear weights; positions outside the box take those of its faces."""
    return jax.vmap(partial(map_coordinates, coordinates=list(positions), order=1, mode="nearest"))(fields)


def _windowed(
    task: Task, mass: Float[Array, " n"], values: Float[Array, "c n"], radius: Float[Array, ""]
) -> Float[Array, "c n"]:
    """G(a f) / G a for each row of values: means weighted by mass in a window around each voxel."""
    window = kernels.dense(task.kernel.shape, radius / task.edges, values.dtype)
    places = task.source.places

    def smooth(row: Float[Array, " n"]) -> Float[Array, " n"]:
        return window.apply_between(row, places, places)

    weight, *sums = jax.lax.map(smooth, jnp.concatenate([mass[None], mass * values]))
    return jnp.stack(sums) / jnp.where(weight > 0, weight, 1.0)


def _rms(mass: Float[Array, " n"], vectors: Vectors) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(mass * jnp.sum(vectors**2, axis=0)) / jnp.sum(mass))
