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

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from morphot_jax.transport import barycenter, kernels
from morphot_jax.transport.barycenter import (
    BIAS_SHARE,
    DEBIASING_STEPS,
    State,
    check_maps,
    measures_of,
    solution_from,
    weighted_sum,
)
from morphot_jax.transport.checks import check_reach, check_solve
from morphot_jax.transport.fewer_axes import axes_of, boxed, in_box, solution_out_of_box
from morphot_jax.transport.kernels import Kernel, Part, safe_log
from morphot_jax.transport.loop import Ending, Measures, Options, Solution, Start, in_range, solve
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree
from morphot_jax.transport.relaxation import PLAIN
from morphot_jax.transport.support import Side, side_of
from morphot_jax.transport.unbalanced import exp_or_zero, faded, mean_mass, self_potential


@pytree
@dataclass(frozen=True, repr=False)
class Problem:
    """Maps with the mass that each has, weights and kernel, as of plain barycenters; log d_k, and r."""

    blend: barycenter.Problem
    priors: Float[Array, "k n"]
    fading: Float[Array, ""]

    __repr__ = one_line


@dataclass(frozen=True)
class UnbalancedBarycenter:
    """The solver of unbalanced barycenters by plain iterations; its memory is log d."""

    measured = ("marginal_error", "change_l1", "change_l2")

    def start(self, problem: Problem, guess: None) -> Start:
        """Start from the blurred blend of the maps: d as its square root, and g = 0."""
        blend, priors = problem.blend, problem.priors
        maps, (lanes, k), box = blend.maps, blend.weights.shape, blend.kernel.shape
        densities = maps.places.spread_in(box, jnp.exp(maps.log_mass), 0.0)
        mixed = weighted_sum(blend.shares, jnp.broadcast_to(densities, (lanes, *densities.shape)))
        log_d = blend.kernel.log_apply(safe_log(mixed)) / 2.0
        log_u = jnp.broadcast_to(priors, (lanes, *priors.shape))
        log_v = jnp.broadcast_to(log_d[:, None], (lanes, k, *box))
        zeros = jnp.zeros((lanes,), log_d.dtype)
        return Start(State(log_u, log_v, mixed, zeros, zeros), log_d, jnp.ones((lanes,), bool))

    def step(
        self,
        problem: Problem,
        options: Options,
        state: State,
        memory: Float[Array, "t z y x"],
        iteration: Int[Array, ""],
    ) -> tuple[State, Float[Array, "t z y x"], Measures]:
        """Update all u_k, then q, then d, then all v_k."""
        maps, weights, kernel = problem.blend.maps, problem.blend.shares, problem.blend.kernel
        log_d, r = memory, problem.fading
        log_kv = kernels.log_apply_between(kernel, state.log_v, None, maps.places)
        log_u = problem.priors + faded(maps.log_mass - problem.priors - log_kv, r)
        log_ku = kernels.log_apply_between(kernel, log_u, maps.places, None)
        log_g = (1.0 + r) * jnp.log(weighted_sum(weights, jnp.exp(log_ku / (1.0 + r))))
        q, c = exp_or_zero(log_d + log_g), exp_or_zero(state.log_v + log_ku)
        wanted = exp_or_zero((log_d + log_g)[:, None] - (state.log_v - log_d[:, None]) / r)
        log_kd = kernel.log_apply(log_d)
        bias = jnp.sum(jnp.abs(exp_or_zero(log_d + log_kd) - q), axis=(-3, -2, -1))
        error = weighted_sum(weights, jnp.sum(jnp.abs(c - wanted), axis=(-3, -2, -1))) + BIAS_SHARE * bias
        for _ in range(DEBIASING_STEPS):
            step = (log_g - log_kd) / 2.0
            log_d = jnp.where(jnp.isfinite(step), log_d + step, -jnp.inf)
            log_kd = kernel.log_apply(log_d)
        log_v = log_d[:, None] + faded(log_g[:, None] - log_ku, r)
        measures = measures_of(weights, error, q, state.barycenter)
        return State(log_u, log_v, q, state.unreached, bias), log_d, measures

    def finish(self, problem: Problem, state: State, ending: Ending) -> Solution:
        """Make the solution, with the potentials on the grid."""
        return solution_from(problem.blend, state, ending)


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
    maps = sides_of(densities)
    return Problem(
        barycenter.Problem(maps, weights, kernel), priors_of(maps, kernel), jnp.asarray(fading_of(reach))
    )


def sides_of(densities: Float[Array | np.ndarray, "k z y x"], part: Part | None = None) -> Side:
    """Several maps on their supports, divided by the mean of their masses; ``part``: as of ``side_of``."""
    masses = densities.sum(axis=(-3, -2, -1)) / mean_mass(densities)
    return side_of(densities, part).of_mass(masses[:, None])


def priors_of(maps: Side, kernel: Kernel) -> Float[Array, "k n"]:
    """Log d_k of several maps, each with its mass."""
    return jnp.stack([self_potential(maps[k], kernel) for k in range(len(maps.log_mass))])


def fading_of(reach: float | Float[Array, ""]) -> float | Float[Array, ""]:
    """R, for a reach in sigma."""
    return (reach / 2.0) ** 2
