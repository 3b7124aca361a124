"""Maps on their supports: most voxels of a map are empty, and potentials are wanted only where there is mass."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from morphot_jax.transport.kernels import Part, Places, slices, whole

STEPS = 64  # supports are filled up to whole parts of the box, so that few sizes are ever compiled


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Side:
    """A map, or several, on the support: its voxels, and the log of the unit-mass density there.

    Filled up with what is no voxel, of log mass -inf.
    """

    places: Places
    log_mass: Float[Array, "*maps n"]

    def __getitem__(self, k: int) -> "Side":
        """The k-th of several maps."""
        return Side(Places(self.places.index[k], self.places.part), self.log_mass[k])

    def positions(self) -> Float[Array, "3 *maps n"]:
        """Where the voxels are in the box, along z, y, x; what is no voxel lies beyond the part."""
        extent = tuple(stop - start for start, stop in self.places.part)
        inside = jnp.unravel_index(self.places.index, extent)
        places = [place + start for place, (start, _) in zip(inside, self.places.part, strict=True)]
        return jnp.stack(places).astype(self.log_mass.dtype)


def side_of(density: Float[Array | np.ndarray, "*maps z y x"], part: Part | None = None, room: int = 0) -> Side:
    """A map, or several of one box, on their supports; on all voxels where they are traced.

    Several maps share the length of the longest support. ``part``: of the box, outside of which is no mass.
    ``room``: voxels that there is to be room for, if only to have what is compiled for another map in use again.
    """
    *maps, nz, ny, nx = density.shape
    part = part or whole((nz, ny, nx))
    density = density[(..., *slices(part))]
    size = int(np.prod(density.shape[-3:]))
    if isinstance(density, Tracer):
        values = density.reshape(*maps, size)
        index = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), values.shape)
        return Side(Places(index, part), jnp.log(values / jnp.sum(values, axis=-1, keepdims=True)))
    rows = np.asarray(density).reshape(-1, size)
    supports = [np.flatnonzero(row) for row in rows]
    step = -(-size // STEPS)
    room = -(-max(room, *(len(support) for support in supports)) // step) * step
    index = np.full((len(rows), room), size, np.int32)
    log_mass = np.full((len(rows), room), -np.inf, rows.dtype)
    for i, (row, support) in enumerate(zip(rows, supports, strict=True)):
        index[i, : len(support)] = support
        log_mass[i, : len(support)] = np.log(row[support] / row.sum(dtype=np.float64))
    places = Places(jnp.asarray(index.reshape(*maps, room)), part)
    return Side(places, jnp.asarray(log_mass.reshape(*maps, room)))
