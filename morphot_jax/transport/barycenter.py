r"""Entropic Wasserstein barycenters of k maps, for all weight vectors at once (the paper, Eq 2.4).

For maps a_k of unit mass, weights alpha_k and a Gaussian kernel K, the barycenter q and the plans
P_k = diag(u_k) K diag(v_k) satisfy

    u_k = a_k / (K v_k) ,    q = prod_k (K u_k)^alpha_k ,    v_k = q / (K u_k) .

Paper's symbols: its a_k is u_k here (``potential_source``), its b_k is v_k (``potential_target``), its gamma
sets sigma. Both are kept as logs, -inf for zero mass; u_k only where its map has mass.

Each block may be over-relaxed, log u <- (1 - w) log u + w (log a - log K v) and likewise log v (Thibault et al.,
arXiv 1711.01851; Lehmann et al. 2021). A fixed w > 1 can blow up from a cold start, so ``AUTOMATIC`` begins
with plain iterations and then relaxes each voxel the more, the less its log would change.

**Debiased.** Every such q is blurred by sigma, even at a weight of one. The debiased barycenter (Janati et al.
2020) takes the blur out: with the plan diag(d) K diag(d) of q to itself,

    q = d prod_k (K u_k)^alpha_k ,    d <- sqrt(d q / (K d)) ,    v_k = q / (K u_k) ,

so that sum_k alpha_k log v_k = log d. A weight of one gives the map itself. Here over-relaxation diverges, and the
iteration is accelerated by Anderson mixing of log v (``anderson``), with two steps of d for each of v. What is
finer than the kernel is hardly determined by this: || d K d - q ||_1 (``bias``) falls much more slowly than the
error of the plans, while q goes on to sharpen; the tolerance decides how far. A start near the plans
(``start_between``) saves more than half of the iterations.

The error of a solve is measured on the plans themselves, on unit mass,

    marginal_error = sum_k alpha_k ( || P_k 1 - a_k ||_1 + || P_k^T 1 - q ||_1 ) ,

to which a debiased solve adds a hundredth of its ``bias``; the first term is zero for w = 1. ``change_l1`` and
``change_l2`` are norms of the difference between consecutive q (the original stops on the first, the paper names
the second).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_word
from morphot_jax.system.words import Criterion
from morphot_jax.transport import anderson, iterate, kernels
from morphot_jax.transport.anderson import Memory
from morphot_jax.transport.iterate import Loop
from morphot_jax.transport.kernels import Kernel, Sigma
from morphot_jax.transport.relaxation import AUTOMATIC, Relaxation
from morphot_jax.transport.support import Side, side_of

DEPTH = 5  # iterates that a debiased solve mixes
BIAS_SHARE = 0.01  # of the error: maps that are alike have plans without error from the start, and all of the bias
DEBIASING_STEPS = 2  # of d for each step of v; more make an iteration dearer and save few


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """Maps on their supports, weight vectors and the grid's kernel, as ``solve_barycenter`` describes them."""

    maps: Side
    weights: Float[Array, "t k"]
    kernel: Kernel
    debias: bool = field(default=False, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """What an iteration hands to the next."""

    log_u: Float[Array, "t k n"]  # on the supports of the maps
    log_v: Float[Array, "t k z y x"]  # on the side of the barycenter
    barycenter: Float[Array, "t z y x"]
    unreached: Float[Array, " t"]  # mass of the maps where K v vanishes
    bias: Float[Array, " t"]  # || d K d - q ||_1, where the solve is debiased


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Measures:
    """The error and the changes of each lane, at one iteration or at all (NaN where a lane had stopped)."""

    marginal_error: Float[Array, "t *iterations"]
    change_l1: Float[Array, "t *iterations"]
    change_l2: Float[Array, "t *iterations"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Solution:
    """Barycenters and what is to be known of them, one entry of ``t`` for each weight vector.

    - ``value``: q, on unit mass up to the marginal error.
    - ``potential_source``, ``potential_target``: log u_k and log v_k; -inf stands for zero.
    - ``status``: codes of ``iterate.Status``. ``iterations``: how many each lane made.
    - ``marginal_error``, ``change_l1``, ``change_l2``: at the last iteration; ``history``: at every one.
    - ``unreached``: share of the maps' mass that the kernel cannot move to the barycenter.
    - ``bias``: || d K d - q ||_1 of a debiased solve, what is left of the kernel's blur; 0 for a plain one.
    """

    value: Float[Array, "t z y x"]
    potential_source: Float[Array, "t k z y x"]
    potential_target: Float[Array, "t k z y x"]
    status: Int[Array, " t"]
    iterations: Int[Array, " t"]
    marginal_error: Float[Array, " t"]
    change_l1: Float[Array, " t"]
    change_l2: Float[Array, " t"]
    unreached: Float[Array, " t"]
    bias: Float[Array, " t"]
    history: Measures


def solve_barycenter(  # noqa: PLR0913 - three arrays, and every option of the solve by its name
    maps: Float[Array, "k z y x"],
    weights: Float[Array, "t k"],
    kernel: Kernel,
    *,
    tolerance: float | Float[Array, ""] = 1e-6,
    max_iterations: int = 500,
    relaxation: Relaxation = AUTOMATIC,
    criterion: Criterion = "marginal_error",
    fixed_iterations: bool = False,
    guard: float | None = None,
    debias: bool = False,
    start: Float[Array, "t k z y x"] | None = None,
) -> Solution:
    """q_t = argmin_q sum_k alpha_tk W_sigma(a_k, q), every t in one compiled loop (the paper, Eq 2.4).

    - ``maps``: non-negative, axes ``k z y x``; brought to unit mass here. Their dtype is the solver's.
    - ``weights``: one row for each barycenter, non-negative; brought to unit sum here.
    - ``kernel``: of the maps' grid, from ``morphot_jax.transport.kernels``.
    - ``tolerance``: a lane stops when ``criterion`` is at or below it.
    - ``fixed_iterations``: make exactly ``max_iterations`` instead.
    - ``guard``: smallest divisor, as in the original, which divides by max(K f, 1e-30). None: exact zeros.
    - ``debias``: the debiased barycenter of the module's docstring; ``relaxation`` does not apply to it.
    - ``start``: log v to start from in place of 0 (``start_between``; ``pyramid.barycenter_start`` for any k).

    May be called under a caller's own jit and vmap; ``max_iterations``, ``criterion``, ``fixed_iterations``,
    ``guard`` and ``debias`` are static, all else is traced. Raises InputError for shapes that do not match and,
    where the values are at hand, for negative, non-finite or empty maps and weights.
    """
    check_arguments(maps, weights, kernel, criterion=criterion, max_iterations=max_iterations)
    if debias and guard is not None:
        raise InputError(
            f"guard is {guard:g} and debias is asked for: leave out one, the original had no debiasing"
        )
    problem = Problem(side_of(maps), weights, kernel, debias)
    options = {"criterion": criterion, "fixed_iterations": fixed_iterations}
    loop = begin(problem, start, max_iterations=max_iterations)
    loop = advance(loop, problem, relaxation, tolerance, max_iterations, guard=guard, **options)
    return finish(loop, problem, tolerance, **options)


@jax.jit
def start_between(
    log_u: Float[Array, "z y x"], log_v: Float[Array, "z y x"], weights: Float[Array, "t 2"], sigma: Sigma
) -> Float[Array, "t 2 z y x"]:
    """Where to start between two maps, from the plan diag(u) K diag(v) that joins them (``solve_sinkhorn``).

    For two maps log v_0 = t phi and log v_1 = -(1 - t) phi, and nearly, with kernels of variance t sigma^2,

        phi = ( log K_(1-t) v - log K_t u ) / 2 ,

    which starts a solve at a tenth of the error of phi = 0. Where these narrow kernels underflow, phi is that of
    the heat kernel, which reaches farther.
    """
    (nz, ny, nx), dtype = log_u.shape, log_u.dtype
    shares = weights / jnp.sum(weights, axis=1, keepdims=True)
    sigma = jnp.asarray(sigma, dtype)

    def potentials(share: Float[Array, "2"]) -> Float[Array, "2 z y x"]:
        def phi_of(make: Callable[..., Kernel]) -> Float[Array, "z y x"]:
            back, ahead = (make((nz, ny, nx), sigma * jnp.sqrt(part), dtype) for part in share)
            return (back.log_apply(log_v) - ahead.log_apply(log_u)) / 2.0

        gaussian, heat = phi_of(kernels.dense), phi_of(kernels.heat)
        phi = jnp.where(jnp.isfinite(gaussian), gaussian, jnp.where(jnp.isfinite(heat), heat, 0.0))
        return jnp.stack([share[1] * phi, -share[0] * phi])

    return jax.lax.map(potentials, shares)


@partial(jax.jit, static_argnames=("max_iterations",))
def begin(problem: Problem, start: Float[Array, "t k z y x"] | None = None, *, max_iterations: int) -> Loop:
    """The start: log v as given, or v = 1. Debiased, a lane with a weight of one is done: it is that map."""
    lanes, k = problem.weights.shape
    maps, box, dtype = problem.maps, problem.kernel.shape, problem.maps.log_mass.dtype
    log_v = jnp.zeros((lanes, k, *box), dtype) if start is None else start.astype(dtype)
    barycenter, active = jnp.zeros((lanes, *box), dtype), jnp.ones((lanes,), bool)
    if problem.debias:
        whole = problem.weights >= jnp.sum(problem.weights, axis=1, keepdims=True)
        densities = maps.places.spread_in(box, jnp.exp(maps.log_mass), 0.0)
        barycenter = jnp.tensordot(jnp.where(whole, 1.0, 0.0).astype(dtype), densities, axes=1)
        active = ~jnp.any(whole, axis=1)
    state = State(
        log_u=jnp.broadcast_to(maps.log_mass, (lanes, *maps.log_mass.shape)),
        log_v=log_v,
        barycenter=barycenter,
        unreached=jnp.zeros((lanes,), dtype),
        bias=jnp.zeros((lanes,), dtype),
    )
    memory = jax.vmap(partial(anderson.start, DEPTH))(log_v) if problem.debias else None
    return iterate.start(state, Measures, active, max_iterations, dtype, memory=memory)


@partial(jax.jit, static_argnames=("criterion", "fixed_iterations", "guard"), donate_argnames=("loop",))
def advance(
    loop: Loop,
    problem: Problem,
    relaxation: Relaxation,
    tolerance: float | Float[Array, ""],
    until: int | Int[Array, ""],
    *,
    criterion: Criterion = "marginal_error",
    fixed_iterations: bool = False,
    guard: float | None = None,
) -> Loop:
    """Iterate until every lane has stopped or ``until`` iterations have been made in all."""
    weights = problem.weights / jnp.sum(problem.weights, axis=1, keepdims=True)
    problem = replace(problem, weights=weights)

    def step(
        state: State, memory: Memory | None, iteration: Int[Array, ""]
    ) -> tuple[State, Memory | None, Measures]:
        if memory is not None:
            return _debiased_step(state, memory, iteration, problem)
        state, measures = _step(state, iteration, problem, relaxation, guard)
        return state, None, measures

    bound = jnp.asarray(-1.0 if fixed_iterations else tolerance, problem.maps.log_mass.dtype)
    return iterate.run(step, loop, until=until, criterion=criterion, tolerance=bound)


def finish(
    loop: Loop,
    problem: Problem,
    tolerance,
    *,
    criterion: Criterion = "marginal_error",
    fixed_iterations: bool = False,
) -> Solution:
    """Read the solution off a loop that has ended."""
    measures = iterate.last(loop)
    state: State = loop.state
    return Solution(
        value=state.barycenter,
        potential_source=_spread(state.log_u, problem.maps, problem.kernel.shape),
        potential_target=state.log_v,
        status=iterate.status(
            loop, criterion=criterion, tolerance=tolerance, unreached=state.unreached, fixed=fixed_iterations
        ),
        iterations=loop.iterations,
        marginal_error=measures.marginal_error,
        change_l1=measures.change_l1,
        change_l2=measures.change_l2,
        unreached=state.unreached,
        bias=state.bias,
        history=loop.history,
    )


@partial(jax.jit, static_argnames=("shape",))
def _spread(log_u: Float[Array, "t k n"], maps: Side, shape: kernels.Shape) -> Float[Array, "t k z y x"]:
    return maps.places.spread_in(shape, log_u, -jnp.inf)


def check_arguments(maps, weights, kernel: Kernel, *, criterion: str, max_iterations: int) -> None:
    """Raise InputError for what ``solve_barycenter`` cannot take."""
    if maps.ndim != 4 or weights.ndim != 2 or weights.shape[1] != maps.shape[0]:
        raise InputError(
            f"maps of shape {maps.shape} and weights of shape {weights.shape} do not belong together: "
            "give maps as (k, z, y, x) and weights as (t, k)"
        )
    if tuple(kernel.shape) != tuple(maps.shape[1:]):
        raise InputError(
            f"the kernel is made for a box of {tuple(kernel.shape)} voxels and the maps have {maps.shape[1:]}: "
            "make the kernel with the maps' shape"
        )
    check_word("criterion", criterion, get_args(Criterion))
    iterate.check_iterations(max_iterations)
    iterate.check_masses("maps", maps, axes=(1, 2, 3))
    iterate.check_masses("weights", weights, axes=(1,))


def _step(
    state: State, iteration: Int[Array, ""], problem: Problem, relaxation: Relaxation, guard: float | None
) -> tuple[State, Measures]:
    maps, weights, kernel = problem.maps, problem.weights, problem.kernel
    least = -jnp.inf if guard is None else float(np.log(guard))

    log_kv = kernels.log_apply_between(kernel, state.log_v, None, maps.places)
    reached = log_kv > least
    plain = jnp.where(reached | (guard is not None), maps.log_mass - jnp.maximum(log_kv, least), -jnp.inf)
    log_u = relaxation.step(state.log_u, plain, iteration)

    log_ku = kernels.log_apply_between(kernel, log_u, maps.places, None)
    log_second = state.log_v + log_ku  # log of P_k^T 1
    # With a guard prod_k v_k^alpha_k departs from 1, and the original keeps the departure.
    log_q = _weighted_sum(weights, log_ku if guard is None else log_second)
    q = jnp.exp(log_q)
    plain = jnp.where(jnp.isfinite(log_q)[:, None], log_q[:, None] - jnp.maximum(log_ku, least), -jnp.inf)
    log_v = relaxation.step(state.log_v, plain, iteration, shared_axis=1)

    mass = jnp.exp(maps.log_mass)
    first_error = jnp.sum(jnp.abs(jnp.exp(log_u + log_kv) - mass), axis=-1)
    second_error = jnp.sum(jnp.abs(jnp.exp(log_second) - q[:, None]), axis=(-3, -2, -1))
    unreached = _weighted_sum(weights, jnp.sum(jnp.where(reached, 0.0, mass), axis=-1))
    measures = _measures(_weighted_sum(weights, first_error + second_error), q, state.barycenter)
    return State(log_u, log_v, q, unreached, state.bias), measures


def _debiased_step(
    state: State, memory: Memory, iteration: Int[Array, ""], problem: Problem
) -> tuple[State, Memory, Measures]:
    maps, weights, kernel = problem.maps, problem.weights, problem.kernel
    log_kv = kernels.log_apply_between(kernel, state.log_v, None, maps.places)
    log_u = jnp.where(jnp.isneginf(log_kv), -jnp.inf, maps.log_mass - log_kv)
    log_ku = kernels.log_apply_between(kernel, log_u, maps.places, None)
    log_g = _weighted_sum(weights, log_ku)
    log_d = _weighted_sum(weights, state.log_v)
    q = jnp.exp(log_d + log_g)
    second_error = jnp.sum(jnp.abs(jnp.exp(state.log_v + log_ku) - q[:, None]), axis=(-3, -2, -1))
    log_kd = kernel.log_apply(log_d)
    bias = jnp.sum(jnp.abs(jnp.exp(log_d + log_kd) - q), axis=(-3, -2, -1))
    error = _weighted_sum(weights, second_error) + BIAS_SHARE * bias

    for _ in range(DEBIASING_STEPS):
        step = (log_g - log_kd) / 2.0
        log_d = jnp.where(jnp.isfinite(step), log_d + step, log_d)
        log_kd = kernel.log_apply(log_d)
    plain = jnp.where(jnp.isfinite(log_g)[:, None], (log_d + log_g)[:, None] - log_ku, -jnp.inf)
    weight = weights[:, :, None, None, None] * q[:, None]
    log_v, memory = jax.vmap(anderson.mix, in_axes=(0, 0, 0, 0, 0, None))(
        memory, state.log_v, plain, weight, error, iteration
    )

    unreached = jnp.sum(jnp.where(jnp.isneginf(log_kv), jnp.exp(maps.log_mass), 0.0), axis=-1)
    measures = _measures(error, q, state.barycenter)
    return State(log_u, log_v, q, _weighted_sum(weights, unreached), bias), memory, measures


def _measures(
    marginal_error: Float[Array, " t"], q: Float[Array, "t z y x"], before: Float[Array, "t z y x"]
) -> Measures:
    change = q - before
    return Measures(
        marginal_error=marginal_error,
        change_l1=jnp.sum(jnp.abs(change), axis=(-3, -2, -1)),
        change_l2=jnp.sqrt(jnp.sum(change**2, axis=(-3, -2, -1))),
    )


def _weighted_sum(weights: Float[Array, "t k"], values: Float[Array, "t k *field"]) -> Float[Array, "t *field"]:
    """sum_k weights_k values_k, where a weight of zero silences even an infinite value.

    Map by map: of a sum along the short axis XLA makes code on a CPU that is ten times slower.
    """
    total = jnp.zeros_like(values[:, 0])
    for k in range(values.shape[1]):
        weight = weights[:, k].reshape(-1, *(1,) * (values.ndim - 2))
        total += jnp.where(weight > 0, weight * values[:, k], 0.0)
    return total
