"""Many barycenters of one set of maps, a batch at a time, with progress: the host's side of a solve."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from morphot_jax import barycenter, kernels
from morphot_jax.barycenter import Problem, Solution
from morphot_jax.iterate import Loop, Status
from morphot_jax.plan import Plan
from morphot_jax.progress import Clock, Progress, Watch, run_in_stretches
from morphot_jax.settings import Settings
from morphot_jax.support import side_of


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
        on_device = side_of(maps.astype(plan.dtype))
    watch = Watch(len(weights), plan.batch, plan.iterations, settings, report)
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


def _solve_batch(problem: Problem, plan: Plan, settings: Settings, clock: Clock, watch: Watch) -> Solution:
    options = {"criterion": settings.criterion, "fixed_iterations": settings.iterations is not None}

    def advance(loop: Loop, until: int) -> Loop:
        return barycenter.advance(
            loop, problem, plan.relaxation, settings.tolerance, until, guard=plan.guard, **options
        )

    loop = run_in_stretches(
        lambda: barycenter.begin(problem, max_iterations=plan.iterations), advance, plan.iterations, clock, watch
    )
    return barycenter.finish(loop, problem, settings.tolerance, **options)


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
