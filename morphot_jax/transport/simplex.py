r"""Barycenters at all weights, from those at a lattice of weights; and the weights whose barycenter is nearest.

The log of a barycenter is smooth in its weights: for Gaussians of one width it is a polynomial of degree two. So
between the barycenters q_l at the weights l / d, where the whole numbers l_j >= 0 sum to d,

    log q(w) = sum_l L_l(w) log q_l ,    L_l(w) = prod_j prod_(i < l_j) (d w_j - i) / (l_j - i) ,

with Lagrange's polynomials of the simplex (Nicolaides 1972). Nothing is solved any more, and the derivatives by
the weights are those of polynomials.

The coordinates of a map m among references (Bonneel, Peyre, Cuturi 2016) are the weights that make

    F(w) = min_c || m - c q(w) ||^2 / || m ||^2

least on the simplex. Gauss-Newton steps find them; c is eliminated (Golub, Pereyra 1973).
"""

from functools import partial
from itertools import product
from math import comb
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import nnls

from morphot_jax.transport import kernels

MOST_NODES = 60  # barycenters of a lattice
DEGREES = (2, 6)  # the least and the largest degree
SMALLEST = 1e-7  # of the largest density of a barycenter: logs of less are cut
STEPS = 40  # of Gauss-Newton, at most
CLOSE = 1e-5  # change of the weights: smaller steps end the search
RIDGE = 1e-9  # of the mean curvature: bounds the steps where references are equal
HEAVY = 1e3  # times the curvature: holds the sum of the weights at one

Nodes = Int[np.ndarray, "r k"]


class Lattice(NamedTuple):
    """Barycenters at the nodes of a lattice: l, and log q_l on a list of voxels."""

    nodes: Nodes
    log_q: Float[Array, "r n"]

    @property
    def key(self) -> tuple[tuple[int, ...], ...]:
        """The nodes as JAX takes static values."""
        return tuple(map(tuple, self.nodes.tolist()))

    @property
    def weights(self) -> Float[np.ndarray, "r k"]:
        """The weights l / d of the nodes."""
        return self.nodes / self.nodes[0].sum()


class Comparison(NamedTuple):
    """Maps that are compared with barycenters on a list of voxels.

    - ``norms``: || m ||^2 of each whole map, of which ``maps`` may be a part.
    - ``offsets``: added to log q(w), where the barycenter near the weights of a map is known better than by
      interpolation.
    """

    maps: Float[Array, "m n"]
    norms: Float[Array, " m"]
    lattice: Lattice
    offsets: Float[Array, "m n"]


class Fit(NamedTuple):
    """F of several maps: ``misfit``; minus half its ``slope`` by the weights; half its ``curvature`` (J^T J)."""

    misfit: Float[Array | np.ndarray, " m"]
    slope: Float[Array | np.ndarray, "m k"]
    curvature: Float[Array | np.ndarray, "m k k"]


def degree_for(maps: int) -> int:
    """The largest degree that leaves the lattice at most ``MOST_NODES`` nodes, within ``DEGREES``."""
    least, most = DEGREES
    return max((d for d in range(least, most + 1) if comb(maps - 1 + d, d) <= MOST_NODES), default=least)


def nodes_of(maps: int, degree: int) -> Nodes:
    """The whole numbers l of the lattice, one row for each node."""
    rows = [row for row in product(range(degree + 1), repeat=maps - 1) if sum(row) <= degree]
    return np.array([(degree - sum(row), *row) for row in rows])


def log_of(barycenters: Float[np.ndarray, "r n"], dtype) -> Float[Array, "r n"]:
    """The logs of barycenters, cut below ``SMALLEST``."""
    least = SMALLEST * barycenters.max(axis=1, keepdims=True)
    return jnp.log(jnp.asarray(np.maximum(barycenters, least), dtype))


def polynomials(weights: Float[Array, " k"], nodes: Nodes) -> Float[Array, " r"]:
    """L_l(w) for every node: one at its own weights, zero at those of the others."""
    degree = int(nodes[0].sum())
    steps = np.arange(degree)
    below = steps < nodes[:, :, None]
    factors = (degree * weights[:, None] - steps) / np.where(below, nodes[:, :, None] - steps, 1)
    return jnp.prod(jnp.where(below, factors, 1.0), axis=(1, 2))


def log_barycenters(weights: Float[Array, "m k"], lattice: Lattice) -> Float[Array, "m n"]:
    """Log q(w) for each row of weights."""
    return _mixed(jax.vmap(lambda w: polynomials(w, lattice.nodes))(weights), lattice.log_q)


def nearest_weights(
    compared: Comparison, start: Float[np.ndarray, "m k"]
) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
    """The weights on the simplex that make F least for each map, and F there; from ``start``.

    A step that does not lessen F is halved.
    """
    weights = start
    best = _on_host(fits(weights, compared))
    tried = _steps(weights, best)
    for _ in range(STEPS):
        found = _on_host(fits(tried, compared))
        better = found.misfit < best.misfit
        weights = np.where(better[:, None], tried, weights)
        best = Fit(*(_chosen(better, new, old) for new, old in zip(found, best, strict=True)))
        tried = np.where(better[:, None], _steps(weights, best), (weights + tried) / 2.0)
        if np.abs(tried - weights).max() < CLOSE:
            break
    return weights, np.asarray(best.misfit)


def _steps(weights: Float[np.ndarray, "m k"], fit: Fit) -> Float[np.ndarray, "m k"]:
    """The weights at which the quadratic model of each map's F is least on the simplex."""
    return np.stack([_least(*one) for one in zip(weights, fit.slope, fit.curvature, strict=True)])


def _least(w: Float[np.ndarray, " k"], slope: Float[np.ndarray, " k"], curvature: Float[np.ndarray, "k k"]):
    """The minimum of z^T C z / 2 - (C w + slope)^T z over z >= 0 of unit sum, by non-negative least squares."""
    scale = max(float(np.trace(curvature)) / len(w), np.finfo(float).tiny)
    root = np.linalg.cholesky(curvature / scale + RIDGE * np.eye(len(w))).T
    wanted = root @ w + np.linalg.solve(root.T, slope / scale)
    z, _ = nnls(np.vstack([root, np.full(len(w), HEAVY)]), np.append(wanted, HEAVY))
    return z / z.sum()


def deviations(
    weights: Float[np.ndarray, "m k"], compared: Comparison, blocks: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "m k"]:
    """Standard deviations of the nearest weights, from what is left of each map in blocks of voxels.

    What is left counts as noise that is independent from block to block, whatever it is within one (White 1980):
    with the slopes g_b of each block and the curvature C, the covariance is C^-1 (sum_b g_b g_b^T) C^-1, for
    changes of the weights that keep their sum. ``blocks``: the block of each voxel.
    """
    count = int(blocks.max()) + 1
    slopes = _slopes(compared.lattice.key, *_arrays(weights, compared), jnp.asarray(blocks), count)
    fit = _on_host(fits(weights, compared))
    k = weights.shape[1]
    keeping = np.linalg.svd(np.ones((1, k)))[2][1:].T  # a basis of the changes that sum to nothing
    found = []
    for g, curvature in zip(np.asarray(slopes, np.float64), fit.curvature, strict=True):
        inner = keeping.T @ curvature @ keeping
        inverse = np.linalg.pinv(inner + RIDGE * np.trace(inner) / max(k - 1, 1) * np.eye(k - 1))
        spread = keeping @ inverse @ (keeping.T @ g)
        found.append(np.sqrt(np.sum(spread**2, axis=1)))
    return np.stack(found)


def fits(weights: Float[np.ndarray, "m k"], compared: Comparison) -> Fit:
    """F and its derivatives at the weights of each map."""
    return _fits(compared.lattice.key, *_arrays(weights, compared))


def _arrays(weights: Float[np.ndarray, "m k"], compared: Comparison) -> tuple[Array, ...]:
    maps, norms, lattice, offsets = compared
    return jnp.asarray(weights, maps.dtype), maps, norms, lattice.log_q, offsets


@partial(jax.jit, static_argnums=0)
def _fits(key, weights, maps, norms, log_q, offsets):
    def fit(w, m, norm, offset):
        rest, moved = _residual(w, m, np.array(key), log_q, offset)
        outside = norm - jnp.sum(m * m)
        misfit = (jnp.sum(rest * rest) + outside) / norm
        slope = kernels.product(moved, rest[:, None])[:, 0] / norm
        return Fit(misfit, slope, kernels.product(moved, moved.T) / norm)

    return jax.lax.map(lambda one: fit(*one), (weights, maps, norms, offsets))


@partial(jax.jit, static_argnums=(0, 7))
def _slopes(key, weights, maps, norms, log_q, offsets, blocks, count):
    def slopes(w, m, norm, offset):
        rest, moved = _residual(w, m, np.array(key), log_q, offset)
        return jax.vmap(lambda row: jax.ops.segment_sum(row, blocks, count))(moved * rest) / norm

    return jax.lax.map(lambda one: slopes(*one), (weights, maps, norms, offsets))


def _residual(w, m, nodes: Nodes, log_q, offset):
    """The rest m - c q(w) with the best c, and the derivatives of c q(w) by w less what another c makes up for."""
    at, slopes = polynomials(w, nodes), jax.jacfwd(polynomials)(w, nodes)
    mixed = _mixed(jnp.concatenate([at[None], slopes.T]), log_q)
    q = jnp.exp(mixed[0] + offset)
    q = q * (jnp.sum(m * q) / jnp.sum(q * q))
    moved = mixed[1:] * q
    share = kernels.product(moved, q[:, None]) / jnp.sum(q * q)
    return m - q, moved - share * q


def _mixed(factors: Float[Array, "i r"], log_q: Float[Array, "r n"]) -> Float[Array, "i n"]:
    return kernels.product(factors.astype(log_q.dtype), log_q)


def _on_host(fit: Fit) -> Fit:
    return Fit(*(np.asarray(part, np.float64) for part in fit))


def _chosen(better, new, old):
    return np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
