"""The one driver of every iterative solve: lanes that step together, freeze one by one, and report.

A lane is one problem of a batch (one frame of a trajectory). All lanes step in one ``lax.while_loop``; a lane that
has met its criterion keeps its state while the others go on, so an answer never depends on its neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from morphot_jax.system.errors import InputError
from morphot_jax.system.words import Criterion


class Status(IntEnum):
    """How a solve ended."""

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
        """What it means and what to try."""
        return {
            Status.CONVERGED: "the criterion was met",
            Status.MAX_ITERATIONS: "the criterion was not met: allow more iterations, or a larger sigma",
            Status.FIXED_ITERATIONS: "exactly the iterations asked for were run",
            Status.NONFINITE: "the iteration blew up: relax less (1 is always stable) or use double precision",
            Status.INFEASIBLE: "the kernel cannot reach across the gap between the maps: "
            "use a larger sigma, or the log kernel",
        }[self]


class Measures(Protocol):
    """What one iteration, or each of several, says about each lane: arrays ``lanes`` or ``lanes iterations``."""

    @property
    def marginal_error(self) -> Float[Array, "lanes *iterations"]:
        """How far the marginals of the plans are from what they should be, in L1 on unit mass."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Loop:
    """Everything the driver carries from one iteration to the next.

    ``history`` holds the measures of every iteration, ``lanes iterations``, NaN where a lane had stopped.
    ``memory`` is what steps remember of earlier ones; a lane that has stopped has no use for it.
    """

    state: Any
    memory: Any
    iteration: Int[Array, ""]
    active: Bool[Array, "lanes"]
    iterations: Int[Array, "lanes"]
    history: Any


def start(
    state: Any, measures: type, active: Bool[Array, "lanes"], max_iterations: int, dtype, *, memory: Any = None
) -> Loop:
    """A loop that has not stepped yet, with room in its history for ``max_iterations`` of these ``measures``.

    Lanes that are not ``active`` are done as they are.
    """
    lanes = active.shape[0]
    empty = jnp.full((lanes, max_iterations), jnp.nan, dtype)
    return Loop(
        state=state,
        memory=memory,
        iteration=jnp.zeros((), jnp.int32),
        active=active,
        iterations=jnp.zeros((lanes,), jnp.int32),
        history=measures(*(empty for _ in fields(measures))),
    )


def run(
    step: Callable[[Any, Any, Int[Array, ""]], tuple[Any, Any, Measures]],
    loop: Loop,
    *,
    until: Int[Array, ""] | int,
    criterion: Criterion,
    tolerance: Float[Array, ""] | float,
) -> Loop:
    """Step until every lane has stopped, or ``until`` iterations have been made since the start.

    ``step``: from state, memory and iteration to the next state and memory, and the measures of this iteration.
    A lane stops when its ``criterion`` is at or below ``tolerance`` (never, if that is negative), or when its
    error is not finite; then it keeps the last state that was sound.
    Calling again with a larger ``until`` goes on where the last call ended.
    """
    room = loop.history.marginal_error.shape[1]

    def unfinished(loop: Loop) -> Bool[Array, ""]:
        return jnp.any(loop.active) & (loop.iteration < jnp.minimum(until, room))

    def advance(loop: Loop) -> Loop:
        state, memory, measures = step(loop.state, loop.memory, loop.iteration)
        sound = jnp.isfinite(measures.marginal_error)
        going_on = sound & (getattr(measures, criterion) > tolerance)
        moving = loop.active & sound
        return Loop(
            # While no lane has stopped there is nothing to keep, and no field needs to be read for it.
            state=jax.lax.cond(
                jnp.all(moving),
                lambda: state,
                lambda: jax.tree.map(lambda new, old: _where_lane(moving, new, old), state, loop.state),
            ),
            memory=memory,
            iteration=loop.iteration + 1,
            active=loop.active & going_on,
            iterations=loop.iterations + loop.active,
            history=jax.tree.map(
                lambda record, now: record.at[:, loop.iteration].set(jnp.where(loop.active, now, jnp.nan)),
                loop.history,
                measures,
            ),
        )

    return jax.lax.while_loop(unfinished, advance, loop)


@jax.jit
def last(loop: Loop) -> Any:
    """The measures of each lane's last iteration; zero for a lane that was done as it was."""
    at = jnp.maximum(loop.iterations - 1, 0)[:, None]
    taken = jax.tree.map(lambda record: jnp.take_along_axis(record, at, axis=1)[:, 0], loop.history)
    return jax.tree.map(lambda measure: jnp.where(loop.iterations > 0, measure, 0.0), taken)


@partial(jax.jit, static_argnames=("criterion", "fixed"))
def status(
    loop: Loop, *, criterion: Criterion, tolerance, unreached: Float[Array, "lanes"], fixed: bool
) -> Int[Array, "lanes"]:
    """The ``Status`` code of each lane; ``unreached`` is the share of mass that the kernel cannot move."""
    measures = last(loop)
    open_ending = Status.FIXED_ITERATIONS if fixed else Status.MAX_ITERATIONS
    code = jnp.where((unreached > tolerance) & (not fixed), Status.INFEASIBLE, open_ending)
    code = jnp.where(getattr(measures, criterion) <= tolerance, Status.CONVERGED, code)
    return jnp.where(jnp.isfinite(measures.marginal_error), code, Status.NONFINITE).astype(jnp.int32)


def check_iterations(max_iterations: int) -> None:
    """Raise InputError for a number of iterations that cannot be made."""
    if max_iterations < 1:
        raise InputError(f"{max_iterations} iterations cannot be made: give 1 or more")


def check_masses(name: str, values, *, axes: tuple[int, ...]) -> None:
    """Raise InputError for values that are no masses, or sum to none over ``axes``; traced values go unchecked."""
    if isinstance(values, Tracer):
        return
    array = np.asarray(values)
    if not np.all(np.isfinite(array)) or array.min() < 0 or not np.all(array.sum(axis=axes) > 0):
        raise InputError(
            f"the values of {name} go from {array.min():g} to {array.max():g}: "
            "give finite, non-negative ones with a positive sum"
        )


def _where_lane(active: Bool[Array, "lanes"], new: Array, old: Array) -> Array:
    return jnp.where(active.reshape(active.shape + (1,) * (new.ndim - 1)), new, old)
