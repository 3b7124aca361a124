"""Many barycenters of the same maps, solved in batches."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from morphot_jax.maps.window import bounding_box, part_of
from morphot_jax.morphing.host import Host
from morphot_jax.morphing.plan import ANCHORS, FEW, Plan, anchor_count
from morphot_jax.morphing.progress import Clock, ProgressReport
from morphot_jax.morphing.settings import Settings
from morphot_jax.system.words import KernelKind
from morphot_jax.transport import barycenter, sinkhorn, unbalanced_barycenter
from morphot_jax.transport.barycenter import Problem, solver_for
from morphot_jax.transport.loop import Solution, Solver
from morphot_jax.transport.status import Status
from morphot_jax.transport.stopping import Limit, Stop
from morphot_jax.transport.strided import StridedBarycenter
from morphot_jax.transport.support import Side, side_of
from morphot_jax.transport.unbalanced_barycenter import UnbalancedBarycenter

START_ERROR = 1e-3  # of the plan that barycenters start from; a smaller one saves them no iterations
FLOOR = 1e-5  # marginal error that single precision reaches with a kernel that suits it
START_ITERATIONS = 200  # at most, for that plan
Weights = Float[np.ndarray, "..."] | Float[Array, "..."]
MEASURES = ("marginal_error", "change_l1", "change_l2")


@dataclass(frozen=True)
class Lane:
    """One solved barycenter, in NumPy arrays and Python numbers.

    - ``value``: the barycenter, of unit mass up to the error.
    - ``history``: columns marginal_error, change_l1, change_l2, one row for each iteration.
    - ``kernel``: the kernel of the solve. ``stop``: why it stopped.
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
    stop: Stop

    def then(self, polished: "Lane") -> "Lane":
        """The lane of a solve that started from this one: with the iterations of both."""
        return replace(
            polished,
            iterations=self.iterations + polished.iterations,
            history=np.concatenate([self.history, polished.history]),
        )


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

    Yields each with the index of its row. A barycenter does not depend on which others are wanted: batches are cut
    from all rows, and the barycenters that others start from (``_anchors``) are solved first, wanted or not. A
    batch in which the plan's kernel does not reach across the maps, or leaves the range of single precision, is
    solved again with the plan's fallback, which then solves the later batches too.
    """
    with plan.scope():
        inner = bounding_box(maps.sum(axis=0) > 0)
        sides_of = side_of if plan.reach is None else unbalanced_barycenter.sides_of
        sides = sides_of(maps.astype(plan.dtype), part_of(inner))
    host = Host.of(plan, settings, clock, report, lanes=len(weights), batch=plan.batch)
    solver = _Batches(sides, maps.shape[1:], host)
    count = anchor_count(len(weights), plan.relaxation, debias=settings.debias)
    anchors = _anchors(weights, count) if solver.can_start_warm else []
    others = [row for row in range(len(weights)) if row not in anchors]
    done = 0
    for rows in (*_cut(anchors, plan.batch), *_cut(others, plan.batch)):
        if not wanted[rows].any() and not (rows[0] in anchors and wanted[others].any()):
            continue
        # The last batch is padded to full size: another shape would need another compilation.
        padded = np.concatenate([weights[rows], np.repeat(weights[rows[-1:]], plan.batch - len(rows), axis=0)])
        host.tracker.begin(done)
        keep = rows[0] in anchors
        solved = solver.solve(padded, len(rows), keep=keep)
        if host.plan.fallback and any(_needs_another_kernel(lane, plan) for lane in solved):
            host = replace(host, plan=host.plan.fallen_back())
            solver = _Batches(sides, maps.shape[1:], host)
            solved = solver.solve(padded, len(rows), keep=keep)
        done += len(rows)
        yield from ((row, lane) for row, lane in zip(rows, solved, strict=True) if wanted[row])


def _needs_another_kernel(lane: Lane, plan: Plan) -> bool:
    """Whether the kernel does not reach across the maps, or its products leave the range of single precision."""
    if lane.status is Status.INFEASIBLE:
        return True
    out_of_range = lane.stop.limit is Limit.PRECISION and not lane.marginal_error <= FLOOR  # it may be NaN
    return plan.precision == "single" and out_of_range


def _times(weights: Weights) -> Weights:
    """T of the weights (1 - t, t)."""
    return weights[:, 1] / weights.sum(axis=1)


def _anchors(weights: Float[np.ndarray, "t k"], count: int) -> list[int]:
    """The rows that the others start from: those nearest to the ``count`` Chebyshev points of [0, 1].

    None where few rows lie inside.
    """
    times = _times(weights)
    inside = np.flatnonzero((times > 0) & (times < 1))
    if len(np.unique(times[inside])) < FEW * count:
        return []
    points = (1.0 - np.cos(np.pi * (np.arange(count) + 0.5) / max(count, 1))) / 2.0
    chosen: list[int] = []
    for point in points:
        left = [row for row in inside if times[row] not in times[chosen]]
        chosen.append(int(min(left, key=lambda row: abs(times[row] - point))))
    return sorted(chosen)


def _cut(rows: list[int], size: int) -> list[list[int]]:
    """The rows in batches."""
    return [rows[first : first + size] for first in range(0, len(rows), size)]


class _Batches:
    """Batches of barycenters of the same maps with the same kernel.

    A batch starts from the anchors solved before it, else from a rough plan between the maps, else cold. Where a
    strided solve leaves a lane's error on all voxels too large, it is solved on all voxels from there.
    """

    def __init__(self, sides: Side, box: tuple[int, ...], host: Host):
        self.sides, self.host = sides, host
        self.on_all = self._solver()
        self.solver = StridedBarycenter(host.plan.stride) if host.plan.stride > 1 else self.on_all
        self.anchors: dict[float, Float[Array, "z y x"]] = {}  # log v_1 - log v_0, by their time
        with host.plan.scope():
            self.kernel = host.kernel(box)
            self.priors = None if host.plan.reach is None else unbalanced_barycenter.priors_of(sides, self.kernel)
            self.rough_plan = self._solve_rough_plan() if self.can_start_warm else None

    def _solver(self) -> Solver:
        """The solver of barycenters on all voxels."""
        plan = self.host.plan
        if plan.reach is not None:
            return UnbalancedBarycenter()
        return solver_for(plan.relaxation, debias=self.host.settings.debias, guard=plan.guard)

    def solve(self, weights: Float[np.ndarray, "t k"], count: int, *, keep: bool = False) -> list[Lane]:
        """Solve a batch; its first ``count`` lanes. ``keep``: they are anchors."""
        host, plan = self.host, self.host.plan
        with plan.scope():
            rows = jnp.asarray(weights, plan.dtype)
            problem = self._problem(rows)
            solution = host.solve(self.solver, problem, host.options(), lambda: self._start(rows))
            lanes, log_v = _lanes(solution, count, host), solution.potentials[1][:count]
            if rough := [i for i, lane in enumerate(lanes) if self._is_rough(lane)]:
                options = host.options(max(lanes[i].iterations for i in rough))
                polished = host.solve(self.on_all, problem, options, lambda: solution.potentials[1])
                polished_lanes = _lanes(polished, count, host)
                for i in rough:
                    lanes[i] = lanes[i].then(polished_lanes[i])
                    log_v = log_v.at[i].set(polished.potentials[1][i])
            if keep:
                # In single precision: enough for a start, and half the memory.
                psi = barycenter.differences(log_v)[:, 0].astype(jnp.float32)
                self.anchors |= zip(_times(weights[:count]).tolist(), psi, strict=True)
            return lanes

    def _problem(self, rows: Float[Array, "t k"]) -> Problem | unbalanced_barycenter.Problem:
        """The problem of the barycenters with these weights."""
        problem, reach = Problem(self.sides, rows, self.kernel), self.host.plan.reach
        if reach is None or self.priors is None:
            return problem
        fading = jnp.asarray(unbalanced_barycenter.fading_of(reach), rows.dtype)
        return unbalanced_barycenter.Problem(problem, self.priors, fading)

    def _is_rough(self, lane: Lane) -> bool:
        """Whether a lane met its criterion on the nodes of a strided solve, but not on all voxels."""
        settings = self.host.settings
        met = lane.status is Status.CONVERGED and settings.criterion == "marginal_error"
        return self.host.plan.stride > 1 and met and lane.marginal_error > settings.tolerance

    @property
    def can_start_warm(self) -> bool:
        """Whether a start from a plan is possible: balanced, two maps, a Gaussian kernel, no exact iterations.

        An exact number of iterations counts from a cold start.
        """
        settings, plan = self.host.settings, self.host.plan
        plain = plan.kernel != "truncated" and plan.reach is None and settings.iterations is None
        return len(self.sides.log_mass) == 2 and plain

    def _solve_rough_plan(self) -> tuple[Float[Array, "z y x"], Float[Array, "z y x"]]:
        """Log potentials of a rough plan between the two maps; the same plan in either order."""
        mass = jnp.exp(self.sides.log_mass)
        denser = 0 if float(jnp.sum(mass[0] ** 2)) >= float(jnp.sum(mass[1] ** 2)) else 1
        problem = sinkhorn.Problem(self.sides[denser], self.sides[1 - denser], self.kernel)
        options = self.host.start_options(START_ERROR, START_ITERATIONS)
        source, target = self.host.solve(self.host.plan_solver(), problem, options).potentials
        return (source, target) if denser == 0 else (target, source)

    def _start(self, weights: Float[Array, "t k"]) -> Float[Array, "t k z y x"] | None:
        plan = self.host.plan
        if len(self.anchors) == ANCHORS:
            anchors = jnp.asarray(list(self.anchors), plan.dtype)
            return barycenter.start_among(jnp.stack(list(self.anchors.values())), anchors, _times(weights))
        if self.rough_plan is None:
            return None
        return barycenter.start_between(*self.rough_plan, weights, jnp.asarray(plan.sigma, plan.dtype))


def _lanes(solution: Solution, count: int, host: Host) -> list[Lane]:
    """The first ``count`` lanes of a solution; the potentials are not copied from the device."""
    settings = host.settings
    names = ("status", "iterations", "unreached", "bias", *MEASURES)
    numbers = {name: np.asarray(getattr(solution, name)) for name in names}
    history = np.stack([np.asarray(getattr(solution.history, name)) for name in MEASURES], axis=-1)
    values = np.asarray(solution.value)
    stops = solution.stops(settings.tolerance, settings.criterion)
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
            kernel=host.plan.kernel,
            stop=stops[i],
        )
        for i in range(count)
    ]
