"""The driver of every solve: lanes stop one by one, lost lanes keep their last sound state, options are valid."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from morphot_jax import kernels, solve_barycenter, solve_sinkhorn
from morphot_jax.system.errors import InputError
from morphot_jax.transport.barycenter import solver_for
from morphot_jax.transport.loop import (
    LOST,
    Measures,
    Options,
    Solution,
    Start,
    advance,
    begin,
    finish,
    in_range,
    solve,
)
from morphot_jax.transport.pytree import pytree
from morphot_jax.transport.sinkhorn import Problem, Sinkhorn
from morphot_jax.transport.status import Status
from morphot_jax.transport.support import side_of
from shapes import scatter


@pytree
@dataclass(frozen=True)
class Place:
    """Where each lane is."""

    x: Float[Array, " lanes"]
    unreached: Float[Array, " lanes"]


@dataclass(frozen=True)
class Shrinking:
    """A solver from outside the package: x <- rate x in every lane; its error is |x|."""

    measured = ("marginal_error",)

    def start(self, problem, guess):
        x = jnp.ones_like(problem) if guess is None else guess
        return Start(Place(x, jnp.zeros_like(x)), None, jnp.ones(x.shape, bool))

    def step(self, problem, options, state, memory, iteration):
        x = problem * state.x
        return Place(x, state.unreached), memory, Measures(jnp.abs(x))

    def finish(self, problem, state, ending):
        nothing = (state.x, state.x)
        return Solution(
            state.x, nothing, ending.status, ending.iterations, ending.last.marginal_error, state.unreached,
            ending.history,
        )  # fmt: skip


def test_a_solver_that_the_driver_has_never_seen_runs_through_it():
    found = solve(Shrinking(), jnp.array([0.5, 0.1, 1.0]), Options(1e-3, max_iterations=20))
    assert [str(Status(int(code))) for code in found.status] == ["converged", "converged", "max_iterations"]
    np.testing.assert_array_equal(found.iterations, [10, 3, 20])
    np.testing.assert_allclose(found.value, [0.5**10, 1e-3, 1.0], rtol=1e-5)  # each lane where it stopped
    assert np.isnan(found.history.marginal_error[1, 3:]).all()
    assert found.history.change_l1 is None


@pytest.mark.parametrize("rate", [np.nan, np.inf, 2.0 * LOST])
def test_a_lost_lane_keeps_its_last_sound_state(rate):
    """Its neighbour goes on as if it were alone."""
    found = solve(Shrinking(), jnp.array([rate, 0.5]), Options(1e-2, max_iterations=20), jnp.array([0.75, 1.0]))
    assert [str(Status(int(code))) for code in found.status] == ["nonfinite", "converged"]
    np.testing.assert_allclose(found.value, [0.75, 0.5**7])
    assert found.iterations[0] == 1


def test_a_loop_goes_on_where_it_ended():
    problem, options = jnp.array([0.5, 0.9]), Options(1e-3, max_iterations=50)
    loop = begin(Shrinking(), problem, options)
    for until in (1, 4, 30, 50):
        loop = advance(Shrinking(), problem, options, loop, until)
    whole = solve(Shrinking(), problem, options)
    for part, other in zip(
        jax.tree.leaves(finish(Shrinking(), problem, options, loop)), jax.tree.leaves(whole), strict=True
    ):
        np.testing.assert_array_equal(part, other)


def test_fixed_iterations_do_not_stop_at_the_tolerance():
    found = solve(Shrinking(), jnp.array([0.5]), Options(0.3, max_iterations=7, fixed_iterations=True))
    assert int(found.iterations[0]) == 7
    assert Status(int(found.status[0])) is Status.CONVERGED  # since its error is below the tolerance


def test_other_numbers_of_iterations_compile_one_cut_of_the_history_and_no_loop(count_compilations):
    def iterations(most, fixed):
        found = solve(
            Shrinking(), jnp.array([0.5, 0.9, 0.99]), Options(1e-3, max_iterations=most, fixed_iterations=fixed)
        )
        assert found.history.marginal_error.shape == (3, most)
        return found.iterations.tolist()

    iterations(20, False)
    with count_compilations() as again:
        assert iterations(300, False) == [10, 66, 300]
        assert iterations(300, True) == [300, 300, 300]
    assert again.count <= 1


def test_a_number_of_iterations_that_is_traced_is_refused():
    def final(most):
        return solve(Shrinking(), jnp.array([0.5]), Options(1e-3, max_iterations=most)).value

    assert jax.jit(final, static_argnums=0)(4) == 0.5**4
    with pytest.raises(InputError, match="max_iterations is traced: give a number"):
        jax.jit(final)(4)


def test_a_criterion_that_is_not_measured_is_refused():
    with pytest.raises(
        InputError, match="criterion is 'change_l1', which this solver does not measure: give marginal_error"
    ):
        solve(Shrinking(), jnp.array([0.5]), Options(criterion="change_l1"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iterations": 0}, "max_iterations is 0: give 1 or more"),
        ({"max_iterations": 2.5}, "max_iterations is 2.5: give a whole number"),
        ({"criterion": "change"}, "criterion is 'change': give marginal_error, change_l1 or change_l2"),
    ],
)
def test_options_are_checked_when_they_are_made(options, message):
    unchecked = Options.__init__.__wrapped__ if hasattr(Options.__init__, "__wrapped__") else Options.__init__
    with pytest.raises(InputError, match=message):
        unchecked(object.__new__(Options), **options)


def test_a_guard_and_debiasing_exclude_each_other_when_the_solver_is_made():
    with pytest.raises(InputError, match="the original had no debiasing"):
        solver_for(debias=True, guard=1e-30)


def test_a_solution_prints_on_one_line():
    maps = jnp.stack([jnp.asarray(scatter((4, 5, 6), seed), jnp.float32) for seed in (1, 2)])
    found = solve_barycenter(maps, jnp.array([[0.5, 0.5]]), kernels.dense((4, 5, 6), 2.0), tolerance=1e-3)
    text = repr(found)
    assert text.startswith("Solution(value of shape (1, 4, 5, 6), 1 converged, at most ")
    assert "\n" not in text
    traced = []
    jax.jit(lambda maps: traced.append(repr(solve_sinkhorn(*maps, kernels.dense((4, 5, 6), 2.0)))))(maps)
    assert traced == ["Solution(value of shape (), traced)"]


def ended_as(status, dtype, errors=(1.0, 0.8, 0.4, 0.2)):
    one, history = jnp.ones((2,), dtype), jnp.asarray([errors, errors], dtype)
    return Solution(one, (one, one), jnp.array([0, int(status)]), jnp.array([4, 4]), one, one, Measures(history))


def test_what_leaves_single_precision_is_refused():
    lost = ended_as(Status.NONFINITE, jnp.float32)
    with pytest.raises(InputError, match="1 of 2 solves left the range of single precision: give float64"):
        in_range(lost)


def test_a_large_error_that_no_longer_falls_in_single_precision_is_refused():
    stalled = ended_as(Status.MAX_ITERATIONS, jnp.float32, errors=(1.0, 0.13, 0.14, 0.13))
    with pytest.raises(InputError, match="1 of 2 solves left the range of single precision"):
        in_range(stalled)
    floor = ended_as(Status.MAX_ITERATIONS, jnp.float32, errors=(1.0, 3e-6, 3e-6, 3e-6))
    assert in_range(floor) is floor


@pytest.mark.parametrize("status", [Status.CONVERGED, Status.MAX_ITERATIONS, Status.INFEASIBLE])
def test_what_stays_in_single_precision_is_returned(status):
    solution = ended_as(status, jnp.float32)
    assert in_range(solution) is solution


def test_what_is_lost_in_double_precision_says_so_by_its_status(double):
    lost = ended_as(Status.NONFINITE, jnp.float64)
    assert in_range(lost) is lost


@pytest.mark.parametrize("make", [kernels.dense, kernels.log, kernels.fft, kernels.heat])
def test_what_a_solve_is_made_of_prints_no_arrays(make):
    kernel, side = make((4, 5, 6), 1.0), side_of(np.ones((4, 5, 6), np.float32))
    problem = Problem(side, side, kernel)
    for value in (kernel, side, problem, begin(Sinkhorn(), problem, Options(max_iterations=3))):
        assert repr(value).startswith(f"{type(value).__name__}(")
        assert "\n" not in repr(value)
        assert "[[" not in repr(value)
    assert "float32[120]" in repr(side)


@pytest.mark.parametrize("weights", [[[0.0, 0.0]], [[np.nan, 0.5]], [[3e38, 3e38]]])
def test_weights_that_are_none_end_as_nonfinite_where_they_are_traced(weights):
    maps = jnp.stack([jnp.asarray(scatter((4, 5, 6), seed), jnp.float32) for seed in (1, 2)])
    kernel = kernels.dense((4, 5, 6), 2.0)
    found = jax.jit(lambda weights: solve_barycenter(maps, weights, kernel).status)(
        jnp.array(weights, jnp.float32)
    )
    assert Status(int(found[0])) is Status.NONFINITE


@pytest.mark.parametrize("wrong", [np.nan, -0.5])
def test_maps_that_are_none_end_as_nonfinite_where_they_are_traced(wrong):
    maps = jnp.stack([jnp.asarray(scatter((4, 5, 6), seed), jnp.float32) for seed in (1, 2)])
    kernel = kernels.dense((4, 5, 6), 2.0)
    bad = maps.at[0, 1, 2, 3].set(wrong)
    plan = jax.jit(lambda maps: solve_sinkhorn(*maps, kernel).status)(bad)
    barycenter = jax.jit(lambda maps: solve_barycenter(maps, jnp.array([[0.5, 0.5]]), kernel).status[0])(bad)
    assert [Status(int(code)) for code in (plan, barycenter)] == [Status.NONFINITE] * 2


def test_mixing_does_not_run_away(double):
    """Two maps far apart in a small kernel: unbounded mixing sends the error of the debiased one beyond 1e100."""
    z, y, x = np.mgrid[:12, :12, :12]
    corner = np.exp(-((z - 2) ** 2 + (y - 2) ** 2 + (x - 2) ** 2) / 2)
    corner[corner < 1e-4] = 0.0
    scattered = (np.random.default_rng(1).random((12, 12, 12)) < 0.02).astype(np.float64)
    maps = jnp.stack([jnp.asarray(corner), jnp.asarray(scattered)])
    kernel = kernels.dense((12, 12, 12), 0.4)
    found = solve_barycenter(maps, jnp.array([[0.5, 0.5]]), kernel, debias=True)
    assert Status(int(found.status[0])) is not Status.NONFINITE
    assert np.nanmax(found.history.marginal_error) < 2.0 * found.history.marginal_error[0, 0]
