"""Many barycenters of the same maps, solved in batches."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from morphot_jax.maps.window import bounding_box, part_of
from morphot_jax.morphing.host import Host
from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Clock, ProgressReport
from morphot_jax.morphing.settings import Settings
from morphot_jax.system.words import KernelKind
from morphot_jax.transport import barycenter, sinkhorn
from morphot_jax.transport.barycenter import Problem, solver_for
from morphot_jax.transport.loop import Solution
from morphot_jax.transport.status import Status
from morphot_jax.transport.support import Side, side_of

START_ERROR = 1e-3  # of the plan that barycenters start from; a smaller one saves them no iterations
START_ITERATIONS = 200  # at most, for that plan
MEASURES = ("marginal_error", "change_l1", "change_l2")


@dataclass(frozen=True)
class Lane:
    """One solved barycenter, in NumPy arrays and Python numbers.

    - ``value``: the barycenter, of unit mass up to the error.
    - ``history``: columns marginal_error, change_l1, change_l2, one row for each iteration.
    - ``kernel``: the kernel of the solve.
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
    """Solve the barycenters of the rows of ``weights`` that are marked in ``wanted``, batch by batch.

    Yields each with the index of its row, in order. A barycenter does not depend on which others are wanted, since
    batches are cut from all rows. A batch in which the plan's kernel does not reach across the maps is solved
    again with the plan's fallback, which then solves the later batches too.
    """
    with plan.scope():
        inner = bounding_box(maps.sum(axis=0) > 0)
        sides = side_of(maps.astype(plan.dtype), part_of(inner))
    host = Host.of(plan, settings, clock, report, lanes=len(weights), batch=plan.batch)
    solver = _Batches(sides, maps.shape[1:], host)
    for first in range(0, len(weights), plan.batch):
        rows = weights[first : first + plan.batch]
        indices = first + np.flatnonzero(wanted[first : first + plan.batch])
        if not len(indices):
            continue
        # The last batch is padded to full size: another shape would need another compilation.
        padded = np.concatenate([rows, np.repeat(rows[-1:], plan.batch - len(rows), axis=0)])
        host.tracker.begin(first)
        solved = solver.solve(padded, len(rows))
        if host.plan.fallback and any(lane.status is Status.INFEASIBLE for lane in solved):
            host = replace(host, plan=host.plan.fallen_back())
            solver = _Batches(sides, maps.shape[1:], host)
            solved = solver.solve(padded, len(rows))
        yield from ((int(index), solved[index - first]) for index in indices)


class _Batches:
    """Batches of barycenters of the same maps with the same kernel."""

    def __init__(self, sides: Side, box: tuple[int, ...], host: Host):
        self.sides, self.host = sides, host
        self.solver = solver_for(host.plan.relaxation, debias=host.settings.debias, guard=host.plan.guard)
        with host.plan.scope():
            self.kernel = host.kernel(box)
            self.rough_plan = self._solve_rough_plan() if self._can_start_warm() else None

    def solve(self, weights: Float[np.ndarray, "t k"], count: int) -> list[Lane]:
        """Solve a batch; its first ``count`` lanes."""
        host, plan = self.host, self.host.plan
        with plan.scope():
            problem = Problem(self.sides, jnp.asarray(weights, plan.dtype), self.kernel)
            solution = host.solve(self.solver, problem, host.options(), lambda: self._start(problem.weights))
            return _lanes(solution, count, plan.kernel)

    def _can_start_warm(self) -> bool:
        """Whether a start from a plan is possible: two maps, a Gaussian kernel and no exact number of iterations.

        An exact number counts from a cold start.
        """
        settings, plan = self.host.settings, self.host.plan
        return len(self.sides.log_mass) == 2 and plan.kernel != "truncated" and settings.iterations is None

    def _solve_rough_plan(self) -> tuple[Float[Array, "z y x"], Float[Array, "z y x"]]:
        """Log potentials of a rough plan between the two maps; the same plan in either order."""
        mass = jnp.exp(self.sides.log_mass)
        denser = 0 if float(jnp.sum(mass[0] ** 2)) >= float(jnp.sum(mass[1] ** 2)) else 1
        problem = sinkhorn.Problem(self.sides[denser], self.sides[1 - denser], self.kernel)
        options = self.host.start_options(START_ERROR, START_ITERATIONS)
        solver = sinkhorn.solver_for(self.host.plan.relaxation, with_cost=False)
        source, target = self.host.solve(solver, problem, options).potentials
        return (source, target) if denser == 0 else (target, source)

    def _start(self, weights: Float[Array, "t k"]) -> Float[Array, "t k z y x"] | None:
        if self.rough_plan is None:
            return None
        plan = self.host.plan
        return barycenter.start_between(*self.rough_plan, weights, jnp.asarray(plan.sigma, plan.dtype))


def _lanes(solution: Solution, count: int, kernel: KernelKind) -> list[Lane]:
    """The first ``count`` lanes of a solution; the potentials are not copied from the device."""
    names = ("status", "iterations", "unreached", "bias", *MEASURES)
    numbers = {name: np.asarray(getattr(solution, name)) for name in names}
    history = np.stack([np.asarray(getattr(solution.history, name)) for name in MEASURES], axis=-1)
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
