"""How a solve ended; ``stopping`` says why, and what to try."""

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
