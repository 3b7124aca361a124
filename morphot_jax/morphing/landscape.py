"""The landscape of many maps: how far each is from each, and what follows from that (``landscape``).

The distance between two maps is how far mass has to move, as a root mean square, in Å:

    d(a, b) = sigma sqrt( 2 S(a, b) ) ,

where S is the debiased Sinkhorn divergence (``divergence``) and sigma the width of its kernel. It is |D| for a map
and its shift by D. A pair takes one solve, with those of both maps to themselves; embedding, order and path take
nothing but the distances (``seriation``).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from time import perf_counter
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from morphot_jax.maps.check import several_maps
from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import bounding_box
from morphot_jax.morphing import seriation
from morphot_jax.morphing.plan import Plan, make_plan
from morphot_jax.morphing.progress import Clock, Progress, ProgressReport
from morphot_jax.morphing.seriation import Order
from morphot_jax.morphing.settings import LANDSCAPE, Settings
from morphot_jax.prepare.prepared import Prepared, prepare_maps
from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_is
from morphot_jax.system.reporting import percent, silent
from morphot_jax.transport import kernels, sinkhorn
from morphot_jax.transport.kernels import Kernel
from morphot_jax.transport.loop import Options, solve
from morphot_jax.transport.relaxation import PLAIN
from morphot_jax.transport.sinkhorn import Problem
from morphot_jax.transport.status import Status
from morphot_jax.transport.support import Side, side_of

AXES = 3  # of the embedding
LEAST, MOST = 3, 1000  # maps
CLEAR = 0.8  # agreement: with less, the maps may not lie along a line
SECONDS_BETWEEN_REPORTS = 0.3


@dataclass(frozen=True)
class Pair:
    """The plan between two maps: KL(P | K) and how its solve ended."""

    value: float
    iterations: int
    marginal_error: float
    status: Status


Pairs = Mapping[tuple[int, int], Pair]  # by the indices of the maps, the smaller first
KeepPair = Callable[[tuple[int, int], Pair], None]
NO_PAIRS: Pairs = MappingProxyType({})


@dataclass(frozen=True, eq=False, repr=False)
class Landscape:
    """Many maps by their distances.

    - ``distances``: d in Å. ``pairs``: the solves behind them, those of maps to themselves included.
    - ``coordinates``: in Å, along the axes of classical scaling; ``shares``: of the squared distances on each.
    - ``order``: along a line, without given ends. ``path``: from its first map to its last through near ones.
    """

    distances: Float[np.ndarray, "n n"]
    pairs: Pairs
    coordinates: Float[np.ndarray, "n axes"]
    shares: Float[np.ndarray, " axes"]
    order: Order
    path: tuple[int, ...]
    settings: Settings
    plan: Plan
    actions: tuple[str, ...]
    warnings: tuple[str, ...]
    clock: Clock

    def __repr__(self) -> str:
        return f"Landscape({len(self.distances)} maps, up to {self.distances.max():.3g} Å apart)"

    @property
    def complete(self) -> bool:
        """Whether every plan converged."""
        return all(pair.status is Status.CONVERGED for pair in self.pairs.values())


def landscape(
    maps: Prepared | Iterable[Volume],
    settings: Settings | None = None,
    *,
    known: Pairs = NO_PAIRS,
    keep: KeepPair = silent,
    report: ProgressReport = silent,
) -> Landscape:
    """Find the distances between all maps, a plane to draw them in, their order along a line, and a path.

    - ``maps``: three or more, or the result of ``prepare_maps``; the first gives the grid.
    - ``settings``: of the solves: sigma, tolerance and the like.
    - ``known``: pairs, by index, that an earlier run with the same maps and settings passed to ``keep``.

    Raises InputError for anything but maps, for maps that cannot be used, and for too few or too many.
    """
    settings = LANDSCAPE if settings is None else settings
    check_is("settings", settings, Settings)
    if not isinstance(maps, Prepared):
        maps = prepare_maps(several_maps(maps, "landscape needs three or more maps"))
    count = len(maps.volumes)
    if not LEAST <= count <= MOST:
        raise InputError(f"{count} maps were given: a landscape has {LEAST} to {MOST}")
    plan, clock = make_plan(maps.volumes, 1, settings, together=True), Clock()
    pairs = dict(known)
    for indices, pair in _solved(maps.volumes, plan, settings, pairs, clock, report):
        pairs[indices] = pair
        keep(indices, pair)
    distances = _distances(pairs, count) * float(np.mean(np.array(plan.sigma) * maps.volumes[0].voxel_size[::-1]))
    order = seriation.ordered(distances)
    coordinates, shares = seriation.embedded(distances, AXES)
    path = seriation.path_between(distances, int(order.indices[0]), int(order.indices[-1]))
    warnings = maps.warnings + plan.warnings + _about(pairs, order)
    return Landscape(
        distances,
        pairs,
        coordinates,
        shares,
        order,
        tuple(path),
        settings,
        plan,
        maps.actions,
        warnings,
        clock,
    )


def _solved(
    volumes: tuple[Volume, ...],
    plan: Plan,
    settings: Settings,
    known: Pairs,
    clock: Clock,
    report: ProgressReport,
) -> Iterator[tuple[tuple[int, int], Pair]]:
    """The pairs that are not known, each as soon as it is solved."""
    every = list(combinations_with_replacement(range(len(volumes)), 2))
    window = bounding_box(np.any([volume.data > 0 for volume in volumes], axis=0))
    data = np.stack([volume.data[window] for volume in volumes])
    z, y, x = data.shape[1:]
    with plan.scope():
        sides = side_of(data.astype(plan.dtype))
        kernel = kernels.make(plan.kernel, (z, y, x), np.array(plan.sigma), plan.dtype)
        tolerance = jnp.asarray(settings.tolerance, plan.dtype)
    wanted = [pair for pair in every if pair not in known]
    started = reported = perf_counter()
    for done, (i, j) in enumerate(wanted):
        with plan.scope(), clock.solving():
            solved = _solve(sides, kernel, i, j, tolerance, plan.iterations)
            value, iterations, error, status = (part.item() for part in jax.device_get(solved))
        yield (i, j), Pair(value, iterations, error, Status(status))
        if (now := perf_counter()) > reported + SECONDS_BETWEEN_REPORTS:
            reported = now
            left = (now - started) / (done + 1) * (len(wanted) - done - 1)
            report(Progress(len(every) - len(wanted) + done + 1, len(every), iterations, error, left))


@partial(jax.jit, static_argnames=("most",))
def _solve(
    sides: Side, kernel: Kernel, i: int | Int[Array, ""], j: int | Int[Array, ""], tolerance: Array, most: int
) -> tuple[Array, Array, Array, Array]:
    """The plan between two of the maps: its value, iterations, marginal error and status."""
    options = Options(tolerance, PLAIN, most)
    solution = solve(
        sinkhorn.solver_for(None, with_cost=False), Problem(sides[i], sides[j], kernel), options, None
    )
    return solution.value, solution.iterations, solution.marginal_error, solution.status


def _distances(pairs: Pairs, count: int) -> Float[np.ndarray, "n n"]:
    """Sqrt(2 S) in sigma, S being the debiased divergence: zero on the diagonal, and symmetric."""
    values = np.zeros((count, count))
    for (i, j), pair in pairs.items():
        values[i, j] = values[j, i] = pair.value
    own = np.diag(values)
    return np.sqrt(2.0 * np.maximum(values - (own[:, None] + own) / 2.0, 0.0))


def _about(pairs: Pairs, order: Order) -> tuple[str, ...]:
    """Warnings about plans that did not converge, and about maps that may not lie along a line."""
    warnings = []
    if bad := [pair for pair in pairs.values() if pair.status is not Status.CONVERGED]:
        worst = max(pair.marginal_error for pair in bad)
        warnings.append(
            f"{len(bad)} of {len(pairs)} plans did not converge (marginal error up to {worst:.1e}): "
            "give a larger --sigma or --tolerance, or more --max-iterations"
        )
    if order.agreement < CLEAR:
        warnings.append(
            f"only {percent(order.agreement)} of the triples of maps agree with the order: "
            "the maps may not lie along a line"
        )
    return tuple(warnings)
