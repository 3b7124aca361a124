"""The host's side of every solve: it runs a solver's loop in chunks of iterations and reports progress.

A plan between two maps and a batch of barycenters are solved alike: by a solver of ``transport``, its problem, and
the options that follow from the plan and the settings.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Clock, ProgressReport, Tracker
from morphot_jax.morphing.settings import Settings
from morphot_jax.transport import kernels, loop
from morphot_jax.transport.kernels import Kernel
from morphot_jax.transport.loop import Options, Solution, Solver
from morphot_jax.transport.relaxation import PLAIN
from morphot_jax.transport.sinkhorn import solver_for

SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class Host:
    """Runs solves by one plan and its settings; counts their time and tracks their progress.

    Call its methods in the plan's scope (``Plan.scope``), in which JAX computes in the plan's precision.
    """

    plan: Plan
    settings: Settings
    clock: Clock
    tracker: Tracker

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
        """A host that reports the progress of ``lanes`` lanes, solved ``batch`` at a time."""
        return cls(plan, settings, clock, Tracker(lanes, batch, plan.iterations, settings, report))

    def kernel(self, shape: tuple[int, ...]) -> Kernel:
        """The plan's kernel on a box."""
        z, y, x = shape
        return kernels.make(self.plan.kernel, (z, y, x), np.array(self.plan.sigma), self.plan.dtype)

    def options(self, made: int = 0) -> Options:
        """The options of the plan and the settings, for a solve after ``made`` iterations of another."""
        settings = self.settings
        return Options(
            settings.tolerance,
            self.plan.relaxation or PLAIN,
            max(1, self.plan.iterations - made),
            settings.criterion,
            fixed_iterations=settings.iterations is not None,
        )

    def start_options(self, error: float, most: int | None = None) -> Options:
        """The options of a rough solve that starts another: a marginal error, and at most ``most`` iterations."""
        return Options(
            error, self.plan.relaxation or PLAIN, min(most or self.plan.iterations, self.plan.iterations)
        )

    def plan_solver(self) -> Solver:
        """The solver of plans between two maps, without their transport cost."""
        return solver_for(self.plan.relaxation, with_cost=False)

    def solve(
        self, solver: Solver, problem: Any, options: Options, guess: Callable[[], Any] = lambda: None
    ) -> Solution:
        """Run a solver to its end, in chunks of iterations that take about ``SECONDS_BETWEEN_REPORTS`` each.

        ``guess``: called for the solver's guess; its time counts as part of the solve.
        """
        started = time.perf_counter()
        self.tracker.restart()
        first = loop.begin(solver, problem, options, guess())
        state = jax.block_until_ready(loop.advance(solver, problem, options, first, 0))  # compiles without a step
        compiled = time.perf_counter()
        self.clock.compile += compiled - started
        until, chunk, most = 0, 1, int(options.max_iterations)
        while until < most:
            until = min(until + chunk, most)
            state = loop.advance(solver, problem, options, state, until)
            active, errors = jax.device_get((state.active, loop.last(state).marginal_error))
            elapsed = time.perf_counter() - compiled
            if not active.any():
                break
            self.tracker.update(until, float(np.max(errors[active])), elapsed)
            chunk = max(1, int(SECONDS_BETWEEN_REPORTS * until / elapsed))
        self.tracker.end(time.perf_counter() - compiled)
        self.clock.solve += time.perf_counter() - compiled
        return loop.finish(solver, problem, options, state)
