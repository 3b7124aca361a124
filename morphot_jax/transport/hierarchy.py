r"""Steps on coarse grids: they correct at once what Sinkhorn iterations carry through a map step by step.

An iteration of Sinkhorn moves information by about sigma. What is wrong over a length L shrinks by the factor
1 - (sigma / L)^2 or so: many iterations. The dual problem's Hessian is close to -sigma^2 div(c grad), c being the
marginal that a plan has, so a multilevel preconditioner (Bramble, Pasciak, Xu 1990) fits. In logs, with b the
marginal that it should have, the step for log v is

    log(b / c) + sum_l I_l [ k tanh( (w_l / k) log( (R_l b + m_l) / (R_l c + m_l) ) ) ] .

R_l sums over the hats of a grid with spacing h_l = 2^l h_0, h_0 = 3.3 sigma, and I_l, its transpose, interpolates.
The weights are w_l = 0.2 * 3 h_l^2 / (8 sigma^2). A node with little mass would be led by noise: m_l is three
hundredths of the largest (R_l b + R_l c) / 2. The tanh keeps a step of a level below k.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from morphot_jax.transport.kernels import Kernel, KnowsItsWidth, separable
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree

SPACING = 3.3  # of the finest grid, in sigma; and in voxels at least
SHARE = 0.2  # of the inverse of the Hessian, at each level
CELLS = 1.4  # along the longest axis of the coarsest grid, at least
EMPTY = 0.03  # of the largest mass at a node of a grid: less counts as little

Grids = list[Float[Array, "..."]]  # fields a b c on each grid, from the finest to the coarsest


@pytree
@dataclass(frozen=True, repr=False)
class Hierarchy:
    """Nested grids over a box, with one node of each in its middle: a flipped box has flipped grids.

    - ``z``, ``y``, ``x``: the hats of the finest nodes at the voxels.
    - ``weights``: w_l, zero for grids of fewer than ``CELLS`` cells.
    """

    z: Float[Array, "z a"]
    y: Float[Array, "y b"]
    x: Float[Array, "x c"]
    weights: Float[Array, " levels"]

    __repr__ = one_line

    def damped(self, stiffness: Float[Array, ""]) -> "Hierarchy":
        """The grids for a Hessian that has this multiple of c beside -sigma^2 div(c grad): shorter steps."""
        return replace(self, weights=self.weights / (1.0 + stiffness / SHARE * self.weights))

    def sums(self, field: Float[Array, "*batch z y x"]) -> Grids:
        """R_l f for every level."""
        grids = [separable(field, self.z.T, self.y.T, self.x.T)]
        for _ in range(len(self.weights) - 1):
            matrices = (_doubling(n).astype(field.dtype) for n in grids[-1].shape[-3:])
            grids.append(separable(grids[-1], *matrices))
        return grids

    def correction(self, wanted: Grids, given: Grids, limit: float) -> Float[Array, "..."]:
        """sum_l I_l [ k tanh( (w_l / k) log( (R_l b + m_l) / (R_l c + m_l) ) ) ], with k = ``limit``.

        ``wanted``, ``given``: ``sums`` of b and of c, whose leading axes are broadcast.
        """
        steps = []
        for weight, b, c in zip(self.weights, wanted, given, strict=True):
            least = EMPTY * jnp.max((b + c) / 2.0, axis=(-3, -2, -1), keepdims=True)
            steps.append(limit * jnp.tanh(weight / limit * jnp.log((b + least) / (c + least))))
        return self._interpolated(steps)

    def linear(self, wanted: Grids, missing: Grids) -> Float[Array, "..."]:
        """sum_l I_l [ w_l R_l r / (R_l b + m_l) ]: ``correction`` for c = b - r with a small r.

        ``wanted``, ``missing``: ``sums`` of b and of r.
        """
        steps = []
        for weight, b, r in zip(self.weights, wanted, missing, strict=True):
            least = EMPTY * jnp.max(b, axis=(-3, -2, -1), keepdims=True)
            steps.append(weight * r / (b + least))
        return self._interpolated(steps)

    def _interpolated(self, steps: Grids) -> Float[Array, "..."]:
        """sum_l I_l f_l."""
        total = steps[-1]
        for step in reversed(steps[:-1]):
            total = step + separable(total, *(_doubling(n).T.astype(step.dtype) for n in step.shape[-3:]))
        return separable(total, self.z, self.y, self.x)


def hierarchy_of(kernel: Kernel, like: Float[Array, "..."]) -> Hierarchy:
    """The grids that suit a kernel, in the dtype of an array; the kernel's own width sets their spacing."""
    shape, dtype = kernel.shape, like.dtype
    variances = _variances(kernel, dtype)
    spacings = SPACING * jnp.maximum(jnp.sqrt(variances), 1.0)
    lengths = np.array([n - 1 for n in shape])
    z, y, x = (_hats(n, spacing, dtype) for n, spacing in zip(shape, spacings, strict=True))
    extended = lengths > 0
    # Cells in units of the kernel's variance; the smallest of the axes is safe for all.
    ratio = jnp.min(jnp.where(extended, spacings**2 / jnp.maximum(variances, 1e-300), jnp.inf))
    ratio = jnp.where(jnp.isfinite(ratio), ratio, 0.0)
    levels = max(1, int(np.ceil(np.log2(max(lengths.max(), 1) / (SPACING * CELLS)))) + 1)
    factors = 2.0 ** np.arange(levels)
    cells = jnp.max(lengths / spacings) / factors
    weights = jnp.where(cells >= CELLS, SHARE * 3.0 / 8.0 * ratio * factors**2, 0.0)
    return Hierarchy(z, y, x, weights.astype(dtype))


def _variances(kernel: Kernel, dtype) -> Float[Array, "3"]:
    """The kernel's variance along each axis, in voxel^2: its own word, or seen from the middle of the box."""
    if isinstance(kernel, KnowsItsWidth):
        return kernel.variances.astype(dtype)
    shape = kernel.shape
    spike = jnp.zeros(shape, dtype).at[tuple(n // 2 for n in shape)].set(1.0)
    spread = kernel.apply(spike)
    variances = []
    for axis, n in enumerate(shape):
        line = jnp.sum(spread, axis=tuple(k for k in range(3) if k != axis))
        squares = (jnp.arange(n) - n // 2) ** 2
        variances.append(jnp.sum(line * squares) / jnp.sum(line))
    return jnp.stack(variances).astype(dtype)


def _hats(n: int, spacing: Float[Array, ""], dtype) -> Float[Array, "n m"]:
    """max(0, 1 - |i / h - j|): the hat of node j at voxel i, both counted from the middle of the axis.

    Nodes beyond the box have empty columns.
    """
    voxels = jnp.arange(n)[:, None] - (n - 1) / 2.0
    return jnp.maximum(0.0, 1.0 - jnp.abs(voxels / spacing - _around_zero((n - 1) / 2.0 / SPACING))).astype(dtype)


def _doubling(n: int) -> Float[np.ndarray, "m n"]:
    """max(0, 1 - |j / 2 - i|): sums over the hats of a grid of twice the spacing, with the same middle."""
    nodes = _around_zero((n - 1) / 2.0)
    return np.maximum(0.0, 1.0 - np.abs(nodes / 2.0 - _around_zero((n - 1) / 4.0)[:, None]))


def _around_zero(end: float) -> Float[np.ndarray, " m"]:
    """The whole numbers around 0, up to the first that reaches ``end``."""
    last = int(np.ceil(end))
    return np.arange(-last, last + 1.0)
