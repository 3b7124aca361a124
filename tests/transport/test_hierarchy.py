"""Nested grids: sums and interpolation are transposes, grids of twice the spacing nest, and flips commute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphot_jax import kernels
from morphot_jax.transport import hierarchy
from morphot_jax.transport.hierarchy import hierarchy_of

pytestmark = pytest.mark.usefixtures("double")

SHAPE = (9, 20, 14)


def grids_for(kernel, shape=SHAPE):
    return hierarchy_of(kernel, jnp.zeros(shape))


@pytest.mark.parametrize("kind", ["dense", "heat", "log", "fft", "truncated"])
def test_the_spacing_follows_from_the_width_of_any_kernel(kind):
    """``SPACING`` times sigma of the kernel itself: a hat is zero at its neighbour's node."""
    shape, sigma = (1, 1, 121), 2.0
    line = np.asarray(hierarchy_of(kernels.make(kind, shape, sigma), jnp.zeros(shape)).x)
    middle = line[:, line.shape[1] // 2]
    assert middle[60] == 1.0
    assert np.flatnonzero(middle).size == pytest.approx(2 * hierarchy.SPACING * sigma, abs=2)
    np.testing.assert_allclose(line.sum(axis=1), 1.0)  # hats add up to one: constants are on every grid


def test_every_grid_sums_to_the_whole():
    field = jnp.asarray(np.random.default_rng(0).random(SHAPE))
    for grid in grids_for(kernels.dense(SHAPE, 1.0)).sums(field):
        np.testing.assert_allclose(jnp.sum(grid), jnp.sum(field), rtol=1e-12)


def test_no_correction_where_the_marginals_agree_or_differ_by_nothing_but_detail():
    grids = grids_for(kernels.dense(SHAPE, 1.0))
    field = jnp.asarray(np.random.default_rng(1).random(SHAPE))
    np.testing.assert_allclose(grids.correction(grids.sums(field), grids.sums(field), 2.0), 0.0, atol=1e-15)


def test_a_correction_adds_mass_where_it_is_missing_and_stays_below_its_limit():
    grids = grids_for(kernels.dense(SHAPE, 1.0))
    wanted, given = np.full(SHAPE, 1.0), np.full(SHAPE, 1.0)
    given[:, :10] = 0.1
    found = np.asarray(grids.correction(grids.sums(jnp.asarray(wanted)), grids.sums(jnp.asarray(given)), 2.0))
    assert found[4, 2, 7] > 1.0
    assert abs(found[4, 18, 7]) < 0.5 * found[4, 2, 7]
    assert np.abs(found).max() <= 2.0 * len(grids.weights)


@given(axes=st.sets(st.sampled_from([0, 1, 2])), sigma=st.sampled_from([0.7, 1.5]))
@settings(max_examples=8, deadline=None)
def test_flipped_fields_have_flipped_corrections(axes, sigma):
    with jax.enable_x64(True):
        grids = grids_for(kernels.heat(SHAPE, sigma))
        rng = np.random.default_rng(2)
        wanted, given = rng.random(SHAPE), rng.random(SHAPE)

        def correction(wanted, given):
            pair = (grids.sums(jnp.asarray(field)) for field in (wanted, given))
            return np.asarray(grids.correction(*pair, 2.0))

        flipped = correction(*(np.flip(field, tuple(axes)) for field in (wanted, given)))
        np.testing.assert_allclose(flipped, np.flip(correction(wanted, given), tuple(axes)), atol=1e-13)


def test_sigma_may_be_traced_and_batched():
    def largest(sigma):
        grids = grids_for(kernels.dense(SHAPE, sigma))
        return grids.weights

    sigmas = jnp.array([0.8, 1.3])
    for row, sigma in zip(jax.vmap(largest)(sigmas), sigmas, strict=True):
        np.testing.assert_allclose(row, largest(sigma), rtol=1e-12)
