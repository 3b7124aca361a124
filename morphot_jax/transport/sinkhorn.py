r"""Entropic transport between two maps: the plan that joins them with the least cost.

For maps a, b of unit mass and a kernel K, the plan P = diag(u) K diag(v) with marginals a and b minimises the
relative entropy KL(P | K); with a Gaussian kernel that is <P, |x - y|^2 / 2> + sigma^2 KL(P | a x b) in units of
sigma^2, up to a constant of a and b. The potentials are found by alternating (Sinkhorn; Cuturi 2013)

    u = a / (K v) ,    v = b / (K u) ,

both over-relaxed in their logs (``relaxation``). They live only where the maps have mass, and so does the work
beside the two convolutions of an iteration. The error of a plan, on unit mass, is

    marginal_error = || P 1 - a ||_1 + || P^T 1 - b ||_1 .

The returned u is made exact for the returned v, so that P 1 = a to round-off; that never enlarges the error, since
it moves the plan by || P 1 - a ||_1 in L1.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from morphot_jax.system.errors import InputError
from morphot_jax.transport import iterate, kernels
from morphot_jax.transport.iterate import Loop
from morphot_jax.transport.kernels import Kernel
from morphot_jax.transport.relaxation import AUTOMATIC, Relaxation
from morphot_jax.transport.support import Side, side_of


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """Two sides and the kernel of their grid."""

    source: Side
    target: Side
    kernel: Kernel


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Log potentials on the supports, and log K u where the target has mass; one lane leads."""

    log_u: Float[Array, "1 n"]
    log_v: Float[Array, "1 m"]
    log_ku: Float[Array, "1 m"]
    unreached: Float[Array, " 1"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Measures:
    """The marginal error, at one iteration or at all (NaN after the last)."""

    marginal_error: Float[Array, "1 *iterations"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Coupling:
    """A transport plan P = diag(u) K diag(v), and what is to be known of it.

    - ``log_u``, ``log_v``: potentials on the grid, -inf where there is no mass.
    - ``relative_entropy``: KL(P | K) = <a, log u> + <b, log v>, the cost in units of sigma^2.
    - ``transport_cost``: <P, |x - y|^2 / 2> in voxel^2, without the entropy; None where it was not asked for.
    - ``status``: code of ``iterate.Status``; ``marginal_error`` at the end, ``history`` at every iteration.
    - ``unreached``: share of the source's mass that the kernel cannot move to the target.
    """

    log_u: Float[Array, "z y x"]
    log_v: Float[Array, "z y x"]
    relative_entropy: Float[Array, ""]
    transport_cost: Float[Array, ""] | None
    status: Int[Array, ""]
    iterations: Int[Array, ""]
    marginal_error: Float[Array, ""]
    unreached: Float[Array, ""]
    history: Float[Array, " iterations"]


def solve_sinkhorn(
    source: Float[Array, "z y x"],
    target: Float[Array, "z y x"],
    kernel: Kernel,
    *,
    tolerance: float | Float[Array, ""] = 1e-6,
    max_iterations: int = 500,
    relaxation: Relaxation = AUTOMATIC,
    fixed_iterations: bool = False,
) -> Coupling:
    """P = argmin { KL(P | K) : P 1 = source, P^T 1 = target } by over-relaxed Sinkhorn iterations.

    - ``source``, ``target``: non-negative densities, brought to unit mass here; their dtype is the solver's.
    - ``kernel``: of their grid, from ``morphot_jax.transport.kernels``.
    - ``tolerance``: the solve stops when the marginal error is at or below it. ``fixed_iterations``: make exactly
      ``max_iterations`` instead.

    May be called under a caller's own jit and vmap; then the work is on the whole box, since supports have no
    static size there. Raises InputError for shapes that do not match and, where the values are at hand, for
    negative, non-finite or empty maps.
    """
    check_maps(source, target, kernel, max_iterations=max_iterations)
    problem = Problem(side_of(source), side_of(target), kernel)
    loop = begin(problem, max_iterations=max_iterations)
    loop = advance(loop, problem, relaxation, -1.0 if fixed_iterations else tolerance, max_iterations)
    return finish(loop, problem, tolerance, fixed_iterations=fixed_iterations)


@partial(jax.jit, static_argnames=("max_iterations",))
def begin(
    problem: Problem,
    start: tuple[Float[Array, "z y x"], Float[Array, "z y x"]] | None = None,
    *,
    max_iterations: int,
) -> Loop:
    """The start: u = a, v = 1 on the target; or log K u and log K v as they are given (``pyramid``)."""
    source, target = problem.source, problem.target
    if start is None:
        log_u = source.log_mass
        log_v = jnp.where(jnp.isfinite(target.log_mass), jnp.zeros_like(target.log_mass), -jnp.inf)
        log_ku = _convolved(problem.kernel, log_u, source, target)
    else:
        log_ku = target.places.pick_from(start[0], 0.0)
        log_u = source.log_mass - source.places.pick_from(start[1], 0.0)
        log_v = target.log_mass - log_ku
    state = State(log_u[None], log_v[None], log_ku[None], unreached=jnp.zeros((1,), log_u.dtype))
    return iterate.start(state, Measures, jnp.ones((1,), bool), max_iterations, source.log_mass.dtype)


@partial(jax.jit, donate_argnames=("loop",))
def advance(
    loop: Loop,
    problem: Problem,
    relaxation: Relaxation,
    tolerance: float | Float[Array, ""],
    until: int | Int[Array, ""],
) -> Loop:
    """Iterate until the error is at or below ``tolerance`` or ``until`` iterations have been made in all."""

    def step(state: State, memory: None, iteration: Int[Array, ""]) -> tuple[State, None, Measures]:
        state, measures = _step(state, iteration, problem, relaxation)
        return state, memory, measures

    bound = jnp.asarray(tolerance, loop.history.marginal_error.dtype)
    return iterate.run(step, loop, until=until, criterion="marginal_error", tolerance=bound)


@partial(jax.jit, static_argnames=("fixed_iterations", "with_cost"))
def finish(
    loop: Loop, problem: Problem, tolerance, *, fixed_iterations: bool = False, with_cost: bool = True
) -> Coupling:
    """Make u exact for v and read the plan off a loop that has ended; its cost takes three more convolutions."""
    state: State = loop.state
    source, target, kernel = problem.source, problem.target, problem.kernel
    shape, log_v = kernel.shape, state.log_v[0]
    log_u = _divided(source.log_mass, _convolved(kernel, log_v, target, source))
    log_ku = _convolved(kernel, log_u, source, target)
    a, b = jnp.exp(source.log_mass), jnp.exp(target.log_mass)
    code = iterate.status(
        loop, criterion="marginal_error", tolerance=tolerance, unreached=state.unreached, fixed=fixed_iterations
    )
    return Coupling(
        log_u=source.places.spread_in(shape, log_u, -jnp.inf),
        log_v=target.places.spread_in(shape, log_v, -jnp.inf),
        relative_entropy=_expectation(a, log_u) + _expectation(b, log_v),
        transport_cost=_transport_cost(problem, log_u, log_v) if with_cost else None,
        status=code[0],
        iterations=loop.iterations[0],
        marginal_error=state.unreached[0] + jnp.sum(jnp.abs(jnp.exp(log_v + log_ku) - b)),
        unreached=state.unreached[0],
        history=loop.history.marginal_error[0],
    )


def sinkhorn_divergence(
    source: Float[Array, "z y x"],
    target: Float[Array, "z y x"],
    kernel: Kernel,
    *,
    tolerance: float | Float[Array, ""] = 1e-6,
    max_iterations: int = 500,
    relaxation: Relaxation = AUTOMATIC,
) -> tuple[Float[Array, ""], tuple[Coupling, Coupling, Coupling]]:
    """S(a, b) = KL(P_ab | K) - KL(P_aa | K) / 2 - KL(P_bb | K) / 2, in units of sigma^2: how far apart maps are.

    The debiased Sinkhorn divergence (Genevay, Peyre, Cuturi 2018; Feydy et al. 2019): never negative, zero for
    equal maps, |D|^2 / (2 sigma^2) for a map and its shift by D. With it come the plans from a to b, a to a, b to
    b, whose ``status`` says whether it can be trusted. Arguments and errors as for ``solve_sinkhorn``.
    """
    options = {"tolerance": tolerance, "max_iterations": max_iterations, "relaxation": relaxation}
    pairs = (source, target), (source, source), (target, target)
    between, first, second = (solve_sinkhorn(a, b, kernel, **options) for a, b in pairs)
    value = between.relative_entropy - (first.relative_entropy + second.relative_entropy) / 2.0
    return value, (between, first, second)


def check_maps(source, target, kernel: Kernel, *, max_iterations: int) -> None:
    """Raise InputError for what ``solve_sinkhorn`` cannot take."""
    if source.ndim != 3 or source.shape != target.shape or tuple(kernel.shape) != tuple(source.shape):
        raise InputError(
            f"source {source.shape}, target {target.shape} and the kernel's box {tuple(kernel.shape)} differ: "
            "give all three the same shape (z, y, x)"
        )
    iterate.check_iterations(max_iterations)
    iterate.check_masses("source", source, axes=(0, 1, 2))
    iterate.check_masses("target", target, axes=(0, 1, 2))


def _step(
    state: State, iteration: Int[Array, ""], problem: Problem, relaxation: Relaxation
) -> tuple[State, Measures]:
    source, target = problem.source, problem.target
    log_v = relaxation.step(state.log_v[0], _divided(target.log_mass, state.log_ku[0]), iteration)
    log_kv = _convolved(problem.kernel, log_v, target, source)
    log_u = relaxation.step(state.log_u[0], _divided(source.log_mass, log_kv), iteration)
    log_ku = _convolved(problem.kernel, log_u, source, target)
    a, b = jnp.exp(source.log_mass), jnp.exp(target.log_mass)
    error = jnp.sum(jnp.abs(jnp.exp(log_u + log_kv) - a)) + jnp.sum(jnp.abs(jnp.exp(log_v + log_ku) - b))
    unreached = jnp.sum(jnp.where(jnp.isneginf(log_kv), a, 0.0))
    return State(log_u[None], log_v[None], log_ku[None], unreached[None]), Measures(error[None])


def _divided(log_mass: Float[Array, " n"], log_smoothed: Float[Array, " n"]) -> Float[Array, " n"]:
    """Log of mass / smoothed; no potential where the kernel brings nothing."""
    return jnp.where(jnp.isneginf(log_smoothed), -jnp.inf, log_mass - log_smoothed)


def _convolved(kernel: Kernel, log_values: Float[Array, " n"], inside: Side, outside: Side) -> Float[Array, " m"]:
    return kernels.log_apply_between(kernel, log_values, inside.places, outside.places)


def _transport_cost(problem: Problem, log_u: Float[Array, " n"], log_v: Float[Array, " m"]) -> Float[Array, ""]:
    """<P, |x - y|^2 / 2> = <a, |x|^2> / 2 + <b, |y|^2> / 2 - <P, x . y>, the last by a convolution an axis."""
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
