r"""Certificates: how much transport between two maps truly costs, between two bounds that hold.

The transport cost of two maps a, b of unit mass, without entropy, is

    W_2^2(a, b) / 2 = min { <P, c> : P >= 0, P 1 = a, P^T 1 = b } ,    c(x, y) = |x - y|^2 / 2 .

Entropic plans spread by sigma, and their marginals are a little off, so they do not give it. But it lies between

- from below, <g^c, a> + <g^cc, b> for any g on the target, with the c-transforms g^c(x) = min_y c(x, y) - g(y)
  and g^cc(y) = min_x c(x, y) - g^c(x) (Villani 2009; Peyre, Cuturi 2019). Each is three passes along the axes;
- from above, the cost of any plan with the marginals a and b. The columns of an entropic plan are scaled down
  until none has too much mass. The rest of both maps is moved by a plan of a wider kernel, what that leaves by one
  of a wider kernel still, and the last by a' b'^T (Altschuler, Weed, Rigollet 2017, who move all of the rest so).

Both bounds come nearer as sigma falls. So sigma is lowered in steps, each from the potentials of the last one in
units of cost, until the bounds are near enough.

For voxels with equal edges, costs are whole numbers of halves. Then the potentials may be rounded to halves too,
in a way that never makes the lower bound worse, and mostly makes it that of the linear program.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from morphot_jax.system.reporting import Report, silent
from morphot_jax.transport import kernels
from morphot_jax.transport.checks import check_certify
from morphot_jax.transport.displacement import barycentric_map
from morphot_jax.transport.fewer_axes import BOX, in_box
from morphot_jax.transport.kernels import Kernel, Shape, divided, safe_log
from morphot_jax.transport.loop import Options, Solution, solve
from morphot_jax.transport.narrow import NarrowKernel, largest
from morphot_jax.transport.relaxation import Relaxation
from morphot_jax.transport.sinkhorn import MultilevelSinkhorn, Problem, Sinkhorn
from morphot_jax.transport.support import side_of

FIRST = 1.0  # sigma of the first plan
FIRST_ERROR, FIRST_ITERATIONS = 1e-5, 200  # its marginal error, and its iterations at most
FALL = math.sqrt(0.5)  # sigma of a step over that of the step before
RELAXATION = Relaxation(1.95, scale=1.0)
ERROR = 0.01  # of the tolerance: marginal error at which a step ends
FEW = 1e-5  # share of the mass that may move farther than the narrow kernels reach; it is part of the rest
MARGIN = 3  # voxels that a reach adds to the mean ways of the first plan
MULTIPLE = 4  # of voxels: reaches are cut to it, so that few are compiled
REST_ITERATIONS = 20
ALMOST = 1e-9  # of a voxel^2: potentials as near as this are tight
ROUND_OFF = 1e-10  # voxel^2: bounds as near as this count as equal

Box = Float[Array, "z y x"]
_mean_ends = jax.jit(barycentric_map)


@dataclass(frozen=True)
class Certificate:
    """Two bounds of the transport cost W_2^2 / 2 between two maps of unit mass.

    - ``lower``, ``upper``: the cost lies between them; in voxel^2, or in the square of the spacing's unit.
    - ``gap``: (upper - lower) / upper; 0 where the two differ by round-off only.
    - ``sigma``: of the last step, in voxels. ``iterations``: of all steps together.
    """

    lower: float
    upper: float
    gap: float
    sigma: float
    iterations: int


def certify(
    source: Float[Array | np.ndarray, "*grid"],
    target: Float[Array | np.ndarray, "*grid"],
    *,
    tolerance: float = 0.01,
    sigma: float = 0.15,
    iterations: int = 50,
    spacing: float | tuple[float, ...] = 1.0,
    start: tuple[Solution, float] | None = None,
    report: Report = silent,
) -> Certificate:
    """A lower and an upper bound of W_2^2(source, target) / 2, the transport cost without entropy.

    - ``source``, ``target``: non-negative densities on a grid of one, two or three axes; brought to unit mass.
    - ``tolerance``: end when the gap, (upper - lower) / upper, is at or below it. It also ends after the step of
      the smallest ``sigma`` (voxels); then the gap may be larger.
    - ``iterations``: the most of a step.
    - ``spacing``: the length of a voxel's edges along the axes of the grid, or one number for all; the cost is in
      its unit squared. 1: voxel^2.
    - ``start``: a plan between the two maps, of ``solve_sinkhorn``, and its kernel's sigma in voxels; otherwise
      one is solved.
    - ``report``: called with how many steps are done, and how many there may be.

    The bounds hold to round-off: about 1e-12 of the longest squared distance in the box. They are computed in
    double precision, whatever the maps have. Raises InputError for arrays that are no densities or differ in
    shape, for options out of range, and under a caller's jit, where values are not known.
    """
    check_certify(source, target, tolerance, sigma, iterations, spacing, start)
    axes = np.ndim(source)
    edges = np.broadcast_to(np.asarray(spacing, np.float64), (axes,))
    unit = float(edges.min())
    with jax.enable_x64(True):
        maps = _Maps.of(np.asarray(source, np.float64), np.asarray(target, np.float64), edges / unit)
        plan = _first_plan(maps) if start is None else _given_plan(maps, *start)
        reach = _reach(maps, plan)
        widths = _ladder(plan.width, sigma)
        lower, upper, made = 0.0, float(_rank_one(maps.a, maps.b, maps.edges)), 0
        for step, width in enumerate(widths):
            report(step, len(widths))
            plan, steps = _next_plan(maps, plan, width, reach, Options(ERROR * tolerance, RELAXATION, iterations))
            made += steps
            lower = max(lower, float(_dual(maps.a, maps.b, width**2 * plan.log_v, maps.edges)))
            upper = min(upper, _primal(maps, plan, reach))
            if upper - lower <= max(ROUND_OFF, tolerance * upper):
                break
        report(len(widths), len(widths))
    apart = upper - lower
    gap = apart / upper if apart > ROUND_OFF else 0.0
    return Certificate(unit**2 * lower, unit**2 * upper, gap, plan.width, made)


class _Maps(NamedTuple):
    """Two maps of unit mass on the smallest box around both.

    ``edges``: of the voxels, along z, y, x; the shortest is 1. ``window``: where the box lies in the grid's.
    """

    a: Box
    b: Box
    edges: Float[Array, "3"]
    window: tuple[slice, ...]

    @classmethod
    def of(cls, source: Float[np.ndarray, "*grid"], target: Float[np.ndarray, "*grid"], edges) -> "_Maps":
        pair = [in_box(values / values.sum(), values.ndim) for values in (source, target)]
        filled = np.argwhere(pair[0] + pair[1] > 0)
        ends = zip(filled.min(axis=0), filled.max(axis=0), strict=True)
        window = tuple(slice(int(first), int(last) + 1) for first, last in ends)
        a, b = (jnp.asarray(values[window]) for values in pair)
        return cls(a, b, jnp.asarray(np.concatenate([np.ones(BOX - len(edges)), edges])), window)

    @property
    def shape(self) -> Shape:
        z, y, x = self.a.shape
        return z, y, x

    def problem(self, kernel: Kernel) -> Problem:
        """The entropic problem with this kernel."""
        return Problem(side_of(np.asarray(self.a)), side_of(np.asarray(self.b)), kernel)

    def wide(self, width: float) -> Kernel:
        """A fast kernel of a width of about a voxel and more."""
        return kernels.heat(self.shape, width / self.edges, self.a.dtype)

    def narrow(self, width: float, reach: Shape) -> Kernel:
        """A kernel of any width, up to a reach."""
        return NarrowKernel(width / self.edges, self.shape, reach)


class _Plan(NamedTuple):
    """A plan of the kernel of a width: log u and log v on the box, -inf where there is no mass."""

    log_u: Box
    log_v: Box
    width: float


def _first_plan(maps: _Maps) -> _Plan:
    options = Options(FIRST_ERROR, max_iterations=FIRST_ITERATIONS)
    solution = solve(MultilevelSinkhorn(with_cost=False), maps.problem(maps.wide(FIRST)), options)
    return _Plan(*solution.potentials, FIRST)


def _given_plan(maps: _Maps, solution: Solution, width: float) -> _Plan:
    potentials = (np.asarray(each, np.float64) for each in solution.potentials)
    log_u, log_v = (jnp.asarray(in_box(each, each.ndim)[maps.window]) for each in potentials)
    return _Plan(log_u, log_v, width)


def _ladder(width: float, smallest: float) -> list[float]:
    """The widths of the steps."""
    steps = max(1, math.floor(math.log(smallest / width) / math.log(FALL) + 1e-9))
    return [width * FALL ** (step + 1) for step in range(steps)]


def _reach(maps: _Maps, plan: _Plan) -> Shape:
    """Voxels along z, y, x that all but few of the mass moves at most, by the mean ways of a wide plan."""
    kernel, longest = maps.wide(plan.width), np.zeros(BOX)
    for mass, log_potential in ((maps.a, plan.log_v), (maps.b, plan.log_u)):
        index = np.flatnonzero(mass)
        places = np.stack(np.unravel_index(index, maps.shape))
        ways = np.abs(np.asarray(_mean_ends(log_potential, kernel, jnp.asarray(index))) - places)
        longest = np.maximum(longest, [_all_but_few(way, np.asarray(mass).ravel()[index]) for way in ways])
    whole = (MULTIPLE * math.ceil((way + MARGIN) / MULTIPLE) for way in longest)
    z, y, x = (min(way, n - 1) for way, n in zip(whole, maps.shape, strict=True))
    return z, y, x


def _all_but_few(ways: Float[np.ndarray, " n"], mass: Float[np.ndarray, " n"]) -> float:
    """The least length that all but ``FEW`` of the mass does not exceed."""
    ways = np.nan_to_num(ways, nan=0.0)
    order = np.argsort(ways)
    within = np.cumsum(mass[order]) <= (1.0 - FEW) * mass.sum()
    return float(ways[order][min(within.sum(), len(ways) - 1)])


def _next_plan(maps: _Maps, plan: _Plan, width: float, reach: Shape, options: Options) -> tuple[_Plan, int]:
    """The plan of a narrower kernel, from the potentials of a wider one in units of cost; and its iterations."""
    scale = (plan.width / width) ** 2
    log_ku, log_kv = safe_log(maps.b) - plan.log_v, safe_log(maps.a) - plan.log_u
    problem = maps.problem(maps.narrow(width, reach))
    solution = solve(Sinkhorn(with_cost=False), problem, options, (scale * log_ku, scale * log_kv))
    return _Plan(*solution.potentials, width), int(solution.iterations)


@jax.jit
def _dual(a: Box, b: Box, g: Box, edges: Float[Array, "3"]) -> Float[Array, ""]:
    """The better of the dual values of g and of g rounded to halves, <g^c, a> + <g^cc, b>."""

    def transformed(g: Box) -> tuple[Box, Box]:
        first = -largest(jnp.where(b > 0, g, -jnp.inf), edges)
        return first, -largest(jnp.where(a > 0, first, -jnp.inf), edges)

    def value(pair: tuple[Box, Box]) -> Float[Array, ""]:
        return jnp.sum(a * pair[0]) + jnp.sum(b * pair[1])

    pair = transformed(g)
    return jnp.maximum(value(pair), value(transformed(_in_halves(a, b, *pair))))


def _in_halves(a: Box, b: Box, f: Box, g: Box) -> Box:
    """Potentials g rounded to halves so that the dual value does not fall.

    Between voxels with edges of 1, costs are whole numbers of halves, and so are some of the best potentials.
    Where f + g <= c, each s in [0, 1) gives 2 f' = floor(2 f + s) and -2 g' = floor(-2 g + s), with f' + g' <= c
    too. The dual value averaged over s is the same, so that of the best s is no less. Sorting finds it: where 2 f
    or -2 g is 1 - s or more beyond a whole number it rises, which adds a to the value, or takes b from it.
    """
    behind = jnp.concatenate([(2.0 * f - ALMOST).ravel() % 1.0, (-2.0 * g).ravel() % 1.0])
    gains = jnp.concatenate([a.ravel(), -b.ravel()])
    order = jnp.argsort(-behind)
    gained = jnp.cumsum(gains[order])
    best = jnp.argmax(gained)
    s = jnp.where(gained[best] > 0, 1.0 - behind[order[best]], 0.0)
    return -jnp.floor(-2.0 * g + s + ALMOST / 2.0) / 2.0


def _primal(maps: _Maps, plan: _Plan, reach: Shape) -> float:
    """The cost of the plan, its columns scaled down, and of plans for the rest."""
    cost, a, b = _rounded(maps.narrow(plan.width, reach), maps.a, maps.b, plan.log_u, plan.log_v, maps.edges)
    width, longest = FIRST, float(np.max(maps.edges * np.array(maps.shape)))
    while width < longest:
        kernel = maps.wide(width)
        more, a, b = _rounded(kernel, a, b, *_rest_plan(kernel, a, b), maps.edges)
        cost, width = cost + more, 2.0 * width
    return float(cost + _rank_one(a, b, maps.edges))


@jax.jit
def _rest_plan(kernel: Kernel, a: Box, b: Box) -> tuple[Box, Box]:
    """Log u and log v of a plan with exact rows, after some plain iterations."""
    log_a, log_b = safe_log(a), safe_log(b)

    def exact_rows(log_v: Box) -> Box:
        return divided(log_a, kernel.log_apply(log_v))[0]

    def iterate(_, log_v: Box) -> Box:
        return divided(log_b, kernel.log_apply(exact_rows(log_v)))[0]

    log_v = jax.lax.fori_loop(0, REST_ITERATIONS, iterate, jnp.where(b > 0, 0.0, -jnp.inf))
    return exact_rows(log_v), log_v


@jax.jit
def _rounded(
    kernel: Kernel, a: Box, b: Box, log_u: Box, log_v: Box, edges: Float[Array, "3"]
) -> tuple[Float[Array, ""], Box, Box]:
    """The cost of a plan with exact rows after its columns are scaled down, and what it leaves of both maps."""
    columns, log_b = log_v + kernel.log_apply(log_u), safe_log(b)
    scaled = jnp.minimum(columns, log_b)
    log_v = jnp.where(scaled < columns, log_v + (scaled - columns), log_v)
    places = _positions(a, edges)
    moments = kernel.log_apply(log_v + jnp.concatenate([jnp.zeros((1, *a.shape)), jnp.log(places)]))
    moments = jnp.where(jnp.isfinite(log_u), jnp.exp(log_u + moments), 0.0)
    rows, columns = moments[0], jnp.exp(scaled)
    cost = jnp.sum((rows + columns) * places**2) / 2.0 - jnp.sum(places * moments[1:])
    return cost, jnp.maximum(a - rows, 0.0), jnp.maximum(b - columns, 0.0)


@jax.jit
def _rank_one(a: Box, b: Box, edges: Float[Array, "3"]) -> Float[Array, ""]:
    """The cost of a b^T / mass, for a and b of the same mass."""
    places, mass = _positions(a, edges), jnp.maximum(jnp.sum(a), jnp.sum(b))

    def mean(density: Box, values: Float[Array, "..."]) -> Float[Array, "..."]:
        total = jnp.sum(density)
        return jnp.sum(density * values, axis=(-3, -2, -1)) / jnp.where(total > 0, total, 1.0)

    first, second = mean(a, places), mean(b, places)
    apart = jnp.sum((first - second) ** 2)
    spread = mean(a, (places - first[:, None, None, None]) ** 2) + mean(
        b, (places - second[:, None, None, None]) ** 2
    )
    return mass * (apart + jnp.sum(spread)) / 2.0


def _positions(like: Box, edges: Float[Array, "3"]) -> Float[Array, "3 z y x"]:
    """The positions of voxels, all above 0."""
    lines = [edge * (1.0 + jnp.arange(n, dtype=like.dtype)) for edge, n in zip(edges, like.shape, strict=True)]
    return jnp.stack(jnp.meshgrid(*lines, indexing="ij"))
