"""One pair of maps, solved once: the host's side of the methods that need a single plan for all their frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from morphot_jax import kernels, sinkhorn
from morphot_jax.bridge import bridge_frames
from morphot_jax.displacement import displacement_frames
from morphot_jax.iterate import Loop
from morphot_jax.plan import Plan
from morphot_jax.progress import Clock, Progress, Watch, run_in_stretches
from morphot_jax.settings import Settings
from morphot_jax.sinkhorn import Coupling, Problem, Side

Window = tuple[slice, slice, slice]

FRAMES_AT_ONCE = 4  # frames computed between two reports; they fit in memory beside the solve


@dataclass(frozen=True)
class Transport:
    """A solved pair on the part of the box where its frames can have mass.

    ``window``: that part. ``coupling``: the plan, its potentials on the window. ``sides``: the maps on it.
    """

    window: Window
    coupling: Coupling
    sides: tuple[Side, Side]

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
    report: Callable[[Progress], None],
) -> Transport:
    """Solve between two maps.

    The solve sees the smallest box around both maps, which changes nothing: kernels are evaluated where there is
    mass. Its potentials come back on that box and a margin that bridges may stray into.
    """
    inner = bounding_box(pair.sum(axis=0) > 0)
    outer = widened(inner, margins(plan.sigma), pair.shape[1:])
    with plan.scope():
        problem = _problem(pair[(slice(None), *inner)], plan)
        watch = Watch(1, 1, plan.iterations, settings, report)
        fixed = settings.iterations is not None

        def advance(loop: Loop, until: int) -> Loop:
            tolerance = -1.0 if fixed else settings.tolerance
            return sinkhorn.advance(loop, problem, plan.relaxation, tolerance, until)

        loop = run_in_stretches(
            lambda: sinkhorn.begin(problem, max_iterations=plan.iterations), advance, plan.iterations, clock, watch
        )
        coupling = sinkhorn.finish(loop, problem, settings.tolerance, fixed_iterations=fixed)
        sides = tuple(sinkhorn.side_of(jnp.asarray(data[outer], plan.dtype)) for data in pair)
        return Transport(outer, _moved(coupling, inner, outer), (sides[0], sides[1]))


def frames_between(
    transport: Transport, times: Float[np.ndarray, " t"], plan: Plan, settings: Settings, clock: Clock
) -> Iterator[Float[np.ndarray, "z y x"]]:
    """Frames of unit mass on the transport's window, by the method of the settings, in order."""
    coupling = transport.coupling
    shape = coupling.log_u.shape
    for first in range(0, len(times), FRAMES_AT_ONCE):
        some = times[first : first + FRAMES_AT_ONCE]
        filled = np.concatenate([some, np.repeat(some[-1:], FRAMES_AT_ONCE - len(some))])
        with plan.scope(), clock.solving():
            t, sigma = jnp.asarray(filled, plan.dtype), jnp.asarray(plan.sigma, plan.dtype)
            if settings.method == "bridge":
                frames = bridge_frames(coupling.log_u, coupling.log_v, sigma, t)
            else:
                kernel = kernels.make("heat", (shape[0], shape[1], shape[2]), sigma, plan.dtype)
                sides = [(side.index, jnp.exp(side.log_mass)) for side in transport.sides]
                frames = displacement_frames(sides[0], sides[1], coupling.log_u, coupling.log_v, kernel, t)
            frames = np.asarray(frames)
        yield from frames[: len(some)]


def bounding_box(mask: np.ndarray) -> Window:
    """The smallest box around what is true."""
    slices = []
    for axis in range(3):
        present = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        slices.append(slice(int(present[0]), int(present[-1]) + 1))
    return slices[0], slices[1], slices[2]


def margins(sigma: tuple[float, float, float]) -> tuple[int, int, int]:
    """Voxels along z, y, x past which less than 1e-15 of a bridge strays: it is sigma/2 wide at its middle."""
    z, y, x = (int(np.ceil(5 * s)) + 3 for s in sigma)
    return z, y, x


def widened(window: Window, margin: tuple[int, int, int], shape: tuple[int, ...]) -> Window:
    """The window with a margin on every side, as far as the box goes."""
    z, y, x = (
        slice(max(0, part.start - wide), min(n, part.stop + wide))
        for part, wide, n in zip(window, margin, shape, strict=True)
    )
    return z, y, x


def _problem(pair: Float[np.ndarray, "2 z y x"], plan: Plan) -> Problem:
    source, target = (jnp.asarray(data, plan.dtype) for data in pair)
    z, y, x = source.shape
    kernel = kernels.make("heat", (z, y, x), np.array(plan.sigma), plan.dtype)
    return Problem(sinkhorn.side_of(source), sinkhorn.side_of(target), kernel)


def _moved(coupling: Coupling, inner: Window, outer: Window) -> Coupling:
    """The same plan, its potentials on the outer window."""
    pads = [(i.start - o.start, o.stop - i.stop) for i, o in zip(inner, outer, strict=True)]
    moved = {name: jnp.pad(getattr(coupling, name), pads, constant_values=-jnp.inf) for name in ("log_u", "log_v")}
    return replace(coupling, **moved)
