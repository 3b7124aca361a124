"""Masses at positions between voxels, shared among the voxels around them: the loop of every way to share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Put = Callable[[Float[Array, "z y x"], Float[Array, " n"], Float[Array, "3 n"]], Float[Array, "z y x"]]
Shares = tuple[Float[Array, "n a"], Float[Array, "n b"], Float[Array, "n c"]]


def in_chunks(
    put: Put, box: Float[Array, "z y x"], mass: Float[Array, " n"], positions: Float[Array, "3 n"], size: int
) -> Float[Array, "z y x"]:
    """The box after ``put`` has added the masses to it, ``size`` at a time; the last are padded with none."""
    chunks = -(-mass.size // size)
    padding = chunks * size - mass.size if chunks > 1 else 0
    mass = jnp.pad(mass, (0, padding)).reshape(chunks, -1)
    positions = jnp.pad(positions, ((0, 0), (0, padding))).reshape(3, chunks, -1)

    def step(chunk: Int[Array, ""], box: Float[Array, "z y x"]) -> Float[Array, "z y x"]:
        return put(box, mass[chunk], positions[:, chunk])

    return jax.lax.fori_loop(0, chunks, step, box)


def inside(
    mass: Float[Array, " n"], positions: Float[Array, "3 n"], limits: Float[Array, "3 1"]
) -> tuple[Float[Array, " n"], Float[Array, "3 n"]]:
    """Positions brought between zero and the limits; masses at NaN become none."""
    # Written out: a reduction along this short axis is slow on a CPU.
    known = jnp.isfinite(positions[0] + positions[1] + positions[2])
    return jnp.where(known, mass, 0.0), jnp.clip(jnp.where(known, positions, 0.0), 0.0, limits)


def add_windows(
    box: Float[Array, "z y x"], mass: Float[Array, " n"], first: Int[Array, "3 n"], shares: Shares
) -> Float[Array, "z y x"]:
    """Add each mass to a window of the box that begins at voxel ``first``, by shares along z, y, x."""
    z, y, x = shares
    windows = mass[:, None, None, None] * z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
    axes = jax.lax.ScatterDimensionNumbers(
        update_window_dims=(1, 2, 3), inserted_window_dims=(), scatter_dims_to_operand_dims=(0, 1, 2)
    )
    mode = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return jax.lax.scatter_add(box, first.T, windows, axes, mode=mode)
