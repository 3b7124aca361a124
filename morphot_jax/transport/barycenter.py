r"""Entropic Wasserstein barycenters of k maps, for all weight vectors at once (the paper, Eq 2.4).

For maps a_k of unit mass, weights alpha_k and a Gaussian kernel K, the barycenter q and the plans
P_k = diag(u_k) K diag(v_k) satisfy

    u_k = a_k / (K v_k) ,    q = prod_k (K u_k)^alpha_k ,    v_k = q / (K u_k) .

The paper writes a_k for u_k (the first of ``potentials``) and b_k for v_k (the second); its gamma sets sigma. Both
are stored as logs, -inf for zero mass; u_k only where its map has mass.

The iteration is corrected on coarse grids too (``hierarchy``) and mixed from the last few iterates (``way_back``).
Or each block is over-relaxed, log u <- (1 - w) log u + w (log a - log K v) and likewise log v (Thibault et al.,
arXiv 1711.01851; Lehmann et al. 2021). A fixed w > 1 can diverge from a cold start, so ``AUTOMATIC`` begins
with plain iterations and then relaxes a voxel more, the less its log would change.

**Debiased.** Every such q is blurred by sigma, even at a weight of one. The debiased barycenter (Janati et al.
2020) removes the blur: with the plan diag(d) K diag(d) of q to itself,

    q = d prod_k (K u_k)^alpha_k ,    d <- sqrt(d q / (K d)) ,    v_k = q / (K u_k) ,

so that sum_k alpha_k log v_k = log d. A weight of one gives the map itself. Over-relaxation diverges here. Log v
is corrected on coarse grids, which leaves log d as it is, and mixed from the last few (``anderson``); each step of
v comes with two of d. These equations hardly determine detail finer than the kernel: || d K d - q ||_1 (``bias``)
falls much more slowly than the error of the plans, while q continues to sharpen; the tolerance decides how far.

The error of a solve is measured on the plans themselves, on unit mass,

    marginal_error = sum_k alpha_k ( || P_k 1 - a_k ||_1 + || P_k^T 1 - q ||_1 ) ,

to which a debiased solve adds a hundredth of its ``bias``; the first term is zero for w = 1. ``change_l1`` and
``change_l2`` are norms of the difference between consecutive q (the original stops on the first, the paper names
the second).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from morphot_jax.system.errors import InputError
from morphot_jax.system.words import Criterion
from morphot_jax.transport import anderson, kernels, way_back
from morphot_jax.transport.anderson import Restarting
from morphot_jax.transport.checks import (
    check_densities,
    check_flag,
    check_grid,
    check_solve,
    check_start,
    grid_axes,
)
from morphot_jax.transport.fewer_axes import axes_of, boxed, in_box, solution_out_of_box
from morphot_jax.transport.gradients import (
    Static,
    fields_of,
    joined,
    log_mass_tangent,
    no_tangents,
    psi_tangents,
    solution_of,
    split,
)
from morphot_jax.transport.hierarchy import Hierarchy, hierarchy_of
from morphot_jax.transport.kernels import Kernel, Sigma, divided, turn_back
from morphot_jax.transport.loop import Ending, Measures, Options, Solution, Start, in_range, solve
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree
from morphot_jax.transport.relaxation import AUTOMATIC, PLAIN, Relaxation
from morphot_jax.transport.support import Side, side_of
from morphot_jax.transport.way_back import Memory

DEPTH = 5  # iterates that a debiased solve mixes
LIMIT = 1.0  # of the step of one grid, in psi
MIXED = 3.0  # farthest that mixing moves log v of a debiased solve from its image
BIAS_SHARE = 0.01  # weight of the bias in the error; between equal maps the plans are exact at once, q is not
DEBIASING_STEPS = 2  # of d for each step of v; more cost time and save few iterations


@pytree
@dataclass(frozen=True, repr=False)
class Problem:
    """Maps on their supports, weight vectors and the grid's kernel, as ``solve_barycenter`` describes them."""

    maps: Side
    weights: Float[Array, "t k"]
    kernel: Kernel

    __repr__ = one_line

    @property
    def shares(self) -> Float[Array, "t k"]:
        """The weights with unit sums."""
        return self.weights / jnp.sum(self.weights, axis=1, keepdims=True)


@pytree
@dataclass(frozen=True, repr=False)
class State:
    """Potentials and barycenters after an iteration, and what the next one and the solution need of it."""

    log_u: Float[Array, "t k n"]  # on the supports of the maps
    log_v: Float[Array, "t k z y x"]  # on the side of the barycenter
    barycenter: Float[Array, "t z y x"]
    unreached: Float[Array, " t"]  # mass of the maps where K v vanishes
    bias: Float[Array, " t"]  # || d K d - q ||_1, where the solve is debiased

    __repr__ = one_line


@dataclass(frozen=True)
class Barycenter:
    """The solver of plain barycenters (Eq 2.4), over-relaxed. ``guard`` is that of ``solve_barycenter``."""

    guard: float | None = None

    measured = ("marginal_error", "change_l1", "change_l2")

    def start(self, problem: Problem, guess: Float[Array, "t k z y x"] | None) -> Start:
        """Start from v = 1, or from the given log v."""
        state = _first_state(problem, guess)
        return Start(state, None, jnp.ones(state.unreached.shape, bool))

    def step(
        self, problem: Problem, options: Options, state: State, memory: None, iteration: Int[Array, ""]
    ) -> tuple[State, None, Measures]:
        """Update all u_k, then the barycenter, then all v_k."""
        maps, weights, kernel, guard = problem.maps, problem.shares, problem.kernel, self.guard
        least = -jnp.inf if guard is None else float(np.log(guard))

        log_kv = kernels.log_apply_between(kernel, state.log_v, None, maps.places)
        reached = log_kv > least
        plain = jnp.where(reached | (guard is not None), maps.log_mass - jnp.maximum(log_kv, least), -jnp.inf)
        log_u = options.relaxation.step(state.log_u, plain, iteration)

        log_ku = kernels.log_apply_between(kernel, log_u, maps.places, None)
        log_second = state.log_v + log_ku  # log of P_k^T 1
        # With a guard prod_k v_k^alpha_k is not 1, and the original's barycenter includes that factor.
        log_q = weighted_sum(weights, log_ku if guard is None else log_second)
        q = jnp.exp(log_q)
        plain = jnp.where(jnp.isfinite(log_q)[:, None], log_q[:, None] - jnp.maximum(log_ku, least), -jnp.inf)
        log_v = options.relaxation.step(state.log_v, plain, iteration, shared_axis=1)

        mass = jnp.exp(maps.log_mass)
        first_error = jnp.sum(jnp.abs(jnp.exp(log_u + log_kv) - mass), axis=-1)
        second_error = jnp.sum(jnp.abs(jnp.exp(log_second) - q[:, None]), axis=(-3, -2, -1))
        unreached = weighted_sum(weights, jnp.sum(jnp.where(reached, 0.0, mass), axis=-1))
        measures = measures_of(weights, weighted_sum(weights, first_error + second_error), q, state.barycenter)
        return State(log_u, log_v, q, unreached, state.bias), None, measures

    def finish(self, problem: Problem, state: State, ending: Ending) -> Solution:
        """Make the solution, with the potentials on the grid."""
        return solution_from(problem, state, ending)


@pytree
@dataclass(frozen=True, repr=False)
class MultilevelState:
    """Barycenters with the potentials that gave them, and the potentials of the next iteration.

    Both stand for the k fields log v by k - 1 differences, psi_j = log v_j - log v_0: since
    sum_k alpha_k log v_k = 0, they determine all of them. They are -inf where the barycenter can have no mass.
    """

    psi: Float[Array, "t j z y x"]
    next_psi: Float[Array, "t j z y x"]
    barycenter: Float[Array, "t z y x"]
    unreached: Float[Array, " t"]

    __repr__ = one_line


@pytree
@dataclass(frozen=True, repr=False)
class MultilevelMemory:
    """The grids of the steps, and the iterates that are mixed."""

    hierarchy: Hierarchy
    mixing: Memory

    __repr__ = one_line


@dataclass(frozen=True)
class MultilevelBarycenter:
    """The solver of plain barycenters by steps on all grids of a hierarchy, mixed (``hierarchy``, ``way_back``).

    The plain step for psi_j is log K u_0 - log K u_j. Where all second marginals c_k = v_k K u_k agree, it is
    psi_j itself; the steps on grids compare R_l c_0 with R_l c_j. The first step is a plain one.
    """

    measured = ("marginal_error", "change_l1", "change_l2")

    def start(self, problem: Problem, guess: Float[Array, "t k z y x"] | None) -> Start:
        """Start from v = 1, or from the given log v."""
        lanes, k = problem.weights.shape
        dtype, box = problem.maps.log_mass.dtype, problem.kernel.shape
        q, zeros = jnp.zeros((lanes, *box), dtype), jnp.zeros((lanes,), dtype)
        psi = jnp.zeros((lanes, k - 1, *box), dtype) if guess is None else differences(guess.astype(dtype))
        mixing = jax.vmap(partial(way_back.start, DEPTH))(psi)
        memory = MultilevelMemory(hierarchy_of(problem.kernel, q), mixing)
        return Start(MultilevelState(psi, psi, q, zeros), memory, jnp.ones((lanes,), bool))

    def step(
        self,
        problem: Problem,
        options: Options,
        state: MultilevelState,
        memory: MultilevelMemory,
        iteration: Int[Array, ""],
    ) -> tuple[MultilevelState, MultilevelMemory, Measures]:
        """The barycenters of the next psi, and the psi after it."""
        maps, weights, psi = problem.maps, problem.shares, state.next_psi
        log_v = from_differences(psi, weights)
        log_ku, c, missed = turn_back(problem.kernel, log_v, maps.log_mass, maps.places, None)
        log_q = weighted_sum(weights, log_ku)
        q = jnp.exp(log_q)
        error = weighted_sum(weights, jnp.sum(jnp.abs(c - q[:, None]), axis=(-3, -2, -1)) + missed)
        sums = memory.hierarchy.sums(c)
        coarse = memory.hierarchy.correction([s[:, :1] for s in sums], [s[:, 1:] for s in sums], LIMIT)
        plain = log_ku[:, :1] - log_ku[:, 1:]
        plain = jnp.where(jnp.isfinite(plain), plain, 0.0)  # of maps with a weight of zero; or there is no mass
        plain = jnp.where(jnp.isneginf(log_q)[:, None], -jnp.inf, plain)
        weight = _per_lane(weights[:, :1] + weights[:, 1:], plain.ndim) * q[:, None]
        next_psi, mixing = jax.vmap(way_back.step, in_axes=(0, 0, 0, 0, 0, 0, None))(
            memory.mixing, psi, plain, coarse, weight, error, iteration
        )
        moved = MultilevelState(psi, next_psi, q, weighted_sum(weights, missed))
        shown = way_back.recoverable(error, memory.mixing)
        return moved, replace(memory, mixing=mixing), measures_of(weights, shown, q, state.barycenter)

    def finish(self, problem: Problem, state: MultilevelState, ending: Ending) -> Solution:
        """Make the solution, with the potentials on the grid."""
        return solution_from(problem, _with_potentials(problem, state), ending)


def differences(log_v: Float[Array, "t k z y x"]) -> Float[Array, "t j z y x"]:
    """psi_j = log v_j - log v_0."""
    return log_v[:, 1:] - log_v[:, :1]


def from_differences(psi: Float[Array, "t j z y x"], weights: Float[Array, "t k"]) -> Float[Array, "t k z y x"]:
    """All log v, with sum_k weights_k log v_k = 0; -inf where psi is, at voxels that no kernel reaches."""
    first = -weighted_sum(weights[:, 1:], psi)[:, None]
    log_v = jnp.concatenate([first, psi + first], axis=1)
    return jnp.where(jnp.isfinite(psi[:, :1]), log_v, -jnp.inf)


@jax.jit
def _with_potentials(problem: Problem, state: MultilevelState) -> State:
    maps, log_v = problem.maps, from_differences(state.psi, problem.shares)
    log_u, _ = divided(maps.log_mass, kernels.log_apply_between(problem.kernel, log_v, None, maps.places))
    return State(log_u, log_v, state.barycenter, state.unreached, jnp.zeros_like(state.unreached))


def _per_lane(values: Array, axes: int) -> Array:
    """Numbers with further axes of length one, up to ``axes`` of them."""
    return values.reshape(values.shape + (1,) * (axes - values.ndim))


@pytree
@dataclass(frozen=True, repr=False)
class DebiasedMemory:
    """The grids of the steps, and the iterates that are mixed."""

    hierarchy: Hierarchy
    mixing: Restarting

    __repr__ = one_line


@dataclass(frozen=True)
class Debiased:
    """The solver of debiased barycenters, by steps on all grids of a hierarchy, mixed; nothing is relaxed.

    A plain step may enlarge the error here: it is no way back. Mixing starts afresh instead, and is bounded.
    """

    measured = ("marginal_error", "change_l1", "change_l2")

    def start(self, problem: Problem, guess: Float[Array, "t k z y x"] | None) -> Start:
        """Start from v = 1, or from the given log v. A lane with a weight of one need not step: it is that map."""
        state, maps = _first_state(problem, guess), problem.maps
        alone = problem.weights >= jnp.sum(problem.weights, axis=1, keepdims=True)
        densities = maps.places.spread_in(problem.kernel.shape, jnp.exp(maps.log_mass), 0.0)
        one = jnp.where(alone, 1.0, 0.0).astype(densities.dtype)
        ends = jnp.tensordot(one, densities, axes=1, precision=jax.lax.Precision.HIGHEST)
        state = replace(state, barycenter=ends)
        mixing = jax.vmap(partial(anderson.start_restarting, DEPTH))(state.log_v)
        memory = DebiasedMemory(hierarchy_of(problem.kernel, ends), mixing)
        return Start(state, memory, ~jnp.any(alone, axis=1))

    def step(
        self, problem: Problem, options: Options, state: State, memory: DebiasedMemory, iteration: Int[Array, ""]
    ) -> tuple[State, DebiasedMemory, Measures]:
        """Update all u_k, then d and the barycenter, then all v_k, mixed from the last few."""
        maps, weights, kernel = problem.maps, problem.shares, problem.kernel
        log_kv = kernels.log_apply_between(kernel, state.log_v, None, maps.places)
        log_u, unreached = divided(maps.log_mass, log_kv)
        log_ku = kernels.log_apply_between(kernel, log_u, maps.places, None)
        log_g = weighted_sum(weights, log_ku)
        log_d = weighted_sum(weights, state.log_v)
        q, c = jnp.exp(log_d + log_g), jnp.exp(state.log_v + log_ku)
        second_error = jnp.sum(jnp.abs(c - q[:, None]), axis=(-3, -2, -1))
        log_kd = kernel.log_apply(log_d)
        bias = jnp.sum(jnp.abs(jnp.exp(log_d + log_kd) - q), axis=(-3, -2, -1))
        error = weighted_sum(weights, second_error) + BIAS_SHARE * bias

        for _ in range(DEBIASING_STEPS):
            step = (log_g - log_kd) / 2.0
            log_d = jnp.where(jnp.isfinite(step), log_d + step, log_d)
            log_kd = kernel.log_apply(log_d)
        plain = jnp.where(jnp.isfinite(log_g)[:, None], (log_d + log_g)[:, None] - log_ku, -jnp.inf)
        hierarchy = memory.hierarchy
        coarse = hierarchy.correction(hierarchy.sums(q[:, None]), hierarchy.sums(c), LIMIT)
        coarse = coarse - weighted_sum(weights, coarse)[:, None]
        image = plain + jnp.where(jnp.isfinite(coarse), coarse, 0.0)
        weight = weights[:, :, None, None, None] * q[:, None]
        mixed, mixing = jax.vmap(anderson.mix_restarting, in_axes=(0, 0, 0, 0, 0, None))(
            memory.mixing, state.log_v, image, weight, error, iteration
        )
        log_v = jnp.where(jnp.isfinite(image), jnp.clip(mixed, image - MIXED, image + MIXED), mixed)

        measures = measures_of(weights, error, q, state.barycenter)
        moved = State(log_u, log_v, q, weighted_sum(weights, unreached), bias)
        return moved, replace(memory, mixing=mixing), measures

    def finish(self, problem: Problem, state: State, ending: Ending) -> Solution:
        """Make the solution, with the potentials on the grid."""
        return solution_from(problem, state, ending)


def solver_for(
    relaxation: Relaxation | None = None, *, debias: bool = False, guard: float | None = None
) -> Barycenter | MultilevelBarycenter | Debiased:
    """The solver for plain or debiased barycenters: by over-relaxed iterations, or by multilevel steps for None.

    With a ``guard`` only iterations like the original's are possible. InputError for ``debias`` with a ``guard``.
    """
    if debias and guard is not None:
        raise InputError(f"guard is {guard:g} and debias is True: leave out one, the original had no debiasing")
    if debias:
        return Debiased()
    return MultilevelBarycenter() if relaxation is None and guard is None else Barycenter(guard)


def solve_barycenter(  # noqa: PLR0913 - three arrays, and every option of the solve by its name
    maps: Float[Array, "k *grid"],
    weights: Float[Array, "t k"],
    kernel: Kernel,
    *,
    tolerance: float | Float[Array, ""] = 1e-6,
    max_iterations: int = 500,
    relaxation: Relaxation | None = None,
    criterion: Criterion = "marginal_error",
    fixed_iterations: bool = False,
    guard: float | None = None,
    debias: bool = False,
    start: Float[Array, "t k *grid"] | None = None,
) -> Solution:
    """q_t = argmin_q sum_k alpha_tk W_sigma(a_k, q), every t in one compiled loop (the paper, Eq 2.4).

    - ``maps``: non-negative, axes ``k z y x``; brought to unit mass here. Their dtype is the solver's.
    - ``weights``: one row for each barycenter, non-negative; brought to unit sum here.
    - ``kernel``: of the maps' grid, from ``morphot_jax.kernels``; it may have one, two or three axes.
    - ``tolerance``: a lane stops when ``criterion`` is at or below it.
    - ``fixed_iterations``: make exactly ``max_iterations`` instead.
    - ``relaxation``: over-relax plain iterations instead of multilevel steps (``relaxation``).
    - ``guard``: smallest divisor, as in the original, which divides by max(K f, 1e-30). None: no mass where the
      kernel does not reach.
    - ``debias``: solve for the debiased barycenter (see the module); ``relaxation`` does not apply to it.
    - ``start``: log v to start from in place of 0 (``start_between``; ``coarse_start.barycenter_start``, any k).

    The solution's ``value`` is q, axes ``t z y x``; its ``potentials`` are log u_k and log v_k, ``t k z y x``.

    May be called under a caller's own jit and vmap; ``max_iterations``, ``criterion``, ``guard`` and ``debias``
    are static, all else is traced. Raises InputError for anything but floating-point arrays and for shapes that
    do not match; outside jit also for negative, non-finite or empty maps and weights, and for solves that leave
    the range of single precision.
    """
    check_solve(tolerance, max_iterations, relaxation, fixed_iterations=fixed_iterations, guard=guard)
    check_flag("debias", debias)
    check_maps(maps, weights, kernel)
    if len(maps) == 1:
        relaxation = relaxation or PLAIN  # one map is its own barycenter after one step, blurred
    solver = solver_for(relaxation, debias=debias, guard=guard)
    options = Options(tolerance, relaxation or AUTOMATIC, max_iterations, criterion, fixed_iterations)
    if start is not None:
        check_start(start, weights.shape[0], maps)
    axes = axes_of(kernel)
    guess = None if start is None else in_box(start, axes)
    static, values = split(solver, options)
    run = _solved if guard is None and not debias else _solve_boxes
    found = run(static, in_box(maps, axes), weights.astype(maps.dtype), boxed(kernel), values, guess)
    return in_range(solution_out_of_box(solution_of(found), axes))


def _solve_boxes(
    static: Static,
    maps: Float[Array, "k z y x"],
    weights: Float[Array, "t k"],
    kernel: Kernel,
    values: list[Any],
    guess: Float[Array, "t k z y x"] | None,
) -> dict[str, Any]:
    """The fields of the solution."""
    solver, options = joined(static, values)
    return fields_of(solve(solver, Problem(side_of(maps), weights, kernel), options, guess))


_solved = jax.custom_jvp(_solve_boxes, nondiff_argnums=(0,))


@_solved.defjvp
def _solved_jvp(static, primals, tangents):
    """Implicit derivatives by the maps, the weights and the kernel (``gradients``)."""
    maps, weights, kernel, _, _ = primals
    d_maps, d_weights, d_kernel, _, _ = tangents
    solution = _solved(static, *primals)
    sides = side_of(maps)
    d_mass = log_mass_tangent(maps, d_maps, sides)

    def shares_of(weights: Float[Array, "t k"]) -> Float[Array, "t k"]:
        return Problem(sides, weights, kernel).shares

    shares, d_shares = jax.jvp(shares_of, (weights,), (d_weights,))

    lanes = solution["potentials"][1], solution["value"], shares, d_shares
    d_q, d_u, d_v = _tangents(sides, kernel, d_mass, d_kernel, lanes)
    d_u = sides.places.spread_in(kernel.shape, d_u, 0.0)
    return solution, no_tangents(solution) | {"value": d_q, "potentials": (d_u, d_v)}


@jax.jit
def _tangents(sides, kernel, d_mass, d_kernel, lanes):
    """Tangents of q, log u and log v of all lanes: their log v, q, weights, and the tangents of these."""

    def lane(log_v, q, shares, d_shares):
        """Tangents of one barycenter: of q, log u and log v."""
        psi = differences(log_v[None])[0]
        reached = jnp.isfinite(psi)
        psi = jnp.where(reached, psi, 0.0)

        def outcome(psi, shares, log_mass, kernel):
            """alpha_j ( log c_j - sum_m alpha_m log c_m ), which vanish; and log q, log u, log v."""
            log_v = jnp.where(reached[:1], from_differences(psi[None], shares[None]), -jnp.inf)
            log_kv = kernels.log_apply_between(kernel, log_v, None, sides.places)
            log_u, _ = divided(log_mass, log_kv)
            log_ku = kernels.log_apply_between(kernel, log_u, sides.places, None)
            log_q = weighted_sum(shares[None], log_ku)[0]
            log_v, log_ku = log_v[0], log_ku[0]
            log_c = jnp.where(jnp.isfinite(log_ku), log_v + log_ku, 0.0)
            mean = weighted_sum(shares[None], log_c[None])[0]
            conditions = shares[1:, None, None, None] * (log_c[1:] - mean)
            return conditions, (log_q, log_u[0], log_v)

        given, changes = (shares, sides.log_mass, kernel), (d_shares, d_mass, d_kernel)
        _, (own, directly) = jax.jvp(lambda *of: outcome(psi, *of), given, changes)
        (_, outcomes), linear = jax.linearize(lambda psi: outcome(psi, *given), psi)
        d_psi = psi_tangents(lambda change: linear(change)[0], own, q, shares, kernel)
        _, through_psi = linear(d_psi)
        d_q, d_u, d_v = (
            jnp.where(jnp.isfinite(field), first + second, 0.0)
            for field, first, second in zip(outcomes, directly, through_psi, strict=True)
        )
        return q * d_q, d_u, d_v

    return jax.vmap(lane)(*lanes)


def check_maps(maps, weights, kernel: Kernel) -> None:
    """Raise InputError for maps and weights that have no barycenter."""
    check_densities("maps", maps, axes="k" + grid_axes(kernel))
    check_densities("weights", weights, axes="tk")
    if weights.shape[1] != maps.shape[0]:
        raise InputError(
            f"maps have the shape {maps.shape} and weights {weights.shape}: "
            f"give rows of {maps.shape[0]} weights, one for each map"
        )
    check_grid(kernel, maps=maps)


@jax.jit
def start_between(
    log_u: Float[Array, "*grid"], log_v: Float[Array, "*grid"], weights: Float[Array, "t 2"], sigma: Sigma
) -> Float[Array, "t 2 *grid"]:
    """A start for ``solve_barycenter`` between two maps, from the plan diag(u) K diag(v) between them.

    For two maps log v_0 = t phi and log v_1 = -(1 - t) phi. With kernels K_t of variance t sigma^2, nearly

        phi = ( log K_(1-t) v - log K_t u ) / 2 ,

    which starts a solve at a tenth of the error of phi = 0. Where these narrow kernels underflow, phi is computed
    with the heat kernel, which reaches farther.

    ``log_u``, ``log_v``: potentials of ``solve_sinkhorn``. ``weights``: (1 - t, t) for each barycenter.
    """
    shape, dtype = log_u.shape, log_u.dtype
    shares = weights / jnp.sum(weights, axis=1, keepdims=True)
    sigma = jnp.asarray(sigma, dtype)

    def potentials(share: Float[Array, "2"]) -> Float[Array, "2 *grid"]:
        def phi_of(make: Callable[..., Kernel]) -> Float[Array, "*grid"]:
            backward, forward = (make(shape, sigma * jnp.sqrt(part), dtype) for part in share)
            return (backward.log_apply(log_v) - forward.log_apply(log_u)) / 2.0

        gaussian, heat = phi_of(kernels.dense), phi_of(kernels.heat)
        phi = jnp.where(jnp.isfinite(gaussian), gaussian, jnp.where(jnp.isfinite(heat), heat, 0.0))
        return jnp.stack([share[1] * phi, -share[0] * phi])

    return jax.lax.map(potentials, shares)


@jax.jit
def start_among(
    psi: Float[Array, "m *grid"], anchors: Float[Array, " m"], times: Float[Array, " t"]
) -> Float[Array, "t 2 *grid"]:
    """A start for ``solve_barycenter`` between two maps, from the barycenters at other times.

    log v_1 - log v_0 is smooth in t: it is interpolated by the polynomial through the anchors.

    ``psi``: log v_1 - log v_0 of the barycenters with the weights (1 - t, t) at the times ``anchors``.
    """
    m = len(anchors)
    apart = anchors[:, None] - anchors + jnp.eye(m)
    factors = jnp.where(jnp.eye(m, dtype=bool), 1.0, (times[:, None, None] - anchors) / apart)
    shares = jnp.prod(factors, axis=-1)  # Lagrange's polynomials at the times
    known = jnp.where(jnp.isfinite(psi), psi, 0.0).astype(times.dtype)
    # Added up one by one: the rounding of a matrix product would depend on how many times there are.
    between = jnp.zeros((len(times), *known.shape[1:]), times.dtype)
    for i in range(m):
        between += _per_lane(shares[:, i], between.ndim) * known[i]
    return from_differences(between[:, None], jnp.stack([1.0 - times, times], axis=1))


def _first_state(problem: Problem, guess: Float[Array, "t k z y x"] | None) -> State:
    """The given log v, or 0; u = a."""
    lanes, k = problem.weights.shape
    log_mass, box = problem.maps.log_mass, problem.kernel.shape
    zeros = jnp.zeros((lanes,), log_mass.dtype)
    return State(
        log_u=jnp.broadcast_to(log_mass, (lanes, *log_mass.shape)),
        log_v=jnp.zeros((lanes, k, *box), log_mass.dtype) if guess is None else guess.astype(log_mass.dtype),
        barycenter=jnp.zeros((lanes, *box), log_mass.dtype),
        unreached=zeros,
        bias=zeros,
    )


def solution_from(problem: Problem, state: State, ending: Ending) -> Solution:
    """The solution of the last state of all lanes, with log u on the grid."""
    return Solution(
        value=state.barycenter,
        potentials=(_spread(state.log_u, problem.maps, problem.kernel.shape), state.log_v),
        status=ending.status,
        iterations=ending.iterations,
        marginal_error=ending.last.marginal_error,
        unreached=state.unreached,
        history=ending.history,
        change_l1=ending.last.change_l1,
        change_l2=ending.last.change_l2,
        bias=state.bias,
    )


@partial(jax.jit, static_argnames=("shape",))
def _spread(log_u: Float[Array, "t k n"], maps: Side, shape: kernels.Shape) -> Float[Array, "t k z y x"]:
    return maps.places.spread_in(shape, log_u, -jnp.inf)


def measures_of(
    weights: Float[Array, "t k"],
    error: Float[Array, " t"],
    q: Float[Array, "t z y x"],
    previous: Float[Array, "t z y x"],
) -> Measures:
    """The measures of an iteration that took the barycenters from ``previous`` to q."""
    change = q - previous
    return Measures(
        # Weights that are not finite or sum to nothing have no barycenter; traced ones are found out here alone.
        marginal_error=jnp.where(jnp.sum(weights, axis=1) > 0.5, error, jnp.nan),
        change_l1=jnp.sum(jnp.abs(change), axis=(-3, -2, -1)),
        change_l2=jnp.sqrt(jnp.sum(change**2, axis=(-3, -2, -1))),
    )


def weighted_sum(weights: Float[Array, "t k"], values: Float[Array, "t k *field"]) -> Float[Array, "t *field"]:
    """sum_k weights_k values_k, where a weight of zero leaves out even an infinite value.

    Summed map by map: XLA's code for a sum along the short axis is ten times slower on a CPU.
    """
    total = jnp.zeros_like(values[:, 0])
    for k in range(values.shape[1]):
        weight = _per_lane(weights[:, k], values.ndim - 1)
        total += jnp.where(weight > 0, weight * values[:, k], 0.0)
    return total
