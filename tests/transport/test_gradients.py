"""Derivatives of a solve: forward mode against differences; reverse mode is refused in one sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax import kernels, sinkhorn_divergence, solve_barycenter, solve_sinkhorn
from morphot_jax.system.errors import InputError
from morphot_jax.transport.gradients import REFUSAL
from shapes import scatter

SHAPE = (3, 4, 5)
pytestmark = pytest.mark.usefixtures("double")


def maps():
    return jnp.stack([jnp.asarray(scatter(SHAPE, seed, fill=1.0)) for seed in (1, 2)])


def cost(sigma):
    return solve_sinkhorn(*maps(), kernels.dense(SHAPE, sigma), tolerance=1e-10).value


def spread(sigma):
    weights = jnp.array([[0.3, 0.7]])
    return jnp.sum(solve_barycenter(maps(), weights, kernels.dense(SHAPE, sigma), tolerance=1e-10).value ** 2)


def divergence(sigma):
    return sinkhorn_divergence(*maps(), kernels.dense(SHAPE, sigma), tolerance=1e-10)[0]


@pytest.mark.parametrize("value", [cost, spread, divergence])
def test_forward_mode_agrees_with_differences(value):
    step = 1e-5
    _, slope = jax.jvp(value, (1.5,), (1.0,))
    np.testing.assert_allclose(slope, (value(1.5 + step) - value(1.5 - step)) / (2 * step), rtol=1e-4)


@pytest.mark.parametrize("value", [cost, spread, divergence])
@pytest.mark.parametrize(
    "mode", [jax.grad, jax.jacrev, lambda f: jax.jit(jax.grad(f)), lambda f: jax.grad(jax.jit(f))]
)
def test_reverse_mode_is_refused(value, mode):
    with pytest.raises(InputError) as refused:
        mode(value)(1.5)
    assert str(refused.value) == REFUSAL


def test_what_is_held_fixed_needs_no_gradient():
    def apart(shift):
        found = jax.lax.stop_gradient(solve_sinkhorn(*maps(), kernels.dense(SHAPE, 1.5)).potentials[0])
        return jnp.sum(jnp.where(jnp.isfinite(found), found, 0.0) * shift)

    assert np.isfinite(jax.grad(apart)(1.0))
