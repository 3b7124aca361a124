"""Many barycenters of one set of maps, a batch at a time, with progress: the host's side of a solve."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from morphot_jax.maps.window import bounding_box, part_of
from morphot_jax.morphing.pair import run_sinkhorn
from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Clock, ProgressReport, Watch, run_in_stretches
from morphot_jax.morphing.settings import Settings
from morphot_jax.system.words import KernelKind
from morphot_jax.transport import barycenter, kernels, sinkhorn
from morphot_jax.transport.barycenter import Problem, Solution
from morphot_jax.transport.iterate import Loop, Status
from morphot_jax.transport.sinkhorn import Coupling
from morphot_jax.transport.support import Side, side_of

START_ERROR = 1e-3  # of the plan that barycenters start from; a smaller one saves them no iteration
START_ITERATIONS = 200  # the most that is spent on it


@dataclass(frozen=True)
class Lane:
    """One solved barycenter, on the host.

    - ``value``: as solved, of unit mass up to the error.
    - ``history``: columns marginal_error, change_l1, change_l2, one row for each iteration.
    - ``kernel``: that it was solved with.
    """

    value: Float[np.ndarray, "z y x"] = field(repr=False)
    status: Status
    iterations: int
    marginal_error: float
    change_l1: float
    change_l2: float
    unreached: float
    bias: float
    history: Float[np.ndarray, "iterations 3"] = field(repr=False)
    kernel: KernelKind


def solve_lanes(
    maps: Float[np.ndarray, "k z y x"],
    weights: Float[np.ndarray, "t k"],
    plan: Plan,
    settings: Settings,
    wanted: Bool[np.ndarray, " t"],
    *,
    clock: Clock,
    report: ProgressReport,
) -> Iterator[tuple[int, Lane]]:
    """Solve a barycenter for each wanted row of ``weights``; hand it out with its place once its batch is done.

    In order; which of them are wanted changes nothing about them, since batches are filled alike.
    A batch that the plan's kernel turns out not to reach is solved again with the plan's fallback.
    """
    with plan.scope():
        inner = bounding_box(maps.sum(axis=0) > 0)
        sides = side_of(maps.astype(plan.dtype), part_of(inner))
    watch = Watch(len(weights), plan.batch, plan.iterations, settings, report)
    _, nz, ny, nx = maps.shape
    solver = _Solver(sides, (nz, ny, nx), plan, settings, clock, watch)
    for done in range(0, len(weights), plan.batch):
        rows = weights[done : done + plan.batch]
        places = done + np.flatnonzero(wanted[done : done + plan.batch])
        if not len(places):
            continue
        # A short last batch is filled up: another shape would compile anew.
        filled = np.concatenate([rows, np.repeat(rows[-1:], plan.batch - len(rows), axis=0)])
        watch.begin(done)
        solved = solver.solve(filled, len(rows))
        if solver.plan.fallback and any(lane.status is Status.INFEASIBLE for lane in solved):
            solver = _Solver(sides, (nz, ny, nx), solver.plan.fallen_back(), settings, clock, watch)
            solved = solver.solve(filled, len(rows))
        yield from ((int(place), solved[place - done]) for place in places)


class _Solver:
    """Solves batches of barycenters of the same maps with the same kernel."""

    def __init__(
        self, sides: Side, box: kernels.Shape, plan: Plan, settings: Settings, clock: Clock, watch: Watch
    ):
        self.sides, self.plan, self.settings, self.clock, self.watch = sides, plan, settings, clock, watch
        with plan.scope():
            self.kernel = kernels.make(plan.kernel, box, np.array(plan.sigma), plan.dtype)
            self.coupling = self._couple() if self._can_start_warm() else None

    def solve(self, weights: Float[np.ndarray, "t k"], count: int) -> list[Lane]:
        """The first ``count`` lanes of a batch, on the host."""
        plan, settings = self.plan, self.settings
        options = {"criterion": settings.criterion, "fixed_iterations": settings.iterations is not None}
        with plan.scope():
            problem = Problem(self.sides, jnp.asarray(weights, plan.dtype), self.kernel, settings.debias)

            def begin() -> Loop:
                return barycenter.begin(problem, self._start(problem.weights), max_iterations=plan.iterations)

            def advance(loop: Loop, until: int) -> Loop:
                return barycenter.advance(
                    loop, problem, plan.relaxation, settings.tolerance, until, guard=plan.guard, **options
                )

            loop = run_in_stretches(begin, advance, plan.iterations, self.clock, self.watch)
            solution = barycenter.finish(loop, problem, settings.tolerance, **options)
            return _lanes(solution, count, plan.kernel)

    def _can_start_warm(self) -> bool:
        """Two maps, a Gaussian kernel, and no exact number of iterations, which are counted from a cold start."""
        return (
            len(self.sides.log_mass) == 2 and self.plan.kernel != "truncated" and self.settings.iterations is None
        )

    def _couple(self) -> Coupling:
        """The plan between the two maps, well enough for a start; the same whichever of them is the first."""
        mass = jnp.exp(self.sides.log_mass)
        order = (0, 1) if float(jnp.sum(mass[0] ** 2)) >= float(jnp.sum(mass[1] ** 2)) else (1, 0)
        problem = sinkhorn.Problem(self.sides[order[0]], self.sides[order[1]], self.kernel)
        most = min(START_ITERATIONS, self.plan.iterations)
        loop = run_sinkhorn(problem, self.plan, self.clock, self.watch, tolerance=START_ERROR, most=most)
        coupling = sinkhorn.finish(loop, problem, START_ERROR, with_cost=False)
        if order == (0, 1):
            return coupling
        return replace(coupling, log_u=coupling.log_v, log_v=coupling.log_u)

    def _start(self, weights: Float[Array, "t k"]) -> Float[Array, "t k z y x"] | None:
        if self.coupling is None:
            return None
        sigma = jnp.asarray(self.plan.sigma, self.plan.dtype)
        return barycenter.start_between(self.coupling.log_u, self.coupling.log_v, weights, sigma)


def _lanes(solution: Solution, count: int, kernel: KernelKind) -> list[Lane]:
    """The first ``count`` lanes, on the host; the potentials stay where they are."""
    measures = ("marginal_error", "change_l1", "change_l2")
    numbers = {
        name: np.asarray(getattr(solution, name))
        for name in (*measures, "status", "iterations", "unreached", "bias")
    }
    history = np.stack([np.asarray(getattr(solution.history, name)) for name in measures], axis=-1)
    values = np.asarray(solution.value)
    return [
        Lane(
            value=values[i],
            status=Status(int(numbers["status"][i])),
            iterations=int(numbers["iterations"][i]),
            marginal_error=float(numbers["marginal_error"][i]),
            change_l1=float(numbers["change_l1"][i]),
            change_l2=float(numbers["change_l2"][i]),
            unreached=float(numbers["unreached"][i]),
            bias=float(numbers["bias"][i]),
            history=history[i, : int(numbers["iterations"][i])],
            kernel=kernel,
        )
        for i in range(count)
    ]
