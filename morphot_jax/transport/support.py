"""Maps on their supports: most voxels of a map are empty, and potentials are needed only where there is mass."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from morphot_jax.transport.fewer_axes import BOX, in_box
from morphot_jax.transport.kernels import Part, Places, safe_log, slices, whole
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree

STEPS = 64  # supports are padded to a multiple of this part of the box, so that few sizes are compiled


@pytree
@dataclass(frozen=True, repr=False)
class Side:
    """A map, or several, on its support: the voxels, and the log of the unit-mass density there.

    Both lists are padded with entries that are no voxels, of log mass -inf.
    """

    places: Places
    log_mass: Float[Array, "*maps n"]

    __repr__ = one_line

    def __getitem__(self, k: int | Int[Array, ""]) -> "Side":
        """The k-th of several maps."""
        return Side(replace(self.places, index=self.places.index[k]), self.log_mass[k])

    def of_mass(self, mass: float | Float[Array, "..."]) -> "Side":
        """The same shape with another mass than one; with several maps, a row for each."""
        return replace(self, log_mass=self.log_mass + jnp.log(mass))

    def positions(self) -> Float[Array, "3 *maps n"]:
        """Positions of the voxels in the box, along z, y, x; padding lies outside the part."""
        extent = tuple(stop - start for start, stop in self.places.part)
        inside = jnp.unravel_index(self.places.index, extent)
        places = [place + start for place, (start, _) in zip(inside, self.places.part, strict=True)]
        return jnp.stack(places).astype(self.log_mass.dtype)


def side_of(
    density: Float[Array | np.ndarray, "*maps_and_grid"],
    part: Part | None = None,
    room: int = 0,
    *,
    axes: int = BOX,
) -> Side:
    """A map, or several of one grid, on their supports; on all voxels where the maps are traced.

    - ``axes``: of the grid, the last ones of the array; the side lies in its box (``fewer_axes``).
    - ``part``: of the box; outside it there must be no mass.
    - ``room``: the least number of voxels to make room for, so that maps of different supports share one
      compilation. Several maps share the length of the longest support.
    """
    density = in_box(density, axes)
    *maps, nz, ny, nx = density.shape
    part = part or whole((nz, ny, nx))
    density = density[(..., *slices(part))]
    size = int(np.prod(density.shape[-3:]))
    if isinstance(density, Tracer):
        values = density.reshape(*maps, size)
        index = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), values.shape)
        return Side(Places(index, part, every=True), unit_log_mass(values))
    rows = np.asarray(density).reshape(-1, size)
    supports = [np.flatnonzero(row) for row in rows]
    step = -(-size // STEPS)
    room = -(-max(room, *(len(support) for support in supports)) // step) * step
    index = np.tile(size + np.arange(room, dtype=np.int32), (len(rows), 1))
    log_mass = np.full((len(rows), room), -np.inf, rows.dtype)
    for i, (row, support) in enumerate(zip(rows, supports, strict=True)):
        index[i, : len(support)] = support
        log_mass[i, : len(support)] = np.log(row[support] / row.sum(dtype=np.float64))
    places = Places(jnp.asarray(index.reshape(*maps, room)), part)
    return Side(places, jnp.asarray(log_mass.reshape(*maps, room)))


def unit_log_mass(values: Float[Array, "*maps n"]) -> Float[Array, "*maps n"]:
    """The log of densities brought to unit mass. By empty voxels its derivative is zero."""
    total = jnp.sum(jnp.where(values == 0, 0.0, values), axis=-1, keepdims=True)
    return safe_log(values / total)
