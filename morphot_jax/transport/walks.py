r"""Kernels of random walks in many small steps: inside walls, or with a covariance that is not diagonal.

K = S^k, where a step S moves mass between a voxel and its neighbours at the offsets e_i and -e_i,

    S f(x) = f(x) + sum_i r_i ( f(x + e_i) - f(x) + f(x - e_i) - f(x) ) ,    2 k sum_i r_i e_i e_i^T = A ,

and leaves out what would lead into a wall or out of the box. So S is symmetric with positive entries, its rows sum
to one, and no mass enters a wall: S is an explicit step of the heat equation with no flux through the walls.
Where no wall is near, the walk has the covariance A. Powers of S are a semigroup, so walks have bridges
(``bridge.walk_frames``).

**Walls** (``walled``). Steps go along the axes, A = diag(sigma^2). k steps reach k voxels, counted along the
shortest way inside the region; ``steps_between`` gives a k that joins all voxels of two maps.

**Slanted** (``slanted``). A = sum_i rho_i e_i e_i^T, where the offsets are the 26 neighbours of a voxel, and
rho_i > 0 are those of most entropy (sums with positive shares: Fehrenbach and Mirebeau 2014). They are smooth in
A, and exist where the longest axis of A (in standard deviations) is up to 2.4 times the shortest, whatever its
direction. For A = 1 they are 4/9, 1/9 and 1/36 for neighbours that share a face, an edge and a corner, and the
walk has no preferred direction to fourth order. Where a box has one voxel along an axis, slanted steps are left
out: give such a grid as one of fewer axes.

Every term is positive, so the far field keeps its digits as long as the dtype can hold it. A walk along the axes
becomes ``kernels.heat`` with many steps: the weight at a distance of d voxels is about (sigma^2 / 2)^d / d!, which
stands for a cost of less than d^2 / 2. In double precision it reaches about 130 voxels at sigma 1.
"""

from dataclasses import dataclass, field
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve
from jaxtyping import Array, Bool, Float, Int

from morphot_jax.system.errors import InputError
from morphot_jax.transport.costs import Covariance, covariance_in_box
from morphot_jax.transport.fewer_axes import BOX, in_box, on_grid, shape_in_box, width_in_box
from morphot_jax.transport.kernels import (
    Grid,
    Kernel,
    Shape,
    Sigma,
    check_sigma,
    finite_maximum,
    is_traced,
    safe_log,
)
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree

Offset = tuple[int, int, int]
Mass = Float[np.ndarray, "z y x"]
Inside = Bool[Array | np.ndarray, "*grid"]
AXES: tuple[Offset, ...] = ((0, 0, 1), (0, 1, 0), (1, 0, 0))
NEWTON = 25  # steps: up to a ratio of 2.4 between standard deviations 17 are enough
CALM = 2.0  # steps for each voxel^2 of variance at least: half of the mass or more stays in a step


@pytree
@dataclass(frozen=True, repr=False)
class Walk:
    """K = S^k for a step S between neighbours.

    - ``rates``: r_i of each offset. ``inside``: one for voxels that mass may enter, zero for walls.
    - ``steps``: k.
    """

    rates: Float[Array, " i"]
    inside: Float[Array, "z y x"]
    offsets: tuple[Offset, ...] = field(metadata={"static": True})
    steps: int = field(metadata={"static": True})

    __repr__ = one_line

    @property
    def shape(self) -> Shape:
        z, y, x = self.inside.shape
        return z, y, x

    @property
    def variances(self) -> Float[Array, "3"]:
        """Of the walk along z, y, x where no wall is near, in voxel^2."""
        return 2.0 * self.steps * self.rates @ jnp.asarray(self.offsets, self.rates.dtype) ** 2

    def apply(self, values: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        """K f, for f >= 0; what lies in walls vanishes."""
        return self.walked(values, self.steps)

    def log_apply(self, log_field: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        top = finite_maximum(log_field, axis=(-3, -2, -1))
        return safe_log(self.apply(jnp.exp(log_field - top))) + top

    def walked(
        self, values: Float[Array, "*batch z y x"], steps: int | Int[Array, ""]
    ) -> Float[Array, "*batch z y x"]:
        """S^j f for j = ``steps``, k at most."""
        stays = self.inside * (1.0 - self._from_neighbours(self.inside))

        def step(moved: Float[Array, "*batch z y x"], number: Int[Array, ""]):
            after = stays * moved + self.inside * self._from_neighbours(moved)
            return (after if isinstance(steps, int) else jnp.where(number < steps, after, moved)), None

        made = steps if isinstance(steps, int) else self.steps
        return jax.lax.scan(step, self.inside * values, jnp.arange(made))[0]

    def _from_neighbours(self, values: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        """sum_i r_i ( f(x + e_i) + f(x - e_i) ), with nothing beyond the box."""
        padded = jnp.pad(values, [(0, 0)] * (values.ndim - BOX) + [(1, 1)] * BOX)

        def neighbour(offset: Offset, sign: int) -> Float[Array, "*batch z y x"]:
            starts = (1 + sign * step for step in offset)
            return padded[(..., *(slice(i, i + n) for i, n in zip(starts, self.shape, strict=True)))]

        terms = (
            rate * (neighbour(offset, 1) + neighbour(offset, -1))
            for rate, offset in zip(self.rates, self.offsets, strict=True)
        )
        return jnp.asarray(sum(terms))


def walled(inside: Inside, sigma: Sigma, steps: int, dtype=None) -> Kernel:
    """The kernel of walks of ``steps`` steps along the axes that never leave a region.

    - ``inside``: True for the voxels that mass may enter, along z, y, x; or y, x; or x.
    - ``sigma``: standard deviation where no wall is near, in voxels, one number or one for each axis.
    - ``dtype``: of the values; JAX's default float when not given.

    Raises InputError for a region without voxels, and for fewer steps than the sum of sigma^2 over the axes: half
    or more of the mass should stay in a step, so take twice as many.
    """
    axes, dtype = len(np.shape(inside)), dtype or jnp.result_type(float)
    check_sigma("walled", np.shape(inside), sigma)
    sigma = jnp.broadcast_to(jnp.asarray(width_in_box(sigma, axes, 0.0, dtype), dtype), (BOX,))
    return _walk(inside, AXES, sigma[::-1] ** 2, steps)


def slanted(shape: Grid, covariance: Covariance, steps: int, dtype=None) -> Kernel:
    """The kernel of walks of ``steps`` steps to the neighbours of a voxel, with a moderate covariance.

    - ``shape``: voxels along z, y, x; or y, x; or x. ``dtype``: as of ``walled``.
    - ``covariance``: A in voxel^2, as of ``costs.anisotropic``; it may be traced, and has derivatives.

    Raises InputError for a covariance that needs offsets beyond the neighbours of a voxel, and for steps that are
    fewer than sum_i rho_i. Where A is traced, such a kernel is NaN.
    """
    axes, covariance = len(shape), covariance_in_box(shape, covariance, dtype)
    offsets = tuple(shape_in_box(offset, fill=0) for offset in neighbours(axes))
    return _walk(np.ones(shape, bool), offsets, shares_of_neighbours(covariance[-axes:, -axes:]), steps)


def _walk(inside: Inside, offsets: tuple[Offset, ...], rho: Float[Array, " i"], steps: int) -> Kernel:
    """The walk of ``steps`` steps with the covariance sum_i rho_i e_i e_i^T; checked, where it is not traced."""
    axes = np.ndim(inside)
    if not isinstance(steps, int | np.integer) or steps < 1:
        raise InputError(f"steps is {steps!r}: give a whole number, 1 or more")
    if not is_traced(inside) and not np.any(inside):
        raise InputError("inside has no voxels: give True for those that mass may enter")
    total = jnp.sum(rho)
    if not is_traced(rho):
        if jnp.isnan(total):
            raise InputError(
                "covariance is too slanted for steps to neighbours: give one whose longest axis is up to 2.4 "
                "times its shortest, or take costs.anisotropic"
            )
        if total > steps:
            raise InputError(
                f"steps is {steps}, and a walk as wide as this needs {np.ceil(total):.0f}: give that many, "
                f"or best {CALM:g} times as many"
            )
    rates = jnp.where(total <= steps, rho / (2.0 * steps), jnp.nan)
    box = Walk(rates, jnp.asarray(in_box(jnp.asarray(inside), axes), rho.dtype), offsets, int(steps))
    return on_grid(box, axes)


def least_steps(sigma: Sigma) -> int:
    """The fewest steps of a calm walk along the axes, in which half of the mass or more stays in a step."""
    return max(1, int(np.ceil(CALM * np.sum(np.broadcast_to(np.asarray(sigma), (BOX,)) ** 2))))


def steps_between(inside: Bool[np.ndarray, "z y x"], first: Mass, last: Mass) -> int:
    """A number of steps that brings every voxel with mass of one map to every one of the other, inside the region.

    It is the longest way from the middle of the first map to its own voxels and on to those of the other: the
    longest way between any two is no longer. Raises InputError where no way joins them.
    """
    places = np.argwhere(first > 0)
    middle = np.average(places, axis=0, weights=first[first > 0])
    start = places[np.argmin(np.sum((places - middle) ** 2, axis=1))]
    ways = lengths_of_ways(inside, start)
    if np.any(ways[(first > 0) | (last > 0)] < 0):
        raise InputError(
            "no way inside the region joins all of the mass: give a region in one piece that holds it"
        )
    return int(ways[first > 0].max() + ways[last > 0].max())


def lengths_of_ways(inside: Bool[np.ndarray, "z y x"], start: Int[np.ndarray, "3"]) -> Int[np.ndarray, "z y x"]:
    """Steps along the axes on the shortest way inside a region from a voxel to each other one; -1 for none."""
    unseen = np.pad(inside, 1)
    _, y, x = unseen.shape
    unseen, lengths = unseen.ravel(), np.full(unseen.shape, -1)
    seen, ways = lengths.ravel(), 0
    front = np.array([np.ravel_multi_index(start + 1, lengths.shape)])
    while len(front):
        seen[front], unseen[front] = ways, False
        ways += 1
        near = np.concatenate([front + step for step in (1, -1, x, -x, y * x, -y * x)])
        front = np.unique(near[unseen[near]])
    return lengths[1:-1, 1:-1, 1:-1]


def neighbours(axes: int) -> list[tuple[int, ...]]:
    """The offsets of the neighbours of a voxel, one of each pair of opposite ones: 13 in a box, 4 in an image."""
    return [offset for offset in product((-1, 0, 1), repeat=axes) if offset > (0,) * axes]


@jax.jit
def shares_of_neighbours(covariance: Float[Array, "axes axes"]) -> Float[Array, " i"]:
    """The rho_i > 0 of ``neighbours`` with sum_i rho_i e_i e_i^T = A and most entropy; NaN where there are none.

    They are rho_i = c exp(-e_i^T M e_i) with a symmetric M, by Newton's method. For A = 1, c makes the walk round
    to fourth order: sum_i rho_i x_i^4 = 3 sum_i rho_i x_i^2 y_i^2. Then M = diag(log 4).
    """
    axes = len(covariance)
    entries = [(i, j, 1 if i == j else 2) for i in range(axes) for j in range(i, axes)]  # and how often in M
    scale = jnp.trace(covariance) / axes * 4.0 * (2.0 / 3.0) ** (axes - 1)
    wanted = jnp.stack([m * covariance[i, j] for i, j, m in entries]) / scale
    products = jnp.array([[m * e[i] * e[j] for i, j, m in entries] for e in neighbours(axes)], covariance.dtype)

    def newton(entries: Float[Array, " m"], wanted: Float[Array, " m"]) -> Float[Array, " m"]:
        shares = jnp.exp(-products @ entries)
        return solve(products.T @ (shares[:, None] * products), products.T @ shares - wanted, assume_a="pos")

    def improve(_, entries: Float[Array, " m"]) -> Float[Array, " m"]:
        step = newton(entries, fixed)
        return entries + step / jnp.maximum(1.0, jnp.max(jnp.abs(products @ step)))

    fixed = jax.lax.stop_gradient(wanted)
    start = np.log(4.0) * jnp.array([i == j for i, j, _ in entries], covariance.dtype)
    found = jax.lax.stop_gradient(jax.lax.fori_loop(0, NEWTON, improve, start))
    step = newton(found, wanted)  # of no length, with the derivative of the solution
    solved = jnp.max(jnp.abs(step)) < jnp.sqrt(jnp.finfo(step.dtype).eps)
    return jnp.where(solved, scale * jnp.exp(-products @ (found + step)), jnp.nan)
