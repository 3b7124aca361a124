r"""Anderson mixing: the next iterate of a fixed-point iteration x <- g(x) from the last few, not from one.

With residuals f_i = g(x_i) - x_i of the last m iterates, the coefficients c_i that sum to one and make
|| sum_i c_i f_i || least give the next x = sum_i c_i g(x_i) (Anderson 1965; Walker, Ni 2011). Near a solution,
where g is nearly linear, that is a Krylov method: a few slow modes no longer set the pace.

Residuals are stored times the square root of their weights, so that one product with the newest gives the new row
of their Gram matrix. Of the images g(x_i) only the last is stored, and the differences between consecutive ones:

    sum_i c_i g(x_i) = g(x_n) - sum_j (g(x_j) - g(x_(j-1))) sum_(i<j) c_i .

Residuals and differences shrink with the error, so single precision is enough for them; half the memory moves at
each iteration, and that is what mixing costs.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree

GROWTH = 2.0  # of the error from one iterate to the next: beyond it ``mix_restarting`` starts afresh
DAMPING = 1e-10  # of the Gram matrix, relative to its trace


@pytree
@dataclass(frozen=True, repr=False)
class Memory:
    """The last image, the last m differences of images and weighted residuals, and their Gram matrix.

    - ``image``: axes ``*lanes *field``; the axes ``lanes`` come from vmap.
    - ``steps``, ``residuals``: axes ``*lanes m *field``. Iteration i is stored at index i modulo m.
    - ``gram``: of the residuals. ``held``: how many of them are in use.
    """

    image: Float[Array, "..."]
    steps: Float[Array, "..."]
    residuals: Float[Array, "..."]
    gram: Float[Array, "*lanes m m"]
    held: Int[Array, "*lanes"]

    __repr__ = one_line


def start(depth: int, like: Float[Array, "*field"]) -> Memory:
    """An empty memory of ``depth`` iterates of this shape."""
    empty = jnp.zeros((depth, *like.shape), jnp.float32)
    return Memory(like, empty, empty, jnp.zeros((depth, depth), like.dtype), jnp.int32(0))


def mix(
    memory: Memory,
    x: Float[Array, "*field"],
    image: Float[Array, "*field"],
    weight: Float[Array, "*field"],
    fresh: Bool[Array, ""],
    iteration: Int[Array, ""],
) -> tuple[Float[Array, "*field"], Memory]:
    """The next iterate, and the memory with this one added.

    - ``image``: g(x). Where x or g(x) is not finite, the next iterate is g(x).
    - ``weight``: of each value in the norm of residuals. ``iteration``: counts from 0.
    - ``fresh``: forget what came before.
    """
    depth, gram_type = memory.gram.shape[0], memory.gram.dtype
    finite = jnp.isfinite(x) & jnp.isfinite(image)
    known = jnp.where(finite, image, 0.0)
    residual = jnp.where(finite, image - x, 0.0) * jnp.sqrt(weight)
    held = jnp.minimum(jnp.where(fresh, 0, memory.held) + 1, depth)
    slot = iteration % depth  # the same for all lanes, so that fields are written in slot
    put = jax.lax.dynamic_update_index_in_dim
    steps = put(memory.steps, (known - memory.image).astype(jnp.float32), slot, 0)
    newest = residual.astype(jnp.float32)
    residuals = put(memory.residuals, newest, slot, 0)
    planes = jnp.sum(residuals * newest, axis=tuple(range(1, residuals.ndim))[-2:]).astype(gram_type)
    row = jnp.sum(planes, axis=tuple(range(1, planes.ndim)))
    gram = memory.gram.at[slot].set(row).at[:, slot].set(row)
    older = _sums_of_older(_shares(gram, slot, held), slot)
    mixed = known - sum(older[i] * steps[i] for i in range(depth))
    return jnp.where(finite, mixed, image), Memory(known, steps, residuals, gram, held)


@pytree
@dataclass(frozen=True, repr=False)
class Restarting:
    """What is mixed, and the error of the last iterate."""

    mixing: Memory
    error: Float[Array, "*lanes"]

    __repr__ = one_line


def start_restarting(depth: int, like: Float[Array, "*field"]) -> Restarting:
    """An empty memory for ``mix_restarting``."""
    return Restarting(start(depth, like), jnp.asarray(jnp.inf, like.dtype))


def mix_restarting(
    memory: Restarting,
    x: Float[Array, "*field"],
    image: Float[Array, "*field"],
    weight: Float[Array, "*field"],
    error: Float[Array, ""],
    iteration: Int[Array, ""],
) -> tuple[Float[Array, "*field"], Restarting]:
    """``mix``, afresh where the ``error`` of x has grown: far from a solution earlier iterates mislead."""
    fresh = error > GROWTH * memory.error
    mixed, mixing = mix(memory.mixing, x, image, weight, fresh, iteration)
    return mixed, Restarting(mixing, error)


def _sums_of_older(shares: Float[Array, " m"], newest: Int[Array, ""]) -> Float[Array, " m"]:
    """For each iterate, the sum of the shares of all that are older."""
    age = (newest - jnp.arange(len(shares))) % len(shares)
    return jnp.sum(jnp.where(age[None, :] > age[:, None], shares, 0.0), axis=1)


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
