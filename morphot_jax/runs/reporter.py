"""Who a run reports to: progress while it works, what it did to the maps, and what came out.

The command line fulfils this on a terminal (``cli.terminal``). Whoever calls a run from a program of their own
passes another reporter.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from morphot_jax.morphing.field import Domain
from morphot_jax.morphing.order import Ordering
from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Progress
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import Trajectory
from morphot_jax.prepare.align import Alignment
from morphot_jax.runs.estimate import Estimate


@runtime_checkable
class Reporter(Protocol):
    """What a run tells, and when."""

    def say(self, text: str) -> None:
        """Information: what the run does."""
        ...

    def warn(self, text: str) -> None:
        """A warning: what the user should not miss."""
        ...

    def detail(self, text: str) -> None:
        """Information for those who asked for more."""
        ...

    def keep_log(self, path: Path, heading: Sequence[str], *, append: bool) -> None:
        """Write what is reported into a file too: what was reported before, and everything from now on."""
        ...

    def solving(self, expected: float | None = ...) -> AbstractContextManager[Callable[[Progress], None]]:
        """A solve is at work while the block runs; the block reports its progress to what it is given."""
        ...

    def working(self, what: str) -> AbstractContextManager[Callable[[float, float], None]]:
        """Other work goes on while the block runs; the block reports the work done and the whole."""
        ...

    def downloading(self, name: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A download goes on while the block runs; the block reports the bytes received and the whole."""
        ...

    def outlook(
        self, settings: Settings, plan: Plan | None, expected: Estimate, frames: int, *, in_full: bool
    ) -> None:
        """How the solve will be made, and what it will take."""
        ...

    def summary(self, trajectory: Trajectory, seconds: dict[str, float]) -> None:
        """The frames, and where the time went."""
        ...

    def ordering(self, ordering: Ordering, names: Sequence[str], seconds: dict[str, float]) -> None:
        """The maps in their order, and where the time went."""
        ...

    def domains(self, domains: Sequence[Domain]) -> None:
        """How each part of a map moves."""
        ...

    def alignment(self, found: Alignment) -> None:
        """The motion that lays one map onto another."""
        ...
