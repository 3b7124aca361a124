"""One transport plan between two maps, and the frames of the methods 'bridge' and 'displacement' from it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from morphot_jax.maps.window import Window, bounding_box, widened
from morphot_jax.morphing.host import Host
from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Clock, ProgressReport
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.walls import Walls
from morphot_jax.transport import coarse_start, kernels, unbalanced
from morphot_jax.transport.bridge import bridge_frames, walk_frames
from morphot_jax.transport.displacement import Paths, displacement_frames, paths_of
from morphot_jax.transport.kernels import Halving, Kernel
from morphot_jax.transport.loop import Solution
from morphot_jax.transport.sinkhorn import Problem
from morphot_jax.transport.support import Side, side_of

BRIDGE_SIGMAS = 3.0  # margin: bridges stay within it, since at their middle they are sigma / 2 wide
FRAMES_AT_ONCE = 5  # frames computed between two reports; few enough to fit in memory beside the solve


Start = tuple[Float[Array, "z y x"], Float[Array, "z y x"]]  # log K u and log K v (``coarse_start``)


class Fading(NamedTuple):
    """What an unbalanced plan does not move, on the window, in the unit of ``Transport.masses``.

    - ``faded``: what fades of the source and what appears in the target.
    - ``own``: log d of the plans of both maps to themselves.
    """

    faded: Float[np.ndarray, "2 z y x"]
    own: tuple[Float[Array, "z y x"], Float[Array, "z y x"]]


@dataclass(frozen=True)
class Transport:
    """A plan between two maps, on the part of the box where frames can have mass.

    - ``window``: that part. ``solution``: the plan, with its potentials on the window.
    - ``sides``: source and target on their supports in the window; of an unbalanced plan what it moves of them.
    - ``masses``: of both maps, divided by their mean; one each where the plan is balanced.
    - ``fading``: of an unbalanced plan. ``walk``: the kernel of a plan inside walls.
    """

    window: Window
    solution: Solution
    sides: tuple[Side, Side] = field(repr=False)
    masses: tuple[float, float] = (1.0, 1.0)
    fading: Fading | None = field(default=None, repr=False)
    walk: Kernel | None = field(default=None, repr=False)

    def mass_at(self, share: float) -> float:
        """The mass of the frame at a fraction of the way."""
        return (1.0 - share) * self.masses[0] + share * self.masses[1]

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
    walls: Walls | None = None,
) -> Transport:
    """Solve for the plan between two maps.

    The solve uses the smallest box around both maps; a larger one would give the same plan, since kernels are
    evaluated only where there is mass. The potentials are returned on that box and a margin for the bridges.

    ``within``: another box around both maps to solve on. ``room``: the least number of voxels to make room for in
    each map. Pairs with the same two share one compilation. ``walls``: mass stays inside, and the box is that of
    the region.
    """
    inner = within or bounding_box(pair.sum(axis=0) > 0)
    outer = widened(inner, plan.sigma, BRIDGE_SIGMAS, pair.shape[1:])
    if walls is not None:
        inner = outer = walls.window
    maps = pair[(slice(None), *inner)].astype(plan.dtype)
    host = Host.of(plan, settings, clock, report)
    with plan.scope():
        if plan.reach is not None:
            return _unbalanced(maps, (inner, outer), host, plan.reach)
        walk = None if walls is None else walls.kernel(plan.sigma, plan.dtype)
        problem = _problem(maps, walk or host.kernel(maps.shape[1:]), room)
        guess = _coarse_start(maps, host, room) if walk is None else None
        solution = host.solve(host.plan_solver(), problem, host.options(), lambda: guess)
        sides = tuple(side_of(data[outer].astype(plan.dtype), room=room) for data in pair)
        return Transport(outer, _on_outer(solution, inner, outer), (sides[0], sides[1]), walk=walk)


def frames_between(
    transport: Transport,
    times: Float[np.ndarray, " t"],
    plan: Plan,
    settings: Settings,
    clock: Clock,
    wanted: Bool[np.ndarray, " t"],
) -> Iterator[tuple[int, Float[np.ndarray, "z y x"]]]:
    """The frames marked in ``wanted``, each with its index among ``times``, by the method of the settings.

    They have unit mass, lie on the transport's window and come in order. A frame does not depend on which others
    are wanted.
    """
    with plan.scope(), clock.solving():
        frames_at = _bridge(transport, plan) if settings.method == "bridge" else _displacement(transport, plan)
    for first in range(0, len(times), FRAMES_AT_ONCE):
        chunk = times[first : first + FRAMES_AT_ONCE]
        indices = first + np.flatnonzero(wanted[first : first + FRAMES_AT_ONCE])
        if not len(indices):
            continue
        filled = np.concatenate([chunk, np.repeat(chunk[-1:], FRAMES_AT_ONCE - len(chunk))])
        with plan.scope(), clock.solving():
            frames = np.asarray(frames_at(jnp.asarray(filled, plan.dtype)))
        if transport.fading is not None:
            frames = frames + np.tensordot(
                np.stack([1.0 - filled, filled], axis=1), transport.fading.faded, axes=1
            )
        yield from ((int(index), frames[index - first]) for index in indices)


def averaged_displacement(transport: Transport, plan: Plan) -> Float[np.ndarray, "3 z y x"]:
    """D, how far the source's mass moves: voxels along z, y, x, on the transport's window; NaN without mass."""
    source, _ = transport.sides
    with plan.scope():
        paths, _ = _paths(transport, plan)
        z, y, x = transport.shape
        return np.asarray(source.places.spread_in((z, y, x), paths.source_end - paths.source_start, np.nan))


FramesAt = Callable[[Float[Array, " t"]], Float[Array, "t z y x"]]


def _bridge(transport: Transport, plan: Plan) -> FramesAt:
    if (walk := transport.walk) is not None:
        return lambda times: walk_frames(*transport.solution.potentials, walk, times)
    sigma = jnp.asarray(plan.sigma, plan.dtype)
    return lambda times: bridge_frames(*transport.solution.potentials, sigma, times)


def _displacement(transport: Transport, plan: Plan) -> FramesAt:
    paths, sigma = _paths(transport, plan)
    spread = sigma if transport.fading is None else jnp.zeros_like(sigma)
    return lambda times: displacement_frames(paths, times, spread, transport.shape)


def _paths(transport: Transport, plan: Plan) -> tuple[Paths, Float[Array, "3"]]:
    sigma = jnp.asarray(plan.sigma, plan.dtype)
    kernel = kernels.make(plan.kernel, transport.shape, np.array(plan.sigma), plan.dtype)
    own = None if transport.fading is None else transport.fading.own
    return paths_of(*transport.sides, *transport.solution.potentials, kernel, sigma, own), sigma


def _unbalanced(
    maps: Float[np.ndarray, "2 z y x"],
    windows: tuple[Window, Window],
    host: Host,
    reach: float,
) -> Transport:
    """The same by an unbalanced plan: what it moves of both maps, and what fades and appears."""
    inner, outer = windows
    kernel, mean = host.kernel(maps.shape[1:]), maps.sum() / 2.0
    masses, sides = unbalanced.masses_of(*maps), (side_of(maps[0]), side_of(maps[1]))
    problem = unbalanced.problem_of(sides, masses, kernel, jnp.asarray(reach, maps.dtype))
    solution = host.solve(unbalanced.UnbalancedSinkhorn(), problem, host.options())
    part = unbalanced.carried_part(*maps, solution, kernel)
    carried = np.stack([part.kept, part.made])
    pads = _pads(inner, outer)
    faded = np.pad(np.maximum(maps / mean - carried, 0.0), ((0, 0), *pads))
    one, other = (side_of(data).of_mass(data.sum()) for data in np.pad(carried, ((0, 0), *pads)))
    own = tuple(
        _padded(side.places.spread_in(kernel.shape, log_d, -jnp.inf), pads)
        for side, log_d in zip(sides, problem.prior, strict=True)
    )
    of_part = replace(solution, potentials=(part.log_u, part.log_v), carried=None)
    found, fading = (float(masses[0]), float(masses[1])), Fading(faded, (own[0], own[1]))
    return Transport(outer, _on_outer(of_part, inner, outer), (one, other), found, fading)


def _coarse_start(maps: Float[np.ndarray, "2 z y x"], host: Host, room: int) -> Start | None:
    """The start on a large box, from a solve on half the grid.

    None on a small box, and where an exact number of iterations is set, which counts from a cold start.
    """
    if maps[0].size < coarse_start.FROM or host.settings.iterations is not None:
        return None
    coarse = coarse_start.halved(maps)
    kernel = host.kernel(tuple(2 * n for n in coarse.shape[1:]))
    if not isinstance(kernel, Halving):
        return None
    half = kernel.halved()
    problem = _problem(coarse, half, room // 4)  # an eighth of the voxels, and more for those at the surface
    solution = host.solve(host.plan_solver(), problem, host.start_options(coarse_start.ERROR))
    _, z, y, x = maps.shape
    return coarse_start.start_on((z, y, x), solution, half)


def _problem(maps: Float[np.ndarray, "2 z y x"], kernel: Kernel, room: int) -> Problem:
    return Problem(side_of(maps[0], room=room), side_of(maps[1], room=room), kernel)


def _on_outer(solution: Solution, inner: Window, outer: Window) -> Solution:
    """The same plan with its potentials on the outer window."""
    pads = _pads(inner, outer)
    log_u, log_v = (_padded(potential, pads) for potential in solution.potentials)
    return replace(solution, potentials=(log_u, log_v))


def _pads(inner: Window, outer: Window) -> tuple[tuple[int, int], ...]:
    """How many voxels the outer window adds before and behind each axis."""
    return tuple((i.start - o.start, o.stop - i.stop) for i, o in zip(inner, outer, strict=True))


@partial(jax.jit, static_argnames=("pads",))
def _padded(log_field: Float[Array, "z y x"], pads: tuple[tuple[int, int], ...]) -> Float[Array, "Z Y X"]:
    return jnp.pad(log_field, pads, constant_values=-jnp.inf)
