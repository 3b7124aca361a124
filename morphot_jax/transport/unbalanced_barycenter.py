r"""Unbalanced barycenters of k maps: what the maps do not share within reach fades with its weight.

For maps a_k, each with its own mass, weights alpha_k and r = (reach / 2)^2 as in ``unbalanced``, the barycenter q
and the plans P_k = diag(d_k e^(f_k)) K diag(d e^(g_k)) minimise

    sum_k alpha_k [ KL(P_k | R_k) + r KL(P_k 1 | a_k) + r KL(P_k^T 1 | q) ] ,    R_k = diag(d_k) K diag(d) ,

with the priors d_k K d_k = a_k of the maps and d K d = q of the barycenter, so that there is no blur, and nothing
fades between equal maps (Chizat et al. 2018 have K for R_k; Janati et al. 2020 the prior d for balanced plans).
With l = r / (1 + r) and L_k = log K(d_k e^(f_k))

    f_k = l ( log(a_k / d_k) - log K(d e^(g_k)) ) ,
    q   = d ( sum_k alpha_k e^((1 - l) L_k) )^(1 / (1 - l)) ,
    g_k = l ( log(q / d) - L_k ) ,    d <- sqrt(d q / K d) .

An iteration takes these in turn, the last one twice. Errors of a long wavelength fall by l^2 an iteration; detail
finer than the kernel is hardly determined and falls slowly, as in debiased solves. Mass that one of two maps lacks
has the share alpha^2 in q: this geometry blends the square roots of densities (Hellinger; Liero, Mielke, Savare
2018).
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from morphot_jax.transport import kernels
from morphot_jax.transport.barycenter import check_maps, weighted_sum
from morphot_jax.transport.checks import check_reach, check_solve
from morphot_jax.transport.fewer_axes import axes_of, boxed, in_box, solution_out_of_box
from morphot_jax.transport.kernels import Kernel, safe_log
from morphot_jax.transport.loop import Ending, Measures, Options, Solution, Start, in_range, solve
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree
from morphot_jax.transport.relaxation import PLAIN
from morphot_jax.transport.support import Side, side_of
from morphot_jax.transport.unbalanced import exp_or_zero, faded, mean_mass, self_potential

STEPS_OF_D = 2
BIAS_SHARE = 0.01  # weight of || d K d - q ||_1 in the error, as of debiased barycenters

Field = Float[Array, "..."]


@pytree
@dataclass(frozen=True, repr=False)
class Problem:
    """Maps on their supports with the mass that each has, weights, the kernel, log d_k, and r."""

    maps: Side
    weights: Float[Array, "t k"]
    kernel: Kernel
    priors: Float[Array, "k n"]
    fading: Float[Array, ""]

    __repr__ = one_line

    @property
    def shares(self) -> Float[Array, "t k"]:
        """The weights with unit sums."""
        return self.weights / jnp.sum(self.weights, axis=1, keepdims=True)


@pytree
@dataclass(frozen=True, repr=False)
class State:
    """Log d, log v_k = log d + g_k, and log u_k = log d_k + f_k of the barycenters q."""

    log_d: Float[Array, "t z y x"]
    log_v: Float[Array, "t k z y x"]
    log_u: Float[Array, "t k n"]
    barycenter: Float[Array, "t z y x"]
    bias: Float[Array, " t"]
    unreached: Float[Array, " t"]

    __repr__ = one_line


@dataclass(frozen=True)
class UnbalancedBarycenter:
    """The solver of unbalanced barycenters by plain iterations."""

    measured = ("marginal_error", "change_l1", "change_l2")

    def start(self, problem: Problem, guess: None) -> Start:
        """Start from the blurred blend of the maps: d as its square root, and g = 0."""
        maps, box = problem.maps, problem.kernel.shape
        densities = maps.places.spread_in(box, jnp.exp(maps.log_mass), 0.0)
        blend = weighted_sum(problem.shares, jnp.broadcast_to(densities, (len(problem.weights), *densities.shape)))
        log_d = problem.kernel.log_apply(safe_log(blend)) / 2.0
        lanes, k = problem.weights.shape
        log_v = jnp.broadcast_to(log_d[:, None], (lanes, k, *box))
        zeros = jnp.zeros((lanes,), log_d.dtype)
        log_u = jnp.broadcast_to(problem.priors, (lanes, *problem.priors.shape))
        state = State(log_d, log_v, log_u, blend, zeros, zeros)
        return Start(state, None, jnp.ones((lanes,), bool))

    def step(
        self, problem: Problem, options: Options, state: State, memory: None, iteration: Int[Array, ""]
    ) -> tuple[State, None, Measures]:
        """Update all u_k, then q, then d, then all v_k."""
        maps, weights, kernel, r = problem.maps, problem.shares, problem.kernel, problem.fading
        log_kv = kernels.log_apply_between(kernel, state.log_v, None, maps.places)
        log_u = problem.priors + faded(maps.log_mass - problem.priors - log_kv, r)
        log_ku = kernels.log_apply_between(kernel, log_u, maps.places, None)
        log_g = (1.0 + r) * jnp.log(weighted_sum(weights, jnp.exp(log_ku / (1.0 + r))))
        q = exp_or_zero(state.log_d + log_g)
        c = exp_or_zero(state.log_v + log_ku)
        wanted = exp_or_zero((state.log_d + log_g)[:, None] - (state.log_v - state.log_d[:, None]) / r)
        log_d, log_kd = state.log_d, kernel.log_apply(state.log_d)
        bias = jnp.sum(jnp.abs(exp_or_zero(log_d + log_kd) - q), axis=(-3, -2, -1))
        error = weighted_sum(weights, jnp.sum(jnp.abs(c - wanted), axis=(-3, -2, -1))) + BIAS_SHARE * bias
        for _ in range(STEPS_OF_D):
            step = (log_g - log_kd) / 2.0
            log_d = jnp.where(jnp.isfinite(step), log_d + step, -jnp.inf)
            log_kd = kernel.log_apply(log_d)
        log_v = log_d[:, None] + faded(log_g[:, None] - log_ku, r)
        change = q - state.barycenter
        measures = Measures(
            jnp.where(jnp.sum(weights, axis=1) > 0.5, error, jnp.nan),
            jnp.sum(jnp.abs(change), axis=(-3, -2, -1)),
            jnp.sqrt(jnp.sum(change**2, axis=(-3, -2, -1))),
        )
        return State(log_d, log_v, log_u, q, bias, state.unreached), None, measures

    def finish(self, problem: Problem, state: State, ending: Ending) -> Solution:
        """Make the solution, with the potentials on the grid."""
        return Solution(
            value=state.barycenter,
            potentials=(
                problem.maps.places.spread_in(problem.kernel.shape, state.log_u, -jnp.inf),
                state.log_v,
            ),
            status=ending.status,
            iterations=ending.iterations,
            marginal_error=ending.last.marginal_error,
            unreached=state.unreached,
            history=ending.history,
            change_l1=ending.last.change_l1,
            change_l2=ending.last.change_l2,
            bias=state.bias,
        )


def solve_unbalanced_barycenter(
    maps: Float[Array, "k *grid"],
    weights: Float[Array, "t k"],
    kernel: Kernel,
    *,
    reach: float | Float[Array, ""],
    tolerance: float | Float[Array, ""] = 1e-6,
    max_iterations: int = 500,
) -> Solution:
    """Unbalanced barycenters of k maps for every row of weights, without the kernel's blur.

    - ``maps``: non-negative densities on one scale, since their masses count. ``weights``: as of
      ``solve_barycenter``.
    - ``reach``: how far mass may move before fading is cheaper, in sigma of the kernel.

    The solution's ``value`` has the barycenters, for densities divided by the mean of their masses; a weight of
    one gives the map itself. Derivatives are in forward mode. Errors are those of ``solve_barycenter``.
    """
    check_solve(tolerance, max_iterations, None)
    check_reach(reach)
    check_maps(maps, weights, kernel)
    axes = axes_of(kernel)
    densities, kernel = in_box(maps, axes), boxed(kernel)
    problem = problem_of(densities, weights, kernel, jnp.asarray(reach, maps.dtype))
    solution = solve(UnbalancedBarycenter(), problem, Options(tolerance, PLAIN, max_iterations))
    return in_range(solution_out_of_box(solution, axes))


def problem_of(
    densities: Float[Array, "k z y x"], weights: Float[Array, "t k"], kernel: Kernel, reach: Float[Array, ""]
) -> Problem:
    """The problem of these maps, divided by the mean of their masses; ``reach`` in sigma."""
    sides, masses = side_of(densities), jnp.sum(densities, axis=(-3, -2, -1)) / mean_mass(densities)
    sides = replace(sides, log_mass=sides.log_mass + jnp.log(masses)[:, None])
    priors = jnp.stack([self_potential(sides[k], kernel) for k in range(len(densities))])
    return Problem(sides, weights, kernel, priors, (reach / 2.0) ** 2)
