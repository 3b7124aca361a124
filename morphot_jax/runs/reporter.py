"""The interface through which a run reports its progress, its messages and its results.

The command line implements it for a terminal (``cli.terminal``). Other programs pass a reporter of their own.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from morphot_jax.morphing.coordinates import Coordinates
from morphot_jax.morphing.field import Domain
from morphot_jax.morphing.landscape import Landscape
from morphot_jax.morphing.order import Ordering
from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Progress
from morphot_jax.morphing.rigid import RigidBody
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import Trajectory
from morphot_jax.prepare.align import Alignment
from morphot_jax.runs.estimate import Estimate


@runtime_checkable
class Reporter(Protocol):
    """The receiver of a run's reports."""

    def say(self, text: str) -> None:
        """Information: what the run does."""
        ...

    def warn(self, text: str) -> None:
        """A warning: what the user should look at again."""
        ...

    def detail(self, text: str) -> None:
        """A detail, for users who want to see more."""
        ...

    def keep_log(self, path: Path, heading: Sequence[str], *, append: bool) -> None:
        """Write all messages to a file too, earlier ones included."""
        ...

    def solving(self, expected: float | None = ...) -> AbstractContextManager[Callable[[Progress], None]]:
        """The block solves, and reports its progress to the callback that it is given."""
        ...

    def working(self, what: str) -> AbstractContextManager[Callable[[float, float], None]]:
        """The block does other work, and reports the work done and the whole to the callback."""
        ...

    def downloading(self, name: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """The block downloads, and reports the bytes received and the whole to the callback."""
        ...

    def outlook(
        self, settings: Settings, plan: Plan | None, expected: Estimate, frames: int, *, in_full: bool
    ) -> None:
        """The choices of the solve, its memory and its time; ``in_full``: nothing will be solved."""
        ...

    def summary(self, trajectory: Trajectory, seconds: dict[str, float]) -> None:
        """The frames, and the times of the parts."""
        ...

    def ordering(self, ordering: Ordering, names: Sequence[str], seconds: dict[str, float]) -> None:
        """The maps in their order, and the times of the parts."""
        ...

    def coordinates(self, found: Coordinates, names: Sequence[str], references: Sequence[str]) -> None:
        """The weights of each map among the references."""
        ...

    def landscape(self, found: Landscape, names: Sequence[str], seconds: dict[str, float]) -> None:
        """The maps in their order, and the times of the parts."""
        ...

    def domains(self, domains: Sequence[Domain]) -> None:
        """How each domain moves."""
        ...

    def bodies(self, bodies: Sequence[RigidBody]) -> None:
        """How each body moves."""
        ...

    def alignment(self, found: Alignment) -> None:
        """The motion that lays one map onto another."""
        ...
