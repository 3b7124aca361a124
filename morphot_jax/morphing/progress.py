"""How far a solve has come, how long it will take, and where the time went."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from morphot_jax.morphing.settings import Settings


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


ProgressReport = Callable[[Progress], None]


@dataclass
class Clock:
    """Seconds spent so far to compile and to solve."""

    compile: float = 0.0
    solve: float = 0.0

    @contextmanager
    def solving(self) -> Iterator[None]:
        """Count what the block takes as solving."""
        started = time.perf_counter()
        yield
        self.solve += time.perf_counter() - started


class Watch:
    """Turns what is seen of the batches, one after the other, into ``Progress``."""

    def __init__(self, lanes: int, batch: int, limit: int, settings: Settings, report: ProgressReport):
        self.lanes, self.batch, self.limit, self.report = lanes, batch, limit, report
        by_error = settings.iterations is None and settings.criterion == "marginal_error"
        self.tolerance = settings.tolerance if by_error else None
        self.longest = 0.0  # seconds that a finished batch took
        self.begin(0)
        self.restart()

    def begin(self, done: int) -> None:
        """A batch starts, ``done`` lanes are finished."""
        self.done = done

    def restart(self) -> None:
        """Another loop starts for the batch at work: nothing is known of its error yet."""
        self.first = None

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
