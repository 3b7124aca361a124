"""Curves and images: the same mathematics on one and two axes, against dense matrices and against boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morphot_jax import kernels, sinkhorn_divergence, solve_barycenter, solve_sinkhorn
from morphot_jax.system.errors import InputError
from morphot_jax.transport.barycenter import start_between
from morphot_jax.transport.bridge import bridge_frames
from morphot_jax.transport.coarse_start import barycenter_start
from morphot_jax.transport.displacement import displacement_frames, paths_of
from morphot_jax.transport.status import Status
from morphot_jax.transport.support import side_of

pytestmark = pytest.mark.usefixtures("double")
GRIDS = [(13,), (7, 9)]
MAKERS = [kernels.dense, kernels.fft, kernels.log, kernels.heat, kernels.truncated]


def maps_on(shape, seed=0):
    first, second = np.random.default_rng(seed).random((2, *shape)) + 0.05
    return jnp.asarray(first / first.sum()), jnp.asarray(second / second.sum())


def matrix_of(kernel):
    """The whole matrix, column by column."""
    units = jnp.eye(int(np.prod(kernel.shape))).reshape(-1, *kernel.shape)
    return np.asarray(kernel.apply(units)).reshape(len(units), -1).T


@pytest.mark.parametrize("shape", GRIDS)
@pytest.mark.parametrize("make", MAKERS)
def test_a_kernel_of_fewer_axes_is_that_of_a_box_of_one_voxel(shape, make):
    width = jnp.linspace(1.1, 1.4, len(shape))
    kernel, values = make(shape, width), jnp.asarray(np.random.default_rng(1).random((2, *shape)))
    assert kernel.shape == shape
    box = (*(1,) * (3 - len(shape)), *shape)
    if make is not kernels.heat:  # whose walks would leave along the other axes
        expected = make(box, jnp.array([*(1.0,) * (3 - len(shape)), *width])).apply(values.reshape(2, *box))
        np.testing.assert_array_equal(kernel.apply(values), expected.reshape(2, *shape))
    np.testing.assert_allclose(jnp.exp(kernel.log_apply(jnp.log(values))), kernel.apply(values), rtol=1e-9)
    np.testing.assert_allclose(matrix_of(kernel), matrix_of(kernel).T, atol=1e-12)


@pytest.mark.parametrize("shape", [(61,), (31, 33)])
def test_a_heat_kernel_keeps_mass_and_is_a_semigroup(shape):
    spike = jnp.zeros(shape).at[tuple(n // 2 for n in shape)].set(1.0)
    half, whole = kernels.heat(shape, 1.0 / np.sqrt(2)), kernels.heat(shape, 1.0)
    np.testing.assert_allclose(half.apply(half.apply(spike)), whole.apply(spike), atol=1e-12)
    assert float(whole.apply(spike).sum()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("shape", GRIDS)
def test_a_plan_has_its_marginals_and_the_cost_of_the_dense_matrix(shape):
    a, b = maps_on(shape)
    kernel = kernels.dense(shape, 1.5)
    found = solve_sinkhorn(a, b, kernel, tolerance=1e-10, max_iterations=2000)
    assert found.status == Status.CONVERGED
    u, v = (np.exp(np.asarray(log)).ravel() for log in found.potentials)
    plan = u[:, None] * matrix_of(kernel) * v
    np.testing.assert_allclose(plan.sum(1).reshape(shape), a, atol=1e-10)
    np.testing.assert_allclose(plan.sum(0).reshape(shape), b, atol=1e-10)
    places = np.stack(np.unravel_index(np.arange(a.size), shape), 1)
    cost = ((places[:, None] - places) ** 2).sum(-1) / 2
    assert float(found.transport_cost) == pytest.approx((plan * cost).sum(), rel=1e-9)
    assert float(found.value) == pytest.approx((plan * np.log(plan / matrix_of(kernel))).sum(), rel=1e-7)


@pytest.mark.parametrize("debias", [False, True])
@pytest.mark.parametrize("shape", GRIDS)
def test_a_barycenter_is_that_of_the_box(shape, debias):
    maps, weights = jnp.stack(maps_on(shape)), jnp.array([[0.5, 0.5], [0.2, 0.8]])
    box = (*(1,) * (3 - len(shape)), *shape)
    found = solve_barycenter(maps, weights, kernels.dense(shape, 1.2), debias=debias)
    same = solve_barycenter(maps.reshape(2, *box), weights, kernels.dense(box, 1.2), debias=debias)
    np.testing.assert_array_equal(found.value, same.value.reshape(2, *shape))
    assert [part.shape for part in found.potentials] == [(2, 2, *shape)] * 2
    rough = barycenter_start(np.asarray(maps), weights, kernels.dense(shape, 1.2))
    assert rough.shape == (2, 2, *shape)
    warm = solve_barycenter(maps, weights, kernels.dense(shape, 1.2), start=rough)
    np.testing.assert_allclose(
        warm.value, solve_barycenter(maps, weights, kernels.dense(shape, 1.2)).value, atol=1e-5
    )


@pytest.mark.parametrize("shape", GRIDS)
def test_bridge_and_displacement_run_from_map_to_map(shape):
    a, b = maps_on(shape)
    kernel, times = kernels.heat(shape, 1.0), jnp.array([0.0, 0.5, 1.0])
    plan = solve_sinkhorn(a, b, kernel, tolerance=1e-11, max_iterations=2000)
    sides = (side_of(density, axes=len(shape)) for density in (a, b))
    paths = paths_of(*sides, *plan.potentials, kernel, 1.0)
    for frames in (bridge_frames(*plan.potentials, 1.0, times), displacement_frames(paths, times, 1.0, shape)):
        assert frames.shape == (3, *shape)
        np.testing.assert_allclose(frames[0], a, atol=1e-9)
        np.testing.assert_allclose(frames[2], b, atol=1e-9)
    assert start_between(*plan.potentials, jnp.array([[0.5, 0.5]]), 1.0).shape == (1, 2, *shape)


@given(seed=st.integers(0, 99), shift=st.integers(0, 4))
def test_the_divergence_of_a_shifted_curve_is_its_squared_distance(seed, shift):
    curve = np.zeros(40)
    curve[12:20] = np.random.default_rng(seed).random(8) + 0.1
    curve /= curve.sum()
    kernel = kernels.dense((40,), 2.0)
    found, _ = sinkhorn_divergence(jnp.asarray(curve), jnp.roll(curve, shift), kernel, tolerance=1e-9)
    assert float(found) == pytest.approx(shift**2 / 8.0, abs=1e-6)


def test_images_go_through_jit_vmap_and_grad():
    kernel = kernels.dense((7, 9), 1.5)
    a, b = maps_on((7, 9))

    @jax.jit
    def value(density):
        return solve_sinkhorn(density, b, kernel, tolerance=1e-11, max_iterations=300).value

    several = jnp.stack([a, b, (a + b) / 2])
    np.testing.assert_allclose(jax.vmap(value)(several), [value(one) for one in several], rtol=1e-9)
    way = jnp.asarray(np.random.default_rng(5).normal(size=a.shape)) * a * 1e-4
    way -= a * way.sum()
    slope = (value(a + way) - value(a - way)) / 2
    _, found = jax.jvp(value, (a,), (way,))
    assert float(found) == pytest.approx(float(slope), rel=1e-5)


@pytest.mark.parametrize("shape", [(6, 7, 8), (7, 6), (7,)])
def test_maps_on_another_grid_than_the_kernel_are_refused(shape):
    kernel = kernels.dense((6, 7), 1.0)
    with pytest.raises(InputError, match=r"has the shape|differ: give all the same shape \(y, x\)"):
        solve_sinkhorn(jnp.ones(shape), jnp.ones(shape), kernel)
    with pytest.raises(InputError, match=r"has the shape|differ: give all the same shape \(y, x\)"):
        solve_barycenter(jnp.ones((2, *shape)), jnp.ones((1, 2)), kernel)
