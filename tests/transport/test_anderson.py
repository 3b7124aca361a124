"""Anderson mixing against what is known of it: on linear problems it is a Krylov method."""

import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax.transport import anderson

pytestmark = pytest.mark.usefixtures("double")


def linear_problem(n, seed=0):
    """x <- A x + b with eigenvalues of A up to 0.99, and its fixed point."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    matrix = basis * np.linspace(0.1, 0.99, n) @ basis.T
    b = rng.normal(size=n)
    return matrix, b, np.linalg.solve(np.eye(n) - matrix, b)


def run(matrix, b, depth, steps, weight=None):
    x = jnp.zeros(len(b))
    memory = anderson.start(depth, x)
    weight = jnp.ones(len(b)) if weight is None else weight
    for step in range(steps):
        image = matrix @ x + b
        x, memory = anderson.mix(memory, x, image, weight, jnp.asarray(False), jnp.int32(step))
    return np.asarray(x)


def test_one_iterate_is_the_plain_iteration():
    matrix, b, _ = linear_problem(6)
    x = np.zeros(6)
    for _ in range(9):
        x = matrix @ x + b
    np.testing.assert_allclose(run(matrix, b, 1, 9), x, rtol=1e-12)


def test_a_full_memory_solves_a_linear_problem_in_as_many_steps_as_unknowns():
    matrix, b, solution = linear_problem(6)
    np.testing.assert_allclose(run(matrix, b, 8, 8), solution, rtol=1e-5)


@pytest.mark.parametrize(("depth", "gain"), [(3, 10), (5, 100)])
def test_a_short_memory_beats_the_plain_iteration_by_far(depth, gain):
    matrix, b, solution = linear_problem(40)
    plain, mixed = (np.linalg.norm(run(matrix, b, m, 60) - solution) for m in (1, depth))
    assert mixed < plain / gain


def test_shares_minimise_the_residual_among_all_that_sum_to_one():
    rng = np.random.default_rng(4)
    residuals = rng.normal(size=(4, 9))
    found = np.asarray(anderson._shares(jnp.asarray(residuals @ residuals.T), jnp.int32(2), jnp.int32(4)))
    assert found.sum() == pytest.approx(1.0)
    least = np.linalg.norm(found @ residuals)
    for _ in range(50):
        change = rng.normal(size=4)
        assert np.linalg.norm((found + 0.01 * (change - change.mean())) @ residuals) >= least * (1 - 1e-8)


def test_only_what_is_held_is_mixed():
    gram = jnp.diag(jnp.array([1.0, 4.0, 0.0, 0.0]))
    np.testing.assert_allclose(anderson._shares(gram, jnp.int32(1), jnp.int32(2)), [0.8, 0.2, 0, 0], atol=1e-8)
    np.testing.assert_allclose(anderson._shares(gram, jnp.int32(0), jnp.int32(1)), [1.0, 0, 0, 0])


def test_a_fresh_memory_takes_the_plain_step():
    x, ones = jnp.zeros(3), jnp.ones(3)
    memory = anderson.start(4, x)
    for step, fresh in enumerate((False, False, True)):
        mixed, memory = anderson.mix(memory, x + step, x + 2.0**step, ones, jnp.asarray(fresh), jnp.int32(step))
    assert int(memory.held) == 1
    np.testing.assert_array_equal(mixed, x + 4.0)


def test_what_is_not_finite_takes_the_plain_step():
    x = jnp.array([0.0, -jnp.inf, 1.0])
    image = jnp.array([1.0, 2.0, -jnp.inf])
    mixed, memory = anderson.mix(anderson.start(3, x), x, image, jnp.ones(3), jnp.asarray(False), jnp.int32(0))
    np.testing.assert_array_equal(mixed, image)
    assert np.all(np.isfinite(memory.residuals))
