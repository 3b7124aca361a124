"""How a solve ended, and what to try next."""

from enum import IntEnum


class Status(IntEnum):
    """How a solve ended; ``str(status)`` is its word."""

    CONVERGED = 0
    MAX_ITERATIONS = 1
    FIXED_ITERATIONS = 2
    NONFINITE = 3
    INFEASIBLE = 4

    def __str__(self) -> str:
        return self.name.lower()

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    @property
    def advice(self) -> str:
        """What the status means and what to try."""
        return {
            Status.CONVERGED: "the criterion was met",
            Status.MAX_ITERATIONS: "the criterion was not met: allow more iterations, or a larger sigma",
            Status.FIXED_ITERATIONS: "exactly the requested iterations were made",
            Status.NONFINITE: "the iteration diverged: relax less (1 is always stable) or use double precision",
            Status.INFEASIBLE: "the kernel cannot reach across the gap between the maps: "
            "use a larger sigma, or the log kernel",
        }[self]
