"""Loops over many positions a part at a time, and sums that do not depend on the order of what is added.

A GPU adds in any order, and sums of rounded numbers depend on it. Sums of whole numbers do not, so in double
precision values are added in units of about 2^-62 of the sum of their sizes: the same values give the same bits.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

Put = Callable[[Shaped[Array, "z y x"], Float[Array, " n"], Float[Array, "3 n"]], Shaped[Array, "z y x"]]
Shares = tuple[Float[Array, "n a"], Float[Array, "n b"], Float[Array, "n c"]]
UNITS = 62  # binary digits of the sum of all values, in whole numbers of 64 bits


def unit_of(values: Float[Array, "*n"]) -> Float[Array, ""]:
    """The unit in which values are added: a power of two."""
    _, digits = jnp.frexp(jnp.sum(jnp.where(jnp.isfinite(values), jnp.abs(values), 0.0)))
    return jnp.ldexp(jnp.ones((), values.dtype), digits - UNITS)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def summed_by(values: Float[Array, " n"], group: Int[Array, " n"], groups: int) -> Float[Array, " groups"]:
    """The sum of the values of each group."""
    if values.dtype != jnp.float64:
        return jax.ops.segment_sum(values, group, num_segments=groups)
    unit = unit_of(values)
    whole = jnp.round(values / unit).astype(jnp.int64)
    return jax.ops.segment_sum(whole, group, num_segments=groups) * unit


@summed_by.defjvp
def _summed_by_jvp(
    groups: int, primals: tuple[Array, Array], tangents: tuple[Array, Any]
) -> tuple[Float[Array, " groups"], Float[Array, " groups"]]:
    """Whole numbers have no derivatives: those of the same sums without them."""
    values, group = primals
    return summed_by(values, group, groups), jax.ops.segment_sum(tangents[0], group, num_segments=groups)


def in_chunks(
    put: Put, box: Shaped[Array, "z y x"], mass: Float[Array, " n"], positions: Float[Array, "3 n"], size: int
) -> Shaped[Array, "z y x"]:
    """The box after ``put`` has added the masses to it, ``size`` at a time; the last are padded with none."""
    chunks = -(-mass.size // size)
    padding = chunks * size - mass.size if chunks > 1 else 0
    mass = jnp.pad(mass, (0, padding)).reshape(chunks, -1)
    positions = jnp.pad(positions, ((0, 0), (0, padding))).reshape(3, chunks, -1)

    def step(chunk: Int[Array, ""], box: Shaped[Array, "z y x"]) -> Shaped[Array, "z y x"]:
        return put(box, mass[chunk], positions[:, chunk])

    return jax.lax.fori_loop(0, chunks, step, box)


def in_parts(
    make: Callable[[Float[Array, "3 _"]], tuple[Array, ...]], positions: Float[Array, "3 n"], size: int
) -> tuple[Array, ...]:
    """What ``make`` makes of positions, ``size`` at a time, where positions go along the last axis of all."""
    count = positions.shape[1]
    parts = -(-count // size)
    if parts <= 1:
        return make(positions)
    wide = jnp.pad(positions, ((0, 0), (0, parts * size - count)), mode="edge")
    made = jax.lax.map(make, jnp.moveaxis(wide.reshape(3, parts, size), 1, 0))

    def joined(values: Array) -> Array:
        last = jnp.moveaxis(values, 0, -2)
        return last.reshape(*last.shape[:-2], -1)[..., :count]

    return tuple(joined(values) for values in made)


def inside(
    mass: Float[Array, " n"], positions: Float[Array, "3 n"], limits: Float[Array, "3 1"]
) -> tuple[Float[Array, " n"], Float[Array, "3 n"]]:
    """Positions brought between zero and the limits; masses at NaN become none."""
    # Written out: a reduction along this short axis is slow on a CPU.
    known = jnp.isfinite(positions[0] + positions[1] + positions[2])
    return jnp.where(known, mass, 0.0), jnp.clip(jnp.where(known, positions, 0.0), 0.0, limits)


def add_windows(
    box: Shaped[Array, "z y x"], mass: Float[Array, " n"], first: Int[Array, "3 n"], shares: Shares
) -> Shaped[Array, "z y x"]:
    """Add each mass to a window of the box that begins at voxel ``first``, by shares along z, y, x.

    A box of whole numbers takes each share rounded to one.
    """
    z, y, x = shares
    windows = mass[:, None, None, None] * z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
    if jnp.issubdtype(box.dtype, jnp.integer):
        windows = jnp.round(windows).astype(box.dtype)
    axes = jax.lax.ScatterDimensionNumbers(
        update_window_dims=(1, 2, 3), inserted_window_dims=(), scatter_dims_to_operand_dims=(0, 1, 2)
    )
    mode = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return jax.lax.scatter_add(box, first.T, windows, axes, mode=mode)
