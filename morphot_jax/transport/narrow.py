"""A Gaussian kernel narrower than a voxel, in logs, on a window of displacements: fast where sigma is small.

At such widths exp(-d^2 / 2 sigma^2) underflows a few voxels away, so sums are taken in logs. The log kernel
(``kernels.log``) sums over all pairs of voxels of a line. Here each line is summed over displacements d up to a
``reach``, one d at a time for the whole box, which a CPU vectorises well: about five times faster at 64^3.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from morphot_jax.transport.kernels import Shape, safe_log
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree

UNROLLED = 5  # displacements in one fused expression: more compile longer and are no faster


@pytree
@dataclass(frozen=True, repr=False)
class NarrowKernel:
    """exp(-d^2 / 2 sigma^2) up to ``reach`` voxels along each axis, zero farther away.

    ``sigma``: in voxels, along z, y, x.
    """

    sigma: Float[Array, "3"]
    shape: Shape = field(metadata={"static": True})
    reach: Shape = field(metadata={"static": True})

    __repr__ = one_line

    def log_apply(self, log_field: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        """Log of K exp(log_field); -inf stands for zero."""
        for k, reach in enumerate(self.reach):
            log_field = jnp.moveaxis(_log_sum(log_field, self.sigma[k], reach), -3, -1)
        return log_field

    def apply(self, values: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        """K f, for f >= 0."""
        return jnp.exp(self.log_apply(safe_log(values)))


def largest(field: Float[Array, "*batch z y x"], spacing: Float[Array, "3"]) -> Float[Array, "*batch z y x"]:
    """max_y f(y) - |x - y|^2 / 2 over all voxels y of the box, exactly, by one pass along each axis.

    ``spacing``: the length of a voxel's edges along z, y, x.
    """
    for k in range(3):
        passed = _largest(_padded(field, field.shape[-3] - 1), field.shape[-3], spacing[k])
        field = jnp.moveaxis(passed, -3, -1)
    return field


def _log_sum(log_field: Float[Array, "*batch n y x"], sigma, reach: int) -> Float[Array, "*batch n y x"]:
    """Log of the sum over d of exp(f(i + d) - d^2 / 2 sigma^2), along the third axis from the end."""
    n, padded = log_field.shape[-3], _padded(log_field, reach)
    top = _largest(padded, n, 1.0 / sigma)
    top = jnp.where(jnp.isfinite(top), top, 0.0)

    def add(k, total):
        return total + jnp.exp(_term(padded, k, n, 1.0 / sigma) - top)

    total = jax.lax.fori_loop(0, 2 * reach + 1, add, jnp.zeros_like(top), unroll=UNROLLED)
    return top + jnp.log(total)


def _largest(padded: Float[Array, "*batch m y x"], n: int, spacing) -> Float[Array, "*batch n y x"]:
    """The maximum over d of f(i + d) - (h d)^2 / 2."""
    nothing = jnp.full((*padded.shape[:-3], n, *padded.shape[-2:]), -jnp.inf, padded.dtype)

    def add(k, top):
        return jnp.maximum(top, _term(padded, k, n, spacing))

    return jax.lax.fori_loop(0, padded.shape[-3] - n + 1, add, nothing, unroll=UNROLLED)


def _term(padded: Float[Array, "*batch m y x"], k, n: int, spacing) -> Float[Array, "*batch n y x"]:
    """f(i + d) - (h d)^2 / 2 for the k-th displacement d."""
    d = k - (padded.shape[-3] - n) // 2
    return jax.lax.dynamic_slice_in_dim(padded, k, n, axis=padded.ndim - 3) - (spacing * d) ** 2 / 2.0


def _padded(field: Float[Array, "*batch n y x"], reach: int) -> Float[Array, "*batch m y x"]:
    """The field with -inf before and after, along the third axis from the end."""
    pads = [(0, 0)] * (field.ndim - 3) + [(reach, reach), (0, 0), (0, 0)]
    return jnp.pad(field, pads, constant_values=-jnp.inf)
