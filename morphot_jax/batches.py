"""Many barycenters of one set of maps, a batch at a time, with progress: the host's side of a solve."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from morphot_jax import barycenter, iterate, kernels
from morphot_jax.barycenter import Problem, Solution
from morphot_jax.iterate import Loop, Status
from morphot_jax.plan import Plan
from morphot_jax.settings import Settings

SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class Progress:
    """How far a solve has come.

    ``done`` of ``lanes`` barycenters are finished; those at work are at ``iteration``, the worst of them at
    ``marginal_error``. ``seconds_left`` extrapolates the decay of the error, None before there is any.
    """

    done: int
    lanes: int
    iteration: int
    marginal_error: float
    seconds_left: float | None


@dataclass(frozen=True)
class Lane:
    """One solved barycenter, on the host.

    - ``value``: as solved, of unit mass up to the error.
    - ``history``: columns marginal_error, change_l1, change_l2, one row for each iteration.
    """

    value: Float[np.ndarray, "z y x"]
    status: Status
    iterations: int
    marginal_error: float
    change_l1: float
    change_l2: float
    unreached: float
    history: Float[np.ndarray, "iterations 3"]


@dataclass
class Clock:
    """Seconds spent so far to compile and to solve."""

    compile: float = 0.0
    solve: float = 0.0


def solve_lanes(
    maps: Float[np.ndarray, "k z y x"],
    weights: Float[np.ndarray, "t k"],
    plan: Plan,
    settings: Settings,
    *,
    clock: Clock,
    report: Callable[[Progress], None],
) -> Iterator[Lane]:
    """Solve a barycenter for each row of ``weights``; hand them out in order, as soon as their batch is done."""
    with plan.scope():
        kernel = kernels.make(plan.kernel, maps.shape[1:], np.array(plan.sigma), plan.dtype)
        on_device = jnp.asarray(maps, plan.dtype)
    watch = _Watch(len(weights), plan, settings, report)
    for done in range(0, len(weights), plan.batch):
        rows = weights[done : done + plan.batch]
        # A short last batch is filled up: another shape would compile anew.
        filled = np.concatenate([rows, np.repeat(rows[-1:], plan.batch - len(rows), axis=0)])
        with plan.scope():
            problem = Problem(on_device, jnp.asarray(filled, plan.dtype), kernel)
            watch.begin(done)
            solution = _solve_batch(problem, plan, settings, clock, watch)
            solved = _lanes(solution, len(rows))
        yield from solved


def _solve_batch(problem, plan: Plan, settings: Settings, clock: Clock, watch: "_Watch") -> Solution:
    """One batch, in stretches of iterations short enough to report between them."""
    options = {"criterion": settings.criterion, "fixed_iterations": settings.iterations is not None}

    def advance(loop: Loop, until: int) -> Loop:
        return barycenter.advance(
            loop, problem, plan.relaxation, settings.tolerance, until, guard=plan.guard, **options
        )

    started = time.perf_counter()
    loop = barycenter.begin(problem, max_iterations=plan.iterations)
    loop = jax.block_until_ready(advance(loop, 0))  # compiles, and makes no iteration
    compiled = time.perf_counter()
    clock.compile += compiled - started
    until, stretch = 0, 1
    while until < plan.iterations:
        until = min(until + stretch, plan.iterations)
        loop = advance(loop, until)
        active, errors = jax.device_get((loop.active, iterate.last(loop).marginal_error))
        if not active.any():
            break
        elapsed = time.perf_counter() - compiled
        watch.tell(until, float(np.max(errors[active])), elapsed)
        stretch = max(1, int(SECONDS_BETWEEN_REPORTS * until / elapsed))
    solution = barycenter.finish(loop, settings.tolerance, **options)
    jax.block_until_ready(solution.value)
    watch.end(time.perf_counter() - compiled)
    clock.solve += time.perf_counter() - compiled
    return solution


def _lanes(solution: Solution, count: int) -> list[Lane]:
    """The first ``count`` lanes, on the host; the potentials stay where they are."""
    measures = ("marginal_error", "change_l1", "change_l2")
    numbers = {
        name: np.asarray(getattr(solution, name)) for name in (*measures, "status", "iterations", "unreached")
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
            history=history[i, : int(numbers["iterations"][i])],
        )
        for i in range(count)
    ]


class _Watch:
    """Turns what is seen of the batches, one after the other, into ``Progress``."""

    def __init__(self, lanes: int, plan: Plan, settings: Settings, report: Callable[[Progress], None]):
        self.lanes, self.batch, self.limit, self.report = lanes, plan.batch, plan.iterations, report
        by_error = settings.iterations is None and settings.criterion == "marginal_error"
        self.tolerance = settings.tolerance if by_error else None
        self.longest = 0.0  # seconds that a finished batch took
        self.begin(0)

    def begin(self, done: int) -> None:
        """A batch starts, ``done`` lanes are finished."""
        self.done, self.first = done, None

    def end(self, seconds: float) -> None:
        """The batch at work is finished."""
        self.longest = max(self.longest, seconds)

    def tell(self, iteration: int, error: float, elapsed: float) -> None:
        """The batch at work has made ``iteration`` iterations in ``elapsed`` seconds."""
        self.first = self.first or (iteration, error)
        total = self._expected_iterations(iteration, error)
        expected = max(self.longest, 0.0 if total is None else total * elapsed / iteration)
        batches_after = -(-(self.lanes - self.done) // self.batch) - 1
        left = max(0.0, expected - elapsed) + batches_after * expected
        self.report(Progress(self.done, self.lanes, iteration, error, left if expected else None))

    def _expected_iterations(self, iteration: int, error: float) -> float | None:
        """Iterations that the batch will make if its error goes on to decay as it did since first seen."""
        if self.tolerance is None:
            return float(self.limit)
        first, first_error = self.first or (iteration, error)
        if not 0 < error < first_error:
            return None
        rate = np.log(first_error / error) / (iteration - first)
        return float(min(self.limit, iteration + np.log(max(error / self.tolerance, 1.0)) / rate))
