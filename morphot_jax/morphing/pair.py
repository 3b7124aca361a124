"""One pair of maps, solved once: the methods that need a single plan for all their frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from morphot_jax.maps.window import Window, bounding_box, widened
from morphot_jax.morphing.host import Host
from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Clock, ProgressReport
from morphot_jax.morphing.settings import Settings
from morphot_jax.transport import kernels, multilevel
from morphot_jax.transport.bridge import bridge_frames
from morphot_jax.transport.displacement import Ways, displacement_frames, ways_of
from morphot_jax.transport.kernels import Halving, Kernel
from morphot_jax.transport.loop import Solution
from morphot_jax.transport.sinkhorn import Problem, Sinkhorn
from morphot_jax.transport.support import Side, side_of

BRIDGE_SIGMAS = 3.0  # bridges do not stray farther from the maps: at their middle they are sigma / 2 wide
FRAMES_AT_ONCE = 5  # frames computed between two reports; they fit in memory beside the solve


Start = tuple[Float[Array, "z y x"], Float[Array, "z y x"]]  # log K u and log K v (``multilevel``)


@dataclass(frozen=True)
class Transport:
    """A solved pair on the part of the box where its frames can have mass.

    ``window``: that part. ``solution``: the plan, its potentials on the window. ``sides``: the maps on it.
    """

    window: Window
    solution: Solution
    sides: tuple[Side, Side] = field(repr=False)

    @property
    def shape(self) -> kernels.Shape:
        """Voxels of the window along z, y, x."""
        z, y, x = self.solution.potentials[0].shape
        return z, y, x

    @property
    def history(self) -> Float[np.ndarray, "iterations 1"]:
        """The marginal error at every iteration."""
        return np.asarray(self.solution.history.marginal_error)[: int(self.solution.iterations), None]


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
    host = Host.of(plan, settings, clock, report)
    with plan.scope():
        problem = _problem(maps, host.kernel(maps.shape[1:]), room)
        guess = _coarse_start(maps, host, room)
        solution = host.solve(Sinkhorn(with_cost=False), problem, host.options(), lambda: guess)
        sides = tuple(side_of(data[outer].astype(plan.dtype), room=room) for data in pair)
        return Transport(outer, _moved(solution, inner, outer), (sides[0], sides[1]))


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
        z, y, x = transport.shape
        return np.asarray(source.places.spread_in((z, y, x), ways.source_end - ways.source_start, np.nan))


FramesAt = Callable[[Float[Array, " t"]], Float[Array, "t z y x"]]


def _bridge(transport: Transport, plan: Plan) -> FramesAt:
    sigma = jnp.asarray(plan.sigma, plan.dtype)
    return lambda times: bridge_frames(*transport.solution.potentials, sigma, times)


def _displacement(transport: Transport, plan: Plan) -> FramesAt:
    ways, sigma = _ways(transport, plan)
    return lambda times: displacement_frames(ways, times, sigma, transport.shape)


def _ways(transport: Transport, plan: Plan) -> tuple[Ways, Float[Array, "3"]]:
    sigma = jnp.asarray(plan.sigma, plan.dtype)
    kernel = kernels.make(plan.kernel, transport.shape, np.array(plan.sigma), plan.dtype)
    return ways_of(*transport.sides, *transport.solution.potentials, kernel, sigma), sigma


def _coarse_start(maps: Float[np.ndarray, "2 z y x"], host: Host, room: int) -> Start | None:
    """Where to start on a large box, from half the grid; None where iterations are counted from nothing."""
    coarse = multilevel.halved(maps)
    kernel = host.kernel(tuple(2 * n for n in coarse.shape[1:]))
    if maps[0].size < multilevel.FROM or host.settings.iterations is not None or not isinstance(kernel, Halving):
        return None
    half = kernel.halved()
    problem = _problem(coarse, half, room // 4)  # an eighth, and what is cut by the surface
    solution = host.solve(Sinkhorn(with_cost=False), problem, host.rough(multilevel.ERROR))
    _, z, y, x = maps.shape
    return multilevel.start_on((z, y, x), solution, half)


def _problem(maps: Float[np.ndarray, "2 z y x"], kernel: Kernel, room: int) -> Problem:
    return Problem(side_of(maps[0], room=room), side_of(maps[1], room=room), kernel)


def _moved(solution: Solution, inner: Window, outer: Window) -> Solution:
    """The same plan, its potentials on the outer window."""
    pads = tuple((i.start - o.start, o.stop - i.stop) for i, o in zip(inner, outer, strict=True))
    log_u, log_v = (_padded(potential, pads) for potential in solution.potentials)
    return replace(solution, potentials=(log_u, log_v))


@partial(jax.jit, static_argnames=("pads",))
def _padded(log_field: Float[Array, "z y x"], pads: tuple[tuple[int, int], ...]) -> Float[Array, "Z Y X"]:
    return jnp.pad(log_field, pads, constant_values=-jnp.inf)
