r"""Bold steps with a way back: an iteration that may try more than the plain step, and returns where that fails.

A bold step adds to the plain one, and the iterates are mixed (``anderson``). Far from a solution both can mislead:

- The first steps of a start with a large error are not mixed.
- Where the error grows much beyond the least so far, or has not fallen for long, the iteration goes back: to the
  plain step from the iterate of least error, with an empty memory and less trust. Trust scales the bold steps;
  with little of it nothing is mixed either.

Plain Sinkhorn steps never enlarge the error. So an iteration that goes back whenever it must converges where the
plain one does, in a few times as many iterations at worst.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from morphot_jax.transport import anderson
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree

FIRST, FAR = 3, 0.1  # so many first steps are not mixed, where the error is larger than this
GROWTH = 4.0  # an error beyond this multiple of the least so far sends the iteration back,
PATIENCE = 12  # and so do as many iterations without a smaller one
LESS, MORE = 0.5, 1.25  # factors of the trust where the iteration goes back, and at the least error so far
LITTLE = 0.1  # trust below which nothing is mixed
LARGE = 2.0  # an error in place of NaN: two densities of unit mass cannot differ more


@pytree
@dataclass(frozen=True, repr=False)
class Memory:
    """The iterates that are mixed, and the way back; leading axes ``lanes`` come from vmap.

    - ``safe``: the plain step from the iterate of the least error, ``least``. ``since``: iterations since then.
    - ``trust``: in bold steps, from 0 to 1.
    """

    mixing: anderson.Memory
    safe: Float[Array, "..."]
    least: Float[Array, "*lanes"]
    since: Int[Array, "*lanes"]
    trust: Float[Array, "*lanes"]

    __repr__ = one_line


def start(depth: int, like: Float[Array, "*field"]) -> Memory:
    """An empty memory of ``depth`` iterates of this shape."""
    infinite, one = (jnp.asarray(value, like.dtype) for value in (jnp.inf, 1.0))
    return Memory(anderson.start(depth, like), like, infinite, jnp.int32(0), one)


def step(
    memory: Memory,
    x: Float[Array, "*field"],
    plain: Float[Array, "*field"],
    bold: Float[Array, "*field"],
    weight: Float[Array, "*field"],
    error: Float[Array, ""],
    iteration: Int[Array, ""],
) -> tuple[Float[Array, "*field"], Memory]:
    """The next iterate, and the memory with this one added.

    - ``plain``: the plain step from x. ``bold``: what to add to it, where it is finite, but not at the first step.
    - ``weight``: of each value in the norm of residuals. ``error``: of x. ``iteration``: counts from 0.
    """
    bold = jnp.where((iteration > 0) & jnp.isfinite(bold), bold, 0.0)
    better = error < memory.least
    least = jnp.where(better, error, memory.least)
    since = jnp.where(better, 0, memory.since + 1)
    back = ~(error <= GROWTH * least) | (since >= PATIENCE)
    change = jnp.where(back, LESS, jnp.where(better, MORE, 1.0))
    trust = jnp.minimum(change * memory.trust, 1.0).astype(memory.trust.dtype)
    safe = jnp.where(better, plain, memory.safe)

    early = (iteration <= FIRST) & (memory.least > FAR)
    fresh = early | (trust < LITTLE)
    mixed, mixing = anderson.mix(memory.mixing, x, plain + trust * bold, weight, fresh, iteration)
    mixing = replace(mixing, held=jnp.where(back, 0, mixing.held))
    return jnp.where(back, safe, mixed), Memory(mixing, safe, least, jnp.where(back, 0, since), trust)


def recoverable(error: Float[Array, "*lanes"], memory: Memory) -> Float[Array, "*lanes"]:
    """The error for the driver, which stops a lane at NaN: the iteration goes back from there if it can."""
    return jnp.where(jnp.isnan(error) & jnp.isfinite(memory.least), LARGE, error)
