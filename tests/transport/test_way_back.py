"""Bold steps are taken where they help; where they fail, the iteration goes back to a plain step."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax.transport import way_back

pytestmark = pytest.mark.usefixtures("double")


def step_of(memory, x, plain, error, iteration, *, bold=0.0):
    """One step on plain arrays."""
    bold = jnp.full_like(x, bold)
    return way_back.step(memory, x, plain, bold, jnp.ones_like(x), jnp.asarray(error, float), jnp.int32(iteration))


def test_the_first_steps_from_afar_are_not_mixed():
    x = jnp.zeros(3)
    for error, mixes in ((10.0 * way_back.FAR, False), (0.1 * way_back.FAR, True)):
        memory = way_back.start(4, x)
        _, memory = step_of(memory, x, x + 1.0, error, 0)
        found, _ = step_of(memory, x + 1.0, x + 1.5, 0.9 * error, 1)
        assert bool(jnp.all(found == x + 1.5)) is not mixes


def test_an_error_that_grows_sends_the_iteration_back():
    """To the plain step from the iterate of least error, with an empty memory and half the trust."""
    x = jnp.zeros(3)
    memory = way_back.start(4, x)
    _, memory = step_of(memory, x, x + 1.0, 0.01, 0)
    _, memory = step_of(memory, x + 1.0, x + 1.5, 0.009, 1, bold=0.25)
    assert int(memory.mixing.held) == 2
    found, memory = step_of(memory, x + 2.0, x + 7.0, 0.009 * way_back.GROWTH * 1.1, 2)
    np.testing.assert_array_equal(found, x + 1.5)
    assert (int(memory.mixing.held), float(memory.trust)) == (0, way_back.LESS)
    found, memory = step_of(memory, found, x + 2.0, 0.008, 3, bold=4.0)
    np.testing.assert_allclose(found, x + 2.0 + 4.0 * way_back.LESS * way_back.MORE)


def test_errors_that_do_not_fall_for_long_send_the_iteration_back():
    x = jnp.zeros(3)
    found, memory = step_of(way_back.start(4, x), x, x + 1.0, 0.01, 0)
    for iteration in range(1, way_back.PATIENCE + 1):
        assert float(memory.trust) == 1.0
        found, memory = step_of(memory, found, found + 5.0, 0.02, iteration)
    np.testing.assert_array_equal(found, x + 1.0)
    assert float(memory.trust) == way_back.LESS


def test_little_trust_takes_plain_steps():
    x = jnp.zeros(3)
    memory = replace(way_back.start(4, x), trust=jnp.asarray(0.5 * way_back.LITTLE))
    _, memory = step_of(memory, x, x + 1.0, 0.01, 0)
    found, _ = step_of(memory, x + 1.0, x + 1.5, 0.01, 1)
    np.testing.assert_array_equal(found, x + 1.5)


def test_an_error_that_is_none_sends_the_iteration_back():
    x = jnp.zeros(3)
    _, memory = step_of(way_back.start(4, x), x, x + 1.0, 0.01, 0)
    assert float(way_back.recoverable(jnp.asarray(jnp.nan), memory)) == way_back.LARGE
    found, memory = step_of(memory, jnp.full(3, jnp.nan), jnp.full(3, jnp.nan), jnp.nan, 1)
    np.testing.assert_array_equal(found, x + 1.0)
    assert np.isnan(way_back.recoverable(jnp.asarray(jnp.nan), way_back.start(4, x)))  # nothing to go back to
