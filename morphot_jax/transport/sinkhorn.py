r"""Entropic optimal transport between two maps: the plan of least cost.

For maps a, b of unit mass and a kernel K, the plan P = diag(u) K diag(v) with marginals a and b minimises the
relative entropy KL(P | K); with a Gaussian kernel that is <P, |x - y|^2 / 2> + sigma^2 KL(P | a x b) in units of
sigma^2, up to a constant of a and b. The potentials are found by alternating (Sinkhorn; Cuturi 2013)

    u = a / (K v) ,    v = b / (K u) .

Log v is corrected on coarse grids too (``hierarchy``) and mixed from the last few (``way_back``), which takes
about four times fewer iterations than over-relaxing both in their logs (``relaxation``). Potentials are stored
only where the maps have mass; only the two convolutions of an iteration work on boxes. The error of a plan, on
unit mass, is

    marginal_error = || P 1 - a ||_1 + || P^T 1 - b ||_1 .

The returned u is exact for the returned v, so that P 1 = a to round-off. That last half step never enlarges the
error, since it moves the plan by || P 1 - a ||_1 in L1.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from morphot_jax.transport import kernels, way_back
from morphot_jax.transport.checks import check_densities, check_grid, check_solve, grid_axes
from morphot_jax.transport.fewer_axes import axes_of, boxed, in_box, solution_out_of_box
from morphot_jax.transport.gradients import (
    Static,
    fields_of,
    joined,
    log_mass_tangent,
    no_tangents,
    plan_tangents,
    solution_of,
    split,
)
from morphot_jax.transport.hierarchy import Grids, Hierarchy, hierarchy_of
from morphot_jax.transport.kernels import Kernel, divided, turn_back
from morphot_jax.transport.loop import Ending, Measures, Options, Solution, Start, in_range, solve
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree
from morphot_jax.transport.relaxation import PLAIN, Relaxation
from morphot_jax.transport.support import Side, side_of
from morphot_jax.transport.way_back import Memory

DEPTH = 8  # iterates that are mixed
LIMIT = 2.0  # of the step of one grid, in log v

Field = Float[Array, "..."]
Guess = tuple[Float[Array, "z y x"], Float[Array, "z y x"]]  # log K u and log K v


@pytree
@dataclass(frozen=True, repr=False)
class Problem:
    """Two maps on their supports, and the kernel of their grid."""

    source: Side
    target: Side
    kernel: Kernel

    __repr__ = one_line


@pytree
@dataclass(frozen=True, repr=False)
class State:
    """Log potentials on the supports, and log K u where the target has mass; the first axis is the only lane."""

    log_u: Float[Array, "1 n"]
    log_v: Float[Array, "1 m"]
    log_ku: Float[Array, "1 m"]
    unreached: Float[Array, " 1"]

    __repr__ = one_line


@dataclass(frozen=True)
class Sinkhorn:
    """The solver of a plan between two maps. ``with_cost``: add its transport cost, by three convolutions."""

    with_cost: bool = True

    measured = ("marginal_error",)

    def start(self, problem: Problem, guess: Guess | None) -> Start:
        """Start from u = a, v = 1 on the target; or from log K u and log K v on the grid (``coarse_start``)."""
        source, target = problem.source, problem.target
        if guess is None:
            log_u = source.log_mass
            log_v = jnp.where(jnp.isfinite(target.log_mass), jnp.zeros_like(target.log_mass), -jnp.inf)
            log_ku = _convolved(problem.kernel, log_u, source, target)
        else:
            log_ku = target.places.pick_from(guess[0], 0.0)
            log_u = source.log_mass - source.places.pick_from(guess[1], 0.0)
            log_v = target.log_mass - log_ku
        state = State(log_u[None], log_v[None], log_ku[None], unreached=jnp.zeros((1,), log_u.dtype))
        return Start(state, None, jnp.ones((1,), bool))

    def step(
        self, problem: Problem, options: Options, state: State, memory: None, iteration: Int[Array, ""]
    ) -> tuple[State, None, Measures]:
        """Update v, then u, both over-relaxed."""
        source, target, relaxation = problem.source, problem.target, options.relaxation
        log_v = relaxation.step(state.log_v[0], divided(target.log_mass, state.log_ku[0])[0], iteration)
        log_kv = _convolved(problem.kernel, log_v, target, source)
        plain, unreached = divided(source.log_mass, log_kv)
        log_u = relaxation.step(state.log_u[0], plain, iteration)
        log_ku = _convolved(problem.kernel, log_u, source, target)
        a, b = jnp.exp(source.log_mass), jnp.exp(target.log_mass)
        error = jnp.sum(jnp.abs(jnp.exp(log_u + log_kv) - a)) + jnp.sum(jnp.abs(jnp.exp(log_v + log_ku) - b))
        return State(log_u[None], log_v[None], log_ku[None], unreached[None]), None, Measures(error[None])

    def finish(self, problem: Problem, state: State, ending: Ending) -> Solution:
        """Make u exact for v, and the solution from both. The history ends with the error of that plan."""
        return _plan(problem, state, ending, with_cost=self.with_cost)


@pytree
@dataclass(frozen=True, repr=False)
class MultilevelState:
    """Log v of a plan, whose u is exact for it, and log v of the next plan; the first axis is the only lane."""

    log_v: Float[Array, "1 m"]
    next_v: Float[Array, "1 m"]
    unreached: Float[Array, " 1"]

    __repr__ = one_line


@pytree
@dataclass(frozen=True, repr=False)
class MultilevelMemory:
    """The grids of the steps, the target's mass on them, and the iterates that are mixed."""

    hierarchy: Hierarchy
    wanted: Grids
    mixing: Memory

    __repr__ = one_line


@dataclass(frozen=True)
class MultilevelSinkhorn:
    """The solver of a plan by steps on all grids of a hierarchy, mixed (``hierarchy``, ``way_back``).

    The first step is a plain one. ``with_cost``: as of ``Sinkhorn``.
    """

    with_cost: bool = True

    measured = ("marginal_error",)

    def start(self, problem: Problem, guess: Guess | None) -> Start:
        """Start from v = b / K a; or from log K u and log K v on the grid (``coarse_start``)."""
        source, target = problem.source, problem.target
        log_ku = (
            _convolved(problem.kernel, source.log_mass, source, target)
            if guess is None
            else target.places.pick_from(guess[0], 0.0)
        )
        log_v, b = divided(target.log_mass, log_ku)[0], jnp.exp(target.log_mass)
        hierarchy = hierarchy_of(problem.kernel, b)
        memory = MultilevelMemory(hierarchy, hierarchy.sums(_on_grid(problem, b)), way_back.start(DEPTH, log_v))
        state = MultilevelState(log_v[None], log_v[None], unreached=jnp.zeros((1,), log_v.dtype))
        return Start(state, memory, jnp.ones((1,), bool))

    def step(
        self,
        problem: Problem,
        options: Options,
        state: MultilevelState,
        memory: MultilevelMemory,
        iteration: Int[Array, ""],
    ) -> tuple[MultilevelState, MultilevelMemory, Measures]:
        """The plan of the next v, and the v after it."""
        source, target = problem.source, problem.target
        log_v, b = state.next_v[0], jnp.exp(target.log_mass)
        log_ku, c, unreached = turn_back(problem.kernel, log_v, source.log_mass, source.places, target.places)
        error = jnp.sum(jnp.abs(c - b)) + unreached
        given = memory.hierarchy.sums(_on_grid(problem, c))
        coarse = target.places.pick_from(memory.hierarchy.correction(memory.wanted, given, LIMIT), 0.0)
        plain, _ = divided(target.log_mass, log_ku)
        next_v, mixing = way_back.step(memory.mixing, log_v, plain, coarse, b, error, iteration)
        moved = MultilevelState(log_v[None], next_v[None], unreached[None])
        shown = way_back.recoverable(error, memory.mixing)
        return moved, replace(memory, mixing=mixing), Measures(shown[None])

    def finish(self, problem: Problem, state: MultilevelState, ending: Ending) -> Solution:
        """Make the solution."""
        return _plan(problem, state, ending, with_cost=self.with_cost)


def solver_for(relaxation: Relaxation | None, *, with_cost: bool = True) -> Sinkhorn | MultilevelSinkhorn:
    """The solver by over-relaxed iterations, or by multilevel steps where ``relaxation`` is None."""
    return MultilevelSinkhorn(with_cost) if relaxation is None else Sinkhorn(with_cost)


def _on_grid(problem: Problem, values: Float[Array, " m"]) -> Float[Array, "z y x"]:
    return problem.target.places.spread_in(problem.kernel.shape, values, 0.0)


def solve_sinkhorn(
    source: Float[Array, "*grid"],
    target: Float[Array, "*grid"],
    kernel: Kernel,
    *,
    tolerance: float | Float[Array, ""] = 1e-6,
    max_iterations: int = 500,
    relaxation: Relaxation | None = None,
    fixed_iterations: bool = False,
) -> Solution:
    """P = argmin { KL(P | K) : P 1 = source, P^T 1 = target } by Sinkhorn iterations with multilevel steps.

    - ``source``, ``target``: non-negative densities, brought to unit mass here; their dtype is the solver's.
    - ``kernel``: of their grid, from ``morphot_jax.kernels``; it may have one, two or three axes.
    - ``tolerance``: the solve stops when the marginal error is at or below it. ``fixed_iterations``: make exactly
      ``max_iterations`` instead.
    - ``relaxation``: over-relax plain iterations instead of multilevel steps (``relaxation``).

    The solution's ``value`` is KL(P | K) = <a, log u> + <b, log v>, the cost in units of sigma^2. Its
    ``potentials`` are log u and log v, on the grid, with <a, log u> = <b, log v>. Its ``transport_cost`` is
    <P, |x - y|^2 / 2> in voxel^2. All three have derivatives by the maps and the kernel (``gradients``).

    May be called under a caller's own jit and vmap; it then works on the whole box, since supports have no static
    size there. Raises InputError for anything but floating-point arrays and for shapes that do not match; outside
    jit also for negative, non-finite or empty maps, and for solves that leave the range of single precision.
    """
    check_solve(tolerance, max_iterations, relaxation, fixed_iterations=fixed_iterations)
    options = Options(tolerance, relaxation or PLAIN, max_iterations, fixed_iterations=fixed_iterations)
    check_maps(source, target, kernel)
    axes = axes_of(kernel)
    static, values = split(solver_for(relaxation), options)
    found = _solved(static, in_box(source, axes), in_box(target, axes), boxed(kernel), values)
    return in_range(solution_out_of_box(solution_of(found), axes))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solved(
    static: Static,
    source: Float[Array, "z y x"],
    target: Float[Array, "z y x"],
    kernel: Kernel,
    values: list[Any],
) -> dict[str, Any]:
    """The fields of the solution, whose derivatives by the maps and the kernel are implicit (``gradients``)."""
    solver, options = joined(static, values)
    return fields_of(solve(solver, Problem(side_of(source), side_of(target), kernel), options))


@_solved.defjvp
def _solved_jvp(static, primals, tangents):
    """Implicit derivatives by the maps and the kernel (``gradients``)."""
    source, target, kernel, _ = primals
    d_source, d_target, d_kernel, _ = tangents
    solution = _solved(static, *primals)
    problem = Problem(side_of(source), side_of(target), kernel)
    changes = (
        log_mass_tangent(source, d_source, problem.source),
        log_mass_tangent(target, d_target, problem.target),
    )
    with_cost = solution["transport_cost"] is not None
    changed = _tangents(problem, solution["potentials"], changes, d_kernel, with_cost=with_cost)
    return solution, no_tangents(solution) | changed


@partial(jax.jit, static_argnames=("with_cost",))
def _tangents(problem: Problem, potentials, changes, d_kernel, *, with_cost: bool) -> dict[str, Any]:
    """Tangents of the value, the potentials and the cost, for changes of both log masses and of the kernel."""
    sides, kernel = (problem.source, problem.target), problem.kernel
    masses = sides[0].log_mass, sides[1].log_mass
    log_u, log_v = (
        side.places.pick_from(potential, -jnp.inf) for side, potential in zip(sides, potentials, strict=True)
    )
    d_u, d_v = plan_tangents(sides, kernel, log_v, (*changes, d_kernel))
    _, shift = jax.jvp(_shift, (*masses, log_u, log_v), (*changes, d_u, d_v))
    # Where there is no mass, the potentials are -inf, and have no tangent.
    d_u, d_v = (jnp.where(jnp.isfinite(log_u), d_u + shift, 0.0), jnp.where(jnp.isfinite(log_v), d_v - shift, 0.0))

    def dual(log_a: Field, log_b: Field, kernel: Kernel) -> Float[Array, ""]:
        log_kv = _convolved(kernel, log_v, sides[1], sides[0])
        return (
            _expectation(jnp.exp(log_a), log_u)
            + _expectation(jnp.exp(log_b), log_v)
            - _expectation(jnp.exp(masses[0]), log_kv)
        )

    def cost(log_a: Field, log_b: Field, log_u: Field, log_v: Field, kernel: Kernel) -> Float[Array, ""]:
        moved = Problem(replace(sides[0], log_mass=log_a), replace(sides[1], log_mass=log_b), kernel)
        return _transport_cost(moved, log_u, log_v)

    given = *masses, log_u, log_v, kernel
    return {
        "value": jax.jvp(dual, (*masses, kernel), (*changes, d_kernel))[1],
        "potentials": tuple(
            side.places.spread_in(kernel.shape, change, 0.0)
            for side, change in zip(sides, (d_u, d_v), strict=True)
        ),
        "transport_cost": jax.jvp(cost, given, (*changes, d_u, d_v, d_kernel))[1] if with_cost else None,
    }


def check_maps(source, target, kernel: Kernel) -> None:
    """Raise InputError for maps that have no plan between them."""
    axes = grid_axes(kernel)
    check_densities("source", source, axes=axes)
    check_densities("target", target, axes=axes)
    check_grid(kernel, source=source, target=target)


@partial(jax.jit, static_argnames=("with_cost",))
def _plan(problem: Problem, state: State | MultilevelState, ending: Ending, *, with_cost: bool) -> Solution:
    """The plan of log v, with log u made exact for it."""
    source, target, kernel = problem.source, problem.target, problem.kernel
    shape, log_v = kernel.shape, state.log_v[0]
    log_u, _ = divided(source.log_mass, _convolved(kernel, log_v, target, source))
    log_ku = _convolved(kernel, log_u, source, target)
    a, b = jnp.exp(source.log_mass), jnp.exp(target.log_mass)
    error = state.unreached[0] + jnp.sum(jnp.abs(jnp.exp(log_v + log_ku) - b))
    shift = _shift(source.log_mass, target.log_mass, log_u, log_v)
    log_u, log_v = log_u + shift, log_v - shift
    iterations = ending.iterations[0]
    return Solution(
        value=_expectation(a, log_u) + _expectation(b, log_v),
        potentials=(
            source.places.spread_in(shape, log_u, -jnp.inf),
            target.places.spread_in(shape, log_v, -jnp.inf),
        ),
        status=ending.status[0],
        iterations=iterations,
        marginal_error=error,
        unreached=state.unreached[0],
        history=Measures(ending.history.marginal_error[0].at[iterations - 1].set(error)),
        transport_cost=_transport_cost(problem, log_u, log_v) if with_cost else None,
    )


def _shift(
    log_a: Float[Array, " n"], log_b: Float[Array, " m"], log_u: Float[Array, " n"], log_v: Float[Array, " m"]
) -> Float[Array, ""]:
    """The constant from log v to log u, which is free, that makes <a, log u> = <b, log v>.

    Both over what the kernel reaches: where it reaches nothing, potentials are -inf.
    """

    def mean(log_mass: Field, log_values: Field) -> Float[Array, ""]:
        return _expectation(jnp.exp(log_mass), jnp.where(jnp.isfinite(log_values), log_values, 0.0))

    return (mean(log_b, log_v) - mean(log_a, log_u)) / 2.0


def _convolved(kernel: Kernel, log_values: Float[Array, " n"], source: Side, target: Side) -> Float[Array, " m"]:
    return kernels.log_apply_between(kernel, log_values, source.places, target.places)


def _transport_cost(problem: Problem, log_u: Float[Array, " n"], log_v: Float[Array, " m"]) -> Float[Array, ""]:
    """<P, |x - y|^2 / 2> = <a, |x|^2> / 2 + <b, |y|^2> / 2 - <P, x . y>, the last by one convolution per axis."""
    source, target = problem.source, problem.target
    a, b = jnp.exp(source.log_mass), jnp.exp(target.log_mass)
    cost = jnp.zeros((), a.dtype)
    for x, y in zip(source.positions(), target.positions(), strict=True):
        moment = _convolved(problem.kernel, log_v + jnp.log(y), target, source)
        product = jnp.where(jnp.isfinite(log_u), jnp.exp(log_u + moment), 0.0)
        cost += jnp.sum(a * x**2) / 2.0 + jnp.sum(b * y**2) / 2.0 - jnp.sum(x * product)
    return cost


def _expectation(mass: Float[Array, " n"], log_values: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.sum(jnp.where(mass > 0, mass * log_values, 0.0))
