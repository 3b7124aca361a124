r"""Displacement interpolation (McCann): every bit of mass moves along a straight line to where the plan sends it.

A plan P = diag(u) K diag(v) sends the mass at x to many places; on average to

    T(x) = (K (v y))(x) / (K v)(x) ,    and back from y to    S(y) = (K (u x))(y) / (K u)(y) .

Frame t carries the mass of the source from x to (1-t) x + t T(x), that of the target from y to t y + (1-t) S(y),
each shared among the eight voxels around its place (trilinear weights, which keep the mass), and blends the two
1-t : t. At t = 0 and 1 the frames are the maps. Averages lie inside the cloud that they are averages of: T
contracts towards local means, the more so the larger sigma is. The kernel should be Gaussian (``dense``): walks of
the heat kernel spread by the root of the way they go, which blurs T.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from morphot_jax.kernels import SeparableKernel, Shape


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


@jax.jit
def displacement_frames(
    source: tuple[Int[Array, " n"], Float[Array, " n"]],
    target: tuple[Int[Array, " m"], Float[Array, " m"]],
    log_u: Float[Array, "z y x"],
    log_v: Float[Array, "z y x"],
    kernel: SeparableKernel,
    times: Float[Array, " t"],
) -> Float[Array, "t z y x"]:
    """The frames at each time t in [0, 1], of the mass of source and target blended 1-t : t.

    - ``source``, ``target``: voxels with mass (raveled indices; beyond the box: ignored) and their mass.
    - ``log_u``, ``log_v``, ``kernel``: of the plan between them.
    """
    shape = kernel.shape
    (from_index, from_mass), (to_index, to_mass) = source, target
    start, forward = _positions(from_index, shape, log_u.dtype), barycentric_map(log_v, kernel, from_index)
    end, backward = _positions(to_index, shape, log_u.dtype), barycentric_map(log_u, kernel, to_index)

    def frame(t: Float[Array, ""]) -> Float[Array, "z y x"]:
        ahead = splat((1.0 - t) * from_mass, (1.0 - t) * start + t * forward, shape)
        return ahead + splat(t * to_mass, t * end + (1.0 - t) * backward, shape)

    return jax.lax.map(frame, times.astype(log_u.dtype))


def splat(mass: Float[Array, " n"], places: Float[Array, "3 n"], shape: Shape) -> Float[Array, "z y x"]:
    """Put each mass at its place (voxels, z y x), shared among the eight voxels around it by trilinear weights.

    Places outside the box are taken at its faces, so that no mass is lost; places that are NaN carry none.
    """
    limits = jnp.array(shape, places.dtype)[:, None] - 1.0
    mass = jnp.where(jnp.all(jnp.isfinite(places), axis=0), mass, 0.0)
    places = jnp.clip(jnp.nan_to_num(places), 0.0, limits)
    below = jnp.clip(jnp.floor(places), 0.0, jnp.maximum(limits - 1.0, 0.0))
    share = places - below
    corner = below.astype(jnp.int32)
    box = jnp.zeros((int(np.prod(shape)),), mass.dtype)
    for offset in np.ndindex(2, 2, 2):
        weights = [s if o else 1.0 - s for o, s in zip(offset, share, strict=True)]
        z, y, x = (jnp.minimum(c + o, n - 1) for c, o, n in zip(corner, offset, shape, strict=True))
        box = box.at[(z * shape[1] + y) * shape[2] + x].add(mass * weights[0] * weights[1] * weights[2])
    return box.reshape(shape)


def _positions(index: Int[Array, " n"], shape: Shape, dtype) -> Float[Array, "3 n"]:
    return jnp.stack([part.astype(dtype) for part in jnp.unravel_index(index, shape)])
