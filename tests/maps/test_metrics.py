"""The measures between maps: identities, tiny examples worked by hand, and one answer on every backend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from morphot_jax import metrics
from morphot_jax.system.errors import InputError

MEASURES = [
    metrics.rmsd,
    metrics.relative_rms,
    metrics.volume_difference,
    metrics.voxel_difference,
    metrics.correlation,
    lambda a, b: metrics.correlation(a, b, mean_subtracted=True),
]
densities = st.floats(0, 8, width=16)
shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
pairs = shapes.flatmap(lambda s: st.tuples(*[hnp.arrays(np.float64, s, elements=densities)] * 2))
few = settings(max_examples=60, deadline=None)


def row(*values: float) -> np.ndarray:
    return np.array(values, dtype=float).reshape(1, 1, -1)


def test_rmsd_by_hand():
    assert metrics.rmsd(row(1, 2, 3, 4), row(1, 2, 3, 8)) == 2.0


def test_relative_rms_by_hand():
    assert metrics.relative_rms(row(3, 4, 5), row(3, 4, 0)) == 1.0


def test_threshold_is_a_fraction_of_each_maximum_and_strict():
    a = row(10, 5, 5, 1)  # above 0.5 * 10: one voxel, equality does not count
    b = row(2, 1.5, 1.5, 0)  # above 0.5 * 2: three voxels
    assert metrics.volume_difference(a, b, 0.5) == pytest.approx(2 / 3)
    assert metrics.volume_difference(b, a, 0.5) == 2.0


def test_voxel_difference_counts_both_sides_relative_to_the_reference():
    a, b = row(1, 1, 0, 0, 0), row(0, 1, 1, 1, 0)
    assert metrics.voxel_difference(a, b) == pytest.approx(3 / 3)
    assert metrics.voxel_difference(b, a) == pytest.approx(3 / 2)


def test_disjoint_sets_of_equal_volume():
    a, b = row(1, 0, 0), row(0, 0, 1)
    assert metrics.volume_difference(a, b) == 0
    assert metrics.voxel_difference(a, b) == 2
    assert metrics.correlation(a, b) == 0


def test_correlation_by_hand():
    a, b = row(1, 0, 0, 0), row(1, 1, 0, 0)
    assert metrics.correlation(a, b) == pytest.approx(1 / np.sqrt(2))
    assert metrics.correlation(a, b, mean_subtracted=True) == pytest.approx(
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
    )


def test_correlation_of_opposites_is_minus_one():
    a = row(1, -2, 3)
    assert metrics.correlation(a, -a) == pytest.approx(-1)


@pytest.mark.parametrize("measure", MEASURES)
def test_two_empty_maps_are_equal_not_nan(measure):
    assert measure(row(0, 0), row(0, 0)) == 0


@pytest.mark.parametrize("measure", MEASURES[1:4])
def test_relative_to_an_empty_reference_is_infinite(measure):
    assert measure(row(1, 0), row(0, 0)) == np.inf


def test_constant_map_has_no_correlation_about_its_mean():
    assert metrics.correlation(row(1, 1), row(1, 2), mean_subtracted=True) == 0


@few
@given(pairs)
def test_distance_of_a_map_to_itself_is_zero(pair):
    a, _ = pair
    assert all(measure(a, a) == 0 for measure in MEASURES[:4])
    assert metrics.correlation(a, a) == pytest.approx(1.0 if a.any() else 0.0)


@few
@given(pairs)
def test_symmetries_and_bounds(pair):
    a, b = pair
    assert metrics.rmsd(a, b) == metrics.rmsd(b, a)
    for mean_subtracted in (False, True):
        c = metrics.correlation(a, b, mean_subtracted=mean_subtracted)
        assert c == metrics.correlation(b, a, mean_subtracted=mean_subtracted)
        assert abs(c) <= 1 + 1e-12
    assert metrics.voxel_difference(a, b) >= metrics.volume_difference(a, b)


@few
@given(pairs, st.sampled_from([0.25, 0.5, 2.0, 64.0]))
def test_scale_of_either_map_does_not_matter_to_sets_and_correlation(pair, factor):
    a, b = pair
    for measure in (metrics.volume_difference, metrics.voxel_difference, metrics.correlation):
        assert measure(factor * a, b) == pytest.approx(measure(a, b))
        assert measure(a, factor * b) == pytest.approx(measure(a, b))
    assert metrics.rmsd(factor * a, factor * b) == pytest.approx(factor * metrics.rmsd(a, b))
    assert metrics.relative_rms(factor * a, factor * b) == pytest.approx(metrics.relative_rms(a, b))


@few
@given(pairs, st.permutations([0, 1, 2]))
def test_axis_order_does_not_matter(pair, order):
    a, b = pair
    for measure in MEASURES:
        assert measure(a.transpose(order), b.transpose(order)) == pytest.approx(measure(a, b))


@few
@given(pairs)
def test_rmsd_is_the_relative_one_in_other_units(pair):
    a, b = pair
    norm = np.linalg.norm(b)
    assert metrics.rmsd(a, b) * np.sqrt(a.size) == pytest.approx(np.linalg.norm(a - b))
    if norm > 0:
        assert metrics.relative_rms(a, b) * norm == pytest.approx(np.linalg.norm(a - b))


@pytest.fixture
def frames():
    random = np.random.default_rng(7)
    return random.gamma(0.3, size=(4, 5, 3, 7)), random.gamma(0.3, size=(5, 3, 7))


@pytest.mark.parametrize("measure", MEASURES)
def test_numpy_jit_vmap_batch_and_loop_agree(measure, frames):
    a, b = frames
    one_by_one = np.array([measure(frame, b) for frame in a])
    np.testing.assert_allclose(measure(a, b), one_by_one, rtol=1e-14)
    single = 20 * float(jnp.finfo(jnp.float32).eps)
    a32, b32 = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    for result in (measure(a32, b32), jax.jit(measure)(a32, b32), jax.vmap(measure, (0, None))(a32, b32)):
        assert isinstance(result, jax.Array)
        assert result.dtype == jnp.float32
        np.testing.assert_allclose(result, one_by_one, rtol=single, atol=single)


def test_numpy_doubles_are_not_rounded_to_single(frames):
    _, b = frames
    assert metrics.rmsd(b + 1e-12, b) == pytest.approx(1e-12, rel=1e-3)


def test_threshold_may_be_traced(frames):
    a, b = (jnp.asarray(m, jnp.float32) for m in frames)
    swept = jax.jit(jax.vmap(lambda level: metrics.voxel_difference(a, b, level)))(jnp.array([0.01, 0.1, 0.5]))
    assert swept.shape == (3, 4)
    np.testing.assert_allclose(swept[1], metrics.voxel_difference(a, b, 0.1), rtol=1e-6)


def test_gradients_are_finite(frames):
    a, b = (jnp.asarray(m, jnp.float32) for m in frames)
    for measure in (metrics.rmsd, metrics.relative_rms, metrics.correlation):
        assert jnp.isfinite(jax.grad(lambda m, f=measure: f(m, b))(a[0])).all()
    assert jnp.isfinite(jax.grad(lambda m: metrics.relative_rms(m, 0 * b))(a[0])).all()


def test_compare_maps_gives_every_measure_as_a_float(frames):
    a, b = frames[0][0], frames[1]
    compared = metrics.compare_maps(a, b, threshold=0.1)
    assert list(compared) == [
        "rmsd",
        "relative_rms",
        "volume_difference",
        "voxel_difference",
        "correlation",
        "correlation_about_mean",
    ]
    assert all(type(value) is float for value in compared.values())
    assert compared["voxel_difference"] == metrics.voxel_difference(a, b, 0.1)
    assert compared["correlation_about_mean"] == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize(
    ("a", "b", "threshold", "quoted"),
    [
        (np.ones((2, 2, 2)), np.ones((2, 2, 3)), 0.01, "(2, 2, 3)"),
        (np.ones((2, 2)), np.ones((2, 2)), 0.01, "(2, 2)"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), 1.5, "1.5"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), float("nan"), "nan"),
    ],
)
def test_compare_maps_refuses_in_one_line(a, b, threshold, quoted):
    with pytest.raises(InputError) as error:
        metrics.compare_maps(a, b, threshold)
    assert quoted in str(error.value)
    assert "\n" not in str(error.value)


def test_fragments_are_counted_and_weighed():
    density = np.zeros((4, 5, 12))
    density[1, 1:3, 1:4] = 2.0  # six voxels: 12
    density[2, 3, 4] = 9.0  # touches the first by an edge only
    density[3, 4, 9:11] = 0.5
    assert metrics.fragments(density, 0.1) == (3, pytest.approx(10 / 22))
    assert metrics.fragments(density, 1.0) == (2, pytest.approx(9 / 21))
    assert metrics.fragments(density, 0.1, smallest=2) == (2, pytest.approx(1 / 13))
    assert metrics.fragments(density, 99.0) == (0, 0.0)
    assert metrics.fragments(density[::-1, :, ::-1], 0.1) == metrics.fragments(density, 0.1)


@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 10, 7)])
def test_shells_of_a_map_correlate_with_themselves(shape):
    rng = np.random.default_rng(0)
    density = rng.random(shape)
    frequencies, correlation = metrics.fourier_shell_correlation(density, 3.0 * density)
    np.testing.assert_allclose(correlation, 1.0)
    np.testing.assert_allclose(frequencies, np.arange(1, max(shape) // 2 + 1) / max(shape))
    _, opposite = metrics.fourier_shell_correlation(density, -density)
    np.testing.assert_allclose(opposite, -1.0)
    assert metrics.resolution(density, density) == 2.0


@pytest.mark.parametrize("shape", [(6, 7, 8), (6, 8, 7)])
def test_shells_are_those_of_the_whole_transform(shape):
    """The half that a real transform keeps stands for all of it."""
    a, b = np.random.default_rng(1).random((2, *shape))
    first, second = np.fft.fftn(a), np.fft.fftn(b)
    grids = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    shell = np.rint(np.sqrt(sum(g**2 for g in grids)) * max(shape))
    _, found = metrics.fourier_shell_correlation(a, b)
    for k, value in enumerate(found, start=1):
        p, q = first[shell == k], second[shell == k]
        assert value == pytest.approx(
            (p * q.conj()).sum().real / np.sqrt((abs(p) ** 2).sum() * (abs(q) ** 2).sum())
        )


def test_resolution_is_where_maps_cease_to_agree():
    n, rng = 32, np.random.default_rng(2)
    grids = np.meshgrid(*(np.fft.fftfreq(n),) * 3, indexing="ij")
    radius = np.sqrt(sum(g**2 for g in grids))
    one, other = (np.fft.fftn(rng.standard_normal((n, n, n))) for _ in range(2))
    b = np.where(radius < 0.25, one, other)  # the same up to a quarter of a cycle per voxel
    a, b = np.fft.ifftn(one).real, np.fft.ifftn(b).real
    assert metrics.resolution(a, b) == pytest.approx(4.0, abs=0.3)
    assert metrics.resolution(a, np.fft.ifftn(other).real) > n / 3  # in nothing at all
    empty = np.zeros_like(a)
    assert metrics.fourier_shell_correlation(a, empty)[1].max() == 0.0
