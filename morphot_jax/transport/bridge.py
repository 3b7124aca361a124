r"""The bridge: every frame of a trajectory in closed form from one transport plan.

With K = H_s, the heat kernel at time s = sigma^2, and the plan P = diag(u) H_s diag(v) between maps a and b, the
Schroedinger bridge (entropic interpolation) is

    rho_t = (H_(t s) u) (H_((1-t) s) v) ,    rho_0 = a ,  rho_1 = b :

the law at time t of the most likely random walks among those that start as a and end as b (Leonard 2014; Chen,
Georgiou, Pavon 2016). Since the heat kernel of the lattice is a semigroup, sum_y rho_t = <u, H_s v> is
the mass of a at every t, as long as no walk would leave the box. A walk in steps is a semigroup of its own, which
may have walls (``walks``).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from morphot_jax.transport import kernels
from morphot_jax.transport.fewer_axes import axes_of, boxed, in_box, out_of_box
from morphot_jax.transport.kernels import Kernel, Sigma

Field = Float[Array, "*grid"]
Frames = Float[Array, "t *grid"]
Parts = Callable[[Field, Field, Float[Array, ""]], list[tuple[Any, Field, Field]]]


@jax.jit
def bridge_frames(log_u: Field, log_v: Field, sigma: Sigma, times: Float[Array, " t"]) -> Frames:
    """rho_t = (H_(t s) u) (H_((1-t) s) v) at each time t in [0, 1], s = sigma^2.

    - ``log_u``, ``log_v``: potentials of ``solve_sinkhorn`` with ``kernels.heat(shape, sigma)``; -inf: no mass.
    - ``sigma``: standard deviation in voxels, one number or one for each axis.

    The frames have unit mass to round-off where the box holds all walks.
    """
    shape, dtype = log_u.shape, log_u.dtype
    sigma = jnp.asarray(sigma, dtype)

    def parts(u: Field, v: Field, t: Float[Array, ""]) -> list[tuple[Any, Field, Field]]:
        forward = kernels.heat(shape, sigma * jnp.sqrt(t), dtype).apply(u)
        backward = kernels.heat(shape, sigma * jnp.sqrt(1.0 - t), dtype).apply(v)
        return [(1.0, forward, backward)]

    return _frames(log_u, log_v, times, parts)


@jax.jit
def walk_frames(log_u: Field, log_v: Field, walk: Kernel, times: Float[Array, " t"]) -> Frames:
    """The bridge of a walk K = S^k (``walks``) at each time t in [0, 1].

    After j of the k steps it is rho_j = (S^j u) (S^(k-j) v). A walk makes each step at a moment of its own, any in
    a k-th of the time being as likely: with j + f = t k,

        rho_t = (1 - f) rho_j + f rho_(j+1) .

    - ``log_u``, ``log_v``: potentials of ``solve_sinkhorn`` with ``walk``; -inf: no mass.

    The frames have unit mass to round-off, and none in walls.
    """
    axes, box = axes_of(walk), boxed(walk)

    def parts(u: Field, v: Field, t: Float[Array, ""]) -> list[tuple[Any, Field, Field]]:
        j = jnp.minimum((t * box.steps).astype(int), box.steps - 1)
        share = t * box.steps - j
        forward, backward = box.walked(in_box(u, axes), j), box.walked(in_box(v, axes), box.steps - 1 - j)
        pairs = (1.0 - share, forward, box.walked(backward, 1)), (share, box.walked(forward, 1), backward)
        return [(weight, out_of_box(one, axes), out_of_box(other, axes)) for weight, one, other in pairs]

    return _frames(log_u, log_v, times, parts)


def _frames(log_u: Field, log_v: Field, times: Float[Array, " t"], parts: Parts) -> Frames:
    """The sum of weight x forward x backward over the ``parts`` of every time, which are of u, v and t."""
    # Each factor ranges over hundreds of e-folds, and only their product is of order one. So the maxima of
    # u and v are taken out first, and the square root of their product goes into each factor.
    top_u, top_v = jnp.max(log_u), jnp.max(log_v)
    u, v = jnp.exp(log_u - top_u), jnp.exp(log_v - top_v)
    half = jnp.exp((top_u + top_v) / 2.0)

    def frame(t: Float[Array, ""]) -> Field:
        terms = (weight * (half * one) * (half * other) for weight, one, other in parts(u, v, t))
        return jnp.asarray(sum(terms))

    return jax.lax.map(frame, times.astype(log_u.dtype))
