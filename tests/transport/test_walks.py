"""Walks in small steps: against dense matrices, their covariance, walls that nothing passes, ways around them."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphot_jax import kernels, solve_barycenter, solve_sinkhorn, walks
from morphot_jax.system.errors import InputError
from morphot_jax.transport.bridge import walk_frames
from morphot_jax.transport.status import Status
from shapes import scatter

SHAPE = (3, 4, 5)
COVARIANCE = np.array([[1.4, 0.5, -0.3], [0.5, 1.1, 0.2], [-0.3, 0.2, 0.9]])


def region_of(shape, seed):
    """A random region that holds two thirds of the box."""
    return np.random.default_rng(seed).random(shape) < 0.67


def step_matrix(inside, rates_of):
    """One step between all pairs of voxels, by its definition; ``rates_of``: a rate for each offset."""
    places = list(product(*map(range, inside.shape)))
    number = {place: k for k, place in enumerate(places) if inside[place]}
    matrix = np.zeros((len(places),) * 2)
    for place, k in number.items():
        matrix[k, k] += 1.0
        for offset, rate in rates_of.items():
            for sign in (1, -1):
                other = number.get(tuple(np.add(place, sign * np.array(offset))))
                if other is not None:
                    matrix[k, other] += rate
                    matrix[k, k] -= rate
    return matrix


def applied(kernel, field):
    return np.asarray(jax.jit(lambda kernel, field: kernel.apply(field))(kernel, jnp.asarray(field)))


@given(
    seed=st.integers(0, 1000),
    sigma=st.tuples(*[st.floats(0.1, 1.5)] * 3),
    shape=st.sampled_from([SHAPE, (1, 6, 7), (5, 5, 1)]),
)
@settings(max_examples=12, deadline=None)
def test_a_walk_inside_walls_is_the_power_of_its_step(seed, sigma, shape):
    """And its matrix is symmetric, keeps mass, and has nothing in a wall."""
    steps, inside = 12, region_of(shape, seed)
    inside.flat[0] = True
    with jax.enable_x64(True):
        kernel, field = walks.walled(inside, np.array(sigma), steps), scatter(shape, seed, fill=1.0)
        found = applied(kernel, field)
    rates = {tuple(offset): s**2 / (2 * steps) for offset, s in zip(np.eye(3, dtype=int), sigma, strict=True)}
    power = np.linalg.matrix_power(step_matrix(inside, rates), steps)
    np.testing.assert_allclose(found.ravel(), power @ field.ravel(), rtol=1e-10)
    np.testing.assert_allclose(power, power.T, atol=1e-15)
    assert np.all(found[~inside] == 0)
    np.testing.assert_allclose(found.sum(), field[inside].sum(), rtol=1e-12)


def test_a_slanted_walk_is_the_power_of_its_step(double):
    field, steps = scatter(SHAPE, 1, fill=1.0), 10
    rho = np.asarray(walks.shares_of_neighbours(jnp.asarray(COVARIANCE)))
    rates = {offset: value / (2 * steps) for offset, value in zip(walks.neighbours(3), rho, strict=True)}
    power = np.linalg.matrix_power(step_matrix(np.ones(SHAPE, bool), rates), steps)
    found = applied(walks.slanted(SHAPE, COVARIANCE, steps), field)
    np.testing.assert_allclose(found.ravel(), power @ field.ravel(), rtol=1e-10)


@given(seed=st.integers(0, 10000))
@settings(max_examples=50, deadline=None)
def test_moderate_covariances_are_sums_over_neighbours(seed):
    """Up to a ratio of 2.4 between standard deviations, in any direction, with positive shares."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    covariance = turn @ np.diag(rng.uniform(1.0, 2.4, 3) ** 2) @ turn.T
    with jax.enable_x64(True):
        rho = np.asarray(walks.shares_of_neighbours(jnp.asarray(covariance)))
    offsets = np.array(walks.neighbours(3))
    np.testing.assert_allclose(np.einsum("n,ni,nj->ij", rho, offsets, offsets), covariance, atol=1e-12)
    assert rho.min() > 0


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_slanted_walk_has_the_covariance(double, axes):
    n, steps, covariance = 19, 9, COVARIANCE[:axes, :axes]
    spike = np.zeros((n,) * axes)
    spike[(n // 2,) * axes] = 1.0
    kernel = walks.slanted(spike.shape, covariance, steps)
    spread, offsets = applied(kernel, spike).ravel(), np.indices(spike.shape).reshape(axes, -1) - n // 2
    np.testing.assert_allclose((offsets * spread) @ offsets.T, covariance, atol=1e-12)
    if axes == 3:
        np.testing.assert_allclose(kernel.variances, np.diag(covariance), rtol=1e-12)


def test_many_steps_make_the_heat_kernel(double):
    """The difference falls as one over the number of steps. Far from the faces, which the heat kernel lets out."""
    shape, sigma = (1, 1, 41), np.array([1e-6, 1e-6, 1.2])
    spike = np.zeros(shape)
    spike[0, 0, 20] = 1.0
    heat = applied(kernels.heat(shape, sigma), spike)
    few, many = (
        np.abs(applied(walks.walled(np.ones(shape, bool), sigma, k), spike) - heat).max() for k in (16, 64)
    )
    assert many < 0.3 * few < 0.01


def test_the_far_field_keeps_its_digits(double):
    """Along a line of d voxels, k = d steps leave r^d: 1e-182 for d = 80, right to 1e-12."""
    d, sigma = 80, 1.0
    spike = np.zeros((1, 1, d + 1))
    spike[0, 0, 0] = 1.0
    found = applied(walks.walled(np.ones(spike.shape, bool), sigma, d), spike)[0, 0, -1]
    np.testing.assert_allclose(np.log(found), d * np.log(sigma**2 / (2 * d)), rtol=1e-13)


def u_shaped():
    """A tube of three voxels across, with its two ends side by side; a map at either end, mirrored."""
    inside = np.zeros((5, 14, 15), bool)
    inside[1:4, 1:12, 1:4] = inside[1:4, 1:12, 11:14] = inside[1:4, 9:12, 1:14] = True
    first = np.zeros(inside.shape)
    first[1:4, 1:4, 1:4] = scatter((3, 3, 3), 5, fill=0.6)
    return inside, first, first[:, :, ::-1].copy()


def test_mass_goes_around_a_wall(double):
    """Ends, mass, an empty wall and the mirrored way back are exact; without walls mass goes straight across."""
    inside, first, last = u_shaped()
    steps = walks.steps_between(inside, first, last)
    times = jnp.linspace(0.0, 1.0, 7)
    kernel = walks.walled(inside, 1.0, steps)
    plan = solve_sinkhorn(jnp.asarray(first), jnp.asarray(last), kernel, tolerance=1e-11)
    assert Status(int(plan.status)) is Status.CONVERGED
    frames = np.asarray(walk_frames(*plan.potentials, kernel, times))
    np.testing.assert_allclose(frames.sum(axis=(1, 2, 3)), 1.0, atol=1e-11)
    assert np.all(frames[:, ~inside] == 0)
    assert frames.min() >= 0
    np.testing.assert_allclose(frames[[0, -1]], [first, last], atol=1e-11)
    np.testing.assert_allclose(frames[::-1, :, :, ::-1], frames, atol=1e-9)
    y, x = (np.einsum("tzyx,zyx->t", frames, index) for index in np.indices(inside.shape)[1:])
    assert y[0] < 3.0
    assert y[3] > 8.5
    assert np.all(np.diff(x) > -1e-9)
    free = walks.walled(np.ones(inside.shape, bool), 1.0, steps)
    straight = solve_sinkhorn(jnp.asarray(first), jnp.asarray(last), free, tolerance=1e-6)
    across = np.asarray(walk_frames(*straight.potentials, free, times[3:4]))[0]
    assert abs((across * np.indices(inside.shape)[1]).sum() - (first * np.indices(inside.shape)[1]).sum()) < 0.5


def test_steps_reach_from_any_voxel_of_a_map_to_any_of_the_other(double):
    inside, first, last = u_shaped()
    steps = walks.steps_between(inside, first, last)
    reached = applied(walks.walled(inside, 1.0, steps), first)
    assert np.all(reached[last > 0] > 0)
    short = walks.walled(inside, 1.0, int(walks.lengths_of_ways(inside, np.array([2, 1, 1]))[2, 1, 13]) - 7)
    plan = solve_sinkhorn(jnp.asarray(first), jnp.asarray(last), short, max_iterations=30)
    assert Status(int(plan.status)) is Status.INFEASIBLE


def test_ways_are_as_long_as_by_hand():
    inside = np.array([[[1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0]]], bool)
    ways = walks.lengths_of_ways(inside, np.zeros(3, int))
    assert ways[0].tolist() == [[0, 1, -1], [-1, 2, -1], [-1, 3, 4], [-1, -1, -1], [-1, -1, -1]]


@pytest.mark.parametrize("kind", ["walled", "slanted"])
def test_walks_have_derivatives_and_batches(double, kind):
    """Under jit and in reverse mode, against central differences: of a value, and of a frame inside walls."""
    a, b = (jnp.asarray(scatter(SHAPE, seed)) for seed in (1, 2))
    slant = np.array([[0.2, 0.1, 0.0], [0.1, -0.1, 0.2], [0.0, 0.2, 0.1]])

    def value_at(parameter):
        if kind == "slanted":
            kernel = walks.slanted(SHAPE, COVARIANCE + parameter * slant, 9)
            return solve_sinkhorn(a, b, kernel, tolerance=1e-12, max_iterations=200).value
        kernel = walks.walled(np.ones(SHAPE, bool), 1.1 + parameter, 9)
        plan = solve_sinkhorn(a, b, kernel, tolerance=1e-12, max_iterations=200)
        return jnp.sum(walk_frames(*plan.potentials, kernel, jnp.array([0.3]))[0] * jnp.arange(5.0))

    step = 1e-4
    before, here, after = jax.jit(jax.vmap(value_at))(step * jnp.array([-1.0, 0.0, 1.0]))
    found, slope = jax.jit(jax.value_and_grad(value_at))(0.0)
    np.testing.assert_allclose(found, here, rtol=1e-9)
    np.testing.assert_allclose(slope, (after - before) / (2.0 * step), rtol=1e-5)


def test_a_round_walk_is_round_to_fourth_order(double):
    """sum rho x^4 = 3 sum rho x^2 y^2, as of every law that has no preferred direction."""
    rho, offsets = np.asarray(walks.shares_of_neighbours(jnp.eye(3))), np.array(walks.neighbours(3))
    z, y, _ = offsets.T
    np.testing.assert_allclose((rho * z**4).sum(), 3.0 * (rho * z**2 * y**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(np.unique(rho.round(12)), [1 / 36, 1 / 9, 4 / 9], atol=1e-12)


def test_the_gradient_by_a_covariance_is_symmetric_and_does_not_jump_at_round_ones(double):
    a, b = (jnp.asarray(scatter(SHAPE, seed)) for seed in (1, 2))

    def value_of(covariance):
        return solve_sinkhorn(a, b, walks.slanted(SHAPE, covariance, 9), tolerance=1e-12).value

    at = jax.jit(lambda off: value_of(jnp.eye(3).at[0, 1].set(off).at[1, 0].set(off)))
    slope, step = jax.grad(value_of)(jnp.eye(3)), 1e-5
    np.testing.assert_allclose(slope, slope.T, rtol=1e-12)
    for one, other in ((step, 0.0), (0.0, -step)):
        np.testing.assert_allclose(2.0 * slope[0, 1], (at(one) - at(other)) / step, rtol=1e-3)


def test_barycenters_stay_inside_too(double):
    inside, first, last = u_shaped()
    kernel = walks.walled(inside, 1.0, walks.steps_between(inside, first, last))
    maps = jnp.asarray(np.stack([first, last]))
    found = solve_barycenter(maps, jnp.array([[0.5, 0.5]]), kernel, tolerance=1e-5, max_iterations=300)
    assert Status(int(found.status[0])) is Status.CONVERGED
    assert np.all(np.asarray(found.value)[0, ~inside] == 0)


def test_an_image_has_walls_too(double):
    inside = np.ones((6, 7), bool)
    inside[1:, 3] = False
    a, b = np.zeros((6, 7)), np.zeros((6, 7))
    a[4, 1] = b[4, 5] = 1.0
    kernel = walks.walled(inside, 1.0, 20)
    plan = solve_sinkhorn(jnp.asarray(a), jnp.asarray(b), kernel)
    (middle,) = np.asarray(walk_frames(*plan.potentials, kernel, jnp.array([0.5])))
    assert middle.shape == (6, 7)
    assert np.all(middle[~inside] == 0)
    np.testing.assert_allclose(middle.sum(), 1.0, rtol=1e-9)
    assert (middle[:2].sum(), middle[0, 3]) > (0.5, 0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: walks.walled(np.zeros(SHAPE, bool), 1.0, 5), "inside has no voxels"),
        (lambda: walks.walled(np.ones(SHAPE, bool), 1.0, 2), "steps is 2, and a walk as wide as this needs 3"),
        (lambda: walks.walled(np.ones(SHAPE, bool), 1.0, 2.5), "steps is 2.5: give a whole number"),
        (lambda: walks.walled(np.ones(SHAPE, bool), -1.0, 5), "sigma is -1.0: give a number of voxels above 0"),
        (
            lambda: walks.slanted(SHAPE, np.array([[9.0, 4, 0], [4, 2, 0], [0, 0, 1]]), 50),
            "covariance is too slanted",
        ),
        (lambda: walks.slanted(SHAPE, -np.eye(3), 5), "give a symmetric matrix whose eigenvalues are above 0"),
        (
            lambda: walks.steps_between(np.eye(3, dtype=bool)[None], *np.eye(9).reshape(9, 1, 3, 3)[[0, 4]]),
            "no way inside the region joins all of the mass",
        ),
    ],
)
def test_walks_that_cannot_be_are_refused(unchecked, make, message):
    with pytest.raises(InputError, match=message):
        make()
