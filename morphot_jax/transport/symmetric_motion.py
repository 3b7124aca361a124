r"""Locally rigid motions of a map that has a point group to one that has it too, made symmetric.

With the motions g of the group in the first map and h in the second, in the same order, the motion M of a voxel x
becomes the mean of what all parts of the map that are equal to x say about it,

    M'(x) = 1/n sum_g h^-1 M(g x) g .

Each part then moves as all others do: M'(g x) = h M'(x) g^-1, up to the interpolation of M between voxels.

Where a map has several motions, one for each of its bodies, g takes a body to another one, whose motion counts.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from morphot_jax.transport.locally_rigid import Motion, Task, around, fields_of
from morphot_jax.transport.registration import Motions
from morphot_jax.transport.rigid_motions import nearest_rotation


def symmetrised(
    task: Task, motions: tuple[Motion, ...], taken: Int[np.ndarray, "g k"], here: Motions, there: Motions
) -> tuple[Motion, ...]:
    """The motions of the parts of a map, made symmetric.

    - ``here``: g, the identity first; ``there``: h. ``taken``: to which part each g takes each part.
    """
    fields = jnp.stack([fields_of(task, motion) for motion in motions])
    return tuple(
        _symmetrised(task, motion, fields, jnp.asarray(taken[:, k]), here, there)
        for k, motion in enumerate(motions)
    )


@jax.jit
def _symmetrised(
    task: Task,
    motion: Motion,
    fields: Float[Array, "k 16 z y x"],
    taken: Int[Array, " g"],
    here: Motions,
    there: Motions,
) -> Motion:
    def add(
        sums: Float[Array, "16 n"], step: tuple[Motions, Motions, Int[Array, ""]]
    ) -> tuple[Float[Array, "16 n"], None]:
        g, h, part = step
        points = g.carried(motion.start)
        turns, shift, rest, weight = around(task, fields[part], points)
        image = jnp.einsum("ijn,jn->in", turns, points) + shift - weight * h.shift[:, None]
        own = jnp.einsum("ji,jkn,kl->iln", h.rotation, turns, g.rotation).reshape(9, -1)
        rows = [own, h.rotation.T @ image, g.rotation.T @ rest, weight[None]]
        return sums + jnp.concatenate(rows), None

    sums, _ = jax.lax.scan(add, jnp.zeros((16, motion.start.shape[1]), motion.start.dtype), (here, there, taken))
    weight = jnp.where(sums[15] > 0, sums[15], 1.0)
    turns = (sums[:9] / weight).reshape(3, 3, -1)
    return Motion(
        motion.mass,
        motion.start,
        jnp.where(sums[15] > 0, sums[9:12] / weight, motion.image),
        nearest_rotation(turns, nearest_rotation(turns, motion.rotation)),
        sums[12:15] / weight,
    )
