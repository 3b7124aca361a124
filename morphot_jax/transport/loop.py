"""The driver of every iterative solve: it steps all lanes together and stops each at its own criterion.

A lane is one problem of a batch (one frame of a trajectory). All lanes step in one ``lax.while_loop``. A lane that
has met its criterion keeps its state while the others go on, so its answer does not depend on its neighbours.

A solver provides three pure functions (``Solver``): ``start``, ``step`` and ``finish``. The driver owns the loop:
``begin`` calls ``start``, ``advance`` calls ``step`` until every lane has stopped, ``finish`` calls ``finish``;
``solve`` does all three. ``Options`` set when the loop ends. Every solver returns a ``Solution``.

To write a solver, define

- a problem: a pytree of the arrays that stay the same over all iterations;
- a state: a ``pytree`` dataclass, every leaf with a leading axis ``lanes``, among them ``unreached``;
- if steps use more than the state, a memory: any pytree;
- a frozen dataclass without arrays, with ``measured``, ``start``, ``step`` and ``finish``.

``sinkhorn`` is a short example.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Protocol, get_args, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_word
from morphot_jax.system.words import Criterion
from morphot_jax.transport.forward_only import forward_only
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree
from morphot_jax.transport.relaxation import AUTOMATIC, Relaxation
from morphot_jax.transport.status import Status
from morphot_jax.transport.stopping import Stop, stands_still, stop_of

LOST = 1e9  # marginal error, on unit mass, from which no lane recovers; a start may be off by thousands
LEAST_CAPACITY = 512  # of a history, in iterations: it doubles from there, so that few sizes are compiled
LARGE = 1e-3  # an error that stands still above this shows that single precision does not do


@pytree
@dataclass(frozen=True)
class Options:
    """How a solve steps and when it ends.

    - ``tolerance``: a lane stops when its ``criterion``, a field of ``Measures``, is at or below it.
    - ``relaxation``: how strongly a step is over-relaxed; solvers that do not relax ignore it.
    - ``max_iterations``: the largest number of iterations.
    - ``fixed_iterations``: make exactly ``max_iterations`` iterations, whatever the criterion.

    All but ``criterion`` are traced, so new values need no compilation; only a ``max_iterations`` beyond the next
    power of two (512 and up) does, since the history must hold it. Raises InputError for fewer than one iteration
    and for an unknown criterion.
    """

    tolerance: float | Float[Array, ""] = 1e-6
    relaxation: Relaxation = AUTOMATIC
    max_iterations: int | Int[Array, ""] = 500
    criterion: Criterion = field(default="marginal_error", metadata={"static": True})
    fixed_iterations: bool | Bool[Array, ""] = False

    def __post_init__(self) -> None:
        most = self.max_iterations
        if isinstance(most, bool | float | str):
            raise InputError(f"max_iterations is {most!r}: give a whole number")
        if isinstance(most, int | np.integer) and most < 1:
            raise InputError(f"max_iterations is {most}: give 1 or more")
        check_word("criterion", self.criterion, get_args(Criterion))

    @property
    def capacity(self) -> int:
        """Of a history that holds ``max_iterations``; InputError where that number is traced by a caller's jit."""
        if isinstance(self.max_iterations, Tracer):
            raise InputError("max_iterations is traced: give a number, or make it a static argument of jax.jit")
        return max(LEAST_CAPACITY, 1 << (int(self.max_iterations) - 1).bit_length())


@pytree
@dataclass(frozen=True, repr=False)
class Measures:
    """What a solver measures of each lane at an iteration; None for what it does not measure.

    - ``marginal_error``: distance of the plans' marginals from the prescribed ones, in L1 on unit mass. Every
      solver measures it: a lane is lost where it is not finite or beyond ``LOST``.
    - ``change_l1``, ``change_l2``: norms of the difference between consecutive iterates of the answer.

    A history has one column for each iteration, NaN from where a lane has stopped.
    """

    marginal_error: Float[Array, "lanes *iterations"]
    change_l1: Float[Array, "lanes *iterations"] | None = None
    change_l2: Float[Array, "lanes *iterations"] | None = None

    __repr__ = one_line


@pytree
@dataclass(frozen=True, repr=False)
class Loop:
    """What the driver carries from one iteration to the next.

    - ``state``, ``memory``: the solver's own. A stopped lane keeps its state; its memory is no longer used.
    - ``iteration``: how many iterations the loop has made. ``iterations``: how many each lane has made.
    - ``active``: the lanes that still step. ``history``: the measures of every iteration.
    """

    state: Any
    memory: Any
    iteration: Int[Array, ""]
    active: Bool[Array, "lanes"]
    iterations: Int[Array, "lanes"]
    history: Measures

    __repr__ = one_line


class Start(NamedTuple):
    """What ``Solver.start`` returns: the first state, the first memory, and which lanes have to step at all."""

    state: Any
    memory: Any
    active: Bool[Array, "lanes"]


class Ending(NamedTuple):
    """What the driver hands to ``Solver.finish``, one entry for each lane.

    - ``status``: codes of ``Status``. ``iterations``: how many the lane made.
    - ``last``: measures of the lane's last iteration. ``history``: measures of all of them.
    """

    status: Int[Array, "lanes"]
    iterations: Int[Array, "lanes"]
    last: Measures
    history: Measures


@pytree
@dataclass(frozen=True, repr=False)
class Solution:
    """The result of a solve. Barycenters have a leading axis ``t``, one lane per weight vector; plans have none.

    - ``value``: for barycenters q, axes ``t z y x``, of unit mass up to the error; for a plan KL(P | K), its cost
      in units of sigma^2.
    - ``potentials``: log u, on the side of the maps, and log v, on the side of the barycenter or the target; on
      the grid, -inf where there is no mass.
    - ``status``: codes of ``Status``. ``iterations``: how many were made. ``marginal_error``: at the end.
    - ``unreached``: share of the mass that the kernel cannot move. ``history``: measures of every iteration.
    - ``transport_cost``: <P, |x - y|^2 / 2> of a plan in voxel^2, without the entropy.
    - ``change_l1``, ``change_l2``: of barycenters, at the last iteration.
    - ``bias``: || d K d - q ||_1 of debiased barycenters, what is left of the kernel's blur; 0 for plain ones.
    - ``carried``: P 1 and P^T 1 of an unbalanced plan, the mass of both maps that it moves.
    """

    value: Float[Array, "..."]
    potentials: tuple[Float[Array, "..."], Float[Array, "..."]]
    status: Int[Array, "..."]
    iterations: Int[Array, "..."]
    marginal_error: Float[Array, "..."]
    unreached: Float[Array, "..."]
    history: Measures
    transport_cost: Float[Array, "..."] | None = None
    change_l1: Float[Array, "..."] | None = None
    change_l2: Float[Array, "..."] | None = None
    bias: Float[Array, "..."] | None = None
    carried: tuple[Float[Array, "..."], Float[Array, "..."]] | None = None

    def stops(self, tolerance: float = 1e-6, criterion: Criterion = "marginal_error") -> tuple[Stop, ...]:
        """Why each lane stopped, and what limits its answer (``stopping``); outside jit.

        ``tolerance``, ``criterion``: those of the solve.
        """
        fields = self.status, self.iterations, self.unreached, getattr(self.history, criterion)
        codes, made, unreached, errors = (np.asarray(field) for field in fields)
        lanes = zip(codes.ravel(), made.ravel(), unreached.ravel(), np.atleast_2d(errors), strict=True)
        return tuple(
            stop_of(Status(int(code)), course[:count], tolerance, errors.dtype, float(out_of_reach))
            for code, count, out_of_reach, course in lanes
        )

    def __repr__(self) -> str:
        shape = f"value of shape {self.value.shape}"
        if any(isinstance(leaf, Tracer) for leaf in (self.status, self.marginal_error)):
            return f"Solution({shape}, traced)"
        codes, counts = np.unique(np.asarray(self.status), return_counts=True)
        words = ", ".join(f"{count} {Status(int(code))}" for code, count in zip(codes, counts, strict=True))
        worst = float(np.max(np.asarray(self.marginal_error)))
        most = int(np.max(np.asarray(self.iterations)))
        return f"Solution({shape}, {words}, at most {most} iterations, marginal error {worst:.1e})"


@runtime_checkable
class Solver(Protocol):
    """One iterative method. It is hashable and holds no arrays: compiled functions take it as a static argument.

    Problem, state and memory are pytrees of the solver's own; the driver passes them through. It reads one field,
    ``state.unreached`` (axis ``lanes``): the share of each lane's mass that the kernel cannot move, zero where
    that cannot happen. Where it is beyond the tolerance, a lane that ran out of iterations ends as infeasible.
    """

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the fields of ``Measures`` that ``step`` fills: these can be criteria."""
        ...

    def start(self, problem: Any, guess: Any) -> Start:
        """The first state: a cold start where ``guess`` is None, else from that guess, of a form it chooses."""
        ...

    def step(
        self, problem: Any, options: Options, state: Any, memory: Any, iteration: Int[Array, ""]
    ) -> tuple[Any, Any, Measures]:
        """One iteration of all lanes: the next state, the next memory, and the measures.

        ``iteration`` counts from 0. Lanes must not mix. Lanes that have stopped are stepped too, and the driver
        discards their new state. The criterion is read from the measures.
        """
        ...

    def finish(self, problem: Any, state: Any, ending: Ending) -> Solution:
        """Make the solution from the last state of every lane."""
        ...


def solve(solver: Solver, problem: Any, options: Options, guess: Any = None) -> Solution:
    """Run a solver until every lane has stopped. May be called under a caller's own jit and vmap."""
    _check_criterion(solver, options)
    loop = _run(solver, problem, options, guess, options.capacity)
    return finish(solver, problem, options, loop)


@partial(jax.jit, static_argnames=("solver", "capacity"))
def _run(solver: Solver, problem: Any, options: Options, guess: Any, capacity: int) -> Loop:
    loop = _begin(solver, problem, guess, capacity)
    return _advance(solver, problem, options, loop, options.max_iterations)


def in_range(solution: Solution) -> Solution:
    """The solution; InputError where lanes left the range of single precision.

    Under a caller's jit nothing can be raised: there only ``status`` shows it.
    """
    if isinstance(solution.status, Tracer) or solution.value.dtype == jnp.float64:
        return solution
    codes = np.atleast_1d(np.asarray(solution.status))
    courses = np.atleast_2d(np.asarray(solution.history.marginal_error))
    stuck = np.array([course[-1] > LARGE and stands_still(course) for course in courses])
    lost = (codes == Status.NONFINITE) | ((codes == Status.MAX_ITERATIONS) & stuck)
    if lost.any():
        raise InputError(
            f"{lost.sum()} of {codes.size} solves left the range of single precision: give float64 arrays inside "
            "`with jax.enable_x64(True):`, or a kernel with a larger sigma (2 voxels are often enough)"
        )
    return solution


def begin(solver: Solver, problem: Any, options: Options, guess: Any = None) -> Loop:
    """The loop before its first step, with space in its history for all iterations.

    Raises InputError for a criterion that the solver does not measure.
    """
    _check_criterion(solver, options)
    return _begin(solver, problem, guess, options.capacity)


def _check_criterion(solver: Solver, options: Options) -> None:
    if options.criterion not in solver.measured:
        raise InputError(
            f"criterion is '{options.criterion}', which this solver does not measure: "
            f"give {' or '.join(solver.measured)}"
        )


@partial(jax.jit, static_argnames=("solver", "capacity"))
def _begin(solver: Solver, problem: Any, guess: Any, capacity: int) -> Loop:
    state, memory, active = solver.start(problem, guess)
    lanes, dtype = active.shape[0], state.unreached.dtype
    empty = jnp.full((lanes, capacity), jnp.nan, dtype)
    return Loop(
        state=state,
        memory=memory,
        iteration=jnp.zeros((), jnp.int32),
        active=active,
        iterations=jnp.zeros((lanes,), jnp.int32),
        history=Measures(
            empty, *(empty if name in solver.measured else None for name in ("change_l1", "change_l2"))
        ),
    )


@partial(jax.jit, static_argnames=("solver",), donate_argnames=("loop",))
def advance(solver: Solver, problem: Any, options: Options, loop: Loop, until: int | Int[Array, ""]) -> Loop:
    """Step until every lane has stopped or the loop has made ``until`` iterations, counted from its start.

    A lane stops when its criterion is at or below the tolerance; with ``fixed_iterations`` it does not stop there.
    A lane whose error is not finite or beyond ``LOST`` is lost: it stops too, and keeps the state before that
    iteration. Another call with a larger ``until`` continues where this one ended.
    """
    return _advance(solver, problem, options, loop, until)


def _advance(solver: Solver, problem: Any, options: Options, loop: Loop, until: int | Int[Array, ""]) -> Loop:
    bound = jnp.where(options.fixed_iterations, -1.0, options.tolerance).astype(loop.history.marginal_error.dtype)
    end = jnp.minimum(until, options.max_iterations)

    def continues(loop: Loop) -> Bool[Array, ""]:
        return jnp.any(loop.active) & (loop.iteration < end)

    def iterate(loop: Loop) -> Loop:
        state, memory, measures = solver.step(problem, options, loop.state, loop.memory, loop.iteration)
        sound = measures.marginal_error < LOST  # false for NaN
        unmet = sound & (getattr(measures, options.criterion) > bound)
        moving = loop.active & sound
        return Loop(
            # While every lane moves, the old state need not be read at all.
            state=jax.lax.cond(
                jnp.all(moving),
                lambda: state,
                lambda: jax.tree.map(lambda new, old: _where_lane(moving, new, old), state, loop.state),
            ),
            memory=memory,
            iteration=loop.iteration + 1,
            active=loop.active & unmet,
            iterations=loop.iterations + loop.active,
            history=jax.tree.map(
                lambda record, measure: record.at[:, loop.iteration].set(jnp.where(loop.active, measure, jnp.nan)),
                loop.history,
                measures,
            ),
        )

    return jax.lax.while_loop(continues, iterate, loop)


def finish(solver: Solver, problem: Any, options: Options, loop: Loop) -> Solution:
    """The solution of a loop that has ended."""
    ending = _ending(solver, options, loop.iterations, loop.history, loop.state.unreached)
    solution = solver.finish(problem, loop.state, ending)
    solution = replace(solution, history=_made(solution.history, int(options.max_iterations)))
    return jax.tree.map(forward_only, solution)


@partial(jax.jit, static_argnames=("iterations",))
def _made(history: Measures, iterations: int) -> Measures:
    """The columns of the iterations that could be made, without the spare ones."""
    return jax.tree.map(lambda record: record[..., :iterations], history)


def last(loop: Loop) -> Measures:
    """The measures of each lane's last iteration; zero for a lane that never had to step."""
    return _last(loop.iterations, loop.history)


# Compiled apart from the state, so once for grids of all shapes.
@jax.jit
def _last(iterations: Int[Array, "lanes"], history: Measures) -> Measures:
    at = jnp.maximum(iterations - 1, 0)[:, None]
    taken = jax.tree.map(lambda record: jnp.take_along_axis(record, at, axis=1)[:, 0], history)
    return jax.tree.map(lambda measure: jnp.where(iterations > 0, measure, 0.0), taken)


@partial(jax.jit, static_argnames=("solver",))
def _ending(
    solver: Solver,
    options: Options,
    iterations: Int[Array, "lanes"],
    history: Measures,
    unreached: Float[Array, "lanes"],
) -> Ending:
    measures, tolerance, fixed = _last(iterations, history), options.tolerance, options.fixed_iterations
    out_of_reach = jnp.where(unreached > tolerance, Status.INFEASIBLE, Status.MAX_ITERATIONS)
    code = jnp.where(fixed, Status.FIXED_ITERATIONS, out_of_reach)
    code = jnp.where(getattr(measures, options.criterion) <= tolerance, Status.CONVERGED, code)
    code = jnp.where(measures.marginal_error < LOST, code, Status.NONFINITE).astype(jnp.int32)
    return Ending(code, iterations, measures, history)


def _where_lane(active: Bool[Array, "lanes"], new: Array, old: Array) -> Array:
    return jnp.where(active.reshape(active.shape + (1,) * (new.ndim - 1)), new, old)
