"""The two-map solve: its marginals, its independence of the way, and independent programs."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphot_jax import kernels
from morphot_jax.system.errors import InputError
from morphot_jax.transport.divergence import sinkhorn_divergence
from morphot_jax.transport.loop import Options, solve
from morphot_jax.transport.relaxation import AUTOMATIC, PLAIN
from morphot_jax.transport.sinkhorn import (
    Problem,
    Sinkhorn,
    check_maps,
    solve_sinkhorn,
)
from morphot_jax.transport.status import Status
from morphot_jax.transport.support import side_of
from shapes import blob, scatter

pytestmark = pytest.mark.usefixtures("double")

SHAPE = (5, 6, 7)


def dense_plan(coupling, kernel) -> np.ndarray:
    """P over all pairs of voxels."""
    matrix = np.kron(np.kron(kernel.z, kernel.y), kernel.x)
    u, v = (np.exp(np.asarray(field)).ravel() for field in (coupling.potentials[0], coupling.potentials[1]))
    return u[:, None] * matrix * v


@pytest.mark.parametrize("kind", ["dense", "heat", "truncated"])
@pytest.mark.parametrize("relaxation", [PLAIN, AUTOMATIC])
def test_plan_has_the_maps_as_marginals(kind, relaxation):
    a, b = scatter(SHAPE, 1), scatter(SHAPE, 2)
    kernel = kernels.make(kind, SHAPE, 1.2)
    found = solve_sinkhorn(
        jnp.asarray(3 * a), jnp.asarray(b), kernel, tolerance=1e-8, max_iterations=3000, relaxation=relaxation
    )
    assert Status(int(found.status)) is Status.CONVERGED
    plan = dense_plan(found, kernel)
    np.testing.assert_allclose(plan.sum(1), a.ravel(), atol=1e-15)
    error = np.abs(plan.sum(0) - b.ravel()).sum()
    assert error <= 1e-8
    np.testing.assert_allclose(found.marginal_error, error, rtol=1e-4, atol=1e-13)


def test_relative_entropy_is_that_of_the_plan():
    a, b, kernel = scatter(SHAPE, 3), scatter(SHAPE, 4), kernels.dense(SHAPE, 1.0)
    found = solve_sinkhorn(jnp.asarray(a), jnp.asarray(b), kernel, tolerance=1e-10, max_iterations=3000)
    plan, matrix = dense_plan(found, kernel), np.kron(np.kron(kernel.z, kernel.y), kernel.x)
    seen = plan > 0
    expected = (plan[seen] * np.log(plan[seen] / matrix[seen])).sum()
    np.testing.assert_allclose(found.value, expected, rtol=1e-9)


def test_transport_of_a_map_to_itself_is_symmetric():
    a, kernel = jnp.asarray(scatter(SHAPE, 5)), kernels.heat(SHAPE, 1.0)
    plan = dense_plan(solve_sinkhorn(a, a, kernel, tolerance=1e-11, max_iterations=3000), kernel)
    np.testing.assert_allclose(plan, plan.T, atol=1e-11)


def test_swapping_the_maps_transposes_the_plan():
    a, b = (jnp.asarray(scatter(SHAPE, seed)) for seed in (6, 7))
    kernel = kernels.heat(SHAPE, 0.9)
    there, back = (
        dense_plan(solve_sinkhorn(x, y, kernel, tolerance=1e-11, max_iterations=3000), kernel)
        for x, y in ((a, b), (b, a))
    )
    np.testing.assert_allclose(there, back.T, atol=1e-11)


ODD = [(1, 1, 1), (1, 5, 4), (5, 1, 1), (3, 2, 5), (5, 4, 3)]  # a few, since each is compiled


@given(shape=st.sampled_from(ODD), seed=st.integers(0, 99), sigma=st.floats(0.4, 3.0))
@settings(max_examples=15, deadline=None)
def test_small_odd_boxes_converge(shape, seed, sigma):
    with jax.enable_x64(True):
        a, b = scatter(shape, seed), scatter(shape, seed + 1)
        kernel = kernels.heat(shape, sigma)
        found = solve_sinkhorn(jnp.asarray(a), jnp.asarray(b), kernel, tolerance=1e-7, max_iterations=20_000)
        assert found.status == Status.CONVERGED
        np.testing.assert_allclose(dense_plan(found, kernel).sum(0), b.ravel(), atol=1e-7)


def test_traced_maps_give_the_same_plan():
    """Under jit and vmap the supports are unknown and the whole box is worked on."""
    kernel = kernels.heat(SHAPE, 1.0)
    pairs = jnp.asarray(np.stack([[scatter(SHAPE, 1), scatter(SHAPE, 2)], [scatter(SHAPE, 3), scatter(SHAPE, 4)]]))

    def potential(pair):
        return solve_sinkhorn(pair[0], pair[1], kernel, tolerance=1e-12).potentials[1]

    batched = jax.jit(jax.vmap(potential))(pairs)
    for i in range(2):
        np.testing.assert_allclose(batched[i], potential(pairs[i]), atol=1e-10)


def test_sides_hold_what_has_mass():
    density = np.zeros((4, 4, 4))
    density[1, 2, 3], density[3, 0, 1] = 1.0, 3.0
    side = side_of(density)
    assert len(side.places.index) == 2
    np.testing.assert_array_equal(side.places.index, [1 * 16 + 2 * 4 + 3, 3 * 16 + 1])
    np.testing.assert_allclose(np.exp(side.log_mass), [0.25, 0.75])
    filled = side_of(np.pad(density, ((0, 4), (0, 4), (0, 4))))
    assert len(filled.places.index) == 8
    assert np.all(np.asarray(filled.places.index[2:]) >= 8**3)
    assert len(np.unique(filled.places.index)) == 8
    assert np.all(np.isneginf(filled.log_mass[2:]))


def test_over_relaxation_is_several_times_faster():
    shape = (10, 11, 24)
    one, two = blob(shape, (5, 5, 5), 1.2), blob(shape, (4, 6, 17), 1.8)
    a, b = (one + two) / 2, (2 * one + blob(shape, (5, 3, 14), 1.0)) / 3
    kernel = kernels.dense(shape, 0.8)
    plain, relaxed = (
        solve_sinkhorn(jnp.asarray(a), jnp.asarray(b), kernel, max_iterations=9000, relaxation=r)
        for r in (PLAIN, AUTOMATIC)
    )
    assert plain.status == relaxed.status == Status.CONVERGED
    assert 3 * int(relaxed.iterations) < int(plain.iterations)


def test_unreachable_mass_is_infeasible():
    shape = (3, 3, 40)
    near, far = blob(shape, (1, 1, 6), 0.7, 1e-3), blob(shape, (1, 1, 33), 0.7, 1e-3)
    found = solve_sinkhorn(
        jnp.asarray((near + far) / 2), jnp.asarray(near), kernels.truncated(shape, 1.0), max_iterations=40
    )
    assert Status(int(found.status)) is Status.INFEASIBLE
    np.testing.assert_allclose(found.unreached, 0.5, atol=1e-9)


def test_fixed_iterations_are_made():
    a, b = (jnp.asarray(scatter(SHAPE, seed)) for seed in (6, 7))
    found = solve_sinkhorn(a, b, kernels.heat(SHAPE, 2.0), max_iterations=33, fixed_iterations=True)
    assert int(found.iterations) == 33
    assert Status(int(found.status)) in (Status.FIXED_ITERATIONS, Status.CONVERGED)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (np.ones((2, 2, 2)), np.ones((2, 2, 3)), "give all the same shape"),
        (np.ones((2, 2, 3)), np.ones((2, 2, 3)), "give all the same shape"),
        (
            np.ones((2, 2)),
            np.ones((2, 2, 2)),
            r"source has the shape \(2, 2\): give an array with axes",
        ),
        (-np.ones((2, 2, 2)), np.ones((2, 2, 2)), "the values of source go from -1 to -1"),
        (np.ones((2, 2, 2)), np.zeros((2, 2, 2)), "the values of target go from 0 to 0"),
        (np.ones((0, 2, 2)), np.ones((0, 2, 2)), "source has the shape .* and no values"),
        (np.ones((2, 2, 2), int), np.ones((2, 2, 2)), "source is an array of int64: give float32 or float64"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2), np.float16), "target is an array of float16"),
        ("a.mrc", np.ones((2, 2, 2)), r"source is 'a.mrc' \(str\): give an array of densities"),
        (Path("a.mrc"), np.ones((2, 2, 2)), "source is PosixPath.*: give an array of densities"),
        ([[[1.0]]], np.ones((2, 2, 2)), r"source is \[\[\[1.0\]\]\] \(list\): give an array"),
        (None, np.ones((2, 2, 2)), r"source is None \(NoneType\): give an array"),
    ],
)
def test_bad_maps_are_refused(source, target, message):
    with pytest.raises(InputError, match=message):
        check_maps(source, target, kernels.heat((2, 2, 2), 1.0))


def test_no_iterations_are_refused():
    with pytest.raises(InputError, match=r"max_iterations is 0 \(int\): give a whole number, 1 or more"):
        solve_sinkhorn(jnp.ones((2, 2, 2)), jnp.ones((2, 2, 2)), kernels.heat((2, 2, 2), 1.0), max_iterations=0)


LINE, VARIANCE, SIGMA, SHIFT = (1, 1, 140), 36.0, 4.0, 5.0


def on_a_line(centre):
    return jnp.asarray(blob(LINE, (0, 0, centre), np.sqrt(VARIANCE), 1e-14))


def test_transport_cost_is_that_of_the_plan():
    """Against the dense plan; and with the maps on parts of the box."""
    a, b, kernel = scatter(SHAPE, 3), scatter(SHAPE, 4), kernels.dense(SHAPE, 1.0)
    found = solve_sinkhorn(jnp.asarray(a), jnp.asarray(b), kernel, tolerance=1e-11, max_iterations=3000)
    places = np.stack(np.unravel_index(np.arange(a.size), SHAPE), axis=1)
    squares = ((places[:, None] - places) ** 2).sum(axis=-1)
    np.testing.assert_allclose(found.transport_cost, (dense_plan(found, kernel) * squares).sum() / 2, rtol=1e-9)


def test_transport_cost_between_gaussians_has_the_closed_form():
    """The plan's covariance is C = sqrt(A^2 + s^2 / 4) - s / 2, so <P, |x - y|^2> = D^2 + 2 A - 2 C."""
    found = solve_sinkhorn(on_a_line(66), on_a_line(66 + SHIFT), kernels.dense(LINE, SIGMA), tolerance=1e-9)
    covariance = np.sqrt(VARIANCE**2 + SIGMA**4 / 4) - SIGMA**2 / 2
    expected = (SHIFT**2 + 2 * VARIANCE - 2 * covariance) / 2
    np.testing.assert_allclose(found.transport_cost, expected, rtol=1e-4)


def test_divergence_of_a_shift_is_half_its_square():
    """Debiased, the entropy and its blur cancel for equal shapes (Feydy et al. 2019)."""
    a, b = on_a_line(66), on_a_line(66 + SHIFT)
    value, plans = sinkhorn_divergence(a, b, kernels.dense(LINE, SIGMA), tolerance=1e-10, max_iterations=3000)
    assert all(plan.status == Status.CONVERGED for plan in plans)
    np.testing.assert_allclose(value * SIGMA**2, SHIFT**2 / 2, rtol=1e-6)


def test_divergence_is_zero_for_equal_maps_positive_and_symmetric_otherwise():
    a, b = (jnp.asarray(scatter(SHAPE, seed)) for seed in (8, 9))
    kernel, options = kernels.dense(SHAPE, 1.0), {"tolerance": 1e-10, "max_iterations": 3000}
    there, back, none = (sinkhorn_divergence(x, y, kernel, **options)[0] for x, y in ((a, b), (b, a), (a, a)))
    assert there > 0.01
    np.testing.assert_allclose(there, back, rtol=1e-8)
    np.testing.assert_allclose(none, 0.0, atol=1e-8)


def test_sides_on_a_part_of_the_box_give_the_same_plan():
    a, b = (np.pad(scatter((3, 4, 4), seed), ((1, 1), (1, 1), (2, 1))) for seed in (1, 2))
    kernel = kernels.dense(SHAPE, 1.0)
    part = ((1, 4), (1, 5), (2, 6))
    found = []
    for chosen in (None, part):
        sides = [side_of(density, chosen) for density in (a, b)]
        problem = Problem(*sides, kernel)
        found.append(solve(Sinkhorn(), problem, Options(1e-9)))
    np.testing.assert_allclose(found[1].potentials[0], found[0].potentials[0], rtol=1e-9)
    np.testing.assert_allclose(found[1].transport_cost, found[0].transport_cost, rtol=1e-9)
    assert sides[0].places.part == part


def test_a_plan_that_cannot_reach_keeps_its_potentials_where_it_can(double):
    source, target = np.zeros((2, 1, 1, 80))
    source[..., 2:5], source[..., 70], target[..., 3:6] = 1.0, 0.5, 1.0
    found = solve_sinkhorn(
        jnp.asarray(source), jnp.asarray(target), kernels.dense((1, 1, 80), 1.0), max_iterations=20
    )
    assert int(found.status) == Status.INFEASIBLE
    log_u, log_v = (np.asarray(potential)[0, 0] for potential in found.potentials)
    assert np.isfinite(log_u[2:5]).all()
    assert np.isneginf(log_u[70])
    assert np.isfinite(log_v[3:6]).all()
