"""The barycenter solver: the mathematics it must obey, independent programs, and how it composes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from morphot_jax import kernels
from morphot_jax.system.errors import InputError
from morphot_jax.transport.barycenter import check_maps, solve_barycenter, start_between
from morphot_jax.transport.loop import Solution
from morphot_jax.transport.relaxation import AUTOMATIC, PLAIN, Relaxation
from morphot_jax.transport.sinkhorn import solve_sinkhorn
from morphot_jax.transport.status import Status
from shapes import blob, moments, scatter

pytestmark = pytest.mark.usefixtures("double")

SHAPE = (7, 8, 9)


def pair(shape=SHAPE):
    return jnp.asarray(np.stack([scatter(shape, 1), scatter(shape, 2)]))


def weights_of(*times):
    return jnp.array([[1.0 - t, t] for t in times])


def apply(kernel, values):
    """K f on plain arrays, on the host."""
    with np.errstate(divide="ignore"):
        return np.exp(np.asarray(kernel.log_apply(jnp.asarray(np.log(values)))))


def paper_iteration(maps, weights, convolve, iterations):
    """Eq 2.4 in scaling form, written from the paper: the independent program."""
    v = [np.ones_like(a) for a in maps]
    for _ in range(iterations):
        ku = [convolve(a / convolve(vk)) for a, vk in zip(maps, v, strict=True)]
        q = np.prod([k**w for k, w in zip(ku, weights, strict=True)], axis=0)
        v = [q / k for k in ku]
    return q


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.2, 0.8), (0.2, 0.5, 0.3)])
def test_plain_iterations_are_those_of_the_paper(weights):
    maps = np.stack([scatter(SHAPE, seed) for seed in range(len(weights))])
    kernel = kernels.dense(SHAPE, 1.5)
    found = solve_barycenter(
        jnp.asarray(maps),
        jnp.array([weights]),
        kernel,
        max_iterations=17,
        relaxation=PLAIN,
        fixed_iterations=True,
    )
    expected = paper_iteration(maps, weights, lambda f: apply(kernel, f), 17)
    np.testing.assert_allclose(found.value[0], expected, rtol=1e-10)
    assert int(found.iterations[0]) == 17
    assert Status(int(found.status[0])) is Status.FIXED_ITERATIONS


def original_algorithm(maps, weights, sigma, iterations, guard=1e-30):
    """The scipy algorithm of the original tool, with its guards against division by zero."""
    v = [np.ones_like(a) for a in maps]
    for _ in range(iterations):
        ku = [
            gaussian_filter(a / np.maximum(gaussian_filter(vk, sigma), guard), sigma)
            for a, vk in zip(maps, v, strict=True)
        ]
        log_q = sum(w * np.log(np.maximum(vk * k, guard)) for w, vk, k in zip(weights, v, ku, strict=True))
        v = [np.exp(log_q) / np.maximum(k, guard) for k in ku]
    return np.exp(log_q)


def test_truncated_kernel_gives_the_original_tool():
    shape = (12, 13, 14)
    maps = np.stack([blob(shape, (5, 5, 6), 1.5, 1e-40), blob(shape, (7, 7, 7), 2.0, 1e-40)])
    found = solve_barycenter(
        jnp.asarray(maps),
        weights_of(0.3),
        kernels.truncated(shape, 0.7),
        max_iterations=15,
        relaxation=PLAIN,
        fixed_iterations=True,
        guard=1e-30,
    )
    expected = original_algorithm(maps, (0.7, 0.3), 0.7, 15)
    np.testing.assert_allclose(found.value[0], expected, atol=1e-7 * expected.max())


@pytest.mark.parametrize("relaxation", [PLAIN, Relaxation(1.3), AUTOMATIC])
def test_reported_error_is_that_of_the_plans(relaxation):
    """Both marginals of P_k = diag(u_k) K diag(v_k), from a dense n^3 x n^3 matrix and the returned potentials."""
    maps, weights = pair((4, 5, 6)), weights_of(0.4)
    kernel = kernels.dense((4, 5, 6), 1.0)

    def run(n) -> Solution:
        return solve_barycenter(
            maps, weights, kernel, max_iterations=n, relaxation=relaxation, fixed_iterations=True
        )

    before, after = run(11), run(12)
    dense = np.kron(np.kron(kernel.z, kernel.y), kernel.x)
    u = np.exp(np.asarray(after.potentials[0][0])).reshape(2, -1)
    v = np.exp(np.asarray(before.potentials[1][0])).reshape(2, -1)  # the v that u was made from
    q = np.asarray(after.value[0]).ravel()
    error = 0.0
    for k, weight in enumerate((0.6, 0.4)):
        plan = u[k][:, None] * dense * v[k]
        error += weight * np.abs(plan.sum(1) - np.asarray(maps[k]).ravel()).sum()
        error += weight * np.abs(plan.sum(0) - q).sum()
    np.testing.assert_allclose(after.marginal_error[0], error, rtol=1e-9)


def test_converged_plans_have_the_maps_as_marginals():
    """Independent check of a converged answer: one plain iteration from its potentials changes nothing."""
    maps, weights = pair(), weights_of(0.25, 0.5, 0.9)
    kernel = kernels.dense(SHAPE, 1.2)
    found = solve_barycenter(maps, weights, kernel, tolerance=1e-10, max_iterations=2000)
    assert np.all(found.status == Status.CONVERGED)
    for lane, w in enumerate(np.asarray(weights)):
        v = np.exp(np.asarray(found.potentials[1][lane]))
        second = [v[k] * apply(kernel, np.asarray(maps[k]) / apply(kernel, v[k])) for k in (0, 1)]
        for k in (0, 1):
            np.testing.assert_allclose(second[k], found.value[lane], atol=1e-10)
        np.testing.assert_allclose(np.prod([v[k] ** w[k] for k in (0, 1)], axis=0), 1.0, rtol=1e-9)
    np.testing.assert_allclose(found.value.sum(axis=(1, 2, 3)), 1.0, atol=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
def test_equal_gaussians_have_the_closed_form(t):
    """Two Gaussians of variance s: the mean moves linearly, the variance is s + sigma^2 (w = 1/2 or not).

    In one dimension Eq 2.4 is solved by Gaussians; with equal variances the transport is a translation, to which
    the entropy adds one convolution by the kernel (Janati et al. 2020, theorem 1).
    """
    shape, sd, sigma = (26, 26, 34), 2.0, 1.3
    maps = np.stack([blob(shape, (12, 12.5, 13.0), sd, 1e-16), blob(shape, (13, 12.5, 18.0), sd, 1e-16)])
    found = solve_barycenter(
        jnp.asarray(maps), weights_of(t), kernels.dense(shape, sigma), tolerance=1e-9, max_iterations=1000
    )
    mean, variance = moments(found.value[0])
    np.testing.assert_allclose(mean, [12 + t, 12.5, 13 + 5 * t], atol=1e-3)
    np.testing.assert_allclose(variance, sd**2 + sigma**2, rtol=2e-3)


def test_three_gaussians_have_their_weighted_mean():
    shape, centres = (24, 24, 24), np.array([[10, 10, 11], [13, 11, 12], [11, 14, 13]], float)
    weights = np.array([0.5, 0.2, 0.3])
    maps = np.stack([blob(shape, centre, 1.8, 1e-14) for centre in centres])
    found = solve_barycenter(
        jnp.asarray(maps),
        jnp.asarray(weights[None]),
        kernels.dense(shape, 1.2),
        tolerance=1e-8,
        max_iterations=2000,
    )
    assert found.status[0] == Status.CONVERGED
    mean, variance = moments(found.value[0])
    np.testing.assert_allclose(mean, weights @ centres, atol=1e-3)
    np.testing.assert_allclose(variance, 1.8**2 + 1.2**2, rtol=2e-3)


LINE, VARIANCE, SIGMA = (1, 1, 140), 36.0, 4.0


def on_a_line(*centres):
    """Gaussians of one variance on a line, fine enough that the grid does not show."""
    return jnp.asarray(np.stack([blob(LINE, (0, 0, c), np.sqrt(VARIANCE), 1e-14) for c in centres]))


@pytest.mark.parametrize("t", [0.25, 0.5])
@pytest.mark.parametrize(("debias", "variance"), [(False, VARIANCE + SIGMA**2), (True, VARIANCE)])
def test_variance_of_a_barycenter_with_and_without_its_blur(t, debias, variance):
    """A + sigma^2 or, debiased, A (Janati et al. 2020, theorem 3), to a thousandth."""
    found = solve_barycenter(
        on_a_line(66, 72),
        weights_of(t),
        kernels.dense(LINE, SIGMA),
        tolerance=1e-8,
        max_iterations=3000,
        debias=debias,
    )
    assert found.status[0] == Status.CONVERGED
    mean, seen = moments(found.value[0])
    np.testing.assert_allclose(mean[2], 66 + 6 * t, atol=1e-3)
    np.testing.assert_allclose(seen[2], variance, rtol=1e-3)


def test_one_map_is_blurred_by_the_kernel():
    """q = K (a / K 1), whose mean over the plan is the map; its gradient passes too."""
    a, kernel = pair()[:1], kernels.dense(SHAPE, 1.2)
    found = solve_barycenter(a, jnp.ones((1, 1)), kernel, tolerance=1e-10)
    assert found.status[0] == Status.CONVERGED
    np.testing.assert_allclose(found.value[0], kernel.apply(a[0] / kernel.apply(jnp.ones(SHAPE))), rtol=1e-9)


def test_three_debiased_gaussians():
    weights = jnp.array([[0.5, 0.2, 0.3]])
    found = solve_barycenter(
        on_a_line(60, 70, 76),
        weights,
        kernels.dense(LINE, SIGMA),
        tolerance=1e-8,
        max_iterations=3000,
        debias=True,
    )
    assert found.status[0] == Status.CONVERGED
    mean, variance = moments(found.value[0])
    np.testing.assert_allclose(mean[2], 0.5 * 60 + 0.2 * 70 + 0.3 * 76, atol=2e-3)
    np.testing.assert_allclose(variance[2], VARIANCE, rtol=1e-3)


def test_debiased_ends_are_the_maps():
    maps, kernel = pair(), kernels.dense(SHAPE, 1.0)
    found = solve_barycenter(maps, weights_of(0.0, 0.4, 1.0), kernel, tolerance=1e-5, debias=True)
    np.testing.assert_array_equal(found.status, Status.CONVERGED)
    assert found.iterations.tolist()[::2] == [0, 0]
    assert found.marginal_error.tolist()[::2] == [0.0, 0.0]
    np.testing.assert_allclose(found.value[0], maps[0], rtol=1e-14)
    np.testing.assert_allclose(found.value[2], maps[1], rtol=1e-14)
    assert np.all(np.isnan(found.history.marginal_error[0]))


@pytest.mark.parametrize("weights", [(0.4, 0.6), (0.2, 0.5, 0.3)])
def test_debiased_answer_obeys_its_equations(weights):
    """From the potentials, on the host: marginals of the plans, q = d prod (K u)^alpha, and d K d."""
    maps = np.stack([scatter(SHAPE, seed) for seed in range(len(weights))])
    kernel = kernels.dense(SHAPE, 1.2)
    found = solve_barycenter(
        jnp.asarray(maps), jnp.array([weights]), kernel, tolerance=3e-10, max_iterations=4000, debias=True
    )
    assert found.status[0] == Status.CONVERGED
    q, v = np.asarray(found.value[0]), np.exp(np.asarray(found.potentials[1][0]))
    d = np.prod([vk**w for vk, w in zip(v, weights, strict=True)], axis=0)
    ku = [apply(kernel, a / apply(kernel, vk)) for a, vk in zip(maps, v, strict=True)]
    for vk, k in zip(v, ku, strict=True):
        np.testing.assert_allclose(vk * k, q, atol=1e-6)
    np.testing.assert_allclose(d * np.prod([k**w for k, w in zip(ku, weights, strict=True)], axis=0), q, atol=1e-6)
    assert np.abs(d * apply(kernel, d) - q).sum() < 1e-6
    assert 0 < found.bias[0] < 1e-6
    assert np.all(solve_barycenter(jnp.asarray(maps), jnp.array([weights]), kernel).bias == 0)


def test_debiasing_takes_the_blur_of_the_ends_out():
    """A map and itself: every barycenter is the map; the plain one is blurred by the kernel."""
    a = blob((20, 20, 20), (9, 10, 10), 1.6, 1e-5)
    maps, kernel = jnp.asarray(np.stack([a, a])), kernels.dense((20, 20, 20), 1.2)
    sharp = solve_barycenter(maps, weights_of(0.5), kernel, tolerance=1e-8, max_iterations=3000, debias=True)
    blurred = solve_barycenter(maps, weights_of(0.5), kernel, tolerance=1e-8)
    assert sharp.status[0] == Status.CONVERGED
    assert np.abs(sharp.value[0] - a).sum() < 0.02
    assert np.abs(blurred.value[0] - a).sum() > 0.2


def test_a_debiased_frame_alone_equals_the_frame_in_a_batch():
    maps, kernel, times = pair(), kernels.dense(SHAPE, 1.0), (0.0, 0.2, 0.5, 0.9)
    together = solve_barycenter(maps, weights_of(*times), kernel, tolerance=1e-5, debias=True)
    for lane in (1, 3):
        alone = solve_barycenter(maps, weights_of(times[lane]), kernel, tolerance=1e-5, debias=True)
        np.testing.assert_allclose(alone.value[0], together.value[lane], atol=1e-9)
        assert alone.iterations[0] == together.iterations[lane]


@pytest.mark.parametrize("t", [0.04, 0.5, 0.8])
@pytest.mark.parametrize("debias", [False, True])
def test_a_start_between_saves_iterations_and_leaves_the_answer(t, debias):
    shape = (12, 12, 24)
    a = blob(shape, (6, 6, 7), 1.2, 1e-6) + blob(shape, (5, 6, 12), 1.5, 1e-6)
    b = blob(shape, (6, 6, 7), 1.2, 1e-6) + blob(shape, (6, 5, 16), 1.4, 1e-6)
    maps, sigma, weights = jnp.asarray(np.stack([a, b])), 1.0, weights_of(t)
    kernel = kernels.dense(shape, sigma)
    coupling = solve_sinkhorn(maps[0], maps[1], kernel, tolerance=1e-3)
    start = start_between(coupling.potentials[0], coupling.potentials[1], weights, sigma)
    np.testing.assert_allclose(np.einsum("k,kzyx->zyx", weights[0], start[0]), 0.0, atol=1e-10)
    options = {"tolerance": 1e-5 if debias else 1e-9, "max_iterations": 3000, "debias": debias}
    cold = solve_barycenter(maps, weights, kernel, **options)
    warm = solve_barycenter(maps, weights, kernel, start=start, **options)
    assert warm.status[0] == cold.status[0] == Status.CONVERGED
    assert warm.iterations[0] < cold.iterations[0]
    if not debias:  # what is finer than the kernel depends on how long a debiased solve goes on
        assert warm.history.marginal_error[0, 0] < 0.5 * cold.history.marginal_error[0, 0]
        np.testing.assert_allclose(warm.value, cold.value, atol=1e-9)


def test_swapping_the_maps_swaps_the_weights():
    maps, kernel = pair(), kernels.dense(SHAPE, 1.0)
    there = solve_barycenter(maps, weights_of(0.1, 0.5, 0.8), kernel)
    back = solve_barycenter(maps[::-1], weights_of(0.9, 0.5, 0.2), kernel)
    np.testing.assert_allclose(there.value, back.value, atol=1e-12)


@given(axes=st.permutations((0, 1, 2)), flips=st.tuples(*[st.booleans()] * 3))
@settings(max_examples=6, deadline=None)
def test_axes_can_be_permuted_and_flipped(axes, flips):
    def move(field):
        field = np.transpose(field, axes)
        return np.flip(field, [axis for axis, flip in enumerate(flips) if flip])

    maps = np.asarray(pair())
    moved = np.stack([move(m) for m in maps])
    with jax.enable_x64(True):
        here, there = (
            solve_barycenter(jnp.asarray(m), weights_of(0.3), kernels.dense(m.shape[1:], 1.1))
            for m in (maps, moved)
        )
    np.testing.assert_allclose(there.value[0], move(np.asarray(here.value[0])), atol=1e-12)


def test_translation_moves_the_barycenter():
    shape = (26, 24, 28)
    maps = np.stack([blob(shape, (11, 11, 11), 1.5, 1e-6), blob(shape, (12, 11, 13), 1.2, 1e-6)])
    moved = np.roll(maps, (2, 1, 3), axis=(1, 2, 3))
    kernel = kernels.dense(shape, 1.0)
    here, there = (
        solve_barycenter(jnp.asarray(m), weights_of(0.5), kernel, tolerance=1e-9) for m in (maps, moved)
    )
    np.testing.assert_allclose(there.value[0], np.roll(here.value[0], (2, 1, 3), axis=(0, 1, 2)), atol=1e-9)


def test_a_frame_alone_equals_the_frame_in_a_batch():
    times = np.linspace(0, 1, 25)
    maps, kernel = pair(), kernels.dense(SHAPE, 1.0)
    together = solve_barycenter(maps, weights_of(*times), kernel)
    assert len(set(together.iterations.tolist())) > 1  # lanes do stop at different times
    for lane in (0, 3, 12, 24):
        alone = solve_barycenter(maps, weights_of(times[lane]), kernel)
        np.testing.assert_allclose(alone.value[0], together.value[lane], atol=1e-12)
        assert alone.iterations[0] == together.iterations[lane]
        np.testing.assert_array_equal(
            np.isnan(together.history.marginal_error[lane]), np.arange(500) >= int(alone.iterations[0])
        )


def test_all_kernels_give_the_same_barycenter():
    # FFT convolution keeps 8 standard deviations only: the maps must overlap
    shape = (12, 12, 12)
    maps = jnp.asarray(np.stack([blob(shape, (5, 5, 5), 2.0, 1e-4), blob(shape, (6, 6, 6), 2.0, 1e-4)]))
    values = [
        solve_barycenter(maps, weights_of(0.5), kernels.make(kind, shape, 1.5), tolerance=1e-9).value[0]
        for kind in ("dense", "log", "fft")
    ]
    np.testing.assert_allclose(values[1], values[0], atol=1e-12)
    np.testing.assert_allclose(values[2], values[0], atol=1e-9)


def test_over_relaxation_changes_the_way_and_not_the_answer():
    shape = (10, 11, 24)
    one, two = blob(shape, (5, 5, 5), 1.2), blob(shape, (4, 6, 17), 1.8)
    maps = jnp.asarray(np.stack([(one + two) / 2, (2 * one + blob(shape, (5, 3, 14), 1.0)) / 3]))
    kernel = kernels.dense(shape, 0.8)
    plain, relaxed = (
        solve_barycenter(maps, weights_of(0.5), kernel, tolerance=1e-9, max_iterations=9000, relaxation=r)
        for r in (PLAIN, AUTOMATIC)
    )
    np.testing.assert_allclose(relaxed.value, plain.value, atol=1e-9)
    assert 3 * int(relaxed.iterations[0]) < int(plain.iterations[0])


@pytest.mark.parametrize("criterion", ["marginal_error", "change_l1", "change_l2"])
def test_one_run_tells_the_iterations_to_every_threshold(criterion):
    maps, kernel, weights = pair(), kernels.dense(SHAPE, 1.0), weights_of(0.3, 0.5)
    strict = solve_barycenter(maps, weights, kernel, tolerance=1e-8, criterion=criterion)
    record = np.asarray(getattr(strict.history, criterion))
    for threshold in (1e-2, 1e-4, 1e-6):
        loose = solve_barycenter(maps, weights, kernel, tolerance=threshold, criterion=criterion)
        np.testing.assert_array_equal(loose.iterations, np.argmax(record <= threshold, axis=1) + 1)
        assert np.all(getattr(loose, criterion) <= threshold)


def test_change_is_the_norm_between_iterates():
    maps, kernel = pair(), kernels.dense(SHAPE, 1.0)
    runs = [
        solve_barycenter(maps, weights_of(0.5), kernel, max_iterations=n, fixed_iterations=True) for n in (6, 7)
    ]
    difference = np.asarray(runs[1].value - runs[0].value)
    np.testing.assert_allclose(runs[1].change_l1[0], np.abs(difference).sum(), rtol=1e-10)
    np.testing.assert_allclose(runs[1].change_l2[0], np.linalg.norm(difference), rtol=1e-10)


def test_scale_of_maps_and_weights_does_not_matter():
    maps, kernel = pair(), kernels.dense(SHAPE, 1.0)
    reference = solve_barycenter(maps, weights_of(0.5), kernel)
    scaled = solve_barycenter(maps * jnp.array([3.0, 700.0])[:, None, None, None], weights_of(0.5) * 4.0, kernel)
    np.testing.assert_allclose(scaled.value, reference.value, atol=1e-12)


def test_single_precision_agrees_with_double():
    maps, weights = pair(), weights_of(0.5)
    double = solve_barycenter(maps, weights, kernels.dense(SHAPE, 2.0), tolerance=1e-4)
    single = solve_barycenter(
        maps.astype(jnp.float32),
        weights.astype(jnp.float32),
        kernels.dense(SHAPE, 2.0, jnp.float32),
        tolerance=1e-4,
    )
    assert single.value.dtype == jnp.float32
    assert single.status[0] == Status.CONVERGED
    np.testing.assert_allclose(single.value, double.value, atol=1e-4 * float(double.value.max()))


def test_status_max_iterations():
    found = solve_barycenter(pair(), weights_of(0.5), kernels.dense(SHAPE, 0.6), max_iterations=3)
    assert Status(int(found.status[0])) is Status.MAX_ITERATIONS
    assert found.marginal_error[0] > 1e-6


def test_status_infeasible_says_how_much_mass_is_out_of_reach():
    """Half of the second map lies 20 voxels from the first; the kernel ends at 4."""
    shape = (5, 5, 30)
    near, far = blob(shape, (2, 2, 4), 0.8, 1e-3), blob(shape, (2, 2, 25), 0.8, 1e-3)
    maps = jnp.asarray(np.stack([near, (near + far) / 2]))
    found = solve_barycenter(maps, weights_of(0.5), kernels.truncated(shape, 1.0), max_iterations=30)
    assert Status(int(found.status[0])) is Status.INFEASIBLE
    np.testing.assert_allclose(found.unreached[0], 0.25, atol=1e-6)
    assert np.all(np.isfinite(found.value))


def test_status_nonfinite_freezes_the_lane():
    """A relaxation of 1.99 from a cold start blows up on far point masses, and says so."""
    shape = (3, 3, 40)
    maps = jnp.asarray(np.stack([blob(shape, (1, 1, 5), 0.3), blob(shape, (1, 1, 33), 0.3)]))
    kernel = kernels.log(shape, 0.3)
    found = solve_barycenter(maps, weights_of(0.5), kernel, relaxation=Relaxation(50.0), max_iterations=400)
    assert Status(int(found.status[0])) is Status.NONFINITE
    assert int(found.iterations[0]) < 400


def test_composes_with_jit_and_vmap():
    """A caller's jit, vmap over sigma, vmap over pairs of maps, and separate calls agree."""
    weights = weights_of(0.25, 0.5)

    @jax.jit
    def barycenter(maps, sigma):
        return solve_barycenter(maps, weights, kernels.dense(SHAPE, sigma), tolerance=1e-8).value

    sigmas = jnp.array([0.9, 1.4, 2.0])
    pairs = jnp.stack([pair(), pair()[::-1], jnp.asarray(np.stack([scatter(SHAPE, 5), scatter(SHAPE, 6)]))])
    over_sigma = jax.vmap(barycenter, (None, 0))(pairs[0], sigmas)
    over_pairs = jax.vmap(barycenter, (0, None))(pairs, sigmas[1])
    for i in range(3):
        direct = solve_barycenter(pairs[0], weights, kernels.dense(SHAPE, float(sigmas[i])), tolerance=1e-8)
        np.testing.assert_allclose(over_sigma[i], direct.value, atol=1e-12)
        direct = solve_barycenter(pairs[i], weights, kernels.dense(SHAPE, float(sigmas[1])), tolerance=1e-8)
        np.testing.assert_allclose(over_pairs[i], direct.value, atol=1e-12)


def test_another_t_sigma_weight_or_tolerance_compiles_nothing(count_compilations):
    shape = (5, 6, 8)  # of this test alone, so that the first solve must compile
    maps = pair(shape)

    def solve(t, sigma, tolerance, w):
        solve_barycenter(
            maps,
            weights_of(t, 0.5),
            kernels.dense(shape, sigma),
            tolerance=tolerance,
            relaxation=Relaxation(w, scale=1.0, warmup=2),
        ).value.block_until_ready()

    with count_compilations() as first:
        solve(0.3, 1.0, 1e-5, 1.5)
    with count_compilations() as second:
        for arguments in ((0.7, 1.0, 1e-5, 1.5), (0.3, 1.7, 1e-5, 1.2), (0.3, 1.0, 1e-3, 1.0)):
            solve(*arguments)
    assert first.count > 0
    assert second.count == 0


@pytest.mark.parametrize(
    ("maps", "weights", "message"),
    [
        (np.ones((2, 3, 3)), np.ones((1, 2)), r"maps has the shape \(2, 3, 3\)"),
        (np.ones((2, 3, 3, 3)), np.ones(2), r"weights has the shape \(2,\): give an array with axes \(t, k\)"),
        (np.ones((2, 3, 3, 3)), [[0.5, 0.5]], r"weights is \[\[0.5, 0.5\]\] \(list\)"),
        (np.ones((2, 3, 3, 3)), np.ones((1, 3)), "give rows of 2 weights, one for each map"),
        (np.ones((2, 3, 3, 4)), np.ones((1, 2)), "the kernel's grid"),
        (-np.ones((2, 3, 3, 3)), np.ones((1, 2)), "the values of maps go from -1 to -1"),
        (np.zeros((2, 3, 3, 3)), np.ones((1, 2)), "the values of maps go from 0 to 0"),
        (np.full((2, 3, 3, 3), np.nan), np.ones((1, 2)), "the values of maps go from nan"),
        (
            np.full((2, 3, 3, 3), 1e308),
            np.ones((1, 2)),
            "from 1e.308 to 1e.308: give .* with a positive, finite sum",
        ),
        (np.ones((2, 3, 3, 3)), np.array([[2.0, -1.0]]), "the values of weights go from -1 to 2"),
    ],
)
def test_bad_arguments_are_refused(maps, weights, message):
    with pytest.raises(InputError, match=message):
        check_maps(maps, weights, kernels.dense((3, 3, 3), 1.0))


def test_bad_options_are_refused():
    maps, kernel = pair(), kernels.dense(SHAPE, 1.0)
    with pytest.raises(InputError, match=r"max_iterations is 0 \(int\): give a whole number, 1 or more"):
        solve_barycenter(maps, weights_of(0.5), kernel, max_iterations=0)
    with pytest.raises(InputError, match="the original had no debiasing"):
        solve_barycenter(maps, weights_of(0.5), kernel, guard=1e-30, debias=True)
