"""Bounds of the true transport cost: closed forms, the linear program, the marginals of the upper bound's plan."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphot_jax import InputError, certify, kernels, solve_sinkhorn
from morphot_jax.transport import certificate
from morphot_jax.transport.checks import check_certify
from morphot_jax.transport.narrow import NarrowKernel, largest

EXACT = {"tolerance": 1e-6, "iterations": 5000, "sigma": 0.08}
SHAPES = ((5, 5, 5), (6, 6, 6), (4, 5, 7))


def random_maps(shape, seed, share=1.0):
    """Two maps with mass in a share of their voxels: as many in each, so that all seeds share one compilation."""
    random = np.random.default_rng(seed)
    maps, order = random.random((2, *shape)), random.random((2, *shape))
    for corner in (0, -1):  # always of one box
        maps[:, *(corner for _ in shape)] += 0.1
        order[:, *(corner for _ in shape)] = -1.0
    last = np.sort(order.reshape(2, -1))[:, round(share * order[0].size) - 1]
    return maps * (order <= last.reshape(2, *(1 for _ in shape)))


def linear_program(source, target, spacing=1.0):
    """W_2^2 / 2 by an exact solver of linear programs."""
    ot = pytest.importorskip("ot", reason="POT is not installed: pip install -e '.[peers]'")
    places = [np.argwhere(values > 0) * spacing for values in (source, target)]
    cost = ((places[0][:, None] - places[1][None]) ** 2).sum(axis=-1) / 2.0
    masses = [values[values > 0] / values.sum() for values in (source, target)]
    return ot.emd2(*masses, cost, numItermax=10**7)


def blob(shape, corner, size=3):
    """A small uneven body in an empty box."""
    values = np.zeros(shape)
    values[tuple(slice(first, first + size) for first in corner)] = np.arange(1.0, size**3 + 1).reshape(
        3 * (size,)
    )
    return values


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_both_bounds_meet_at_the_cost_of_the_linear_program(shape, share):
    source, target = random_maps(shape, seed=sum(shape), share=share)
    cost = linear_program(source, target)
    found = certify(source, target, **EXACT)
    assert found.lower == pytest.approx(cost, rel=1e-6)
    assert found.upper == pytest.approx(cost, rel=1e-6)
    assert found.gap <= 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_the_cost_lies_between_the_bounds_of_a_rough_solve(shape):
    source, target = random_maps(shape, seed=1, share=0.6)
    cost = linear_program(source, target)
    rough = certify(source, target, iterations=3, sigma=0.5)
    assert rough.lower <= cost * (1 + 1e-12)
    assert rough.upper >= cost * (1 - 1e-12)
    assert rough.gap == pytest.approx((rough.upper - rough.lower) / rough.upper)


def test_edges_of_different_lengths_count_in_the_cost():
    source, target = random_maps((4, 5, 5), seed=3, share=0.5)
    spacing = (2.0, 1.0, 3.0)
    cost = linear_program(source, target, np.array(spacing))
    found = certify(source, target, spacing=spacing, tolerance=0.01, iterations=2000, sigma=0.08)
    assert found.lower <= cost * (1 + 1e-12)
    assert found.upper >= cost * (1 - 1e-12)
    assert found.gap <= 0.01


@pytest.mark.parametrize("corner", [(4, 3, 5), (1, 2, 1)])
def test_a_moved_map_costs_half_of_its_way_squared(corner):
    start, shape = (1, 3, 2), (8, 9, 10)
    found = certify(blob(shape, start), blob(shape, corner), **EXACT)
    cost = sum((a - b) ** 2 for a, b in zip(start, corner, strict=True)) / 2.0
    assert found.lower == pytest.approx(cost, rel=1e-9)
    assert found.upper == pytest.approx(cost, rel=1e-6)


def test_equal_maps_cost_nothing():
    source, _ = random_maps((5, 6, 4), seed=4)
    found = certify(source, 3.0 * source, iterations=500)
    assert found.lower == pytest.approx(0.0, abs=1e-12)
    assert found.upper <= 1e-5


@pytest.mark.parametrize("shape", [(12,), (6, 7)])
def test_curves_and_images_have_certificates_too(shape):
    source, target = random_maps(shape, seed=5)
    found = certify(source, target, **EXACT)
    assert found.upper == pytest.approx(linear_program(source, target), rel=1e-6)
    assert found.gap <= 1e-6


def test_swapped_maps_have_the_same_cost():
    source, target = random_maps((5, 4, 6), seed=6, share=0.5)
    there, back = certify(source, target, **EXACT), certify(target, source, **EXACT)
    assert there.lower == pytest.approx(back.lower, rel=1e-6)
    assert there.upper == pytest.approx(back.upper, rel=1e-6)


def test_empty_space_around_the_maps_changes_nothing():
    source, target = random_maps((4, 4, 5), seed=7)
    around = [np.pad(values, ((1, 2), (0, 3), (2, 1))) for values in (source, target)]
    found, wider = certify(source, target), certify(*around)
    assert found.lower == pytest.approx(wider.lower, rel=1e-9)
    assert found.upper == pytest.approx(wider.upper, rel=1e-9)


def test_single_precision_maps_give_double_precision_bounds():
    source, target = (values.astype(np.float32) for values in random_maps((4, 4, 4), seed=8))
    assert certify(source, target) == certify(source.astype(np.float64), target.astype(np.float64))


def test_a_plan_solved_before_is_a_start():
    source, target = random_maps((5, 5, 5), seed=9)
    with jax.enable_x64(True):
        solution = solve_sinkhorn(jnp.asarray(source), jnp.asarray(target), kernels.dense(source.shape, 1.2))
    found = certify(source, target, start=(solution, 1.2), **EXACT)
    assert found.gap <= 1e-6
    assert found.upper == pytest.approx(certify(source, target, **EXACT).upper, rel=1e-6)


def test_progress_is_reported_to_the_end():
    steps = []
    source, target = random_maps((4, 4, 4), seed=10)
    certify(source, target, report=lambda done, total: steps.append((done, total)))
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1]


def dense_minimum(potential, edges):
    """min_y |x - y|^2 / 2 - f(y) by trying all pairs."""
    places = np.argwhere(np.ones_like(potential)) * edges
    cost = ((places[:, None] - places[None]) ** 2).sum(axis=-1) / 2.0
    return (cost - potential.ravel()[None]).min(axis=1).reshape(potential.shape)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.sampled_from([(1, 1, 1), (1, 4, 3), (3, 2, 5), (4, 4, 4)]),
    edges=st.sampled_from([(1.0, 1.0, 1.0), (0.5, 1.0, 2.0)]),
    seed=st.integers(0, 1000),
)
def test_three_passes_give_the_c_transform(shape, edges, seed):
    potential = np.random.default_rng(seed).normal(size=shape) * 5
    with jax.enable_x64(True):
        found = -np.asarray(largest(jnp.asarray(potential), jnp.asarray(edges)))
    np.testing.assert_allclose(found, dense_minimum(potential, np.array(edges)), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(shape=st.sampled_from([(3, 4, 2), (4, 4, 4)]), seed=st.integers(0, 1000))
def test_the_cost_lies_between_the_bounds(shape, seed):
    source, target = random_maps(shape, seed, share=0.5)
    found = certify(source, target, iterations=10, sigma=0.3)
    cost = linear_program(source, target)
    assert found.lower <= cost + 1e-12
    assert found.upper >= cost - 1e-12


def test_rounding_to_halves_never_loses():
    source, target = random_maps((4, 5, 3), seed=11)
    with jax.enable_x64(True):
        a, b = jnp.asarray(source / source.sum()), jnp.asarray(target / target.sum())
        edges = jnp.ones(3)
        for seed in range(20):
            g = jnp.asarray(np.random.default_rng(seed).normal(size=a.shape))
            f = -largest(g, edges)
            g = -largest(f, edges)
            halves = certificate._in_halves(a, b, f, g)
            np.testing.assert_array_equal(2 * halves, np.round(2 * halves))
            again = -largest(halves, edges)
            value = jnp.sum(a * f) + jnp.sum(b * g)
            assert jnp.sum(a * again) + jnp.sum(b * halves) >= value - 1e-8


def dense_plan(log_u, log_v, kernel):
    """The matrix of a plan."""
    shape = kernel.shape
    columns = [
        np.asarray(kernel.apply(jnp.zeros(shape).at[place].set(1.0))).ravel() for place in np.ndindex(*shape)
    ]
    return np.exp(np.asarray(log_u).ravel())[:, None] * np.stack(columns, 1) * np.exp(np.asarray(log_v).ravel())


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_what_a_rounded_plan_moves_and_leaves_makes_up_both_maps(share):
    source, target = random_maps((4, 3, 4), seed=12, share=share)
    with jax.enable_x64(True):
        a, b = jnp.asarray(source / source.sum()), jnp.asarray(target / target.sum())
        kernel = NarrowKernel(jnp.full(3, 0.7), a.shape, (3, 2, 3))
        log_u, log_v = certificate._rest_plan(kernel, a, b)
        cost, rest_a, rest_b = certificate._rounded(kernel, a, b, log_u, log_v, jnp.ones(3))
        plan = dense_plan(log_u, log_v, kernel)
        a, b, rest_a, rest_b = (np.asarray(each).ravel() for each in (a, b, rest_a, rest_b))
    plan *= np.minimum(1.0, b / np.maximum(plan.sum(axis=0), 1e-300))
    places = np.argwhere(np.ones(kernel.shape))
    squares = ((places[:, None] - places[None]) ** 2).sum(axis=-1)
    assert float(cost) == pytest.approx((plan * squares).sum() / 2.0, abs=1e-12)
    np.testing.assert_allclose(plan.sum(axis=1) + rest_a, a, atol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=0) + rest_b, b, atol=1e-12)
    assert rest_a.min() >= 0
    assert rest_b.min() >= 0


def test_the_rank_one_plan_costs_what_its_matrix_costs():
    source, target = random_maps((3, 4, 2), seed=13)
    a, b = source / source.sum(), target / target.sum()
    edges = np.array([1.0, 2.0, 1.5])
    places = np.argwhere(np.ones(a.shape)) * edges
    squares = ((places[:, None] - places[None]) ** 2).sum(axis=-1)
    with jax.enable_x64(True):
        found = certificate._rank_one(jnp.asarray(a), jnp.asarray(b), jnp.asarray(edges))
    assert float(found) == pytest.approx((np.outer(a, b) * squares).sum() / 2.0, rel=1e-12)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.5])
def test_the_narrow_kernel_is_the_log_kernel_up_to_a_constant(sigma):
    with jax.enable_x64(True):
        shape = (4, 5, 3)
        field = jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape)) * 30).at[0, 1].set(-jnp.inf)
        narrow = NarrowKernel(jnp.full(3, sigma), shape, (3, 4, 2)).log_apply(field)
        off = np.asarray(kernels.log(shape, sigma).log_apply(field) - narrow)
    np.testing.assert_allclose(off, off.flat[0], atol=1e-9)


def test_a_narrow_kernel_is_zero_beyond_its_reach():
    with jax.enable_x64(True):
        shape = (5, 6, 7)
        spike = jnp.zeros(shape).at[2, 3, 3].set(1.0)
        found = np.asarray(NarrowKernel(jnp.ones(3), shape, (1, 2, 0)).apply(spike))
    for z, y, x in itertools.product(*map(range, shape)):
        inside = abs(z - 2) <= 1 and abs(y - 3) <= 2 and x == 3
        assert (found[z, y, x] > 0) == inside


GOOD = np.ones((3, 3, 3))


PLAN = SimpleNamespace(potentials=(np.ones((2, 3, 3)),) * 2)
OPTIONS = {"tolerance": 0.01, "sigma": 0.15, "iterations": 50, "spacing": 1.0, "start": None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": np.ones((3, 3, 4))}, "differ"),
        ({"source": -GOOD}, "values of source"),
        ({"source": GOOD.astype(int)}, "array of int"),
        ({"source": np.ones((2, 2, 2, 2))}, "source has the shape"),
        ({"source": [1.0, 2.0]}, "source is"),
        ({"tolerance": 0}, "tolerance is 0"),
        ({"tolerance": "fine"}, "tolerance is 'fine'"),
        ({"sigma": 0.01}, "sigma is 0.01"),
        ({"iterations": 0}, "iterations is 0"),
        ({"iterations": 2.5}, "iterations is 2.5"),
        ({"spacing": (1.0, 2.0)}, "spacing is"),
        ({"spacing": "wide"}, "spacing is 'wide'"),
        ({"spacing": 0.0}, "spacing is 0"),
        ({"start": 3}, "start is 3"),
        ({"start": (PLAN, 0)}, "sigma of its kernel"),
        ({"start": (PLAN, 1.0)}, "start is a plan on the grid"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, words):
    with pytest.raises(InputError) as error:
        check_certify(**{"source": GOOD, "target": GOOD, **OPTIONS, **change})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_traced_maps_are_refused():
    with pytest.raises(InputError, match="traced"):
        jax.jit(lambda values: certify(values, values).lower)(jnp.ones((2, 2, 2)))
