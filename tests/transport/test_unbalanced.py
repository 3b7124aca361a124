"""Unbalanced plans: closed forms, dense references, an independent program, limits, and derivatives."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morphot_jax import InputError, Status, kernels, solve_sinkhorn
from morphot_jax.transport.unbalanced import carried_part, solve_unbalanced
from shapes import blob

pytestmark = pytest.mark.usefixtures("double")

SHAPE, SIGMA = (5, 6, 4), 1.2
TIGHT = 1e-12
PRIOR_ERROR = 1e-11  # of the plans of maps to themselves


@cache
def compiled(shape, tolerance):
    """The solver and the part that is carried, compiled for boxes of this shape."""

    @jax.jit
    def both(source, target, reach):
        kernel = kernels.heat(shape, SIGMA)
        found = solve_unbalanced(source, target, kernel, reach=reach, tolerance=tolerance)
        return found, carried_part(source, target, found, kernel)

    return both


def maps(seed=0, shape=SHAPE, empty=0.3):
    """Two random densities with empty voxels, and of different masses."""
    rng = np.random.default_rng(seed)
    one, other = (rng.uniform(size=shape) * (rng.uniform(size=shape) > empty) for _ in range(2))
    return jnp.asarray(one), jnp.asarray(1.5 * other)


def solved(source, target, reach, kernel=None, **options):
    kernel = kernels.dense(source.shape, SIGMA) if kernel is None else kernel
    return solve_unbalanced(source, target, kernel, reach=reach, **{"tolerance": TIGHT} | options)


def matrix_of(kernel):
    """The kernel as a matrix."""
    n = int(np.prod(kernel.shape))
    spikes = jnp.eye(n).reshape(n, *kernel.shape)
    return np.asarray(kernel.apply(spikes)).reshape(n, n)


def dense_plan(a, b, kernel, r, iterations=4000):
    """The plan by plain alternation with matrices, in the way of its definition."""
    matrix, potentials = matrix_of(kernel), []
    for mass in (a, b):
        d = np.sqrt(mass)
        for _ in range(60):
            smoothed = matrix @ d
            d = np.sqrt(d * np.divide(mass, smoothed, out=np.zeros_like(mass), where=smoothed > 0))
        potentials.append(d)
    prior = potentials[0][:, None] * matrix * potentials[1]
    u, v, power = np.ones_like(a), np.ones_like(b), r / (1.0 + r)
    for _ in range(iterations):
        u = np.where(a > 0, a / np.where(a > 0, prior @ v, 1.0), 0.0) ** power
        v = np.where(b > 0, b / np.where(b > 0, prior.T @ u, 1.0), 0.0) ** power
    return u[:, None] * prior * v, prior


def test_between_single_voxels_there_is_a_closed_form():
    """KL(p | R) + 2 r KL(p | 1), with R = exp(-D^2 / 2 sigma^2): log p = log R / (1 + 2 r)."""
    source, target = (jnp.zeros((9, 3, 3)).at[x, 1, 1].set(1.0) for x in (2, 6))
    found = solved(source, target, 3.0)
    wanted = np.exp(-16.0 / (2 * SIGMA**2) / (1.0 + 2.0 * 1.5**2))
    assert float(found.carried[0].sum()) == pytest.approx(wanted, rel=1e-9)
    log_r = -16.0 / (2 * SIGMA**2)
    cost = wanted * (np.log(wanted) - log_r) - wanted + np.exp(log_r)
    cost += 2 * 1.5**2 * (wanted * np.log(wanted) - wanted + 1.0)
    assert float(found.value) == pytest.approx(cost, rel=1e-9)


@pytest.mark.parametrize("kind", ["dense", "heat", "log", "fft"])
@pytest.mark.parametrize("reach", [1.0, 4.0])
def test_a_dense_reference_has_the_same_plan(kind, reach):
    source, target = maps()
    kernel = kernels.make(kind, SHAPE, SIGMA)
    found = solved(source, target, reach, kernel)
    mean = (source.sum() + target.sum()) / 2.0
    a, b = (np.asarray(density / mean).ravel() for density in (source, target))
    r = (reach / 2.0) ** 2
    plan, prior = dense_plan(a, b, kernel, r)
    u, v = (np.exp(np.asarray(potential)).ravel() for potential in found.potentials)
    np.testing.assert_allclose(u[:, None] * matrix_of(kernel) * v, plan, atol=1e-10)
    np.testing.assert_allclose(np.asarray(found.carried[0]).ravel(), plan.sum(axis=1), atol=1e-10)
    np.testing.assert_allclose(np.asarray(found.carried[1]).ravel(), plan.sum(axis=0), atol=1e-10)

    def relative_entropy(p, q):
        some = (p > 0) & (q > 0)
        return np.sum(p[some] * np.log(p[some] / q[some])) - p.sum() + q.sum()

    wanted = relative_entropy(plan, prior)
    wanted += r * (relative_entropy(plan.sum(axis=1), a) + relative_entropy(plan.sum(axis=0), b))
    assert float(found.value) == pytest.approx(wanted, rel=1e-8)


def test_pot_finds_the_same_plan():
    ot = pytest.importorskip("ot", reason="POT is not installed: extra 'peers'")
    source, target = (np.asarray(density) + 0.05 for density in maps())
    kernel, reach = kernels.dense(SHAPE, SIGMA), 3.0
    found = solved(jnp.asarray(source), jnp.asarray(target), reach)
    mean = (source.sum() + target.sum()) / 2.0
    a, b = source.ravel() / mean, target.ravel() / mean
    _, prior = dense_plan(a, b, kernel, 1.0, iterations=1)
    outer = a[:, None] * b
    plan = ot.unbalanced.sinkhorn_unbalanced(
        a, b, -np.log(prior / outer), 1.0, (reach / 2.0) ** 2, reg_type="kl", numItermax=20000, stopThr=1e-14
    )
    np.testing.assert_allclose(np.asarray(found.carried[0]).ravel(), plan.sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(np.asarray(found.carried[1]).ravel(), plan.sum(axis=0), atol=1e-9)


def test_equal_maps_stay_and_cost_nothing():
    source, _ = maps()
    found = solved(source, source, 3.0)
    part = carried_part(source, source, found, kernels.dense(SHAPE, SIGMA))
    unit = np.asarray(source / source.sum())
    np.testing.assert_allclose(part.kept, unit, atol=PRIOR_ERROR)
    np.testing.assert_allclose(part.made, unit, atol=PRIOR_ERROR)
    assert float(found.value) == pytest.approx(0.0, abs=PRIOR_ERROR)


def test_a_long_reach_gives_the_balanced_plan():
    """A reach of 1e4 voxels, and maps of one mass."""
    first, last = (blob((14, 15, 16), center, 2.0) for center in ((6, 6, 7), (8, 8, 7)))
    first, last = jnp.asarray(first / first.sum()), jnp.asarray(last / last.sum())
    kernel = kernels.heat(first.shape, SIGMA)
    found = solve_unbalanced(first, last, kernel, reach=1e4 / SIGMA, tolerance=1e-10)
    balanced = solve_sinkhorn(first, last, kernel, tolerance=1e-10)
    assert int(found.status) == Status.CONVERGED
    assert int(found.iterations) < 60
    np.testing.assert_allclose(found.carried[0], first, atol=1e-6 * float(first.max()))
    products = [
        np.exp(np.asarray(s.potentials[0])) * np.asarray(kernel.apply(jnp.exp(s.potentials[1]) * w))
        for s in (found, balanced)
        for w in (jnp.arange(16.0),)
    ]
    np.testing.assert_allclose(*products, rtol=1e-6, atol=1e-9 * products[0].max())


@pytest.mark.parametrize("reach", [0.5, 3.0, 50.0])
def test_scales_and_directions_do_not_matter(reach):
    source, target = maps(1)
    found = solved(source, target, reach)
    scaled = solved(7.0 * source, 7.0 * target, reach)
    np.testing.assert_allclose(found.carried[0], scaled.carried[0], atol=1e-11)
    back = solved(target, source, reach)
    np.testing.assert_allclose(found.carried[0], back.carried[1], atol=1e-10)
    np.testing.assert_allclose(found.value, back.value, rtol=1e-9)


@given(st.integers(0, 10**6), st.sampled_from([(3, 4, 5), (2, 7, 3), (1, 5, 6), (6, 1, 1)]), st.floats(0.3, 30.0))
def test_what_is_carried_is_part_of_both_maps(seed, shape, reach):
    with jax.enable_x64(True):
        source, target = maps(seed, shape, empty=0.2)
        source, target = source.at[0].add(0.1), target.at[-1].add(0.1)
        found, part = compiled(shape, 1e-9)(source, target, reach)
        assert int(found.status) == Status.CONVERGED
        mean = float(source.sum() + target.sum()) / 2.0
        assert float(part.kept.sum()) == pytest.approx(float(part.made.sum()), rel=1e-9)
        for moved, density in ((part.kept, source), (part.made, target)):
            assert float((moved - density / mean).max()) <= 1e-15
            assert float(moved.min()) >= 0.0


def test_mass_out_of_reach_fades_and_appears():
    still = blob((12, 12, 30), (6, 6, 5), 1.5)
    gone, come = (0.5 * blob((12, 12, 30), (6, 6, x), 1.0) for x in (15, 25))
    source, target = jnp.asarray(still + gone), jnp.asarray(still + come)
    kernel = kernels.heat(source.shape, 1.0)
    found = solve_unbalanced(source, target, kernel, reach=2.0)
    part = carried_part(source, target, found, kernel)
    mean = float(source.sum() + target.sum()) / 2.0
    fades, appears = (
        np.asarray(source) - mean * np.asarray(part.kept),
        np.asarray(target) - mean * np.asarray(part.made),
    )
    assert np.abs(fades - gone).sum() < 0.05 * gone.sum()
    assert np.abs(appears - come).sum() < 0.05 * come.sum()


def test_maps_that_the_kernel_cannot_join_fade_whole():
    source, target = np.zeros((2, 1, 1, 90))
    source[..., 2:5], target[..., 80:84] = 1.0, 1.0
    kernel = kernels.dense((1, 1, 90), 1.0)
    found = solve_unbalanced(jnp.asarray(source), jnp.asarray(target), kernel, reach=3.0)
    assert int(found.status) == Status.CONVERGED
    part = carried_part(jnp.asarray(source), jnp.asarray(target), found, kernel)
    assert float(part.kept.sum()) == float(part.made.sum()) == 0.0
    assert float(found.value) == pytest.approx(2.0 * 1.5**2, rel=1e-9)


def test_one_axis_and_vmap_and_one_compilation(count_compilations):
    source, target = (density[0, 0] + 0.01 for density in maps(2, (1, 1, 12)))
    kernel = kernels.heat((12,), SIGMA)

    @jax.jit
    def kept(reach, tolerance):
        return solve_unbalanced(source, target, kernel, reach=reach, tolerance=tolerance).carried[0]

    alone = [kept(reach, 1e-9) for reach in (1.0, 2.0)]
    with count_compilations() as compiled:
        kept(5.0, 1e-8)
    assert compiled.count == 0
    together = jax.vmap(lambda reach: kept(reach, 1e-9))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(together, jnp.stack(alone), atol=1e-12)


def test_derivatives_agree_with_differences():
    source, target = maps(3)
    rng = np.random.default_rng(4)
    weights = [jnp.asarray(rng.normal(size=SHAPE)) for _ in range(3)]

    def outcome(source, target, sigma, reach):
        kernel = kernels.heat(SHAPE, sigma)
        found = solve_unbalanced(source, target, kernel, reach=reach, tolerance=1e-13)
        log_v = jnp.where(jnp.isfinite(found.potentials[1]), found.potentials[1], 0.0)
        fields = (*found.carried, log_v)
        return jnp.stack([found.value, *(jnp.sum(w * field) for w, field in zip(weights, fields, strict=True))])

    at = source, target, jnp.asarray(SIGMA), jnp.asarray(2.5)
    backwards = jax.jacrev(outcome, argnums=(0, 1, 2, 3))(*at)
    forwards = jax.jacfwd(lambda reach: outcome(*at[:3], reach))(at[3])
    np.testing.assert_allclose(backwards[3], forwards, rtol=1e-7)
    step = 1e-5
    for number, values in enumerate(at):
        change = jnp.asarray(rng.normal(size=values.shape)) * (values > 0)
        ends = [outcome(*at[:number], values + s * step * change, *at[number + 1 :]) for s in (1, -1)]
        numbers = (
            jnp.tensordot(backwards[number], change, axes=values.ndim)
            if values.ndim
            else backwards[number] * change
        )
        np.testing.assert_allclose(numbers, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-8)
    assert float(jnp.abs(backwards[0][:, source == 0]).max()) == 0.0


@pytest.mark.parametrize("reach", [0.0, -1.0, "far", None])
def test_a_reach_that_is_none_is_refused(unchecked, reach):
    source, target = maps()
    with pytest.raises(InputError, match=r"reach is .* give one number above 0"):
        solved(source, target, reach)
