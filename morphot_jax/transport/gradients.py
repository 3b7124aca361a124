r"""Derivatives of a solution by the implicit function theorem: exact, and in memory that no iteration adds to.

**Plan.** With f = log u and g = log v, a solution obeys g = log b - log K (a / K e^g). Its tangent dg solves

    (diag b - P^T diag(1/a) P) dg = b (d log b - d log K u) ,

where d log K u is what a and the kernel alone change. The matrix is symmetric, and zero on constants: the
potentials are returned with <a, f> = <b, g>. The tangent of the value is that of the dual objective at fixed
potentials, <da, f> + <db, g> - <a, d log K v> (envelope theorem).

**Barycenter.** With psi_j = log v_j - log v_0 and the second marginals c_m = v_m K u_m, a solution obeys

    alpha_j ( log c_j - sum_m alpha_m log c_m ) = 0 ,    j = 1 .. k - 1 ,

whose derivative by psi, times q, is symmetric too.

Both systems are solved by conjugate gradients, preconditioned with the grids of the solver (``hierarchy``).
Forward and reverse mode, jit and vmap follow from the tangents. Voxels without mass have a gradient of zero.

An unbalanced plan has its own rule (``unbalanced``). A debiased solve, and one with a guard, have none
(``forward_only``).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from morphot_jax.transport.hierarchy import hierarchy_of
from morphot_jax.transport.kernels import Kernel, log_apply_between, turn_back
from morphot_jax.transport.loop import Measures, Options, Solution
from morphot_jax.transport.support import Side, unit_log_mass

ACCURACY, SINGLE_ACCURACY = 1e-8, 1e-5  # of the linear systems, relative, in double and in single precision
STEPS = 200  # of conjugate gradients, at most
Field = Float[Array, "..."]


def plan_tangents(
    sides: tuple[Side, Side], kernel: Kernel, log_v: Float[Array, " m"], changes: tuple[Field, Field, Kernel]
) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
    """The tangents of log u and log v, with <b, d log v> = 0.

    ``changes``: tangents of the two log masses and of the kernel.
    """
    source, target = sides
    d_source, d_target, d_kernel = changes
    b = jnp.exp(target.log_mass)

    def log_ku(log_v: Field, log_mass: Field, kernel: Kernel) -> Field:
        return turn_back(kernel, log_v, log_mass, source.places, target.places).log_returned

    def log_kv(log_v: Field, kernel: Kernel) -> Field:
        return log_apply_between(kernel, log_v, target.places, source.places)

    _, returned = jax.linearize(lambda v: log_ku(v, source.log_mass, kernel), log_v)
    _, own = jax.jvp(lambda *of: log_ku(log_v, *of), (source.log_mass, kernel), (d_source, d_kernel))
    grids = hierarchy_of(kernel, b)

    def on_grid(values: Field) -> Field:
        return target.places.spread_in(kernel.shape, values, 0.0)

    wanted = grids.sums(on_grid(b))
    d_v = _solved(
        lambda x: b * (x + returned(x)),
        b * (d_target - own),
        b,
        lambda r: target.places.pick_from(grids.linear(wanted, grids.sums(on_grid(r))), 0.0),
    )
    _, d_kv = jax.jvp(log_kv, (log_v, kernel), (d_v, d_kernel))
    return d_source - d_kv, d_v


def psi_tangents(
    linear: Callable[[Field], Field],
    own: Field,
    q: Float[Array, "z y x"],
    weights: Float[Array, " k"],
    kernel: Kernel,
) -> Float[Array, "j z y x"]:
    """The tangents of psi for one barycenter.

    - ``linear``: the tangents of alpha_j ( log c_j - sum_m alpha_m log c_m ) for those of psi.
    - ``own``: their tangents at a fixed psi. ``weights``: alpha, with unit sum.
    """
    mass = (weights[1:] * (1.0 - weights[1:]))[:, None, None, None] * q
    grids = hierarchy_of(kernel, q)
    wanted = grids.sums(mass)
    return _solved(lambda x: q * linear(x), -q * own, mass, lambda r: grids.linear(wanted, grids.sums(r)))


def _solved(
    operator: Callable[[Field], Field], wanted: Field, mass: Field, coarse: Callable[[Field], Field]
) -> Field:
    """The x of zero mean, by ``mass``, with operator(x) = wanted. The operator is symmetric and zero on constants.

    ``coarse``: what grids add to the preconditioner r / mass. Fields have the axes of ``mass``; means are taken
    over all but a leading axis j of three-dimensional fields.
    """
    axes = (-3, -2, -1) if mass.ndim > 1 else (-1,)
    some = mass > 0
    total = jnp.sum(mass, axis=axes, keepdims=True)
    total = jnp.where(total > 0, total, 1.0)

    def centred(x: Field) -> Field:
        return jnp.where(some, x - jnp.sum(mass * x, axis=axes, keepdims=True) / total, 0.0)

    def balanced(r: Field) -> Field:
        return jnp.where(some, r - mass * jnp.sum(jnp.where(some, r, 0.0), axis=axes, keepdims=True) / total, 0.0)

    def preconditioned(r: Field) -> Field:
        return centred(jnp.where(some, r / jnp.where(some, mass, 1.0), 0.0) + coarse(r))

    return centred(positive_solve(lambda x: balanced(operator(centred(x))), balanced(wanted), preconditioned))


def positive_solve(
    operator: Callable[[Field], Field], wanted: Field, preconditioned: Callable[[Field], Field]
) -> Field:
    """The x with operator(x) = wanted, for a symmetric positive operator; linear in ``wanted``, in both modes."""

    def solve(matrix: Callable[[Field], Field], r: Field) -> Field:
        return _conjugate_gradients(matrix, r, preconditioned)

    return jax.lax.custom_linear_solve(operator, wanted, solve=solve, symmetric=True)


def _conjugate_gradients(
    matrix: Callable[[Field], Field], wanted: Field, preconditioned: Callable[[Field], Field]
) -> Field:
    """The x with matrix(x) = wanted, from x = 0; stops where the preconditioned residual has fallen enough.

    Written here because JAX's own cannot be differentiated backwards: its start seems to depend on ``wanted``.
    """
    share = ACCURACY if wanted.dtype == jnp.float64 else SINGLE_ACCURACY

    def continues(state):
        *_, left, first, step = state
        return (left > share**2 * first) & (step < STEPS)

    def improve(state):
        x, r, way, left, first, step = state
        image = matrix(way)
        length = left / jnp.sum(way * image)
        x, r = x + length * way, r - length * image
        z = preconditioned(r)
        remains = jnp.sum(r * z)
        return x, r, z + remains / left * way, remains, first, step + 1

    z = preconditioned(wanted)
    size = jnp.sum(wanted * z)
    state = (jnp.zeros_like(wanted), wanted, z, size, size, jnp.int32(0))
    return jax.lax.while_loop(continues, improve, state)[0]


def log_mass_tangent(density: Field, change: Field, side: Side) -> Field:
    """The tangent of a side's log mass for a change of the densities; zero where there is no mass."""
    values, changes = (side.places.pick_from(field, 0.0) for field in (density, change))
    return jax.jvp(unit_log_mass, (values,), (changes,))[1]


class Static(NamedTuple):
    """What a solve is compiled for: the solver, the form of its options, and the most iterations."""

    solver: Any
    form: Any
    max_iterations: int


def split(solver: Any, options: Options) -> tuple[Static, list[Any]]:
    """What is static of a solver and its options, and the values that may be traced."""
    _ = options.capacity  # refuses a number of iterations that is traced
    values, form = jax.tree.flatten(options)
    return Static(solver, form, int(options.max_iterations)), values


def joined(static: Static, values: list[Any]) -> tuple[Any, Options]:
    """The solver and its options."""
    options = jax.tree.unflatten(static.form, values)
    return static.solver, replace(options, max_iterations=static.max_iterations)


def fields_of(solution: Solution) -> dict[str, Any]:
    """The fields of a solution and of its history, as dictionaries: JAX fills their form with more than arrays."""
    return vars(solution) | {"history": vars(solution.history)}


def solution_of(fields: dict[str, Any]) -> Solution:
    """The inverse of ``fields_of``."""
    fields = dict(fields)
    history = Measures(**fields.pop("history"))
    return Solution(history=history, **fields)


def no_tangents(solution: dict[str, Any]) -> dict[str, Any]:
    """A tangent of zero for every array of a solution's fields."""

    def zero(array: Array) -> Any:
        if jnp.issubdtype(array.dtype, jnp.inexact):
            return jnp.zeros_like(array)
        return np.zeros(array.shape, jax.dtypes.float0)

    return jax.tree.map(zero, solution)
