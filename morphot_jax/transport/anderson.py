r"""Anderson mixing: the next iterate of a fixed-point iteration x <- g(x) from the last few, not from one.

With residuals f_i = g(x_i) - x_i of the last m iterates, the coefficients c_i that sum to one and make
|| sum_i c_i f_i || least give the next x = sum_i c_i g(x_i) (Anderson 1965; Walker, Ni 2011). Near a solution,
where g is nearly linear, that is a Krylov method: a few slow modes no longer set the pace.

Residuals are stored times the square root of their weights, so that one product with the newest gives the new row
of their Gram matrix. If the error grows, the memory is cleared and the plain step taken: far from a solution
earlier iterates mislead.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree

GROWTH = 2.0  # of the error from one iterate to the next: beyond it the memory is cleared
DAMPING = 1e-10  # of the Gram matrix, relative to its trace


@pytree
@dataclass(frozen=True, repr=False)
class Memory:
    """The last m images g(x_i) and weighted residuals, their Gram matrix, how many are in use, the last error.

    Iteration i is stored at index i modulo m. Images and residuals have the axes ``*lanes m *field``; the axes
    ``lanes`` come from vmap.
    """

    images: Float[Array, "..."]
    residuals: Float[Array, "..."]
    gram: Float[Array, "*lanes m m"]
    held: Int[Array, "*lanes"]
    error: Float[Array, "*lanes"]

    __repr__ = one_line


def start(depth: int, like: Float[Array, "*field"]) -> Memory:
    """An empty memory of ``depth`` iterates of this shape."""
    empty = jnp.zeros((depth, *like.shape), like.dtype)
    return Memory(
        empty, empty, jnp.zeros((depth, depth), like.dtype), jnp.int32(0), jnp.asarray(jnp.inf, like.dtype)
    )


def mix(
    memory: Memory,
    x: Float[Array, "*field"],
    image: Float[Array, "*field"],
    weight: Float[Array, "*field"],
    error: Float[Array, ""],
    iteration: Int[Array, ""],
) -> tuple[Float[Array, "*field"], Memory]:
    """The next iterate, and the memory with this one added.

    - ``image``: g(x). Where x or g(x) is not finite, the next iterate is g(x).
    - ``weight``: of each value in the norm of residuals. ``error``: of x. ``iteration``: counts from 0.
    """
    depth = memory.gram.shape[0]
    finite = jnp.isfinite(x) & jnp.isfinite(image)
    residual = jnp.where(finite, image - x, 0.0) * jnp.sqrt(weight)
    held = jnp.minimum(jnp.where(error > GROWTH * memory.error, 0, memory.held) + 1, depth)
    slot = iteration % depth  # the same for all lanes, so that fields are written in slot
    put = jax.lax.dynamic_update_index_in_dim
    images = put(memory.images, jnp.where(finite, image, 0.0), slot, 0)
    residuals = put(memory.residuals, residual, slot, 0)
    row = jnp.sum(residuals * residual, axis=tuple(range(1, residuals.ndim)))
    gram = memory.gram.at[slot].set(row).at[:, slot].set(row)
    shares = _shares(gram, slot, held)
    mixed = sum(shares[i] * images[i] for i in range(depth))
    return jnp.where(finite, mixed, image), Memory(images, residuals, gram, held, error)


def _shares(gram: Float[Array, "m m"], newest: Int[Array, ""], held: Int[Array, ""]) -> Float[Array, " m"]:
    """The c that minimise c^T gram c with sum c = 1 over the ``held`` newest residuals.

    Solved for their differences from the newest, which removes the constraint.
    """
    depth = gram.shape[0]
    age = (newest - jnp.arange(depth)) % depth
    others = (age > 0) & (age < held)
    row = gram[newest]
    differences = jnp.where(others[:, None] & others, gram - row[:, None] - row + row[newest], 0.0)
    damping = DAMPING * jnp.trace(differences) + jnp.finfo(gram.dtype).tiny
    matrix = differences + jnp.diag(jnp.where(others, damping, 1.0))
    steps = jnp.linalg.solve(matrix, jnp.where(others, row[newest] - row, 0.0))
    steps = jnp.where(others & jnp.all(jnp.isfinite(steps)), steps, 0.0)
    return steps.at[newest].set(1.0 - jnp.sum(steps))
