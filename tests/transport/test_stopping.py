"""Why a solve stopped: each limit is provoked by a solve of its own."""

import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax import kernels, solve_barycenter, solve_sinkhorn
from morphot_jax.transport.relaxation import Relaxation
from morphot_jax.transport.status import Status
from morphot_jax.transport.stopping import Limit, stop_of

DOUBLE = np.dtype(np.float64)


def gaussian(centre, shape=(16, 16, 16), width=2.0):
    """A Gaussian cloud around a centre."""
    square = sum(
        (axis - c) ** 2 for axis, c in zip(np.mgrid[: shape[0], : shape[1], : shape[2]], centre, strict=True)
    )
    return np.exp(-square / (2.0 * width**2))


def pair(dtype=jnp.float64):
    return jnp.asarray(gaussian((5, 7, 8)), dtype), jnp.asarray(gaussian((10, 8, 7)), dtype)


def limit_of(solution, tolerance):
    (stop,) = solution.stops(tolerance)
    assert stop.reason[0].islower()
    assert not stop.reason.endswith(".")
    return stop


def test_an_error_below_the_tolerance(double):
    found = solve_sinkhorn(*pair(), kernels.dense((16, 16, 16), 1.0))
    assert limit_of(found, 1e-6).limit is Limit.TOLERANCE


def test_iterations_that_were_asked_for(double):
    kernel = kernels.dense((16, 16, 16), 1.0)
    found = solve_sinkhorn(*pair(), kernel, max_iterations=3, fixed_iterations=True)
    stop = limit_of(found, 1e-6)
    assert stop.limit is Limit.ASKED
    assert "exactly 3 iterations" in stop.reason


def test_a_budget_and_the_forecast_of_what_is_needed(double):
    """Plain iterations fall at a steady rate: the forecast comes within a tenth of the count."""
    kernel = kernels.dense((16, 16, 16), 1.0)
    short = solve_sinkhorn(*pair(), kernel, max_iterations=20, relaxation=Relaxation(1.0))
    enough = solve_sinkhorn(*pair(), kernel, relaxation=Relaxation(1.0))
    assert int(enough.status) == Status.CONVERGED
    stop = limit_of(short, 1e-6)
    assert stop.limit is Limit.BUDGET
    forecast = int(stop.reason.split("about ")[1].split()[0])
    assert forecast == pytest.approx(int(enough.iterations) - 20, rel=0.1)


def test_the_rounding_of_double_precision(double):
    found = solve_sinkhorn(*pair(), kernels.dense((16, 16, 16), 2.0), tolerance=0.0, max_iterations=200)
    stop = limit_of(found, 0.0)
    assert stop.limit is Limit.PRECISION
    assert "double precision allows no less" in stop.reason


def test_the_rounding_of_single_precision():
    found = solve_sinkhorn(*pair(jnp.float32), kernels.dense((16, 16, 16), 1.0), tolerance=0.0, max_iterations=100)
    stop = limit_of(found, 0.0)
    assert stop.limit is Limit.PRECISION
    assert "single precision allows no less" in stop.reason


def test_the_reach_of_the_kernel(double):
    near, far = np.zeros((2, 1, 1, 64))
    near[..., :3] = far[..., -3:] = 1.0
    found = solve_sinkhorn(jnp.asarray(near), jnp.asarray(far), kernels.dense((1, 1, 64), 0.4))
    stop = limit_of(found, 1e-6)
    assert stop.limit is Limit.REACH
    assert "does not reach 100.00% of the mass" in stop.reason


def test_divergence(double):
    """Relaxation beyond 2 has no fixed point that attracts."""
    maps = jnp.stack(pair())
    weights, kernel = jnp.array([[0.2, 0.8]]), kernels.dense((16, 16, 16), 0.7)
    found = solve_barycenter(maps, weights, kernel, relaxation=Relaxation(2.5), max_iterations=2000)
    stop = limit_of(found, 1e-6)
    assert Status(int(found.status[0])) is Status.NONFINITE
    assert stop.limit is Limit.DIVERGED


def test_an_error_that_stands_still_above_rounding(double):
    """Steps of a ten thousandth of the plain one lead nowhere."""
    little = Relaxation(1e-4)
    found = solve_sinkhorn(*pair(), kernels.dense((16, 16, 16), 1.0), max_iterations=100, relaxation=little)
    assert Status(int(found.status)) is Status.MAX_ITERATIONS
    assert limit_of(found, 1e-6).limit is Limit.STALLED


def test_each_lane_has_its_own(double):
    """The end of a debiased solve needs no step; the middle needs more than two."""
    weights = jnp.array([[1.0, 0.0], [0.5, 0.5]])
    kernel = kernels.dense((16, 16, 16), 1.0)
    found = solve_barycenter(jnp.stack(pair()), weights, kernel, debias=True, max_iterations=2)
    assert [stop.limit for stop in found.stops()] == [Limit.TOLERANCE, Limit.BUDGET]


def test_too_few_iterations_have_no_course():
    """One iteration, and three that stand still: nothing is claimed about their course."""
    for errors in (np.array([0.3]), np.full(3, 0.3)):
        stop = stop_of(Status.MAX_ITERATIONS, errors, 1e-6, DOUBLE)
        assert stop.limit is Limit.BUDGET
        assert "needed" not in stop.reason


def test_every_limit_says_what_to_try():
    assert all(limit.advice for limit in Limit)
