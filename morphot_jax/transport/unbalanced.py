r"""Unbalanced transport between two maps: mass that finds no counterpart within reach fades where it is.

For maps a, b, each with its own mass, and a reach L, the plan P minimises (Chizat et al. 2018)

    KL(P | R) + r KL(P 1 | a) + r KL(P^T 1 | b) ,    r = (L / 2 sigma)^2 :

moving a mass by |x - y| costs |x - y|^2 / 2 sigma^2, and letting it fade at x and appear at y costs 2 r, so that
fading is cheaper beyond the reach. The prior is made of the plans of the maps to themselves,

    R = diag(d_a) K diag(d_b) ,    d_a K d_a = a ,    d_b K d_b = b ,

so that nothing fades, appears or moves where the maps are equal; a bare kernel would let mass fade everywhere,
since plans pay for their own blur. With P = diag(d_a e^f) K diag(d_b e^g) and l = r / (1 + r), the solution obeys

    f = l ( log(a / d_a) - log K(d_b e^g) ) ,    P 1   = a e^(-f / r) ,
    g = l ( log(b / d_b) - log K(d_a e^f) ) ,    P^T 1 = b e^(-g / r) .

The iteration is that of a balanced plan (``sinkhorn``): steps on coarse grids, each as bold as fading allows, and
mixing. f + s and g - s give the same plan for every constant s; the best s, with <a, e^(-f/r)> = <b, e^(-g/r)>,
is found at each iteration (Sejourne, Vialard, Peyre 2022), without which a long reach takes r iterations. The
error is that of the second marginal; the first one is exact for the g of each iteration:

    marginal_error = || P^T 1 - b e^(-g / r) ||_1 ,    where a and b have unit mass on average.

As the reach grows, the plan becomes the balanced one; between maps of different masses, that of their shapes.

P may take more from a voxel than it has, for mass that grows on its way. The part of the plan that moves what both
maps have (``carried_part``) is scaled down at both ends,

    P' = diag(min(1, a / P 1)) P diag(min(1, b / P^T 1)) ,

so that what fades, a - P' 1, and what appears, b - P'^T 1, are nowhere negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from morphot_jax.transport import kernels, way_back
from morphot_jax.transport.barycenter import MultilevelMemory
from morphot_jax.transport.checks import check_reach, check_solve
from morphot_jax.transport.fewer_axes import axes_of, boxed, in_box, out_of_box, solution_out_of_box
from morphot_jax.transport.gradients import (
    Static,
    fields_of,
    joined,
    no_tangents,
    positive_solve,
    solution_of,
    split,
)
from morphot_jax.transport.hierarchy import Grids, Hierarchy, hierarchy_of
from morphot_jax.transport.kernels import Kernel, safe_log
from morphot_jax.transport.loop import Ending, Measures, Options, Solution, Start, in_range, solve
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree
from morphot_jax.transport.relaxation import PLAIN
from morphot_jax.transport.sinkhorn import DEPTH, LIMIT, check_maps
from morphot_jax.transport.support import Side, side_of

PRIOR_STEPS = 40  # of the plan of a map to itself; each halves its error, or does better

Field = Float[Array, "..."]
Sides = tuple[Side, Side]


class Carried(NamedTuple):
    """The part of an unbalanced plan that moves what both maps have, on their grid.

    ``log_u``, ``log_v``: of P' = diag(u) K diag(v). ``kept``, ``made``: P' 1 and P'^T 1, for densities divided by
    the mean of their masses.
    """

    log_u: Float[Array, "*grid"]
    log_v: Float[Array, "*grid"]
    kept: Float[Array, "*grid"]
    made: Float[Array, "*grid"]


@pytree
@dataclass(frozen=True, repr=False)
class Problem:
    """Two maps on their supports with the mass that each has, the kernel of their grid, the prior and the reach.

    - ``source``, ``target``: log a and log b there. ``prior``: log d_a and log d_b. ``fading``: r.
    """

    source: Side
    target: Side
    kernel: Kernel
    prior: tuple[Float[Array, " n"], Float[Array, " m"]]
    fading: Float[Array, ""]

    __repr__ = one_line


@pytree
@dataclass(frozen=True, repr=False)
class State:
    """g of a plan, whose f is exact for it, and g of the next plan; the first axis is the only lane."""

    g: Float[Array, "1 m"]
    next_g: Float[Array, "1 m"]
    unreached: Float[Array, " 1"]

    __repr__ = one_line


@dataclass(frozen=True)
class UnbalancedSinkhorn:
    """The solver of an unbalanced plan by steps on all grids of a hierarchy, mixed."""

    measured = ("marginal_error",)

    def start(self, problem: Problem, guess: Float[Array, " m"] | None) -> Start:
        """Start from g = 0, where equal maps have their plan; or from the given g."""
        b = jnp.exp(problem.target.log_mass)
        g = jnp.where(b > 0, 0.0 if guess is None else guess, -jnp.inf)
        hierarchy = hierarchy_of(problem.kernel, b).damped(2.0 / problem.fading)
        state = State(g[None], g[None], unreached=jnp.zeros((1,), b.dtype))
        return Start(state, MultilevelMemory(hierarchy, way_back.start(DEPTH, g)), jnp.ones((1,), bool))

    def step(
        self, problem: Problem, options: Options, state: State, memory: MultilevelMemory, iteration: Int[Array, ""]
    ) -> tuple[State, MultilevelMemory, Measures]:
        """The plan of the next g, and the g after it."""
        target, r, g = problem.target, problem.fading, state.next_g[0]
        f, log_ku = there_and_back(problem, g)
        log_c = problem.prior[1] + g + log_ku
        c, wanted = exp_or_zero(log_c), exp_or_zero(target.log_mass - g / r)
        error = jnp.sum(jnp.abs(c - wanted))
        plain = faded(target.log_mass - problem.prior[1] - log_ku, r)
        plain = plain - best_shift(problem, f, plain)
        sums = partial(_sums, problem, memory.hierarchy)
        # What both marginals differ by as a whole is the constant's business.
        balance = jnp.sum(wanted) / jnp.sum(c)
        coarse = memory.hierarchy.correction(sums(wanted), sums(c * balance), LIMIT)
        bold = target.places.pick_from(coarse, 0.0)
        b = jnp.exp(target.log_mass)
        next_g, mixing = way_back.step(memory.mixing, g, plain, bold, b, error, iteration)
        moved = State(g[None], next_g[None], state.unreached)
        return moved, replace(memory, mixing=mixing), Measures(way_back.recoverable(error, mixing)[None])

    def finish(self, problem: Problem, state: State, ending: Ending) -> Solution:
        """Make the solution, with its potentials on the grid."""
        return _plan(problem, state.g[0], ending)


def there_and_back(problem: Problem, g: Float[Array, " m"]) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
    """The f that is exact for g, and log K(d_a e^f) at the target; f is -inf where the kernel does not reach."""
    source, target, kernel = problem.source, problem.target, problem.kernel
    log_kv = kernels.log_apply_between(kernel, problem.prior[1] + g, target.places, source.places)
    f = faded(source.log_mass - problem.prior[0] - log_kv, problem.fading)
    return f, kernels.log_apply_between(kernel, problem.prior[0] + f, source.places, target.places)


def best_shift(problem: Problem, f: Float[Array, " n"], g: Float[Array, " m"]) -> Float[Array, ""]:
    """s, with <a, e^(-(f + s) / r)> = <b, e^(-(g - s) / r)>; zero where nothing is carried at all."""
    r = problem.fading
    kept, made = (
        jnp.sum(exp_or_zero(side.log_mass - jnp.where(jnp.isfinite(x), x, jnp.inf) / r))
        for side, x in ((problem.source, f), (problem.target, g))
    )
    some = (kept > 0) & (made > 0)
    return r / 2.0 * jnp.log(jnp.where(some, kept, 1.0) / jnp.where(some, made, 1.0))


def solve_unbalanced(
    source: Float[Array, "*grid"],
    target: Float[Array, "*grid"],
    kernel: Kernel,
    *,
    reach: float | Float[Array, ""],
    tolerance: float | Float[Array, ""] = 1e-6,
    max_iterations: int = 500,
) -> Solution:
    """P = argmin { KL(P | R) + r KL(P 1 | source) + r KL(P^T 1 | target) }, r = (reach / 2)^2, with R as above.

    - ``source``, ``target``: non-negative densities on one scale: their masses count. Their dtype is the solver's.
    - ``kernel``: of their grid, from ``morphot_jax.kernels``; it may have one, two or three axes.
    - ``reach``: how far mass may move before fading is cheaper, in sigma of the kernel.
    - ``tolerance``: the solve stops when the marginal error is at or below it.

    The solution's ``value`` is the minimum, for the densities divided by the mean of their masses; so are its
    ``potentials``, log u and log v of P = diag(u) K diag(v), and ``carried``, P 1 and P^T 1. ``carried_part``
    makes of them what moves, fades and appears. Errors are those of ``solve_sinkhorn``.
    """
    check_solve(tolerance, max_iterations, None)
    check_reach(reach)
    check_maps(source, target, kernel)
    axes = axes_of(kernel)
    source, target, kernel = in_box(source, axes), in_box(target, axes), boxed(kernel)
    static, values = split(UnbalancedSinkhorn(), Options(tolerance, PLAIN, max_iterations))
    found = _solved(static, source, target, kernel, jnp.asarray(reach, source.dtype), values)
    return in_range(solution_out_of_box(solution_of(found), axes))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solved(
    static: Static,
    source: Float[Array | np.ndarray, "z y x"],
    target: Float[Array | np.ndarray, "z y x"],
    kernel: Kernel,
    reach: Float[Array, ""],
    values: list[Any],
) -> dict[str, Any]:
    """The fields of the solution, whose derivatives by the maps, the kernel and the reach are implicit."""
    solver, options = joined(static, values)
    problem = problem_of((side_of(source), side_of(target)), masses_of(source, target), kernel, reach)
    return fields_of(solve(solver, problem, options))


@_solved.defjvp
def _solved_jvp(static, primals, tangents):
    """Tangents of the value, the potentials and what is carried, by the implicit function theorem."""
    source, target, kernel, reach, _ = primals
    d_source, d_target, d_kernel, d_reach, _ = tangents
    solution = _solved(static, *primals)
    problem = problem_of((side_of(source), side_of(target)), masses_of(source, target), kernel, reach)
    places = problem.source.places, problem.target.places

    def logs(source: Field, target: Field) -> tuple[Field, Field]:
        mean = mean_mass((source, target))
        picked = (side.pick_from(field, 0.0) for side, field in zip(places, (source, target), strict=True))
        one, other = (safe_log(values / mean) for values in picked)
        return one, other

    _, d_masses = jax.jvp(logs, (jnp.asarray(source), jnp.asarray(target)), (d_source, d_target))
    changed = _tangents(problem, solution["potentials"], d_masses, d_kernel, reach * d_reach / 2.0)
    return solution, no_tangents(solution) | changed


@jax.jit
def _tangents(problem: Problem, potentials, d_masses, d_kernel, d_fading) -> dict[str, Any]:
    """Tangents for those of both log masses, of the kernel and of r.

    With c = P^T 1, the g of a solution has c (g + log d_b + log K u - log b + g / r) = 0, whose derivative by g,
    (1 + 1/r) diag(c) - l P^T diag(1 / P 1) P, is symmetric and positive.
    """
    source, target, kernel, r = problem.source, problem.target, problem.kernel, problem.fading
    sides = source, target
    d_prior = tuple(
        _prior_tangent(side, kernel, log_d, change, d_kernel)
        for side, log_d, change in zip(sides, problem.prior, d_masses, strict=True)
    )
    log_v = target.places.pick_from(potentials[1], -jnp.inf)
    some = jnp.isfinite(log_v)
    g = jnp.where(some, log_v - problem.prior[1], 0.0)

    def of(masses, prior, kernel, fading) -> Problem:
        one, other = (replace(side, log_mass=mass) for side, mass in zip(sides, masses, strict=True))
        return Problem(one, other, kernel, prior, fading)

    def outcome(g: Field, *given: Any) -> tuple[Field, tuple[Field, ...]]:
        problem = of(*given)
        f, log_ku = there_and_back(problem, jnp.where(some, g, -jnp.inf))
        r, log_b = problem.fading, problem.target.log_mass
        f, log_c = jnp.where(jnp.isfinite(f), f, 0.0), jnp.where(some, problem.prior[1] + g + log_ku, 0.0)
        misfit = jnp.where(some, log_c - jnp.where(some, log_b, 0.0) + g / r, 0.0)
        kept, made = exp_or_zero(problem.source.log_mass - f / r), jnp.where(some, jnp.exp(log_c), 0.0)
        return misfit, (problem.prior[0] + f, problem.prior[1] + g, kept, made)

    given = (source.log_mass, target.log_mass), problem.prior, kernel, r
    changes = d_masses, d_prior, d_kernel, d_fading
    (_, parts), (own, directly) = jax.jvp(lambda *of: outcome(g, *of), given, changes)
    _, linear = jax.linearize(lambda g: outcome(g, *given), g)
    c = parts[3]
    grids = hierarchy_of(kernel, c).damped(2.0 / r)
    sums = partial(_sums, problem, grids)
    wanted = sums(c)

    def preconditioned(residual: Field) -> Field:
        plain = jnp.where(c > 0, residual / jnp.where(c > 0, c, 1.0), 0.0) / (1.0 + 1.0 / r)
        return jnp.where(c > 0, plain + target.places.pick_from(grids.linear(wanted, sums(residual)), 0.0), 0.0)

    d_g = positive_solve(lambda x: c * linear(x)[0], -c * own, preconditioned)
    _, through_g = linear(d_g)
    d_u, d_v, d_kept, d_made = (one + other for one, other in zip(directly, through_g, strict=True))
    f = jnp.where(jnp.isfinite(parts[0]), parts[0] - problem.prior[0], 0.0)

    def dual(*given: Any) -> Float[Array, ""]:
        return dual_value(of(*given), f, g, some)

    def spread(side: Side, change: Field, where: Bool[Array, " n"]) -> Field:
        return side.places.spread_in(kernel.shape, jnp.where(where, change, 0.0), 0.0)

    return {
        "value": jax.jvp(dual, given, changes)[1],
        "potentials": (spread(source, d_u, jnp.isfinite(parts[0])), spread(target, d_v, some)),
        "carried": (spread(source, d_kept, parts[2] > 0), spread(target, d_made, c > 0)),
    }


def _prior_tangent(side: Side, kernel: Kernel, log_d: Field, change: Field, d_kernel: Kernel) -> Field:
    """The tangent x of log d, with diag(a) x + diag(d) K diag(d) x = a (d log a - d log K d)."""
    a, some = jnp.exp(side.log_mass), jnp.isfinite(side.log_mass)

    def smoothed(log_d: Field, kernel: Kernel) -> Field:
        found = kernels.log_apply_between(kernel, jnp.where(some, log_d, -jnp.inf), side.places, side.places)
        return jnp.where(some, found, 0.0)

    at = jnp.where(some, log_d, 0.0)
    _, own = jax.jvp(lambda kernel: smoothed(at, kernel), (kernel,), (d_kernel,))
    _, linear = jax.linearize(lambda log_d: smoothed(log_d, kernel), at)
    wanted = a * jnp.where(some, change - own, 0.0)
    divisor = jnp.where(a > 0, a, 1.0)
    return positive_solve(lambda x: a * (x + linear(x)), wanted, lambda r: jnp.where(a > 0, r / divisor, 0.0))


def masses_of(source: Field | np.ndarray, target: Field | np.ndarray) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The masses of two densities, divided by their mean."""
    mean = mean_mass((source, target))
    return jnp.sum(source) / mean, jnp.sum(target) / mean


def mean_mass(densities: Sequence[Field | np.ndarray] | Field | np.ndarray) -> Float[Array, ""]:
    """The mean of some masses. By empty voxels its derivative is zero."""
    masses = [jnp.sum(jnp.where(density == 0, 0.0, density)) for density in densities]
    return jnp.sum(jnp.stack(masses)) / len(masses)


def problem_of(
    sides: Sides,
    masses: tuple[Field, Field],
    kernel: Kernel,
    reach: Field,
    own: tuple[Float[Array, " n"], Float[Array, " m"]] | None = None,
) -> Problem:
    """The problem of two maps, given at unit mass, of these masses; ``reach``: L in sigma.

    ``own``: log d of the plans of the two to themselves at unit mass, where they are known.
    """
    own = own or (self_potential(sides[0], kernel), self_potential(sides[1], kernel))
    source, target = (side.of_mass(mass) for side, mass in zip(sides, masses, strict=True))
    one, other = (log_d + jnp.log(mass) / 2.0 for log_d, mass in zip(own, masses, strict=True))
    return Problem(source, target, kernel, (one, other), jnp.asarray((reach / 2.0) ** 2, source.log_mass.dtype))


@jax.jit
def carried_part(
    source: Float[Array, "*grid"], target: Float[Array, "*grid"], solution: Solution, kernel: Kernel
) -> Carried:
    """P', the part of an unbalanced plan that moves what both maps have.

    ``source``, ``target``: the densities of the solve.
    """
    axes, kernel = axes_of(kernel), boxed(kernel)
    mean = mean_mass((source, target))
    a, b = (in_box(density / mean, axes) for density in (source, target))
    assert solution.carried is not None  # unbalanced solves have it
    log_u, log_v = (
        _scaled_down(in_box(log_field, axes), density, in_box(moved, axes))
        for log_field, density, moved in zip(solution.potentials, (a, b), solution.carried, strict=True)
    )
    kept, made = (
        exp_or_zero(log_u + kernel.log_apply(log_v)),
        exp_or_zero(log_v + kernel.log_apply(log_u)),
    )
    found = log_u, log_v, jnp.minimum(kept, a), jnp.minimum(made, b)
    return Carried(*(out_of_box(field, axes) for field in found))


def _scaled_down(log_field: Field, density: Field, moved: Field) -> Field:
    """A potential times min(1, density / moved); -inf where nothing is moved."""
    some = jnp.isfinite(log_field) & (moved > 0)
    return jnp.where(some, log_field + jnp.minimum(0.0, jnp.log(density) - safe_log(moved)), -jnp.inf)


@jax.jit
def self_potential(side: Side, kernel: Kernel) -> Float[Array, " n"]:
    """Log d of the plan diag(d) K diag(d) of a map to itself: d <- sqrt(d a / K d) (Knight, Ruiz, Ucar 2014)."""

    def halve(_, log_d: Field) -> Field:
        smoothed = kernels.log_apply_between(kernel, log_d, side.places, side.places)
        return jnp.where(jnp.isfinite(side.log_mass), (log_d + side.log_mass - smoothed) / 2.0, -jnp.inf)

    return jax.lax.fori_loop(0, PRIOR_STEPS, halve, side.log_mass / 2.0)


def dual_value(
    problem: Problem, f: Float[Array, " n"], g: Float[Array, " m"], some: Bool[Array, " m"]
) -> Float[Array, ""]:
    """The dual r <a, 1 - e^(-f/r)> + r <b, 1 - e^(-g/r)> + <R, 1> - <R, e^(f + g)>, largest at the solution.

    ``some``: where g is known; elsewhere, and where f is not finite, all of the mass fades.
    """
    source, target, r = problem.source, problem.target, problem.fading

    def lost(side: Side, potential: Field, known: Bool[Array, " n"]) -> Float[Array, ""]:
        mass = jnp.exp(side.log_mass)
        return r * jnp.sum(mass * jnp.where(known, -jnp.expm1(-jnp.where(known, potential, 0.0) / r), 1.0))

    def mass_of(log_u: Field, log_v: Field) -> Float[Array, ""]:
        moved = kernels.log_apply_between(problem.kernel, log_u, source.places, target.places)
        return jnp.sum(exp_or_zero(log_v + moved))

    reached = jnp.isfinite(f)
    u = jnp.where(reached, problem.prior[0] + jnp.where(reached, f, 0.0), -jnp.inf)
    v = jnp.where(some, problem.prior[1] + jnp.where(some, g, 0.0), -jnp.inf)
    return lost(source, f, reached) + lost(target, g, some) + mass_of(*problem.prior) - mass_of(u, v)


def faded(log_ratio: Field, r: Float[Array, ""]) -> Field:
    """The log of a ratio, times l; -inf where it is not finite: there is no mass, or none that reaches it."""
    known = jnp.isfinite(log_ratio)
    return jnp.where(known, jnp.where(known, log_ratio, 0.0) / (1.0 + 1.0 / r), -jnp.inf)


def exp_or_zero(logs: Field) -> Field:
    """Exp of logs; zero where they are infinite, or no numbers, as -inf + inf is of voxels out of reach."""
    known = jnp.isfinite(logs)
    return jnp.where(known, jnp.exp(jnp.where(known, logs, 0.0)), 0.0)


def _sums(problem: Problem, hierarchy: Hierarchy, values: Float[Array, " m"]) -> Grids:
    return hierarchy.sums(problem.target.places.spread_in(problem.kernel.shape, values, 0.0))


@jax.jit
def _plan(problem: Problem, g: Float[Array, " m"], ending: Ending) -> Solution:
    source, target, r = problem.source, problem.target, problem.fading
    shape = problem.kernel.shape
    f, log_ku = there_and_back(problem, g)
    log_u, log_v = problem.prior[0] + f, problem.prior[1] + g
    kept, wanted, made = (
        exp_or_zero(source.log_mass - f / r),
        exp_or_zero(target.log_mass - g / r),
        exp_or_zero(log_v + log_ku),
    )
    error = jnp.sum(jnp.abs(made - wanted))
    iterations = ending.iterations[0]
    return Solution(
        value=dual_value(problem, f, g, jnp.isfinite(g)),
        potentials=(
            source.places.spread_in(shape, log_u, -jnp.inf),
            target.places.spread_in(shape, log_v, -jnp.inf),
        ),
        status=ending.status[0],
        iterations=iterations,
        marginal_error=error,
        unreached=jnp.zeros_like(error),
        history=Measures(ending.history.marginal_error[0].at[iterations - 1].set(error)),
        carried=(
            source.places.spread_in(shape, kept, 0.0),
            target.places.spread_in(shape, made, 0.0),
        ),
    )
