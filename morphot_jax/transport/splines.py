r"""Moved mass on a grid by cubic splines: sharper than trilinear sharing, and without its stripes.

Each mass m_i at y_i is shared among the 64 voxels around it by the weights of the cubic B-spline, and the sum is
divided by the spline's own blur along each axis:

    f = B^-1 s ,    s[k] = sum over i of m_i b(k - y_i) ,    B[j, k] = b(j - k) ,

with b = 2/3 at the distance 0 and 1/6 at 1. It is the adjoint of interpolation by cubic splines. Masses at the
voxels come back as they are, and the sum is kept to round-off. Where masses lie d voxels apart, trilinear sharing
leaves stripes of about 2 sinc(1/d)^2 of the density, and the spline of at most 6 sinc(1/d)^4.

In double precision shares are added as whole numbers, so that the same masses give the same bits (``sharing``).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Shaped

from morphot_jax.transport import sharing
from morphot_jax.transport.kernels import Shape, separable

CHUNK = 2**13  # masses that are shared at once: their 64 weights fit in caches
REACH = 2  # voxels to either side of a position that take a share


def share(mass: Float[Array, " n"], positions: Float[Array, "3 n"], shape: Shape) -> Float[Array, "z y x"]:
    """Masses at positions (voxels, z y x) as a density on a grid, which may dip below zero beside sharp edges.

    Positions outside the box are moved to its faces, so that no mass is lost.
    """
    return unblurred(shared(mass, positions, shape))


def unblurred(sums: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
    """B^-1 along each axis."""
    z, y, x = sums.shape[-3:]
    return separable(sums, *(jnp.asarray(_inverse(n), sums.dtype) for n in (z, y, x)))


def weights(fraction: Float[Array, "*n"]) -> Float[Array, "4 *n"]:
    """The spline at the four voxels around a position that lies f behind the second of them."""
    f, g = fraction, 1.0 - fraction
    return jnp.stack([g**3, 4.0 - 6.0 * f**2 + 3.0 * f**3, 4.0 - 6.0 * g**2 + 3.0 * g**3, f**3]) / 6.0


def _inverse(n: int) -> Float[np.ndarray, "n n"]:
    """B^-1 for an axis of n voxels, where shares beyond an end fall back on it: columns of B sum to one."""
    if n == 1:
        return np.ones((1, 1))
    blur = np.diag(np.full(n, 4.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    blur[0, 0] = blur[-1, -1] = 5.0
    return np.linalg.inv(blur / 6.0)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def shared(mass: Float[Array, " n"], positions: Float[Array, "3 n"], shape: Shape) -> Float[Array, "z y x"]:
    """s: the masses by the weights of the spline. Masses are not negative."""
    if mass.dtype != jnp.float64:
        return _summed(mass, positions, shape)
    unit = sharing.unit_of(mass)
    return _summed(mass / unit, positions, shape, jnp.int64) * unit


@shared.defjvp
def _shared_jvp(
    shape: Shape, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Float[Array, "z y x"], Float[Array, "z y x"]]:
    """Whole numbers have no derivatives: those of the same sums without them."""
    _, tangent = jax.jvp(partial(_summed, shape=shape), primals, tangents)
    return shared(*primals, shape), tangent


def _summed(
    mass: Float[Array, " n"], positions: Float[Array, "3 n"], shape: Shape, dtype: DTypeLike | None = None
) -> Shaped[Array, "z y x"]:
    """The sums of the shares, each rounded to ``dtype``, if one is given."""
    wide = jnp.zeros([n + 2 * REACH for n in shape], dtype or mass.dtype)
    wide = sharing.in_chunks(_put, wide, mass, positions, CHUNK)
    for axis, n in enumerate(shape):
        wide = _folded(wide, axis, n)
    return wide


def _put(
    wide: Shaped[Array, "Z Y X"], mass: Float[Array, " n"], positions: Float[Array, "3 n"]
) -> Shaped[Array, "Z Y X"]:
    """The box, ``REACH`` voxels wider on all sides, with the masses added."""
    limits = jnp.array(wide.shape, positions.dtype)[:, None] - (2 * REACH + 1.0)
    mass, positions = sharing.inside(mass, positions, limits)
    below = jnp.floor(positions)
    z, y, x = jnp.moveaxis(weights(positions - below), 0, -1)
    return sharing.add_windows(wide, mass, below.astype(jnp.int32) + (REACH - 1), (z, y, x))


def _folded(wide: Shaped[Array, "..."], axis: int, n: int) -> Shaped[Array, "..."]:
    """Without the ``REACH`` planes before and after an axis, whose shares fall back on the first and last."""
    wide = jnp.moveaxis(wide, axis, 0)
    inner = wide[REACH : REACH + n]
    inner = inner.at[0].add(jnp.sum(wide[:REACH], axis=0)).at[-1].add(jnp.sum(wide[REACH + n :], axis=0))
    return jnp.moveaxis(inner, 0, axis)


def coefficients(field: Float[Array, "z y x"]) -> Float[Array, "Z Y X"]:
    """Those of the cubic spline through a field, ``REACH`` voxels wider on all sides, mirrored there."""
    return jnp.pad(unblurred(field), REACH, mode="symmetric")


def values_and_gradients(
    wide: Float[Array, "Z Y X"], positions: Float[Array, "3 n"]
) -> tuple[Float[Array, " n"], Float[Array, "3 n"]]:
    """The spline of these coefficients at positions (voxels, z y x), and its gradient there.

    Positions more than half a voxel outside the box take the values of its faces.
    """
    limits = jnp.array(wide.shape, positions.dtype)[:, None] - (2 * REACH + 0.5)
    positions = jnp.clip(positions, -0.5, limits)
    below = jnp.floor(positions)
    fraction = positions - below
    windows = jax.lax.gather(
        wide,
        (below.astype(jnp.int32) + (REACH - 1)).T,
        jax.lax.GatherDimensionNumbers(offset_dims=(1, 2, 3), collapsed_slice_dims=(), start_index_map=(0, 1, 2)),
        (4, 4, 4),
        mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
    near, slopes = jnp.moveaxis(weights(fraction), 1, 0), jnp.moveaxis(_slopes(fraction), 1, 0)

    def total(z: Float[Array, "4 n"], y: Float[Array, "4 n"], x: Float[Array, "4 n"]) -> Float[Array, " n"]:
        return jnp.einsum("nabc,an,bn,cn->n", windows, z, y, x)

    gradient = [total(*(slopes[j] if i == j else near[j] for j in range(3))) for i in range(3)]
    return total(*near), jnp.stack(gradient)


def _slopes(fraction: Float[Array, "*n"]) -> Float[Array, "4 *n"]:
    """The derivatives of ``weights`` by the position."""
    f, g = fraction, 1.0 - fraction
    return jnp.stack([-(g**2), 3.0 * f**2 - 4.0 * f, 4.0 * g - 3.0 * g**2, f**2]) / 2.0
