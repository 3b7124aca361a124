"""Kernels of other ground costs against dense matrices over all pairs of voxels, and in the solvers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax import costs, kernels, solve_barycenter, solve_sinkhorn
from morphot_jax.system.errors import InputError
from morphot_jax.transport.status import Status
from shapes import scatter

SHAPE = (4, 5, 6)
SIGMA = np.array([0.9, 1.4, 1.1])
COVARIANCE = np.array([[1.4, 0.5, -0.3], [0.5, 1.1, 0.2], [-0.3, 0.2, 0.9]])
MAKERS = {  # each of its parameters
    "power": (lambda shape, sigma, p: costs.power(shape, sigma, power=p), (SIGMA, np.float64(1.5))),
    "capped": (lambda shape, sigma, cap: costs.capped(shape, sigma, cap=cap), (SIGMA, np.float64(2.5))),
    "anisotropic": (costs.anisotropic, (COVARIANCE,)),
}
EACH = pytest.mark.parametrize("kind", MAKERS)


def two_maps(shape=SHAPE):
    return [jnp.asarray(scatter(shape, seed)) for seed in (1, 2)]


def steps_of(shape):
    """The steps between all pairs of voxels, and those from a voxel to any other that the box can hold."""
    places = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).reshape(-1, len(shape))
    every = np.stack(np.meshgrid(*(np.arange(1 - n, n) for n in shape), indexing="ij"), -1)
    return places[:, None] - places, every


def powered(steps, p):
    return np.exp(-(np.linalg.norm(steps / SIGMA, axis=-1) ** p) / p)


def slanted(steps):
    return np.exp(-0.5 * np.einsum("...i,ij,...j", steps, np.linalg.inv(COVARIANCE), steps))


@pytest.mark.parametrize("shape", [SHAPE, (3, 1, 9)])
@pytest.mark.parametrize(
    ("make", "law"),
    [
        (lambda shape: costs.power(shape, SIGMA, power=1.0), lambda d: powered(d, 1.0)),
        (lambda shape: costs.power(shape, SIGMA, power=1.5), lambda d: powered(d, 1.5)),
        (lambda shape: costs.anisotropic(shape, COVARIANCE), slanted),
    ],
    ids=["p = 1", "p = 1.5", "anisotropic"],
)
def test_a_kernel_is_its_dense_matrix(double, make, law, shape):
    between, every = steps_of(shape)
    field = jnp.asarray(scatter(shape, 1, fill=1.0))
    expected = law(between) @ field.ravel() / law(every).sum()
    np.testing.assert_allclose(make(shape).apply(field), expected.reshape(shape), rtol=1e-10)


@pytest.mark.parametrize("cap", [0.5, 2.0, 4.8])
def test_a_capped_kernel_is_nowhere_less_than_its_floor(double, cap):
    """A spike on a long line: far beyond the cap the value is that of the cap, and still right to 1e-10."""
    shape = (1, 2, 60)
    between, every = steps_of(shape)
    spike = np.zeros(shape)
    spike[0, 1, 7] = 1.0
    law = np.maximum(powered(between, 2.0), np.exp(-(cap**2) / 2.0))
    expected = law @ spike.ravel() / powered(every, 2.0).sum()
    found = costs.capped(shape, SIGMA, cap=cap).apply(jnp.asarray(spike))
    np.testing.assert_allclose(found, expected.reshape(shape), rtol=1e-10)


def test_special_cases_are_the_dense_kernel(double):
    field = jnp.asarray(scatter(SHAPE, 2))
    expected = kernels.dense(SHAPE, SIGMA).apply(field)
    for kernel in (
        costs.power(SHAPE, SIGMA, power=2.0),
        costs.capped(SHAPE, SIGMA, cap=40.0),
        costs.anisotropic(SHAPE, np.diag(np.square(SIGMA))),
    ):
        np.testing.assert_allclose(kernel.apply(field), expected, rtol=1e-10)


def test_a_power_of_two_has_the_plan_of_the_gaussian(double):
    a, b = two_maps()
    quadratic, gaussian = (
        solve_sinkhorn(a, b, kernel, tolerance=1e-11)
        for kernel in (costs.power(SHAPE, SIGMA), kernels.dense(SHAPE, SIGMA))
    )
    np.testing.assert_allclose(quadratic.value, gaussian.value, rtol=1e-10)
    some = np.isfinite(gaussian.potentials[1])
    np.testing.assert_allclose(quadratic.potentials[1][some], gaussian.potentials[1][some], atol=1e-9)


@EACH
def test_plans_and_barycenters_have_their_marginals(double, kind):
    make, parameters = MAKERS[kind]
    kernel, maps = make(SHAPE, *parameters), jnp.stack(two_maps())
    plan = solve_sinkhorn(*maps, kernel, tolerance=1e-9)
    assert Status(int(plan.status)) is Status.CONVERGED
    u, v = (jnp.exp(potential) for potential in plan.potentials)
    np.testing.assert_allclose(u * kernel.apply(v), maps[0], atol=1e-9)
    np.testing.assert_allclose(v * kernel.apply(u), maps[1], atol=1e-9)
    middle = solve_barycenter(maps, jnp.array([[0.5, 0.5]]), kernel, tolerance=1e-6)
    assert Status(int(middle.status[0])) is Status.CONVERGED


@EACH
def test_the_value_has_derivatives_by_the_parameters(double, kind):
    """Under jit, against central differences in one direction of all parameters, which are a batch under vmap."""
    make, parameters = MAKERS[kind]
    a, b = two_maps()
    rng = np.random.default_rng(0)
    ways = [rng.normal(size=np.shape(value)) for value in parameters]
    ways = [way + way.T if way.ndim == 2 else way for way in ways]

    def value_at(step):
        moved = (value + step * way for value, way in zip(parameters, ways, strict=True))
        return solve_sinkhorn(a, b, make(SHAPE, *moved), tolerance=1e-12, max_iterations=200).value

    step = 1e-4
    before, here, after = jax.jit(jax.vmap(value_at))(step * jnp.array([-1.0, 0.0, 1.0]))
    found, slope = jax.jit(jax.value_and_grad(value_at))(0.0)
    np.testing.assert_allclose(found, here, rtol=1e-9)
    np.testing.assert_allclose(slope, (after - before) / (2.0 * step), rtol=1e-5)


def test_what_lies_far_is_joined_under_a_cap(double):
    """40 sigma apart a quadratic cost has no plan by Fourier transforms; a capped one pays the cap."""
    shape, cap = (1, 1, 50), 3.0
    a, b = (jnp.zeros(shape).at[0, 0, x].set(1.0) for x in (4, 44))
    assert Status(int(solve_sinkhorn(a, b, costs.power(shape, 1.0)).status)) is Status.INFEASIBLE
    kernel = costs.capped(shape, 1.0, cap=cap)
    plan = solve_sinkhorn(a, b, kernel)
    assert Status(int(plan.status)) is Status.CONVERGED
    at_rest = kernel.apply(a)[0, 0, 4]
    np.testing.assert_allclose(plan.value, cap**2 / 2.0 - np.log(at_rest), rtol=1e-9)


@EACH
def test_an_image_is_a_box_of_one_voxel(double, kind):
    make, (widths, *others) = MAKERS[kind]
    own = (slice(1, 3),) * widths.ndim
    image = make((5, 6), widths[own], *others)
    lone = np.eye(3)  # what lies along an axis of one voxel has no effect
    lone[1:, 1:] = widths[own]
    box = make((1, 5, 6), lone if widths.ndim == 2 else widths, *others)
    assert image.shape == (5, 6)
    a, b = two_maps((5, 6))
    np.testing.assert_allclose(image.apply(a), box.apply(a[None])[0], rtol=1e-12)
    assert Status(int(solve_sinkhorn(a, b, image).status)) is Status.CONVERGED


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: costs.power(SHAPE, 1.0, power=0.0), "power is 0.0: give one number above 0"),
        (lambda: costs.power(SHAPE, -1.0), "sigma is -1.0: give a number of voxels above 0"),
        (lambda: costs.capped(SHAPE, 1.0, cap=-2.0), "cap is -2.0: give one number above 0"),
        (lambda: costs.anisotropic(SHAPE, np.eye(2)), r"the shape \(2, 2\): give one of \(3, 3\)"),
        (lambda: costs.anisotropic(SHAPE, np.diag([1.0, 1.0, -1.0])), "give a symmetric matrix whose eigenvalues"),
        (lambda: costs.anisotropic((4, 0, 6), np.eye(3)), r"shape is \(4, 0, 6\)"),
    ],
)
def test_what_no_cost_has_is_refused(unchecked, make, message):
    with pytest.raises(InputError, match=message):
        make()
