"""The host's side of every solve: the plan's precision and kernel, stretches of iterations, progress between them.

One plan between two maps and many barycenters go the same way: a solver of ``transport``, its problem, and the
options that the plan and the settings make.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Clock, ProgressReport, Watch
from morphot_jax.morphing.settings import Settings
from morphot_jax.transport import kernels, loop
from morphot_jax.transport.kernels import Kernel
from morphot_jax.transport.loop import Options, Solution, Solver

SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class Host:
    """Where solves of one plan run, who watches them, and whose time they take.

    Its methods are called in the plan's scope (``Plan.scope``), in which JAX computes in the plan's precision.
    """

    plan: Plan
    settings: Settings
    clock: Clock
    watch: Watch

    @classmethod
    def of(
        cls,
        plan: Plan,
        settings: Settings,
        clock: Clock,
        report: ProgressReport,
        *,
        lanes: int = 1,
        batch: int = 1,
    ) -> "Host":
        """A host whose progress is told of ``lanes``, ``batch`` at a time."""
        return cls(plan, settings, clock, Watch(lanes, batch, plan.iterations, settings, report))

    def kernel(self, shape: tuple[int, ...]) -> Kernel:
        """The plan's kernel on a box."""
        z, y, x = shape
        return kernels.make(self.plan.kernel, (z, y, x), np.array(self.plan.sigma), self.plan.dtype)

    def options(self) -> Options:
        """When a solve of the plan ends, as the settings ask."""
        settings = self.settings
        return Options(
            settings.tolerance,
            self.plan.relaxation,
            self.plan.iterations,
            settings.criterion,
            fixed_iterations=settings.iterations is not None,
        )

    def rough(self, error: float, most: int | None = None) -> Options:
        """When a solve ends that only starts another: at a marginal error, or after ``most`` iterations."""
        return Options(error, self.plan.relaxation, min(most or self.plan.iterations, self.plan.iterations))

    def solve(
        self, solver: Solver, problem: Any, options: Options, guess: Callable[[], Any] = lambda: None
    ) -> Solution:
        """Run a solver to its end, in stretches of iterations short enough to report between them.

        ``guess``: makes what the solver starts from. That is part of the solve, and so is its time.
        """
        started = time.perf_counter()
        self.watch.restart()
        begun = loop.begin(solver, problem, options, guess())
        state = jax.block_until_ready(loop.advance(solver, problem, options, begun, 0))  # compiles, makes no step
        compiled = time.perf_counter()
        self.clock.compile += compiled - started
        until, stretch = 0, 1
        while until < options.max_iterations:
            until = min(until + stretch, options.max_iterations)
            state = loop.advance(solver, problem, options, state, until)
            active, errors = jax.device_get((state.active, loop.last(state).marginal_error))
            elapsed = time.perf_counter() - compiled
            if not active.any():
                break
            self.watch.tell(until, float(np.max(errors[active])), elapsed)
            stretch = max(1, int(SECONDS_BETWEEN_REPORTS * until / elapsed))
        self.watch.end(time.perf_counter() - compiled)
        self.clock.solve += time.perf_counter() - compiled
        return loop.finish(solver, problem, options, state)
