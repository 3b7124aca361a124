"""One pair of maps, solved once: the host's side of the methods that need a single plan for all their frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from morphot_jax.maps.window import Window, bounding_box, widened
from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Clock, ProgressReport, Watch, run_in_stretches
from morphot_jax.morphing.settings import Settings
from morphot_jax.transport import kernels, multilevel, sinkhorn
from morphot_jax.transport.bridge import bridge_frames
from morphot_jax.transport.displacement import Ways, displacement_frames, ways_of
from morphot_jax.transport.iterate import Loop
from morphot_jax.transport.kernels import Kernel, SeparableKernel
from morphot_jax.transport.sinkhorn import Coupling, Problem
from morphot_jax.transport.support import Side, side_of

BRIDGE_SIGMAS = 3.0  # bridges do not stray farther from the maps: at their middle they are sigma / 2 wide
FRAMES_AT_ONCE = 5  # frames computed between two reports; they fit in memory beside the solve


Start = tuple[Float[Array, "z y x"], Float[Array, "z y x"]]  # log K u and log K v (``pyramid``)


@dataclass(frozen=True)
class Transport:
    """A solved pair on the part of the box where its frames can have mass.

    ``window``: that part. ``coupling``: the plan, its potentials on the window. ``sides``: the maps on it.
    """

    window: Window
    coupling: Coupling = field(repr=False)
    sides: tuple[Side, Side] = field(repr=False)

    @property
    def history(self) -> Float[np.ndarray, "iterations 1"]:
        """The marginal error at every iteration."""
        return np.asarray(self.coupling.history)[: int(self.coupling.iterations), None]


def solve_pair(
    pair: Float[np.ndarray, "2 z y x"],
    plan: Plan,
    settings: Settings,
    *,
    clock: Clock,
    report: ProgressReport,
    within: Window | None = None,
    room: int = 0,
) -> Transport:
    """Solve between two maps.

    The solve sees the smallest box around both maps, which changes nothing: kernels are evaluated where there is
    mass. Its potentials come back on that box and a margin that bridges may stray into. ``within``: a box around
    both maps to solve on instead, with ``room`` for so many voxels of a map: several pairs share one compilation.
    """
    inner = within or bounding_box(pair.sum(axis=0) > 0)
    outer = widened(inner, plan.sigma, BRIDGE_SIGMAS, pair.shape[1:])
    maps = pair[(slice(None), *inner)].astype(plan.dtype)
    with plan.scope():
        fixed = settings.iterations is not None
        watch = Watch(1, 1, plan.iterations, settings, report)
        start = None
        if maps[0].size >= multilevel.FROM and not fixed:
            start = _coarse_start(maps, plan, clock, watch, room)
        problem = _problem(maps, _kernel(maps.shape[1:], plan), room)
        tolerance = -1.0 if fixed else settings.tolerance
        loop = run_sinkhorn(problem, plan, clock, watch, tolerance=tolerance, most=plan.iterations, start=start)
        coupling = sinkhorn.finish(loop, problem, settings.tolerance, fixed_iterations=fixed, with_cost=False)
        sides = tuple(side_of(data[outer].astype(plan.dtype), room=room) for data in pair)
        return Transport(outer, _moved(coupling, inner, outer), (sides[0], sides[1]))


def run_sinkhorn(
    problem: Problem,
    plan: Plan,
    clock: Clock,
    watch: Watch,
    *,
    tolerance: float,
    most: int,
    start: Start | None = None,
) -> Loop:
    """Run a two-map solve to its end, with progress: to ``tolerance``, or ``most`` iterations."""

    def begin() -> Loop:
        return sinkhorn.begin(problem, start, max_iterations=most)

    def advance(loop: Loop, until: int) -> Loop:
        return sinkhorn.advance(loop, problem, plan.relaxation, tolerance, until)

    return run_in_stretches(begin, advance, most, clock, watch)


def frames_between(
    transport: Transport,
    times: Float[np.ndarray, " t"],
    plan: Plan,
    settings: Settings,
    clock: Clock,
    wanted: Bool[np.ndarray, " t"],
) -> Iterator[tuple[int, Float[np.ndarray, "z y x"]]]:
    """The wanted frames, of unit mass, on the transport's window, by the method of the settings, in order.

    Each with its place among ``times``. Which are wanted changes nothing about them.
    """
    with plan.scope(), clock.solving():
        frames_at = _bridge(transport, plan) if settings.method == "bridge" else _displacement(transport, plan)
    for first in range(0, len(times), FRAMES_AT_ONCE):
        some = times[first : first + FRAMES_AT_ONCE]
        places = first + np.flatnonzero(wanted[first : first + FRAMES_AT_ONCE])
        if not len(places):
            continue
        filled = np.concatenate([some, np.repeat(some[-1:], FRAMES_AT_ONCE - len(some))])
        with plan.scope(), clock.solving():
            frames = np.asarray(frames_at(jnp.asarray(filled, plan.dtype)))
        yield from ((int(place), frames[place - first]) for place in places)


def ways_between(transport: Transport, plan: Plan) -> Float[np.ndarray, "3 z y x"]:
    """How far the mass of the source goes: voxels along z, y, x, on the transport's window; NaN without mass."""
    source, _ = transport.sides
    with plan.scope():
        ways, _ = _ways(transport, plan)
        z, y, x = transport.coupling.log_u.shape
        return np.asarray(source.places.spread_in((z, y, x), ways.source_end - ways.source_start, np.nan))


FramesAt = Callable[[Float[Array, " t"]], Float[Array, "t z y x"]]


def _bridge(transport: Transport, plan: Plan) -> FramesAt:
    coupling = transport.coupling
    sigma = jnp.asarray(plan.sigma, plan.dtype)
    return lambda times: bridge_frames(coupling.log_u, coupling.log_v, sigma, times)


def _displacement(transport: Transport, plan: Plan) -> FramesAt:
    ways, sigma = _ways(transport, plan)
    z, y, x = transport.coupling.log_u.shape
    return lambda times: displacement_frames(ways, times, sigma, (z, y, x))


def _ways(transport: Transport, plan: Plan) -> tuple[Ways, Float[Array, "3"]]:
    coupling, (source, target) = transport.coupling, transport.sides
    z, y, x = coupling.log_u.shape
    sigma = jnp.asarray(plan.sigma, plan.dtype)
    return ways_of(source, target, coupling.log_u, coupling.log_v, _kernel((z, y, x), plan), sigma), sigma


def _coarse_start(maps: Float[np.ndarray, "2 z y x"], plan: Plan, clock: Clock, watch: Watch, room: int) -> Start:
    """Where to start, from a solve on half the grid."""
    coarse = multilevel.halved(maps)
    kernel = multilevel.halved_kernel(_kernel(tuple(2 * n for n in coarse.shape[1:]), plan))
    problem = _problem(coarse, kernel, room // 4)  # an eighth, and what is cut by the surface
    loop = run_sinkhorn(problem, plan, clock, watch, tolerance=multilevel.ERROR, most=plan.iterations)
    coupling = sinkhorn.finish(loop, problem, multilevel.ERROR, with_cost=False)
    _, z, y, x = maps.shape
    return multilevel.start_on((z, y, x), coupling, kernel)


def _problem(maps: Float[np.ndarray, "2 z y x"], kernel: Kernel, room: int) -> Problem:
    return Problem(side_of(maps[0], room=room), side_of(maps[1], room=room), kernel)


def _kernel(shape: tuple[int, ...], plan: Plan) -> SeparableKernel:
    z, y, x = shape
    kernel = kernels.make(plan.kernel, (z, y, x), np.array(plan.sigma), plan.dtype)
    assert isinstance(kernel, SeparableKernel)  # by the settings of methods that have a single plan
    return kernel


def _moved(coupling: Coupling, inner: Window, outer: Window) -> Coupling:
    """The same plan, its potentials on the outer window."""
    pads = tuple((i.start - o.start, o.stop - i.stop) for i, o in zip(inner, outer, strict=True))
    return replace(coupling, log_u=_padded(coupling.log_u, pads), log_v=_padded(coupling.log_v, pads))


@partial(jax.jit, static_argnames=("pads",))
def _padded(log_field: Float[Array, "z y x"], pads: tuple[tuple[int, int], ...]) -> Float[Array, "Z Y X"]:
    return jnp.pad(log_field, pads, constant_values=-jnp.inf)
