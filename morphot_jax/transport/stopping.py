"""Why a solve stopped, and what limits its answer: read off its status and the course of its errors."""

from dataclasses import dataclass
from enum import StrEnum

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from morphot_jax.system.reporting import percent
from morphot_jax.transport.status import Status

FEW = 4  # iterations: fewer have no course to judge by
STILL = 0.9  # an error that half of the iterations have not brought below this multiple of itself stands still
ROUNDING = (
    100.0  # in units of the last place: errors below it are those of rounding, and ten times it if they stall
)


class Limit(StrEnum):
    """What limits the answer of a solve."""

    TOLERANCE = "tolerance"
    ASKED = "asked"
    BUDGET = "budget"
    STALLED = "stalled"
    PRECISION = "precision"
    REACH = "reach"
    DIVERGED = "diverged"

    @property
    def advice(self) -> str:
        """What to try for a better answer."""
        return {
            Limit.TOLERANCE: "give a smaller tolerance",
            Limit.ASKED: "ask for more iterations, or for a tolerance",
            Limit.BUDGET: "allow more iterations, or a larger sigma",
            Limit.STALLED: "try a larger sigma, or accept a larger tolerance",
            Limit.PRECISION: "use double precision, a larger tolerance or a larger sigma",
            Limit.REACH: "use a larger sigma, or the log kernel",
            Limit.DIVERGED: "relax less (1 is always stable), or leave the relaxation out",
        }[self]


@dataclass(frozen=True)
class Stop:
    """Why a solve stopped: what limits its answer, and one sentence without a full stop."""

    limit: Limit
    reason: str


def stop_of(
    status: Status,
    errors: Float[np.ndarray, " iterations"],
    tolerance: float,
    dtype: np.dtype,
    unreached: float = 0.0,
) -> Stop:
    """Why a solve stopped.

    - ``errors``: its criterion at every iteration that it made. ``dtype``: of the solve.
    - ``unreached``: share of the mass that the kernel cannot move.

    An error that has fallen by less than a tenth in half of the iterations has stalled. What it has stalled at is
    called precision where rounding explains it, and at any size in single precision, whose range real maps leave.
    """
    made = len(errors)
    if status is Status.CONVERGED:
        return Stop(Limit.TOLERANCE, f"the error met the tolerance of {tolerance:g}")
    if status is Status.FIXED_ITERATIONS:
        return Stop(Limit.ASKED, f"exactly {_counted(made)} were asked for")
    if status is Status.INFEASIBLE:
        return Stop(Limit.REACH, f"the kernel does not reach {percent(unreached)} of the mass")
    if status is Status.NONFINITE:
        limit = Limit.PRECISION if dtype == jnp.float32 else Limit.DIVERGED
        return Stop(limit, f"numbers left the range of {_name(dtype)} precision in iteration {made}")
    return _stop_without_end(errors, tolerance, dtype)


def _stop_without_end(errors: Float[np.ndarray, " iterations"], tolerance: float, dtype: np.dtype) -> Stop:
    """Why a solve that ran out of iterations had not met its tolerance."""
    still, best = stands_still(errors), int(np.argmin(errors))
    rounding = ROUNDING * jnp.finfo(dtype).eps
    least = f"the error was least in iteration {best + 1}, at {errors[best]:.1e}"
    if errors[best] < rounding or (still and (dtype == jnp.float32 or errors[best] < 10.0 * rounding)):
        return Stop(Limit.PRECISION, f"{least}: {_name(dtype)} precision allows no less")
    if still:
        return Stop(Limit.STALLED, f"{least}, and half of the iterations hardly changed it")
    return Stop(Limit.BUDGET, f"the error still fell after {_counted(len(errors))}{_forecast(errors, tolerance)}")


def stands_still(errors: Float[np.ndarray, " iterations"]) -> bool:
    """Whether half of the iterations hardly made the error smaller."""
    half = len(errors) // 2
    return len(errors) >= FEW and bool(np.min(errors[half:]) > STILL * np.min(errors[:half]))


def _forecast(errors: Float[np.ndarray, " iterations"], tolerance: float) -> str:
    """How many more iterations the rate of the second half would take to the tolerance."""
    half = len(errors) // 2
    if len(errors) < FEW or not errors[half] > errors[-1] > tolerance > 0:
        return ""
    rate = np.log(errors[half] / errors[-1]) / (len(errors) - 1 - half)
    return f": at its rate, about {_counted(int(np.ceil(np.log(errors[-1] / tolerance) / rate)))} more are needed"


def _name(dtype: np.dtype) -> str:
    return "single" if dtype == jnp.float32 else "double"


def _counted(number: int) -> str:
    return f"{number} iteration" + "s" * (number != 1)
