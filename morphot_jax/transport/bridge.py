r"""The bridge: every frame of a trajectory in closed form from one transport plan.

With K = H_s, the heat kernel at time s = sigma^2, and the plan P = diag(u) H_s diag(v) between maps a and b, the
Schroedinger bridge (entropic interpolation) is

    rho_t = (H_(t s) u) (H_((1-t) s) v) ,    rho_0 = a ,  rho_1 = b :

the law at time t of the most likely random walks among those that start as a and end as b (Leonard 2014; Chen,
Georgiou, Pavon 2016). Since the heat kernel of the lattice is a semigroup, sum_y rho_t = <u, H_s v> is
the mass of a at every t, as long as no walk would leave the box.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from morphot_jax.transport import kernels
from morphot_jax.transport.kernels import Sigma


@jax.jit
def bridge_frames(
    log_u: Float[Array, "*grid"], log_v: Float[Array, "*grid"], sigma: Sigma, times: Float[Array, " t"]
) -> Float[Array, "t *grid"]:
    """rho_t = (H_(t s) u) (H_((1-t) s) v) at each time t in [0, 1], s = sigma^2.

    - ``log_u``, ``log_v``: potentials of ``solve_sinkhorn`` with ``kernels.heat(shape, sigma)``; -inf: no mass.
    - ``sigma``: standard deviation in voxels, one number or one for each axis.

    The frames have unit mass to round-off where the box holds all walks.
    """
    shape, dtype = log_u.shape, log_u.dtype
    sigma = jnp.asarray(sigma, dtype)
    # Each factor ranges over hundreds of e-folds, and only their product is of order one. So the maxima of
    # u and v are taken out first, and the square root of their product goes into each factor.
    top_u, top_v = jnp.max(log_u), jnp.max(log_v)
    u, v = jnp.exp(log_u - top_u), jnp.exp(log_v - top_v)
    half = jnp.exp((top_u + top_v) / 2.0)

    def frame(t: Float[Array, ""]) -> Float[Array, "*grid"]:
        forward = kernels.heat(shape, sigma * jnp.sqrt(t), dtype).apply(u)
        backward = kernels.heat(shape, sigma * jnp.sqrt(1.0 - t), dtype).apply(v)
        return (half * forward) * (half * backward)

    return jax.lax.map(frame, times.astype(dtype))
