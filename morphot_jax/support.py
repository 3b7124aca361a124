"""Maps on their supports: most voxels of a map are empty, and potentials are wanted only where there is mass."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

STEPS = 64  # supports are filled up to whole parts of the box, so that few sizes are ever compiled


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Side:
    """A map, or several, on the support: voxel indices into the raveled box, and the log of the unit-mass density.

    Filled up with indices beyond the box, of log mass -inf.
    """

    index: Int[Array, "*maps n"]
    log_mass: Float[Array, "*maps n"]


def side_of(density: Float[Array | np.ndarray, "*maps z y x"]) -> Side:
    """A map, or several of one box, on their supports; on all voxels where they are traced.

    Several maps share the length of the longest support.
    """
    *maps, nz, ny, nx = density.shape
    size = nz * ny * nx
    if isinstance(density, Tracer):
        values = density.reshape(*maps, size)
        index = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), values.shape)
        return Side(index, jnp.log(values / jnp.sum(values, axis=-1, keepdims=True)))
    rows = np.asarray(density).reshape(-1, size)
    supports = [np.flatnonzero(row) for row in rows]
    step = -(-size // STEPS)
    room = -(-max(len(support) for support in supports) // step) * step
    index = np.full((len(rows), room), size, np.int32)
    log_mass = np.full((len(rows), room), -np.inf, rows.dtype)
    for i, (row, support) in enumerate(zip(rows, supports, strict=True)):
        index[i, : len(support)] = support
        log_mass[i, : len(support)] = np.log(row[support] / row.sum(dtype=np.float64))
    return Side(jnp.asarray(index.reshape(*maps, room)), jnp.asarray(log_mass.reshape(*maps, room)))
