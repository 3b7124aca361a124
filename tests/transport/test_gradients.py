"""Derivatives of a solution: against differences of the fourth order, in every mode, and what has none."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax import kernels, sinkhorn_divergence, solve_barycenter, solve_sinkhorn
from morphot_jax.system.errors import InputError
from morphot_jax.transport.bridge import bridge_frames
from morphot_jax.transport.displacement import displacement_frames, paths_of
from morphot_jax.transport.forward_only import REFUSAL
from morphot_jax.transport.relaxation import AUTOMATIC
from morphot_jax.transport.support import side_of
from shapes import scatter

SHAPE = (3, 4, 5)
EXACT = {"tolerance": 1e-13, "max_iterations": 2000}
pytestmark = pytest.mark.usefixtures("double")


def maps(count=2, fill=0.7):
    return jnp.stack([jnp.asarray(scatter(SHAPE, seed, fill=fill)) for seed in range(1, count + 1)])


def weighing(shape, seed=9):
    """A fixed random field, so that every value of an answer counts."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def finite(field):
    return jnp.where(jnp.isfinite(field), field, 0.0)


def slope(function, at, way, step=1e-3):
    """The derivative along a way, by differences of the fourth order."""
    near, far = (function(at + h * way) - function(at - h * way) for h in (step, 2 * step))
    return float((8 * near - far) / (12 * step))


def of_plan(read):
    """A function of (two maps, log sigma)."""

    def function(pair, log_sigma):
        kernel = kernels.dense(SHAPE, jnp.exp(log_sigma))
        return read(pair, kernel, solve_sinkhorn(*pair, kernel, **EXACT))

    return function


def value(pair, kernel, found):
    return found.value


def potentials(pair, kernel, found):
    return sum(jnp.sum(finite(field) * weighing(SHAPE)) for field in found.potentials)


def cost(pair, kernel, found):
    return found.transport_cost


def bridge(pair, kernel, found):
    return jnp.sum(bridge_frames(*found.potentials, 1.5, jnp.array([0.3, 0.6])) * weighing((2, *SHAPE)))


def displacement(pair, kernel, found):
    paths = paths_of(*(side_of(density) for density in pair), *found.potentials, kernel, 1.5)
    return jnp.sum(displacement_frames(paths, jnp.array([0.3]), 1.5, SHAPE) * weighing((1, *SHAPE)))


def divergence(pair, log_sigma):
    return sinkhorn_divergence(*pair, kernels.dense(SHAPE, jnp.exp(log_sigma)), **EXACT)[0]


PLANS = {
    "value": (of_plan(value), 1e-7),
    "potentials": (of_plan(potentials), 1e-5),
    "transport cost": (of_plan(cost), 1e-5),
    "bridge": (of_plan(bridge), 1e-5),
    "displacement": (of_plan(displacement), 1e-5),
    "divergence": (divergence, 1e-7),
}


@pytest.mark.parametrize("name", PLANS)
def test_gradients_of_a_plan_agree_with_differences(name):
    """By both maps and by sigma; along ways that leave empty voxels empty."""
    function, rtol = PLANS[name]
    pair, log_sigma = maps(), jnp.log(1.5)
    by_maps, by_sigma = jax.grad(function, (0, 1))(pair, log_sigma)
    np.testing.assert_allclose(by_sigma, slope(partial(function, pair), log_sigma, 1.0), rtol=rtol, atol=1e-9)
    way = pair * weighing(pair.shape, 3)
    expected = slope(lambda pair: function(pair, log_sigma), pair, way)
    np.testing.assert_allclose(jnp.sum(by_maps * way), expected, rtol=rtol, atol=1e-9)
    assert np.all(np.asarray(by_maps)[np.asarray(pair) == 0] == 0.0)


def of_barycenter(several, weights, log_sigma, kind="dense"):
    kernel = kernels.make(kind, SHAPE, jnp.exp(log_sigma))
    found = solve_barycenter(several, weights, kernel, **EXACT)
    return jnp.sum(found.value * weighing(found.value.shape))


@pytest.mark.parametrize("k", [2, 3, 4])
def test_gradients_of_barycenters_agree_with_differences(k):
    several, weights, log_sigma = maps(k), jnp.asarray(np.eye(k)[:2] + 0.2), jnp.log(1.4)
    arguments = several, weights, log_sigma
    gradients = jax.grad(of_barycenter, (0, 1, 2))(*arguments)
    ways = several * weighing(several.shape, 3), weighing(weights.shape, 4), jnp.asarray(1.0)
    for i, (gradient, way) in enumerate(zip(gradients, ways, strict=True)):

        def function(argument, i=i):
            return of_barycenter(*arguments[:i], argument, *arguments[i + 1 :])

        np.testing.assert_allclose(
            jnp.sum(gradient * way), slope(function, arguments[i], way), rtol=1e-7, atol=1e-11
        )
    assert np.all(np.asarray(gradients[0])[np.asarray(several) == 0] == 0.0)


@pytest.mark.parametrize("kind", ["heat", "log", "fft"])
def test_gradients_go_through_every_kernel(kind):
    function = partial(of_barycenter, maps(), jnp.array([[0.4, 0.6]]), kind=kind)
    at = jnp.log(1.2)
    np.testing.assert_allclose(jax.grad(function)(at), slope(function, at, 1.0), rtol=1e-6)


@pytest.mark.parametrize("name", ["potentials", "value"])
def test_all_modes_agree(name):
    function, at = partial(PLANS[name][0], maps()), jnp.log(1.5)
    expected = jax.grad(function)(at)
    modes = jax.jacrev, jax.jacfwd, lambda f: jax.jit(jax.grad(f)), lambda f: jax.grad(jax.jit(f))
    for mode in modes:
        np.testing.assert_allclose(mode(function)(at), expected, rtol=1e-8)
    several = jnp.log(jnp.array([1.2, 1.5]))
    np.testing.assert_allclose(jax.vmap(jax.grad(function))(several)[1], expected, rtol=1e-7)
    _, along = jax.linearize(function, at)
    np.testing.assert_allclose(along(1.0), expected, rtol=1e-8)


def test_the_gradient_of_a_value_is_the_potential():
    """Envelope theorem: d value / d a = log u up to a constant, on maps of unit mass."""
    pair, kernel = maps(fill=1.0), kernels.dense(SHAPE, 1.5)
    gradient = jax.grad(lambda a: solve_sinkhorn(a, pair[1], kernel, **EXACT).value)(pair[0])
    potential = solve_sinkhorn(*pair, kernel, **EXACT).potentials[0]
    np.testing.assert_allclose(gradient, potential - jnp.sum(pair[0] * potential), atol=1e-10)


def test_second_derivatives_of_a_value():
    function, at = partial(PLANS["value"][0], maps()), jnp.log(1.5)
    np.testing.assert_allclose(jax.hessian(function)(at), slope(jax.grad(function), at, 1.0), rtol=1e-5)


def test_derivatives_do_not_depend_on_the_iteration():
    pair, kernel = maps(), kernels.dense(SHAPE, 1.5)

    def spread(pair, relaxation):
        found = solve_barycenter(pair, jnp.array([[0.3, 0.7]]), kernel, relaxation=relaxation, **EXACT)
        return jnp.sum(found.value**2)

    steps, relaxed = (jax.grad(spread)(pair, way) for way in (None, AUTOMATIC))
    np.testing.assert_allclose(steps, relaxed, rtol=1e-6, atol=1e-9)


def test_memory_does_not_grow_with_the_iterations():
    """The compiled gradient holds the same temporary memory for 512 iterations as for one."""

    def held(most, tolerance):
        def function(pair):
            kernel = kernels.dense(SHAPE, 1.5)
            return solve_sinkhorn(*pair, kernel, tolerance=tolerance, max_iterations=most).potentials[0].sum()

        compiled = jax.jit(jax.grad(function)).lower(maps(fill=1.0)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert held(500, 1e-6) == held(1, 1e-6) == held(500, 1e-11)


@pytest.mark.parametrize("options", [{"debias": True, "tolerance": 1e-6}, {"guard": 1e-30}])
def test_what_has_no_implicit_derivative_goes_forward_and_refuses_to_go_back(options):
    def spread(sigma):
        kernel = kernels.dense(SHAPE, sigma)
        return jnp.sum(solve_barycenter(maps(), jnp.array([[0.3, 0.7]]), kernel, **options).value ** 2)

    _, along = jax.jvp(spread, (1.5,), (1.0,))
    assert np.isfinite(along)
    for mode in (jax.grad, lambda f: jax.jit(jax.grad(f))):
        with pytest.raises(InputError) as refused:
            mode(spread)(1.5)
        assert str(refused.value) == REFUSAL


def test_what_is_held_fixed_needs_no_gradient():
    def apart(shift):
        found = jax.lax.stop_gradient(solve_sinkhorn(*maps(), kernels.dense(SHAPE, 1.5)).potentials[0])
        return jnp.sum(finite(found) * shift)

    assert np.isfinite(jax.grad(apart)(1.0))
