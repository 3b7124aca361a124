"""Progress of a solve: iterations, error, the time that is left, and the time that was spent."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import jax
import numpy as np

from morphot_jax.morphing.settings import Settings


@dataclass(frozen=True)
class Progress:
    """Progress of a solve.

    - ``done``: how many of all ``lanes`` are finished.
    - ``iteration``: of the current batch; ``marginal_error``: the largest in it.
    - ``seconds_left``: extrapolated from the decay of the error; None while it has not decayed yet.
    - ``doing``: what is being done, where that is no iteration.
    """

    done: int
    lanes: int
    iteration: int
    marginal_error: float
    seconds_left: float | None
    doing: str = ""


ProgressReport = Callable[[Progress], None]


def shifted(report: ProgressReport, passed: int, total: int) -> ProgressReport:
    """Reports progress of a part as progress of all ``total`` lanes, of which ``passed`` came before it."""
    return lambda progress: report(replace(progress, done=progress.done + passed, lanes=total))


COMPILING = (  # JAX's events before it computes; those of tracing count inner functions twice, and are left out
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
_compiling: list[float] = []  # seconds of each compilation of this process so far


def _listen(event: str, duration_secs: float, **_: object) -> None:
    if event in COMPILING:
        _compiling.append(duration_secs)


jax.monitoring.register_event_duration_secs_listener(_listen)


@dataclass
class Clock:
    """Seconds spent so far on compiling and on solving."""

    compile: float = 0.0
    solve: float = 0.0

    @contextmanager
    def solving(self) -> Iterator[None]:
        """Count the time of the block as solving, but for what JAX compiles in it."""
        started, before = time.perf_counter(), len(_compiling)
        yield
        compiled = sum(_compiling[before:])
        self.compile += compiled
        self.solve += time.perf_counter() - started - compiled


class Tracker:
    """Turns iterations and errors of batches, solved one after another, into ``Progress``."""

    def __init__(self, lanes: int, batch: int, limit: int, settings: Settings, report: ProgressReport):
        self.lanes, self.batch, self.limit, self.report = lanes, batch, limit, report
        by_error = settings.iterations is None and settings.criterion == "marginal_error"
        self.tolerance = settings.tolerance if by_error else None
        self.longest = 0.0  # seconds of the slowest batch so far
        self.begin(0)
        self.restart()

    def begin(self, done: int) -> None:
        """Start a batch after ``done`` finished lanes."""
        self.done = done

    def restart(self) -> None:
        """Forget the errors: another loop starts for the current batch."""
        self.first = None

    def end(self, seconds: float) -> None:
        """Finish the current batch, which took ``seconds``."""
        self.longest = max(self.longest, seconds)

    def update(self, iteration: int, error: float, elapsed: float) -> None:
        """Report that the current batch has made ``iteration`` iterations in ``elapsed`` seconds."""
        self.first = self.first or (iteration, error)
        total = self._expected_iterations(iteration, error)
        expected = max(self.longest, 0.0 if total is None else total * elapsed / iteration)
        batches_after = -(-(self.lanes - self.done) // self.batch) - 1
        left = max(0.0, expected - elapsed) + batches_after * expected
        self.report(Progress(self.done, self.lanes, iteration, error, left if expected else None))

    def _expected_iterations(self, iteration: int, error: float) -> float | None:
        """Iterations that the batch will make if its error continues to decay as it has since the first update."""
        if self.tolerance is None:
            return float(self.limit)
        first, first_error = self.first or (iteration, error)
        if not 0 < error < first_error:
            return None
        rate = np.log(first_error / error) / (iteration - first)
        return float(min(self.limit, iteration + np.log(max(error / self.tolerance, 1.0)) / rate))
