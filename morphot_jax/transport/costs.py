r"""Kernels of other ground costs than |x - y|^2 / 2: powers of the distance, capped, and anisotropic.

The kernel is exp(-cost), with the cost of a step d = x - y in units of the entropic regularisation. With
r^2 = sum_i (d_i / sigma_i)^2,

| made by       | cost                          | equals `kernels.dense` where | its values end at         |
|---------------|-------------------------------|------------------------------|---------------------------|
| `power`       | r^p / p                       | p = 2                        | r^p / p = 34.7            |
| `capped`      | min(r, cap)^2 / 2             | the cap is infinite          | nowhere                   |
| `anisotropic` | d^T A^-1 d / 2                | A = diag(sigma_i^2)          | d^T A^-1 d = 8.3^2        |

The cost |d|^p / p with regularisation epsilon is `power` with sigma = epsilon^(1/p). A quadratic cost along the
axes of the grid is `kernels.dense` with a sigma for each axis. A capped cost is robust: mass that has to go far
pays the cap, however far (Pele and Werman 2009).

These kernels do not separate, so they are applied by zero-padded Fourier transforms, at the price of
`kernels.fft`. Round-off is absolute: K f is right to 1e-10, relative, where it is above 1e-5 of its largest value,
and what lies below 1e-15 of that becomes zero (``kernels.fft_floor``; 34.7 = -log 1e-15, in double precision). So
r ends at 34.7 for p = 1, at 14 for p = 1.5 and at 8.3 for p = 2. `walks.slanted` has the covariance of an
anisotropic kernel and goes farther.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve
from jaxtyping import Array, Float, Int
from scipy.fft import next_fast_len

from morphot_jax.system.errors import InputError
from morphot_jax.transport.fewer_axes import BOX, on_grid, shape_in_box
from morphot_jax.transport.kernels import (
    FourierKernel,
    Grid,
    Kernel,
    Shape,
    Sigma,
    check_shape,
    compiled,
    finite_maximum,
    is_traced,
    per_axis,
    safe_log,
)
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree

Field = Float[Array, "..."]
Number = float | Float[Array, ""]
Step = Int[np.ndarray, "..."]
Covariance = Float[Array | np.ndarray, "axes axes"]


@pytree
@dataclass(frozen=True, repr=False)
class CappedKernel:
    """K = floor + N, where N falls to zero at the cap: K f = floor sum(f) + N f."""

    near: FourierKernel
    floor: Float[Array, ""]
    sigma: Float[Array, "3"]

    __repr__ = one_line

    @property
    def shape(self) -> Shape:
        return self.near.shape

    @property
    def variances(self) -> Float[Array, "3"]:
        """Of the Gaussian without the cap: beyond the cap all ways cost the same, and none is preferred."""
        return self.sigma**2

    def apply(self, values: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        total = jnp.sum(values, axis=(-3, -2, -1), keepdims=True)
        return self.near.apply(values) + self.floor * total

    def log_apply(self, log_field: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        top = finite_maximum(log_field, axis=(-3, -2, -1))
        return safe_log(self.apply(jnp.exp(log_field - top))) + top


def power(shape: Grid, sigma: Sigma, dtype=None, *, power: Number = 2.0) -> Kernel:
    """exp(-r^p / p) / c, r^2 = sum_i (d_i / sigma_i)^2; c makes the sum over all steps in the box one.

    - ``shape``, ``sigma``, ``dtype``: as of ``kernels.dense``, which it equals for p = 2.
    - ``power``: p > 0, which may be traced.
    """
    _check_positive("power", power)
    return _power(shape, sigma, dtype, power=power)


def capped(shape: Grid, sigma: Sigma, dtype=None, *, cap: Number = 4.0) -> Kernel:
    """exp(-min(r, cap)^2 / 2) / c, the values of ``kernels.dense`` but never less than exp(-cap^2 / 2) / c.

    - ``shape``, ``sigma``, ``dtype``: as of ``kernels.dense``, which has the same c.
    - ``cap``: in sigma, and may be traced. K f is right to 1e-10, relative and everywhere, up to a cap of 4.8 in
      double precision; at 8.3 the floor is as small as the round-off.
    """
    _check_positive("cap", cap)
    return _capped(shape, sigma, dtype, cap=cap)


def anisotropic(shape: Grid, covariance: Covariance, dtype=None) -> Kernel:
    """exp(-d^T A^-1 d / 2) / c; c makes the sum over all steps in the box one.

    - ``shape``: voxels along z, y, x; or y, x; or x. ``dtype``: as of ``kernels.dense``.
    - ``covariance``: A in voxel^2, symmetric and positive definite, its axes in the order of ``shape``. It may be
      traced, and the kernel has derivatives by it.

    Equals ``kernels.dense`` for A = diag(sigma^2). Raises InputError for a matrix that is no covariance.
    """
    kernel = _anisotropic(shape_in_box(tuple(shape)), covariance_in_box(shape, covariance, dtype))
    return on_grid(kernel, len(shape))


def covariance_in_box(shape: Grid, covariance: Covariance, dtype=None) -> Float[Array, "3 3"]:
    """A covariance along z, y, x, with one for each axis that the grid lacks.

    It is made symmetric, and so are derivatives by it. Raises InputError for a matrix that is no covariance, and
    for what is no shape.
    """
    check_shape(shape)
    _check_covariance(covariance, len(shape))
    own = slice(BOX - len(shape), None)
    dtype = dtype or jnp.result_type(float)
    matrix = jnp.asarray(covariance, dtype)
    return jnp.eye(BOX, dtype=dtype).at[own, own].set((matrix + matrix.T) / 2.0)


@compiled
def _power(shape: Shape, sigma: Sigma, dtype, *, power: Number) -> FourierKernel:
    return _transformed(shape, _values(shape, lambda *steps: _power_cost(steps, per_axis(sigma, dtype), power)))


@compiled
def _capped(shape: Shape, sigma: Sigma, dtype, *, cap: Number) -> CappedKernel:
    widths = per_axis(sigma, dtype)
    values = _values(shape, lambda *steps: _power_cost(steps, widths, 2.0))
    floor = jnp.exp(-(jnp.asarray(cap, widths.dtype) ** 2) / 2.0) * values[0, 0, 0]
    return CappedKernel(_transformed(shape, jnp.maximum(values - floor, 0.0)), floor, widths)


@partial(jax.jit, static_argnames=("shape",))
def _anisotropic(shape: Shape, covariance: Float[Array, "3 3"]) -> FourierKernel:
    inverse = solve(covariance, jnp.eye(BOX, dtype=covariance.dtype), assume_a="pos")

    def cost(*steps: Step) -> Field:
        terms = (inverse[i, j] * steps[i] * steps[j] for i, j in product(range(BOX), repeat=2))
        return jnp.asarray(sum(terms)) / 2.0

    return _transformed(shape, _values(shape, cost))


def _power_cost(steps: tuple[Step, ...], sigma: Float[Array, "3"], power: Number) -> Field:
    """r^p / p, with a derivative of zero at r = 0."""
    squared = jnp.asarray(sum((step / width) ** 2 for step, width in zip(steps, sigma, strict=True)))
    some = squared > 0
    return jnp.where(some, jnp.where(some, squared, 1.0) ** (power / 2.0), 0.0) / power


def _values(shape: Shape, cost: Callable[..., Field]) -> Float[Array, "pz py px"]:
    """exp(-cost) of every step from one voxel of the box to another, with unit sum; zero for longer steps.

    ``cost``: of the steps along z, y, x. Negative steps are counted from the end, as Fourier transforms do.
    """
    steps = []
    for axis, length in enumerate(_padded(shape)):
        index = np.arange(length)
        signed = np.where(index > length // 2, index - length, index)
        steps.append(np.expand_dims(signed, [k for k in range(BOX) if k != axis]))
    within = [np.abs(step) < n for step, n in zip(steps, shape, strict=True)]
    values = jnp.where(within[0] & within[1] & within[2], jnp.exp(-cost(*steps)), 0.0)
    return values / jnp.sum(values)


def _transformed(shape: Shape, values: Float[Array, "pz py px"]) -> FourierKernel:
    """The kernel of the values, which are equal for a step and the opposite one."""
    return FourierKernel(jnp.fft.rfftn(values).real, shape=shape, padded=_padded(shape))


def _padded(shape: Shape) -> Shape:
    """A box of a quick length along each axis, in which no step wraps around."""
    z, y, x = (int(np.asarray(next_fast_len(2 * n - 1, real=True))) for n in shape)
    return z, y, x


def _check_positive(name: str, value: Any) -> None:
    """Raise InputError for what is no number above 0. Traced ones pass."""
    if not is_traced(value) and not (np.ndim(value) == 0 and np.isreal(value) and 0 < value < np.inf):
        raise InputError(f"{name} is {value!r}: give one number above 0")


def _check_covariance(covariance: Any, axes: int) -> None:
    """Raise InputError for what is no covariance along so many axes. A traced one passes, whatever its values."""
    if np.shape(covariance) != (axes, axes):
        raise InputError(
            f"covariance has the shape {np.shape(covariance)}: give one of ({axes}, {axes}), in voxel^2"
        )
    if is_traced(covariance):
        return
    matrix = np.asarray(covariance, np.float64)
    symmetric = np.allclose(matrix, matrix.T, rtol=1e-6, atol=0.0)
    if not (symmetric and np.all(np.isfinite(matrix)) and np.linalg.eigvalsh(matrix)[0] > 0):
        raise InputError(
            f"covariance is {matrix.tolist()}: give a symmetric matrix whose eigenvalues are above 0, in voxel^2"
        )
