r"""Entropic Wasserstein barycenters of k maps, for all weight vectors at once (the paper, Eq 2.4).

For maps a_k of unit mass, weights alpha_k and a Gaussian kernel K, the barycenter q and the plans
P_k = diag(u_k) K diag(v_k) satisfy

    u_k = a_k / (K v_k) ,    q = prod_k (K u_k)^alpha_k ,    v_k = q / (K u_k) .

Paper's symbols: its a_k is u_k here (``potential_source``), its b_k is v_k (``potential_target``), its gamma
sets sigma. Both are kept as logs, -inf for zero mass.

Each block may be over-relaxed, log u <- (1 - w) log u + w (log a - log K v) and likewise log v (Thibault et al.,
arXiv 1711.01851; Lehmann et al. 2021). A fixed w > 1 can blow up from a cold start, so ``AUTOMATIC`` begins
with plain iterations and then relaxes each voxel the more, the less its log would change.

The error of a solve is measured on the plans themselves, on unit mass,

    marginal_error = sum_k alpha_k ( || P_k 1 - a_k ||_1 + || P_k^T 1 - q ||_1 ) ;

the first term is zero for w = 1. ``change_l1`` and ``change_l2`` are norms of the difference between consecutive q
(the original stops on the first, the paper names the second).
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from morphot_jax import choices, iterate
from morphot_jax.choices import Criterion
from morphot_jax.errors import InputError
from morphot_jax.iterate import Loop
from morphot_jax.kernels import Kernel
from morphot_jax.relaxation import AUTOMATIC, Relaxation


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """Maps, weight vectors and the kernel of their grid, as ``solve_barycenter`` describes them."""

    maps: Float[Array, "k z y x"]
    weights: Float[Array, "t k"]
    kernel: Kernel


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """What an iteration hands to the next."""

    potential_source: Float[Array, "t k z y x"]  # log u, where the maps have mass
    potential_target: Float[Array, "t k z y x"]  # log v, on the side of the barycenter
    barycenter: Float[Array, "t z y x"]
    unreached: Float[Array, " t"]  # mass of the maps where K v vanishes


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
    history: Measures


def solve_barycenter(
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
) -> Solution:
    """q_t = argmin_q sum_k alpha_tk W_sigma(a_k, q), every t in one compiled loop (the paper, Eq 2.4).

    - ``maps``: non-negative, axes ``k z y x``; brought to unit mass here. Their dtype is the solver's.
    - ``weights``: one row for each barycenter, non-negative; brought to unit sum here.
    - ``kernel``: of the maps' grid, from ``morphot_jax.kernels``.
    - ``tolerance``: a lane stops when ``criterion`` is at or below it.
    - ``fixed_iterations``: make exactly ``max_iterations`` instead.
    - ``guard``: smallest divisor, as in the original, which divides by max(K f, 1e-30). None: exact zeros.

    May be called under a caller's own jit and vmap; ``max_iterations``, ``criterion``, ``fixed_iterations`` and
    ``guard`` are static, all else is traced. Raises InputError for shapes that do not match and, where the values
    are at hand, for negative, non-finite or empty maps and weights.
    """
    check_arguments(maps, weights, kernel, criterion=criterion, max_iterations=max_iterations)
    problem = Problem(maps, weights, kernel)
    options = {"criterion": criterion, "fixed_iterations": fixed_iterations}
    loop = begin(problem, max_iterations=max_iterations)
    loop = advance(loop, problem, relaxation, tolerance, max_iterations, guard=guard, **options)
    return finish(loop, tolerance, **options)


@partial(jax.jit, static_argnames=("max_iterations",))
def begin(problem: Problem, *, max_iterations: int) -> Loop:
    """The cold start: v = 1."""
    lanes, k = problem.weights.shape
    box, dtype = problem.maps.shape[1:], problem.maps.dtype
    state = State(
        potential_source=jnp.broadcast_to(jnp.log(_unit_mass(problem.maps)), (lanes, k, *box)),
        potential_target=jnp.zeros((lanes, k, *box), dtype),
        barycenter=jnp.zeros((lanes, *box), dtype),
        unreached=jnp.zeros((lanes,), dtype),
    )
    return iterate.start(state, Measures, lanes, max_iterations, dtype)


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
    log_maps = jnp.log(_unit_mass(problem.maps))
    weights = problem.weights / jnp.sum(problem.weights, axis=1, keepdims=True)

    def step(state: State, iteration: Int[Array, ""]) -> tuple[State, Measures]:
        return _step(state, iteration, log_maps, weights, problem.kernel, relaxation, guard)

    bound = jnp.asarray(-1.0 if fixed_iterations else tolerance, log_maps.dtype)
    return iterate.run(step, loop, until=until, criterion=criterion, tolerance=bound)


@partial(jax.jit, static_argnames=("criterion", "fixed_iterations"), donate_argnames=("loop",))
def finish(
    loop: Loop, tolerance, *, criterion: Criterion = "marginal_error", fixed_iterations: bool = False
) -> Solution:
    """Read the solution off a loop that has ended."""
    measures = iterate.last(loop)
    state: State = loop.state
    return Solution(
        value=state.barycenter,
        potential_source=state.potential_source,
        potential_target=state.potential_target,
        status=iterate.status(
            loop, criterion=criterion, tolerance=tolerance, unreached=state.unreached, fixed=fixed_iterations
        ),
        iterations=loop.iterations,
        marginal_error=measures.marginal_error,
        change_l1=measures.change_l1,
        change_l2=measures.change_l2,
        unreached=state.unreached,
        history=loop.history,
    )


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
    if criterion not in choices.SETTINGS["criterion"]:
        known = ", ".join(choices.SETTINGS["criterion"])
        raise InputError(f"criterion '{criterion}' is not known: choose one of {known}")
    iterate.check_iterations(max_iterations)
    iterate.check_masses("maps", maps, axes=(1, 2, 3))
    iterate.check_masses("weights", weights, axes=(1,))


def _step(
    state: State,
    iteration: Int[Array, ""],
    log_maps: Float[Array, "k z y x"],
    weights: Float[Array, "t k"],
    kernel: Kernel,
    relaxation: Relaxation,
    guard: float | None,
) -> tuple[State, Measures]:
    least = -jnp.inf if guard is None else float(np.log(guard))

    log_kv = kernel.log_apply(state.potential_target)
    reached = log_kv > least
    plain = jnp.where(reached | (guard is not None), log_maps - jnp.maximum(log_kv, least), -jnp.inf)
    log_u = relaxation.step(state.potential_source, plain, iteration)

    log_ku = kernel.log_apply(log_u)
    log_second = state.potential_target + log_ku  # log of P_k^T 1
    # With a guard prod_k v_k^alpha_k departs from 1, and the original keeps the departure.
    log_q = _weighted_sum(weights, log_ku if guard is None else log_second)
    q = jnp.exp(log_q)
    plain = jnp.where(jnp.isfinite(log_q)[:, None], log_q[:, None] - jnp.maximum(log_ku, least), -jnp.inf)
    log_v = relaxation.step(state.potential_target, plain, iteration, shared_axis=1)

    maps = jnp.exp(log_maps)
    first_error = jnp.sum(jnp.abs(jnp.exp(log_u + log_kv) - maps), axis=(-3, -2, -1))
    second_error = jnp.sum(jnp.abs(jnp.exp(log_second) - q[:, None]), axis=(-3, -2, -1))
    unreached = jnp.sum(jnp.where(reached, 0.0, maps), axis=(-3, -2, -1))
    change = q - state.barycenter
    measures = Measures(
        marginal_error=_weighted_sum(weights, first_error + second_error),
        change_l1=jnp.sum(jnp.abs(change), axis=(-3, -2, -1)),
        change_l2=jnp.sqrt(jnp.sum(change**2, axis=(-3, -2, -1))),
    )
    return State(log_u, log_v, q, _weighted_sum(weights, unreached)), measures


def _weighted_sum(weights: Float[Array, "t k"], values: Float[Array, "t k *field"]) -> Float[Array, "t *field"]:
    """sum_k weights_k values_k, where a weight of zero silences even an infinite value."""
    weights = weights.reshape(weights.shape + (1,) * (values.ndim - 2))
    return jnp.sum(jnp.where(weights > 0, weights * values, 0.0), axis=1)


def _unit_mass(maps: Float[Array, "k z y x"]) -> Float[Array, "k z y x"]:
    return maps / jnp.sum(maps, axis=(1, 2, 3), keepdims=True)
