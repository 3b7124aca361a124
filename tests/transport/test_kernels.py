"""Each kernel against a dense matrix over all pairs of voxels, and against SciPy."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.special import ive, logsumexp

from morphot_jax import kernels, solve_barycenter, solve_sinkhorn
from morphot_jax.system.errors import InputError
from morphot_jax.transport.displacement import barycentric_map
from morphot_jax.transport.status import Status
from shapes import scatter

SHAPE = (4, 5, 6)
SHAPES = [(5, 7, 6), (8, 8, 8), (3, 1, 9)]


def dense_log_reference(shape, sigma) -> np.ndarray:
    """log K over all pairs of voxels, n^3 x n^3, from the formula."""
    sigma = np.broadcast_to(sigma, (3,))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).reshape(-1, 3)
    squared = ((index[:, None, :] - index[None, :, :]) / sigma) ** 2
    totals = [1 + 2 * np.exp(-0.5 * (np.arange(1, n) / s) ** 2).sum() for n, s in zip(shape, sigma, strict=True)]
    return -0.5 * squared.sum(-1) - np.log(totals).sum()


def log_of(values):
    with np.errstate(divide="ignore"):
        return np.log(values)


log_apply = jax.jit(lambda kernel, log_field: kernel.log_apply(log_field))
apply = jax.jit(lambda kernel, values: kernel.apply(values))


@pytest.mark.parametrize("kind", ["dense", "fft", "log"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.8, 2.5, (0.9, 1.4, 2.2)])
def test_kernel_equals_the_dense_matrix(double, kind, shape, sigma):
    field = np.stack([scatter(shape, seed) for seed in (1, 2)])
    expected = logsumexp(dense_log_reference(shape, sigma)[None] + log_of(field.reshape(2, 1, -1)), axis=-1)
    found = log_apply(kernels.make(kind, shape, np.broadcast_to(sigma, 3), jnp.float64), log_of(field))
    assert found.dtype == jnp.float64
    found, expected = np.asarray(found), expected.reshape(field.shape)
    inside = expected > expected.max() + np.log(1e-9)  # where Fourier transforms resolve, too
    assert inside.mean() > 0.2
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-6 if kind == "fft" else 1e-12)
    if kind != "fft":
        np.testing.assert_allclose(found, expected, atol=1e-11)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.3, 6.0, 9.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_truncated_is_the_filter_of_the_original(double, shape, sigma):
    field = scatter(shape, 3)
    if sigma > max(shape):
        with pytest.raises(InputError, match="give the truncated kernel a smaller one"):
            kernels.truncated(shape, sigma)
        return
    expected = gaussian_filter(field, sigma)
    kernel = kernels.truncated(shape, sigma)
    np.testing.assert_allclose(apply(kernel, field), expected, atol=1e-14)
    found = np.exp(np.asarray(log_apply(kernel, log_of(field))))
    np.testing.assert_allclose(found, expected, atol=1e-14)
    assert np.array_equal(found > 0, expected > 1e-200)


def test_log_kernel_is_exact_where_scaling_underflows(double):
    shape, sigma = (1, 3, 64), 0.3
    field = np.full(shape, -np.inf)
    field[0, 1, 0] = 5.0
    found = np.asarray(log_apply(kernels.log(shape, sigma), field))
    expected = 5.0 - 0.5 * (np.arange(64) / sigma) ** 2 + dense_log_reference(shape, sigma).max()
    np.testing.assert_allclose(found[0, 1], expected, rtol=1e-13)
    assert np.isneginf(np.asarray(log_apply(kernels.dense(shape, sigma), field))[0, 1, -1])


def test_single_precision_keeps_the_range_of_each_line():
    """Fields over hundreds of e-folds: one maximum for the box would underflow in single precision."""
    shape = (9, 10, 11)
    ramp = np.linspace(0, 300, 11) + np.zeros(shape)
    expected = logsumexp(dense_log_reference(shape, 2.0) + ramp.ravel(), axis=-1).reshape(shape)
    found = log_apply(kernels.dense(shape, 2.0, jnp.float32), ramp.astype(np.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", kernels.KINDS)
def test_products_keep_all_digits_on_a_gpu(kind):
    """GPUs round the factors of a single-precision product to three digits, unless full precision is asked for."""
    kernel = kernels.make(kind, SHAPE, 1.0, jnp.float32)
    maps = jnp.stack([jnp.asarray(scatter(SHAPE, seed), jnp.float32) for seed in (1, 2)])
    weights = jnp.array([[0.0, 1.0], [0.5, 0.5]], jnp.float32)

    def frames(maps):
        return [solve_barycenter(maps, weights, kernel, debias=debias).value for debias in (False, True)]

    text = str(jax.make_jaxpr(frames)(maps))
    assert 2 * text.count("dot_general[") == text.count("Precision.HIGHEST") > 0


@pytest.mark.parametrize("kind", kernels.KINDS)
def test_nothing_stays_nothing(double, kind):
    shape = (4, 5, 6)
    nothing = np.full(shape, -np.inf)
    assert np.all(np.isneginf(log_apply(kernels.make(kind, shape, 1.0), nothing)))


@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    sigma=st.floats(0.3, 4.0),
    kind=st.sampled_from(["dense", "log", "truncated"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=15, deadline=None)
def test_kernels_are_symmetric(shape, sigma, kind, seed):
    """<f, K g> = <K f, g>: what makes both marginals of a plan computable with one kernel."""
    sigma = min(sigma, float(max(shape)))
    with jax.enable_x64(True):
        f, g = scatter(shape, seed), scatter(shape, seed + 1)
        kernel = kernels.make(kind, shape, sigma)
        kf, kg = (np.exp(np.asarray(log_apply(kernel, log_of(v)))) for v in (f, g))
        np.testing.assert_allclose((f * kg).sum(), (kf * g).sum(), rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("kind", kernels.KINDS)
def test_sigma_is_traced(double, kind):
    """One trace for all sigmas, and a batch over sigma equals separate calls."""
    traces = []

    @jax.jit
    def smooth(sigma, log_field):
        traces.append(kind)
        return kernels.make(kind, (6, 5, 4), sigma).log_apply(log_field)

    log_field = jnp.asarray(log_of(scatter((6, 5, 4), 4) + 1e-3))
    sigmas = jnp.array([0.7, 1.3, 2.0])
    one_by_one = jnp.stack([smooth(sigma, log_field) for sigma in sigmas])
    assert len(traces) == 1
    np.testing.assert_allclose(jax.vmap(smooth, (0, None))(sigmas, log_field), one_by_one, atol=1e-12)


def test_small_padding_keeps_what_wraps_below_round_off(double):
    shape, sigma = (20, 20, 20), 1.0
    log_field = log_of(scatter(shape, 5))
    padding = kernels.fft_padding(sigma, jnp.float64)
    small, full = (kernels.fft(shape, sigma, padding=p) for p in (padding, None))
    assert small.padded < full.padded
    np.testing.assert_allclose(log_apply(small, log_field), log_apply(full, log_field), atol=1e-9)


def test_fft_gives_zero_rather_than_noise(double):
    """A point: beyond its reach the true value is far below round-off."""
    shape, sigma = (1, 1, 64), 1.0
    log_field = np.full(shape, -np.inf)
    log_field[0, 0, 0] = 0.0
    found = np.asarray(log_apply(kernels.fft(shape, sigma), log_field))[0, 0]
    reach = kernels.reach("fft", jnp.float64)
    assert 7 < reach < 9
    assert np.all(np.isneginf(found[int(reach) + 2 :]))
    assert np.all(np.isfinite(found[: int(reach) - 1]))


def test_reach_is_where_the_kernel_ends(double):
    for kind in ("dense", "truncated"):
        reach = kernels.reach(kind, jnp.float64)
        log_field = np.full((1, 1, 128), -np.inf)
        log_field[0, 0, 0] = 0.0
        sigma = 2.0
        found = np.asarray(log_apply(kernels.make(kind, (1, 1, 128), sigma), log_field))[0, 0]
        last = np.flatnonzero(np.isfinite(found))[-1]
        assert abs(last - reach * sigma) < 3, kind
    assert kernels.reach("log", jnp.float64) == np.inf
    assert 13 < kernels.reach("dense", jnp.float32) < 14
    assert 37 < kernels.reach("dense", jnp.float64) < 39


def test_choice_follows_the_distance():
    near, _ = kernels.choose(5.0, np.float64)
    far, reason = kernels.choose(40.0, np.float64)
    assert (near, far) == ("dense", "log")
    assert "40.0 sigma" in reason


def test_unknown_kind_is_refused():
    with pytest.raises(InputError, match="kernel is 'cubic': give dense, fft, log, heat or truncated"):
        kernels.make("cubic", (2, 2, 2), 1.0)


@pytest.mark.parametrize("time", [1e-4, 0.01, 0.3, 1.0, 4.0, 30.0])
@pytest.mark.parametrize("n", [1, 2, 64, 128])
def test_heat_kernel_is_the_bessel_function(double, n, time):
    """exp(-s) I_d(s), every digit of the tails, against SciPy."""
    line = np.asarray(kernels.heat((n, n, n), np.sqrt(time)).x)[0]
    expected = ive(np.arange(n), time)
    seen = expected > 1e-290
    np.testing.assert_allclose(line[seen], expected[seen], rtol=1e-12)


@pytest.mark.parametrize("t", [0.001, 0.1, 0.5])
def test_heat_kernels_are_a_semigroup(double, t):
    """H_ts H_(1-t)s = H_s at any t, away from the edges; a sampled Gaussian is far from it at small t."""
    n, sigma, inner = 61, 1.2, slice(25, 36)

    def product(maker):
        parts = [np.asarray(maker((n, n, n), sigma * np.sqrt(share)).x) for share in (t, 1 - t)]
        whole = np.asarray(maker((n, n, n), sigma).x)
        return np.abs((parts[0] @ parts[1] - whole)[inner, inner]).max()

    assert product(kernels.heat) < 1e-15
    assert product(kernels.dense) > (1e-4 if t < 0.5 else 0.0)


def test_heat_at_time_zero_is_the_identity(double):
    np.testing.assert_array_equal(kernels.heat((3, 4, 5), 0.0).x, np.eye(5))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cubes:
    """A kernel that is not of this package and offers no more than it has to: means over cubes of 3^3 voxels."""

    width: float

    @property
    def shape(self):
        return SHAPE

    def apply(self, values):
        for axis in (-3, -2, -1):
            ends = [(0, 0)] * values.ndim
            ends[axis] = (1, 1)
            n = values.shape[axis]
            padded = jnp.pad(values, ends)
            values = sum(jax.lax.slice_in_dim(padded, k, k + n, axis=axis % values.ndim) for k in range(3)) / 3.0
        return values

    def log_apply(self, log_field):
        return jnp.log(self.apply(jnp.exp(log_field)))


@pytest.mark.parametrize(
    "make", [Cubes, lambda width: kernels.log(SHAPE, width), lambda width: kernels.fft(SHAPE, 1.0)]
)
def test_solvers_take_any_kernel(make, double):
    """They ask for ``apply`` and ``log_apply`` alone; what a kernel offers beyond that makes them faster."""
    kernel = make(1.0)
    maps = jnp.stack([jnp.asarray(scatter(SHAPE, seed, fill=1.0)) for seed in (1, 2)])
    plan = solve_sinkhorn(*maps, kernel, tolerance=1e-6, max_iterations=2000)
    assert Status(int(plan.status)) is Status.CONVERGED
    u, v = (jnp.exp(potential) for potential in plan.potentials)
    np.testing.assert_allclose(u * kernel.apply(v), maps[0] / maps[0].sum(), atol=1e-6)
    np.testing.assert_allclose(v * kernel.apply(u), maps[1] / maps[1].sum(), atol=1e-6)
    middle = solve_barycenter(maps, jnp.array([[0.5, 0.5]]), kernel, tolerance=1e-6, max_iterations=2000)
    assert Status(int(middle.status[0])) is Status.CONVERGED
    ends = barycentric_map(plan.potentials[1], kernel, jnp.arange(maps[0].size))
    assert bool(jnp.all(jnp.isfinite(ends)))


@pytest.mark.parametrize("make", [kernels.dense, kernels.log, kernels.heat])
def test_a_halved_kernel_is_the_kernel_at_every_second_distance(make, double):
    kernel = make((6, 8, 10), 1.3)
    line, coarse = np.zeros((6, 8, 10)), np.zeros((3, 4, 5))
    line[2, 4, 6] = coarse[1, 2, 3] = 1.0
    assert isinstance(kernel, kernels.Halving)
    np.testing.assert_allclose(apply(kernel.halved(), coarse), apply(kernel, line)[::2, ::2, ::2], rtol=1e-12)


@pytest.mark.parametrize("make", [kernels.dense, kernels.log, kernels.fft, kernels.heat, kernels.truncated])
@pytest.mark.parametrize(
    ("shape", "sigma", "message"),
    [
        (SHAPE, -1.0, "sigma is -1.0: give a number of voxels above 0"),
        (SHAPE, float("nan"), "sigma is nan: give a number"),
        (SHAPE, "1", "sigma is '1': give a number"),
        (SHAPE, (1.0, 2.0), r"sigma is \(1.0, 2.0\): give a number"),
        ((4, 5, 6, 7), 1.0, r"shape is \(4, 5, 6, 7\): give the number of voxels along z, y, x; or y, x; or x"),
        (8, 1.0, "shape is 8: give the number of voxels"),
        ((4, 0, 6), 1.0, r"shape is \(4, 0, 6\)"),
    ],
)
def test_shapes_and_widths_that_no_kernel_has_are_refused(unchecked, make, shape, sigma, message):
    with pytest.raises(InputError, match=message):
        make(shape, sigma)


def test_maps_and_kernel_are_of_one_precision(double):
    maps = [jnp.asarray(scatter(SHAPE, seed), jnp.float32) for seed in (1, 2)]
    with pytest.raises(InputError, match="source float32, target float32, the kernel float64 differ in precision"):
        solve_sinkhorn(*maps, kernels.dense(SHAPE, 1.0))


def test_what_is_no_kernel_is_refused(unchecked):
    maps = [jnp.asarray(scatter(SHAPE, seed), jnp.float32) for seed in (1, 2)]
    with pytest.raises(InputError, match=r"kernel is 1.0 \(float\): make one, for instance kernels.dense"):
        solve_sinkhorn(*maps, 1.0)
