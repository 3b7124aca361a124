r"""Displacement interpolation (McCann): every bit of mass moves along a straight line to where the plan sends it.

A plan P = diag(u) K diag(v) sends the mass at x to many places; on average to

    T(x) = (K (v y))(x) / (K v)(x) ,    and back from y to    S(y) = (K (u x))(y) / (K u)(y) .

Frame t carries the mass of the source from x to (1-t) x + t T(x), that of the target from y to t y + (1-t) S(y),
each shared among the eight voxels around its place (trilinear weights, which keep the mass), and blends the two
1-t : t. At t = 0 and 1 the frames are the maps. Averages lie inside the cloud that they are averages of: T
contracts towards local means, the more so the larger sigma is. The kernel should be Gaussian (``dense``): walks of
the heat kernel spread by the root of the way they go, which blurs T.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from morphot_jax.kernels import SeparableKernel, Shape
from morphot_jax.support import Side


def barycentric_map(
    log_potential: Float[Array, "z y x"], kernel: SeparableKernel, index: Int[Array, " n"]
) -> Float[Array, "3 n"]:
    """T = K(v y) / K(v), in voxels along z, y, x, at the voxels ``index`` (raveled); NaN where K v vanishes.

    ``log_potential``: log v for the map of the source, log u for that of the target.
    """
    v = jnp.exp(log_potential - jnp.max(log_potential))
    grids = jnp.meshgrid(*(jnp.arange(n, dtype=v.dtype) for n in kernel.shape), indexing="ij", sparse=True)
    moments = jax.lax.map(kernel.apply, jnp.stack([v, *(v * grid for grid in grids)])).reshape(4, -1)
    weight, *firsts = moments.at[:, index].get(mode="fill", fill_value=1.0)
    return jnp.stack([first / weight for first in firsts])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ways:
    """Where each bit of mass is at t = 0 and t = 1 (voxels, z y x): that of the source, that of the target."""

    source_mass: Float[Array, " n"]
    source_start: Float[Array, "3 n"]
    source_end: Float[Array, "3 n"]
    target_mass: Float[Array, " m"]
    target_start: Float[Array, "3 m"]
    target_end: Float[Array, "3 m"]


@jax.jit
def ways_of(
    source: Side, target: Side, log_u: Float[Array, "z y x"], log_v: Float[Array, "z y x"], kernel: SeparableKernel
) -> Ways:
    """The ways of the plan diag(u) K diag(v) between two maps, given on their supports."""
    return Ways(
        source_mass=jnp.exp(source.log_mass),
        source_start=_positions(source.places.index, kernel.shape, log_u.dtype),
        source_end=barycentric_map(log_v, kernel, source.places.index),
        target_mass=jnp.exp(target.log_mass),
        target_start=barycentric_map(log_u, kernel, target.places.index),
        target_end=_positions(target.places.index, kernel.shape, log_u.dtype),
    )


@partial(jax.jit, static_argnames=("shape",))
def displacement_frames(ways: Ways, times: Float[Array, " t"], shape: Shape) -> Float[Array, "t z y x"]:
    """The frames at each time t in [0, 1]: the mass of source and target on its way, blended 1-t : t."""

    def frame(t: Float[Array, ""]) -> Float[Array, "z y x"]:
        ahead = (1.0 - t) * ways.source_start + t * ways.source_end
        behind = (1.0 - t) * ways.target_start + t * ways.target_end
        return splat((1.0 - t) * ways.source_mass, ahead, shape) + splat(t * ways.target_mass, behind, shape)

    return jax.lax.map(frame, times.astype(ways.source_mass.dtype))


def splat(mass: Float[Array, " n"], places: Float[Array, "3 n"], shape: Shape) -> Float[Array, "z y x"]:
    """Put each mass at its place (voxels, z y x), shared among the eight voxels around it by trilinear weights.

    Places outside the box are taken at its faces, so that no mass is lost; places that are NaN carry none.
    """
    limits = jnp.array(shape, places.dtype)[:, None] - 1.0
    mass = jnp.where(jnp.all(jnp.isfinite(places), axis=0), mass, 0.0)
    places = jnp.clip(jnp.nan_to_num(places), 0.0, limits)
    below = jnp.clip(jnp.floor(places), 0.0, jnp.maximum(limits - 1.0, 0.0))
    share = places - below
    # The corners of a place are one 2 x 2 x 2 window of the box; an axis of a single voxel has no second corner.
    z, y, x = (jnp.stack([1.0 - s, s][: min(n, 2)], axis=-1) for s, n in zip(share, shape, strict=True))
    corners = mass[:, None, None, None] * z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
    windows = jax.lax.ScatterDimensionNumbers(
        update_window_dims=(1, 2, 3), inserted_window_dims=(), scatter_dims_to_operand_dims=(0, 1, 2)
    )
    inside = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
    box = jnp.zeros(shape, mass.dtype)
    return jax.lax.scatter_add(box, below.astype(jnp.int32).T, corners, windows, mode=inside)


def _positions(index: Int[Array, " n"], shape: Shape, dtype) -> Float[Array, "3 n"]:
    return jnp.stack([part.astype(dtype) for part in jnp.unravel_index(index, shape)])
